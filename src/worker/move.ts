// A move of one argument: a rename where the filesystem can, else left to the tree copier and the removal afterwards.

import { Errno } from "../errno.ts";
import { At, libc, Mode, Rename } from "../ffi/libc.ts";
import { serialName } from "../tree/plan.ts";
import { ConflictResolver, entryType } from "./conflict.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { reportPlanFailure } from "./plan-failures.ts";
import { Counter } from "./shared.ts";

const maxSerial = 999;

/** "copy": it is for the tree copier; "ended": done, skipped or failed, and reported. */
export type MoveOutcome = "copy" | "ended";

export class Mover {
  private readonly context: LaneContext;
  private readonly conflicts: ConflictResolver;

  constructor(context: LaneContext) {
    this.context = context;
    this.conflicts = new ConflictResolver(context);
  }

  /**
   * Tries to rename an argument whose source statx is in context.sourceStat. "copy": another filesystem, or a directory to be merged
   * into an existing one; everything else is finished, with failures reported.
   */
  rename(entry: Entry): MoveOutcome {
    const { options } = this.context;
    // A rename would take along what the patterns leave out, under the names that it has.
    if (options.include.length > 0 || options.exclude.length > 0 || options.renameMatch !== "") return "copy";
    if (options.gnu.exchange) return this.ended(entry, this.renameTo(entry, entry.name, Rename.EXCHANGE));
    const result = this.renameTo(entry, entry.name, Rename.NOREPLACE);
    if (result === -Errno.EINVAL) return this.renameWithoutFlags(entry);
    if (result !== -Errno.EEXIST) return this.ended(entry, result);
    const operation = this.conflicts.resolve(entry, false);
    switch (operation.kind) {
      case "skip":
        this.context.count(Counter.filesSkipped, 1);
        return "ended";
      case "fail":
        reportPlanFailure(this.context.reporter, entry, operation.why, "move");
        return "ended";
      case "rename":
        return this.renameSerially(entry);
      case "merge":
        return this.merge(entry);
      case "back-up":
        return this.backUp(entry);
      default:
        return this.ended(entry, this.renameTo(entry, entry.name, 0));
    }
  }

  private backUp(entry: Entry): MoveOutcome {
    const { backups, reporter } = this.context;
    backups.prepare(entry);
    const aside = backups.moveAside(entry);
    if (aside < 0) {
      reporter.fail({ place: entry.place, side: "destination", errno: -aside, syscall: "renameat2", what: "cannot backup %d" });
      return "ended";
    }
    const result = this.renameTo(entry, entry.name, Rename.NOREPLACE);
    if (result < 0) backups.putBack(entry);
    return this.ended(entry, result, backups.name);
  }

  /** mv of one name of a file onto another name of it: rename(2) would do nothing, and the source's name has to go. */
  dropSecondName(entry: Entry): void {
    const removed = libc.unlinkat(At.AT_FDCWD, entry.sourceName, 0);
    if (removed === 0) this.context.count(Counter.filesDone, 1);
    else this.context.reporter.fail({ place: entry.place, side: "source", errno: -removed, syscall: "unlinkat", what: "cannot remove %s" });
  }

  // rename(2) replaces an empty directory. mv stops at a full one; the service merges, as file managers do.
  private merge(entry: Entry): MoveOutcome {
    const result = this.renameTo(entry, entry.name, 0);
    const isFull = result === -Errno.ENOTEMPTY || result === -Errno.EEXIST;
    if (isFull && this.context.options.gnu.names === null) return "copy";
    return this.ended(entry, result);
  }

  private renameSerially(entry: Entry): MoveOutcome {
    const { arena, sourceStat } = this.context;
    const original = entry.text;
    const mark = arena.mark();
    let result: number = -Errno.EEXIST;
    for (let serial = 2; serial <= maxSerial && result === -Errno.EEXIST; serial++) {
      arena.reset(mark);
      const name = arena.cstring(serialName(original, serial, entryType(sourceStat.type)));
      entry.setName(name, arena.memory.bytes, name - arena.memory.address);
      result = this.renameTo(entry, entry.name, Rename.NOREPLACE);
    }
    return this.ended(entry, result);
  }

  // No RENAME_NOREPLACE here (or the destination lies inside the source, which was refused before): look, then rename.
  private renameWithoutFlags(entry: Entry): MoveOutcome {
    const { destinationStat } = this.context;
    if (destinationStat.ofName(entry.directory.fields.destinationFd, entry.name) === 0) return "copy";
    return this.ended(entry, this.renameTo(entry, entry.name, 0));
  }

  private renameTo(entry: Entry, name: number, flags: number): number {
    return libc.renameat2(At.AT_FDCWD, entry.sourceName, entry.directory.fields.destinationFd, name, flags);
  }

  private ended(entry: Entry, result: number, backup: string | null = null): MoveOutcome {
    const { options, reporter } = this.context;
    if (result === 0) {
      this.context.count(Counter.filesDone, 1);
      this.context.announcer?.renamed(entry.place, backup);
      return "ended";
    }
    if (result === -Errno.EXDEV && !options.gnu.noCopy && !options.gnu.exchange) return this.acrossFilesystems(entry);
    const side = result === -Errno.ENOENT ? "source" : "destination";
    reporter.fail({ place: entry.place, side, errno: -result, syscall: "renameat2", what: "cannot move %s to %d" });
    return "ended";
  }

  // rename(2) would replace an empty directory, and so does mv where it has to copy; a full one stays.
  private acrossFilesystems(entry: Entry): MoveOutcome {
    const { options, sourceStat, reporter } = this.context;
    if (options.gnu.names === null || sourceStat.type !== Mode.S_IFDIR || options.onConflict !== "overwrite") return "copy";
    const removed = libc.unlinkat(entry.directory.fields.destinationFd, entry.name, At.AT_REMOVEDIR);
    if (removed !== -Errno.ENOTEMPTY && removed !== -Errno.EEXIST) return "copy";
    const what = "inter-device move failed: %s to %d; unable to remove target";
    reporter.fail({ place: entry.place, side: "destination", errno: Errno.ENOTEMPTY, syscall: "unlinkat", what });
    return "ended";
  }
}
