// The options of cp and mv: names, letters and the words their arguments take, as coreutils 9.11 has them, and our own.

import type { Durability, EngineChoice } from "../request.ts";
import type { WordList } from "./argument-match.ts";
import type { ArgumentKind, LongOption, OptionTable } from "./getopt.ts";

export type OptionName = (typeof optionNames)[number];
const optionNames = [
  "archive",
  "attributes-only",
  "backup",
  "copy-contents",
  "d",
  "debug",
  "dereference",
  "dereference-arguments",
  "exchange",
  "force",
  "interactive",
  "link",
  "no-clobber",
  "no-copy",
  "no-dereference",
  "no-preserve",
  "no-target-directory",
  "one-file-system",
  "parents",
  "preserve",
  "recursive",
  "remove-destination",
  "sparse",
  "reflink",
  "strip-trailing-slashes",
  "suffix",
  "symbolic-link",
  "target-directory",
  "update",
  "verbose",
  "keep-directory-symlink",
  "context",
  "help",
  "version",
  "progress",
  "json",
  "dry-run",
  "also",
  "local",
  "session",
  "admin",
  "verify",
  "manifest",
  "durability",
  "limit-rate",
  "on-full",
  "on-lost",
  "cache",
  "engine",
  "lanes",
] as const;

/** A long option whose meaning has its own name. */
function long(name: OptionName, argument: ArgumentKind = "none", spelling: string = name): LongOption<OptionName> {
  return { long: spelling, argument, name };
}

/** Both programs have these, and none of them may make an abbreviation of a GNU option ambiguous. */
const additional: readonly LongOption<OptionName>[] = [
  long("progress", "optional"),
  long("json"),
  long("local"),
  long("session"),
  long("admin"),
  long("verify", "optional"),
  long("manifest", "required"),
  long("also", "required"),
  long("durability", "required"),
  long("limit-rate", "required"),
  long("on-full", "required"),
  long("on-lost", "required"),
  long("cache", "required"),
  long("engine", "required"),
  long("lanes", "required"),
];

const none = (name: OptionName) => ({ argument: "none", name }) as const;
const required = (name: OptionName) => ({ argument: "required", name }) as const;

export const cpTable: OptionTable<OptionName> = {
  // In coreutils' order: it is the order of the possibilities of an ambiguous abbreviation.
  long: [
    long("archive"),
    long("attributes-only"),
    long("backup", "optional"),
    long("copy-contents"),
    long("debug"),
    long("dereference"),
    long("force"),
    long("interactive"),
    long("link"),
    long("no-clobber"),
    long("no-dereference"),
    long("no-preserve", "required"),
    long("no-target-directory"),
    long("one-file-system"),
    long("parents"),
    long("parents", "none", "path"),
    long("preserve", "optional"),
    long("recursive"),
    long("remove-destination"),
    long("sparse", "required"),
    long("reflink", "optional"),
    long("strip-trailing-slashes"),
    long("suffix", "required"),
    long("symbolic-link"),
    long("target-directory", "required"),
    long("update", "optional"),
    long("verbose"),
    long("keep-directory-symlink"),
    long("context", "optional"),
    long("help"),
    long("version"),
  ],
  additional: [...additional, long("dry-run")],
  short: {
    a: none("archive"),
    b: none("backup"),
    d: none("d"),
    f: none("force"),
    H: none("dereference-arguments"),
    i: none("interactive"),
    l: none("link"),
    L: none("dereference"),
    n: none("no-clobber"),
    p: none("preserve"),
    P: none("no-dereference"),
    r: none("recursive"),
    R: none("recursive"),
    s: none("symbolic-link"),
    S: required("suffix"),
    t: required("target-directory"),
    T: none("no-target-directory"),
    u: none("update"),
    v: none("verbose"),
    x: none("one-file-system"),
    Z: none("context"),
  },
};

export const mvTable: OptionTable<OptionName> = {
  long: [
    long("backup", "optional"),
    long("context"),
    long("debug"),
    long("exchange"),
    long("force"),
    long("interactive"),
    long("no-clobber"),
    long("no-copy"),
    long("no-target-directory"),
    long("strip-trailing-slashes"),
    long("suffix", "required"),
    long("target-directory", "required"),
    long("update", "optional"),
    long("verbose"),
    long("help"),
    long("version"),
  ],
  additional,
  short: {
    b: none("backup"),
    f: none("force"),
    i: none("interactive"),
    n: none("no-clobber"),
    S: required("suffix"),
    t: required("target-directory"),
    T: none("no-target-directory"),
    u: none("update"),
    v: none("verbose"),
    Z: none("context"),
  },
};

export type Backup = "none" | "simple" | "numbered" | "existing";
export type Update = "all" | "none" | "none-fail" | "older";
export type When = "auto" | "always" | "never";
/** What --preserve's words stand for. */
export type Attribute = "mode" | "timestamps" | "ownership" | "links" | "context" | "xattr";
export type TroublePolicy = "ask" | "fail";
export type Verify = "none" | "size" | "xxh3" | "blake3" | "sha256" | "md5" | "crc32";

export const backupWords: WordList<Backup> = [
  ["none", "none"],
  ["off", "none"],
  ["simple", "simple"],
  ["never", "simple"],
  ["existing", "existing"],
  ["nil", "existing"],
  ["numbered", "numbered"],
  ["t", "numbered"],
];
export const updateWords = same<Update>("all", "none", "none-fail", "older");
export const sparseWords = same<When>("never", "auto", "always");
export const reflinkWords = same<When>("auto", "always", "never");
export const preserveWords = same<Attribute | "all">("mode", "timestamps", "ownership", "links", "context", "xattr", "all");
export const progressWords = same<When>("auto", "always", "never");
export const verifyWords = same<Verify>("none", "size", "xxh3", "blake3", "sha256", "md5", "crc32");
export const durabilityWords = same<Durability>("none", "file", "job");
export const troubleWords = same<TroublePolicy>("ask", "fail");
export const cacheWords = same<"keep" | "drop">("keep", "drop");
export const engineWords = same<EngineChoice>("auto", "reflink", "copy-file-range", "io-uring", "splice", "read-write");

function same<Value extends string>(...words: readonly Value[]): WordList<Value> {
  return words.map((word) => [word, word] as const);
}
