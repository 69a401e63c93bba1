// Whom [policy.GROUP] is for: the group's number, by /etc/group first, then by whatever else the name service asks (getent).

import { readFileSync } from "node:fs";
import { type Settings, sectionText } from "./config-settings.ts";
import { CopyError } from "./errors.ts";

/** [policy.GROUP]; the rules are as [policy]'s. */
export interface PolicyGroup {
  /** A name or a number. */
  readonly group: string;
  /** Where it stands, for messages. */
  readonly origin: string;
  readonly rules: Settings["policy"];
}

export function hasRules({ maxFileSize, ...lists }: PolicyGroup["rules"]): boolean {
  return maxFileSize > 0 || Object.values(lists).some((list) => list.length > 0);
}

/**
 * Throws bad-config for a group that nobody knows: a rule that holds for nobody is not what was meant, and to leave it out would let
 * through what it was to keep out.
 */
export function gidOf({ group, origin }: PolicyGroup): number {
  if (/^\d{1,10}$/.test(group)) return Number(group);
  const gid = gidIn(readFileSync("/etc/group", "utf8"), group) ?? gidIn(askNameService(group), group);
  if (gid !== undefined) return gid;
  throw new CopyError(
    "bad-config",
    `${origin}: [${sectionText(`policy.${group}`)}]: there is no group '${group}'; use its number where it is not always known`,
  );
}

function askNameService(group: string): string {
  try {
    return Bun.spawnSync(["/usr/bin/getent", "group", group], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
      timeout: 5_000,
    }).stdout.toString();
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
