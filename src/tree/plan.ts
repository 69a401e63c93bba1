// What to do with one entry, given what stands at its destination: a pure function of facts and options.

import type { ConflictPolicy } from "../request.ts";
import { type Kinship, sameFileVerdict } from "./same-file.ts";

export type EntryType = "file" | "directory" | "symlink" | "special";

/** What the planner needs to know of an existing file. Times as seconds and nanoseconds of mtime. */
export interface EntryFacts {
  readonly type: EntryType;
  readonly size: number;
  readonly mtimeSeconds: number;
  readonly mtimeNanoseconds: number;
  /** Device and inode as one string that is equal for the same file only. */
  readonly identity: string;
  readonly linkCount: number;
}

/** One entry and what stands at its destination. */
export interface PlanFacts {
  /** What is to be copied: of a followed symlink, what it leads to. */
  readonly source: EntryFacts;
  /** What stands under the destination's name itself. */
  readonly destination: EntryFacts;
  /** Of a symlink at the destination, what it leads to; null for a dangling one and for what is no symlink. */
  readonly target: EntryFacts | null;
  /** What GNU cp knows of two names for one file; left out where they have nothing in common. */
  readonly kinship?: Kinship;
  /** cp: this very job made it, for an earlier argument. */
  readonly isJustMade: boolean;
  /** mv on a terminal: the destination may not be written to, and the user is asked about it. */
  readonly isProtected?: boolean;
  /** The source has the name that a simple backup of the destination would get. */
  readonly isBackupOfDestination: boolean;
}

export type PlanFailure =
  | "same-file"
  | "exists"
  /** --update=none-fail */
  | "not-replacing"
  | "directory-over-other"
  | "other-over-directory"
  | "just-made"
  | "link-just-made"
  | "backup-onto-source";

export type Operation =
  | { readonly kind: "create" }
  /** Create, although something is there: the attempt fails, and says so in its own words (cp -l, cp -s without -f). */
  | { readonly kind: "attempt" }
  /** Both are directories: copy into the existing one. */
  | { readonly kind: "merge" }
  /** A finished new file takes the old one's place; `isTold`: cp says "removed" of the old one. */
  | { readonly kind: "replace"; readonly isTold: boolean }
  /** As replace, but the old one keeps another name. */
  | { readonly kind: "back-up" }
  /** The old file's inode gets the new data (GNU cp). */
  | { readonly kind: "overwrite-in-place" }
  /** A regular file onto a symlink to nothing (rule 14). */
  | { readonly kind: "through-dangling-link" }
  | { readonly kind: "skip"; readonly isUpToDate: boolean }
  /** Nothing is to be done, and that is a success: a hard link to itself. */
  | { readonly kind: "nothing" }
  /** Under a new name with a serial number. */
  | { readonly kind: "rename" }
  | { readonly kind: "ask" }
  | { readonly kind: "fail"; readonly why: PlanFailure };

export interface PlanOptions {
  readonly onConflict: ConflictPolicy;
  readonly inPlace: boolean;
  /** mv: renames, and takes whatever stands there away by renaming over it or, for a backup, aside. */
  readonly isMv: boolean;
  readonly force: boolean;
  readonly onlyOlder: boolean;
  readonly removeDestination: boolean;
  readonly backup: "none" | "simple" | "numbered" | "existing";
  readonly make: "copy" | "hard-link" | "symbolic-link";
  readonly attributesOnly: boolean;
  readonly copyContents: boolean;
  readonly keepDirectorySymlink: boolean;
  /** Symlinks are never followed (cp -P). */
  readonly keepsSymlinks: boolean;
  readonly keepsHardLinks: boolean;
}

const merge: Operation = { kind: "merge" };
const replace: Operation = { kind: "replace", isTold: false };
const replaceTold: Operation = { kind: "replace", isTold: true };
const skip: Operation = { kind: "skip", isUpToDate: false };
const attempt: Operation = { kind: "attempt" };
const upToDate: Operation = { kind: "skip", isUpToDate: true };

/** Decides for one entry whose destination exists. Pure: no file is touched, no clock is read. */
export function planEntry(facts: PlanFacts, options: PlanOptions): Operation {
  if (options.isMv) return planForMv(facts, options);
  return options.inPlace ? planForCp(facts, options) : planByName(facts, options);
}

/** True when cp writes a regular file through a symlink at the destination, into what it leads to. */
export function writesThroughLinks(source: EntryFacts, options: PlanOptions): boolean {
  const copiesData = source.type === "file" || (source.type === "special" && options.copyContents);
  return options.inPlace && copiesData && options.make === "copy" && !options.removeDestination && options.backup === "none";
}

// In the order in which coreutils decides. Prompts and -n hold for directories too, and a backup makes room for anything.
function planForMv(facts: PlanFacts, options: PlanOptions): Operation {
  const { source, destination } = facts;
  const policy = options.onConflict;
  if (policy !== "skip" && policy !== "fail" && facts.kinship !== undefined) {
    const { target } = facts;
    const verdict = sameFileVerdict({ ...facts.kinship, source, seen: destination, destination, target }, options);
    if (verdict === "refuse") return fail("same-file");
  }
  // -u is not about directories.
  const isOnlyNewer = source.type === "directory" && policy === "newer";
  const settled = isOnlyNewer
    ? null
    : settledByPolicy(source, destination, source.type === "directory" ? { ...options, onlyOlder: false } : options);
  if (settled !== null) return settled;
  if (facts.isProtected === true) return { kind: "ask" };
  const isDirectory = destination.type === "directory";
  const backsUp = options.backup !== "none";
  if (!isDirectory && facts.isJustMade && options.backup !== "numbered") return fail("just-made");
  if (!isDirectory && source.type === "directory" && !backsUp) return fail("directory-over-other");
  if (isDirectory && source.type !== "directory" && !backsUp) return fail("other-over-directory");
  if (!backsUp) return isDirectory ? merge : replace;
  return facts.isBackupOfDestination && options.backup !== "numbered" ? fail("backup-onto-source") : { kind: "back-up" };
}

/** The service: what counts is the name itself, and nothing is written into. */
function planByName({ source, destination, isBackupOfDestination }: PlanFacts, options: PlanOptions): Operation {
  if (source.identity === destination.identity) return fail("same-file");
  if (source.type === "directory") {
    if (destination.type === "directory") return merge;
    return options.onConflict === "skip" ? skip : fail("directory-over-other");
  }
  const settled = settledByPolicy(source, destination, options);
  if (settled !== null) return settled;
  if (destination.type === "directory") return fail("other-over-directory");
  if (options.backup === "none") return replace;
  return isBackupOfDestination && options.backup !== "numbered" ? fail("backup-onto-source") : { kind: "back-up" };
}

// In the order in which coreutils decides, since the first reason is the one that is told.
function planForCp(facts: PlanFacts, options: PlanOptions): Operation {
  const { source, destination, target, isJustMade } = facts;
  const throughLinks = writesThroughLinks(source, options);
  const isDangling = destination.type === "symlink" && target === null;
  if (throughLinks && isDangling) return isJustMade ? fail("link-just-made") : { kind: "through-dangling-link" };
  const seen = throughLinks && target !== null ? target : destination;
  const policy = options.onConflict;
  if (policy !== "skip" && policy !== "fail" && facts.kinship !== undefined) {
    const verdict = sameFileVerdict({ ...facts.kinship, source, seen, destination, target }, options);
    if (verdict === "done") return { kind: "nothing" };
    if (verdict === "refuse") return fail("same-file");
  }
  if (source.type === "directory") {
    if (seen.type === "directory") return merge;
    const leadsToDirectory = seen.type === "symlink" && target?.type === "directory" && options.keepDirectorySymlink;
    return leadsToDirectory ? merge : fail("directory-over-other");
  }
  const settled = settledByPolicy(source, seen, options);
  if (settled !== null) return settled;
  if (isJustMade && seen.type !== "directory" && options.backup !== "numbered") {
    return fail(throughLinks && destination.type === "symlink" ? "link-just-made" : "just-made");
  }
  // With backups coreutils tries, and says how that fails.
  if (seen.type === "directory" && options.backup !== "none") return source.type === "file" ? { kind: "overwrite-in-place" } : attempt;
  if (seen.type === "directory") return fail("other-over-directory");
  if (options.backup !== "none") {
    return facts.isBackupOfDestination && options.backup !== "numbered" ? fail("backup-onto-source") : { kind: "back-up" };
  }
  return overCp(source, seen, throughLinks, options);
}

function overCp(source: EntryFacts, seen: EntryFacts, throughLinks: boolean, options: PlanOptions): Operation {
  const takesItsPlace = (options.keepsHardLinks && seen.linkCount > 1) || (options.keepsSymlinks && source.type !== "file");
  if (options.removeDestination || (!options.attributesOnly && takesItsPlace)) return replaceTold;
  if (throughLinks) return { kind: "overwrite-in-place" };
  const replacesLinks = options.force || (options.make === "hard-link" && options.onConflict === "ask");
  return replacesLinks && (source.type !== "special" || options.make === "hard-link") ? replace : attempt;
}

/** What -u, -n, -i and the API's policies say of two things that are not directories both; null: the old one is to go. */
function settledByPolicy(source: EntryFacts, destination: EntryFacts, options: PlanOptions): Operation | null {
  if (options.onlyOlder && !isNewer(source, destination)) return upToDate;
  switch (options.onConflict) {
    case "fail":
      return fail(options.inPlace || options.isMv ? "not-replacing" : destination.type === "directory" ? "other-over-directory" : "exists");
    case "skip":
      return skip;
    case "rename":
      return { kind: "rename" };
    case "newer":
      return isNewer(source, destination) ? null : upToDate;
    case "differs":
      return isAlike(source, destination) ? upToDate : null;
    case "ask":
      return { kind: "ask" };
    case "overwrite":
      return null;
  }
}

function fail(why: PlanFailure): Operation {
  return { kind: "fail", why };
}

function isNewer(source: EntryFacts, destination: EntryFacts): boolean {
  if (source.mtimeSeconds !== destination.mtimeSeconds) return source.mtimeSeconds > destination.mtimeSeconds;
  return source.mtimeNanoseconds > destination.mtimeNanoseconds;
}

function isAlike(source: EntryFacts, destination: EntryFacts): boolean {
  return (
    source.type === destination.type &&
    source.size === destination.size &&
    source.mtimeSeconds === destination.mtimeSeconds &&
    source.mtimeNanoseconds === destination.mtimeNanoseconds
  );
}

export interface BackupName {
  readonly name: string;
  /** Nothing may have it already. A simple backup takes the place of the one before. */
  readonly isNumbered: boolean;
}

/**
 * The backup of `name` as GNU's --backup names it; `names` are those beside it that may be numbered backups of it. A name too
 * long for the suffix is cut, as GNU cuts it.
 */
export function backupNameOf(
  name: string,
  control: "simple" | "numbered" | "existing",
  suffix: string,
  names: readonly string[],
): BackupName {
  let highest = "";
  for (const other of names) {
    const digits = /^\.~([1-9][0-9]*)~$/.exec(other.slice(name.length))?.[1] ?? "";
    if (other.startsWith(name) && (digits.length > highest.length || (digits.length === highest.length && digits > highest))) {
      highest = digits;
    }
  }
  const isNumbered = control === "numbered" || (control === "existing" && highest !== "");
  const backup = isNumbered ? `${name}.~${BigInt(highest === "" ? "0" : highest) + 1n}~` : name + suffix;
  return { name: backup.length <= 255 ? backup : `${name.slice(0, 253)}~`, isNumbered };
}

/** "photo.jpg" -> "photo (2).jpg": the name with serial number `serial`, for conflicts resolved by renaming. Bytes in, bytes out. */
export function serialName(name: string, serial: number, type: EntryType): string {
  const dot = type === "directory" ? -1 : name.lastIndexOf(".");
  const stem = dot > 0 ? name.slice(0, dot) : name;
  const extension = dot > 0 ? name.slice(dot) : "";
  const suffix = ` (${serial})${extension}`;
  return cutBytes(stem, 255 - suffix.length) + suffix;
}

/** At most `length` bytes, not cutting a UTF-8 sequence in two. */
function cutBytes(name: string, length: number): string {
  if (name.length <= length) return name;
  let end = length;
  while (end > 0 && (name.charCodeAt(end) & 0xc0) === 0x80) end--;
  return name.slice(0, end > 0 ? end : length);
}
