// What to do with one entry, given what stands at its destination: a pure function of facts and options.

import type { FailureCode } from "../errors.ts";
import type { ConflictPolicy } from "../request.ts";

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

export type Operation =
  | { readonly kind: "create" }
  /** Both are directories: copy into the existing one. */
  | { readonly kind: "merge" }
  /** A finished new file takes the old one's place. */
  | { readonly kind: "replace" }
  /** The old file's inode gets the new data (GNU cp). */
  | { readonly kind: "overwrite-in-place" }
  | { readonly kind: "skip" }
  /** Under a new name with a serial number. */
  | { readonly kind: "rename" }
  | { readonly kind: "ask" }
  | { readonly kind: "fail"; readonly code: FailureCode };

export interface PlanOptions {
  readonly onConflict: ConflictPolicy;
  readonly inPlace: boolean;
  readonly onlyOlder: boolean;
  readonly removeDestination: boolean;
}

const create: Operation = { kind: "create" };
const merge: Operation = { kind: "merge" };
const replace: Operation = { kind: "replace" };
const overwriteInPlace: Operation = { kind: "overwrite-in-place" };
const skip: Operation = { kind: "skip" };

/**
 * Decides for one entry. `destination` is null where nothing stands, and describes the name itself, never a link's target.
 * Pure: no file is touched, no clock is read.
 */
export function planEntry(source: EntryFacts, destination: EntryFacts | null, options: PlanOptions): Operation {
  if (destination === null) return create;
  if (source.identity === destination.identity) return { kind: "fail", code: "same-file" };
  if (source.type === "directory") {
    if (destination.type === "directory") return merge;
    return options.onConflict === "skip" ? skip : { kind: "fail", code: "destination-exists" };
  }
  if (options.onlyOlder && !isNewer(source, destination)) return skip;
  switch (options.onConflict) {
    case "fail":
      return { kind: "fail", code: destination.type === "directory" ? "destination-is-directory" : "destination-exists" };
    case "skip":
      return skip;
    case "rename":
      return { kind: "rename" };
    case "newer":
      if (!isNewer(source, destination)) return skip;
      break;
    case "differs":
      if (isAlike(source, destination)) return skip;
      break;
    case "ask":
      return { kind: "ask" };
    case "overwrite":
      break;
  }
  return overwrite(source, destination, options);
}

/** The operation once overwriting is settled (also after the answer to a question). */
export function overwrite(source: EntryFacts, destination: EntryFacts, options: PlanOptions): Operation {
  if (destination.type === "directory") return { kind: "fail", code: "destination-is-directory" };
  const writesIntoInode = options.inPlace && !options.removeDestination && source.type === "file" && destination.type !== "symlink";
  return writesIntoInode ? overwriteInPlace : replace;
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
