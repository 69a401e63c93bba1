// What an administrator forbids to be copied: rules by path, extension and size, and whether a path, as it is spelt, is one of theirs.
//
// By whole components, never by parts of names: /srv/data is not below /srv/dat. A leaf that every layer shares; what a path really
// leads to is found out by the worker (worker/policy-guard.ts).

import type { ByteString } from "./bytes.ts";
import type { JobRequest } from "./request.ts";

/** Rules for everybody, or for one group. An empty list of what is allowed allows everything. */
export interface PolicyRules {
  /** The group's name as it stands in the settings; "" for everybody. */
  readonly group: string;
  /** Absolute, without ".", ".." and slashes at the end. */
  readonly allowSources: readonly ByteString[];
  readonly denySources: readonly ByteString[];
  readonly allowDestinations: readonly ByteString[];
  readonly denyDestinations: readonly ByteString[];
  /** Lower case, without the dot. */
  readonly allowExtensions: readonly string[];
  readonly denyExtensions: readonly string[];
  /** Bytes; 0: any. */
  readonly maxFileSize: number;
}

/** Each of them must allow it. */
export type Policy = readonly PolicyRules[];

export type PolicySide = "source" | "destination";

/** The rule that a path breaks, for people ("deny-sources of group students"), or null. `path` is absolute. */
export function brokenPathRule(policy: Policy, path: string, side: PolicySide): string | null {
  for (const rules of policy) {
    const [allowed, denied, name] =
      side === "source"
        ? [rules.allowSources, rules.denySources, "sources"]
        : [rules.allowDestinations, rules.denyDestinations, "destinations"];
    if (denied.some((directory) => isAtOrBelow(path, directory))) return ruleName(`deny-${name}`, rules);
    if (allowed.length > 0 && !allowed.some((directory) => isAtOrBelow(path, directory))) return ruleName(`allow-${name}`, rules);
  }
  return null;
}

/** The rule that a regular file breaks by its name or size, or null. */
export function brokenFileRule(policy: Policy, name: string, size: number): string | null {
  const lower = name.toLowerCase();
  const has = (extension: string): boolean => (extension === "" ? !lower.includes(".", 1) : lower.endsWith(`.${extension}`));
  for (const rules of policy) {
    if (rules.denyExtensions.some(has)) return ruleName("deny-extensions", rules);
    if (rules.allowExtensions.length > 0 && !rules.allowExtensions.some(has)) return ruleName("allow-extensions", rules);
    if (rules.maxFileSize > 0 && size > rules.maxFileSize) return ruleName("max-file-size", rules);
  }
  return null;
}

/** Whether any file could be refused for what it is rather than where it lies. */
export function hasFileRules(policy: Policy): boolean {
  return policy.some(
    ({ allowExtensions, denyExtensions, maxFileSize }) => allowExtensions.length + denyExtensions.length + maxFileSize > 0,
  );
}

/** What a request breaks as it is spelt; null: nothing that can be seen without looking at the files. */
export function brokenByRequest(
  policy: Policy,
  { sources, destination, options }: JobRequest,
): { readonly path: ByteString; readonly rule: string } | null {
  const check = (path: ByteString, side: PolicySide): { readonly path: ByteString; readonly rule: string } | null => {
    const rule = brokenPathRule(policy, spelt(path), side);
    return rule === null ? null : { path, rule };
  };
  for (const source of sources) {
    const broken = check(source, "source") ?? (options.gnu.exchange ? check(source, "destination") : null);
    if (broken !== null) return broken;
  }
  return check(destination, "destination") ?? (options.manifest === "" ? null : check(options.manifest, "destination"));
}

/** Without empty components, "." and "..", which leads up by name alone: for a first look, not for a proof. */
export function spelt(path: string): string {
  const parts: string[] = [];
  for (const part of path.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== "" && part !== ".") parts.push(part);
  }
  return `/${parts.join("/")}`;
}

/** By components; both absolute and as `spelt` gives them. */
export function isAtOrBelow(path: string, directory: string): boolean {
  if (directory === "/") return true;
  return path.startsWith(directory) && (path.length === directory.length || path[directory.length] === "/");
}

function ruleName(name: string, { group }: PolicyRules): string {
  return group === "" ? name : `${name} of group ${group}`;
}
