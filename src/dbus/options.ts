// Decodes the a{sv} of a call: known keys only, each of exactly its type, each value one that the request's schema takes.

import { CopyError } from "../errors.ts";
import type { OptionChanges } from "../jobs/api.ts";
import type { JobOptions } from "../request.ts";
import { optionsSchema } from "../request-schema.ts";
import { isToken } from "./object-path.ts";
import { type OptionTree, optionKey, optionKeys, plainValue, setAt } from "./option-keys.ts";
import { excerpt } from "./paths.ts";
import { dictValue, type Variant, type VariantDict } from "./values.ts";

export interface CopyCallOptions {
  /** null: the service chooses one. */
  readonly token: string | null;
  /** As sent: `also-to` and `names-also-to`. */
  readonly alsoTo: readonly Buffer[];
  readonly namesAlsoTo: readonly Buffer[];
  readonly options: JobOptions;
}

/** The options of Copy, Move and their variants. Throws unknown-option, or bad-option naming the option and what it takes. */
export function decodeCopyOptions(dict: VariantDict): CopyCallOptions {
  let token: string | null = null;
  const lists: Record<DestinationKey, readonly Buffer[]> = { "also-to": [], "names-also-to": [] };
  const tree: OptionTree = {};
  for (const [key, variant] of dict) {
    if (isIgnored(key)) continue;
    if (key === "token") {
      token = tokenOf(requireSignature(key, variant, "s"));
      continue;
    }
    if (isDestinationKey(key)) {
      lists[key] = requireSignature(key, variant, "aay") as Buffer[];
      continue;
    }
    const option = optionKey(key);
    if (option === undefined) throw unknownOption(key);
    const value = plainValue(option.signature, requireSignature(key, variant, option.signature));
    if (hasNul(value)) throw new CopyError("bad-option", `option '${key}' contains a NUL byte`);
    setAt(tree, option.field, value);
  }
  return { token, alsoTo: lists["also-to"], namesAlsoTo: lists["names-also-to"], options: parsed(tree) };
}

/** They are of the call and not of one job: a job is made for each. */
const destinationKeys = ["also-to", "names-also-to"] as const;
type DestinationKey = (typeof destinationKeys)[number];

function isDestinationKey(key: string): key is DestinationKey {
  return destinationKeys.some((known) => known === key);
}

/** Which keys a smaller a{sv} may have, and of which type. */
export type KnownKeys = Readonly<Record<string, "s" | "b" | "u" | "t" | "as">>;

/** Checks the a{sv} of another call against the keys it knows. Throws unknown-option or bad-option. */
export function checkKeys(dict: VariantDict, known: KnownKeys): void {
  for (const [key, variant] of dict) {
    if (isIgnored(key)) continue;
    const signature = Object.hasOwn(known, key) ? known[key] : undefined;
    if (signature === undefined) throw unknownOption(key);
    requireSignature(key, variant, signature);
  }
}

/** What Job.SetOptions may change. */
export function decodeRunningOptions(dict: VariantDict): OptionChanges {
  checkKeys(dict, { "bandwidth-limit": "t", priority: "s", position: "s" });
  const position = oneOf("position", dictValue(dict, "position", "s"), ["first", "last"]);
  const { options } = decodeCopyOptions(new Map([...dict].filter(([key]) => key !== "position")));
  return {
    ...(dict.has("bandwidth-limit") && { bandwidthLimit: options.bandwidthLimit }),
    ...(dict.has("priority") && { priority: options.priority }),
    ...(position !== undefined && { position }),
  };
}

/** Throws bad-option, naming the option and what it takes. */
export function oneOf<Word extends string>(key: string, given: string | undefined, words: readonly Word[]): Word | undefined {
  if (given === undefined) return undefined;
  const word = words.find((known) => known === given);
  if (word !== undefined) return word;
  throw new CopyError("bad-option", `option '${key}' takes ${words.map((known) => `'${known}'`).join(", ")}, not '${excerpt(given)}'`);
}

/** For the Features property. */
export const optionFeatures: readonly string[] = ["token", ...destinationKeys, ...optionKeys.map(({ key }) => key)].map(
  (key) => `option:${key}`,
);

/** Throws bad-option unless it may name a job. */
export function tokenOf(value: unknown): string {
  if (typeof value === "string" && isToken(value)) return value;
  throw new CopyError("bad-option", `a token has 1 to 48 characters A-Z a-z 0-9 _, not '${excerpt(String(value))}'`);
}

function isIgnored(key: string): boolean {
  return key.startsWith("x-");
}

function unknownOption(key: string): CopyError {
  return new CopyError("unknown-option", `unknown option '${excerpt(key)}'; the Features property names those that are known`);
}

function requireSignature(key: string, variant: Variant, wanted: string): unknown {
  if (variant.signature === wanted) return variant.value;
  throw new CopyError("bad-option", `option '${key}' is of type '${wanted}', not '${excerpt(variant.signature)}'`);
}

function hasNul(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(hasNul);
  return typeof value === "string" && value.includes("\0");
}

function parsed(tree: OptionTree): JobOptions {
  const result = optionsSchema.safeParse(tree);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue?.path.map(String) ?? [];
  const option = optionKeys.find(({ field }) => field.every((name, index) => path[index] === name));
  const key = option?.key ?? path.join(".");
  const takes = issue?.code === "invalid_value" ? `takes ${issue.values.map((value) => `'${String(value)}'`).join(", ")}` : undefined;
  const given = valueGiven(tree, path);
  throw new CopyError("bad-option", `option '${key}' ${takes ?? `is refused: ${issue?.message ?? "invalid"}`}${given}`);
}

function valueGiven(tree: OptionTree, path: readonly string[]): string {
  let node: unknown = tree;
  for (const name of path) node = typeof node === "object" && node !== null ? (node as OptionTree)[name] : undefined;
  if (typeof node === "string") return `, not '${excerpt(node)}'`;
  return typeof node === "number" ? `, not ${node}` : "";
}
