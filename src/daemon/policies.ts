// The settings' policy as each caller meets it: the rules for everybody, and those of the groups that the caller is in.

import { type ByteString, byteStringFromText } from "../bytes.ts";
import type { Config } from "../config.ts";
import type { Caller } from "../jobs/api.ts";
import type { Policy, PolicyRules } from "../policy.ts";
import { gidOf, hasRules, type PolicyGroup } from "../policy-groups.ts";

export type PolicyFor = (caller: Caller) => Policy;

/** The settings with what was made of them. */
export type ServiceSettings = Config & { readonly policyFor: PolicyFor };

/** Throws bad-config for a group that nobody knows. */
export function policiesOf({ policy, policyGroups }: Config): PolicyFor {
  const everybody = hasRules(policy) ? [rulesOf("", policy)] : [];
  const groups = policyGroups
    .filter(({ rules }) => hasRules(rules))
    .map((group) => ({ gid: gidOf(group), rules: rulesOf(group.group, group.rules) }));
  if (groups.length === 0) return () => everybody;
  return (caller) => [...everybody, ...groups.filter(({ gid }) => caller.groups.includes(gid)).map(({ rules }) => rules)];
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
