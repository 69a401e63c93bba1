// GNU's getopt_long on byte strings: permutation, bundles, abbreviations, and its complaints word for word.
//
// A framework cannot do this: `cp x -a y`, `-at DIR`, `--re` (ambiguous, with the possibilities listed) and POSIXLY_CORRECT are
// contract, and arguments are bytes that need not be UTF-8. So cp and mv parse themselves; the other commands use citty.

import type { ByteString } from "../bytes.ts";

export type ArgumentKind = "none" | "required" | "optional";

export interface LongOption<Name extends string> {
  readonly long: string;
  readonly argument: ArgumentKind;
  /** What the option means. Two spellings of one name may be abbreviated to what they share. */
  readonly name: Name;
}

export interface OptionTable<Name extends string> {
  /** In the order in which "possibilities" are listed. */
  readonly long: readonly LongOption<Name>[];
  /** Options that are looked at only when none of `long` begins as typed, so that ours never make one of GNU's ambiguous. */
  readonly additional: readonly LongOption<Name>[];
  /** By letter. */
  readonly short: Readonly<Record<string, { readonly argument: Exclude<ArgumentKind, "optional">; readonly name: Name }>>;
}

export interface FoundOption<Name extends string> {
  readonly name: Name;
  /** null where there is none, which is not the empty argument of `--backup=`. */
  readonly argument: ByteString | null;
}

/** A mistake on the command line: what to print after "cp: ", and whether "Try 'cp --help'" follows. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  /** Latin1 bytes, perhaps of several lines. */
  readonly text: ByteString;
  readonly tryHelp: boolean;

  constructor(text: string, { tryHelp = true }: { readonly tryHelp?: boolean } = {}) {
    super(text);
    this.text = text as ByteString;
    this.tryHelp = tryHelp;
  }
}

/**
 * Yields the options in the order typed and returns the operands. Throws UsageError at the first bad option, after those
 * before it were yielded: who stops at --help never hears of a mistake behind it.
 */
export function* parseOptions<Name extends string>(
  arguments_: readonly ByteString[],
  table: OptionTable<Name>,
  { posixlyCorrect }: { readonly posixlyCorrect: boolean },
): Generator<FoundOption<Name>, readonly ByteString[]> {
  const operands: ByteString[] = [];
  let index = 0;
  /** The next argument, for an option that requires one. */
  const next = (): ByteString | undefined => arguments_[index++];
  for (let argument = next(); argument !== undefined; argument = next()) {
    if (argument === "--") break;
    if (argument === "-" || !argument.startsWith("-")) {
      operands.push(argument);
      if (posixlyCorrect) break;
    } else if (argument.startsWith("--")) {
      yield parseLong(argument.slice(2), table, next);
    } else {
      yield* parseBundle(argument.slice(1), table, next);
    }
  }
  operands.push(...arguments_.slice(index));
  return operands;
}

function parseLong<Name extends string>(typed: string, table: OptionTable<Name>, next: () => ByteString | undefined): FoundOption<Name> {
  const equals = typed.indexOf("=");
  const typedName = equals === -1 ? typed : typed.slice(0, equals);
  const given = equals === -1 ? null : (typed.slice(equals + 1) as ByteString);
  const option = lookUp(typedName, typed, table.long) ?? lookUp(typedName, typed, table.additional);
  if (option === undefined) throw new UsageError(`unrecognized option '--${harmless(typed)}'`);
  switch (option.argument) {
    case "none":
      if (given !== null) throw new UsageError(`option '--${option.long}' doesn't allow an argument`);
      return { name: option.name, argument: null };
    case "optional":
      return { name: option.name, argument: given };
    case "required": {
      const argument = given ?? next();
      if (argument === undefined) throw new UsageError(`option '--${option.long}' requires an argument`);
      return { name: option.name, argument };
    }
  }
}

/** The option of exactly this name, or the only one that begins so. Throws for several that differ in meaning. */
function lookUp<Name extends string>(typedName: string, typed: string, options: readonly LongOption<Name>[]): LongOption<Name> | undefined {
  const candidates: LongOption<Name>[] = [];
  for (const option of options) {
    if (option.long === typedName) return option;
    if (option.long.startsWith(typedName)) candidates.push(option);
  }
  const first = candidates[0];
  const different = candidates.filter((option) => option.name !== first?.name || option.argument !== first.argument);
  if (first === undefined || different.length === 0) return first;
  const possibilities = [first, ...different].map((option) => ` '--${option.long}'`).join("");
  throw new UsageError(`option '--${harmless(typed)}' is ambiguous; possibilities:${possibilities}`);
}

function* parseBundle<Name extends string>(
  letters: string,
  table: OptionTable<Name>,
  next: () => ByteString | undefined,
): Generator<FoundOption<Name>, void> {
  for (let at = 0; at < letters.length; at++) {
    const letter = letters.charAt(at);
    const option = Object.hasOwn(table.short, letter) ? table.short[letter] : undefined;
    if (option === undefined) throw new UsageError(`invalid option -- '${harmless(letter)}'`);
    if (option.argument === "none") {
      yield { name: option.name, argument: null };
      continue;
    }
    // The rest of the bundle is the argument, or the next argument is.
    const rest = letters.slice(at + 1) as ByteString;
    const argument = rest !== "" ? rest : next();
    if (argument === undefined) throw new UsageError(`option requires an argument -- '${letter}'`);
    yield { name: option.name, argument };
    return;
  }
}

/** GNU repeats the option as typed. A file name that a wildcard took for an option must not steer the terminal, though. */
function harmless(typed: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about
  return typed.replace(/[\x01-\x1f\x7f]/g, (control) => `\\${control.charCodeAt(0).toString(8).padStart(3, "0")}`);
}

/** A mistake as coreutils prints it, latin1 bytes with the last newline. */
export function usageMessage(program: string, { text, tryHelp }: UsageError, called = program): string {
  return `${program}: ${text}\n${tryHelp ? `Try '${called} --help' for more information.\n` : ""}`;
}
