// What placing an entry and making it have to agree on.

import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";

export type FileOutcome = "done" | "failed" | "skipped" | "is-directory";

/**
 * How the name is to be taken. "new": nothing may stand there. "replace": what stands there goes when the new one is complete.
 * "back-up": as replace, and the lane's BackupKeeper, prepared, renames the old one first.
 */
export type How = "new" | "replace" | "back-up";

export interface Maker {
  /** The source's open descriptor, where it has one. */
  readonly sourceFd?: number;
  /** Makes the entry of context.sourceStat. Failures are reported; "exists" is for the caller: how was "new" and the name is taken. */
  make(entry: Entry, how: How): "done" | "failed" | "exists";
  /** Sets the attributes of what is there already (what is no regular file only): the interruption may have come before them. */
  restore?(entry: Entry): void;
  /** Reports that the name is taken, in the words of what was to be made. */
  reportTaken(entry: Entry): void;
  /** Writes into the existing file (regular files only). */
  overwrite?(entry: Entry, link: "none" | "dangling"): "done" | "failed";
}

/**
 * True where a new entry gets another's owner and the mode that any new one has: what that gives to group and other is kept from it
 * until it has the owner, as cp does (rule 17). A preserved mode comes after the owner anyway.
 */
export function withholdsUntilOwned({ preserve }: LaneContext): boolean {
  return preserve.has("owner") && !preserve.has("mode");
}
