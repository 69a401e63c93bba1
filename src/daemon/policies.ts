// The settings' policy as each caller meets it: the rules for everybody, and those of the groups that the caller is in.

import { readFileSync } from "node:fs";
import { type ByteString, byteStringFromText } from "../bytes.ts";
import type { Config, PolicyGroup } from "../config.ts";
import { CopyError } from "../errors.ts";
import type { Caller } from "../jobs/api.ts";
import type { Policy, PolicyRules } from "../policy.ts";

export type PolicyFor = (caller: Caller) => Policy;

/** The settings with what was made of them. */
export type ServiceSettings = Config & { readonly policyFor: PolicyFor };

/**
 * Throws bad-config for a group that nobody knows: a rule that holds for nobody is not what was meant, and to leave it out would let
 * through what it was to keep out.
 */
export function policiesOf({ policy, policyGroups }: Config): PolicyFor {
  const everybody = hasRules(policy) ? [rulesOf("", policy)] : [];
  const groups = policyGroups
    .filter(({ rules }) => hasRules(rules))
    .map((group) => ({ gid: gidOf(group), rules: rulesOf(group.group, group.rules) }));
  if (groups.length === 0) return () => everybody;
  return (caller) => [...everybody, ...groups.filter(({ gid }) => caller.groups.includes(gid)).map(({ rules }) => rules)];
}

function hasRules({ maxFileSize, ...lists }: PolicyGroup["rules"]): boolean {
  return maxFileSize > 0 || Object.values(lists).some((list) => list.length > 0);
}

function rulesOf(
  group: string,
  { allowSources, denySources, allowDestinations, denyDestinations, ...rest }: PolicyGroup["rules"],
): PolicyRules {
  const paths = (texts: readonly string[]): readonly ByteString[] => texts.map(byteStringFromText);
  return Object.freeze({
    group,
    allowSources: paths(allowSources),
    denySources: paths(denySources),
    allowDestinations: paths(allowDestinations),
    denyDestinations: paths(denyDestinations),
    ...rest,
  });
}

function gidOf({ group, origin }: PolicyGroup): number {
  if (/^\d{1,10}$/.test(group)) return Number(group);
  const gid = gidIn(readFileSync("/etc/group", "latin1"), group) ?? gidIn(askNameService(group), group);
  if (gid !== undefined) return gid;
  throw new CopyError(
    "bad-config",
    `${origin}: [policy.${group}]: there is no group '${group}'; use its number where it is not always known`,
  );
}

function askNameService(group: string): string {
  try {
    return Bun.spawnSync(["/usr/bin/getent", "group", group], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
      timeout: 5_000,
    }).stdout.toString("latin1");
  } catch {
    // No getent: then /etc/group is all there is.
    return "";
  }
}

function gidIn(database: string, name: string): number | undefined {
  for (const line of database.split("\n")) {
    const fields = line.split(":");
    if (fields[0] === name && /^\d{1,10}$/.test(fields[2] ?? "")) return Number(fields[2]);
  }
  return undefined;
}
