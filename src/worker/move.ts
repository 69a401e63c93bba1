// A move of one argument: a rename where the filesystem can, else left to the tree copier and the removal afterwards.

import { Errno } from "../errno.ts";
import type { FailureCode } from "../errors.ts";
import { At, libc, Mode, Open, Rename } from "../ffi/libc.ts";
import { serialName } from "../tree/plan.ts";
import { ConflictResolver, entryType, type Resolution } from "./conflict.ts";
import { baseName, parentOf, stripSlashes } from "./destination.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { reportNewcomer, reportPlanFailure } from "./plan-failures.ts";
import { Counter } from "./shared.ts";
import { nameOfSource } from "./source-name.ts";

const maxSerial = 999;

/** Errors of rename(2) that are the destination's own: GNU's mv does not name the source then. */
const blamesDestination = new Set<number>([
  Errno.EDQUOT,
  Errno.EEXIST,
  Errno.EISDIR,
  Errno.EMLINK,
  Errno.ENOSPC,
  Errno.ENOTEMPTY,
  Errno.ETXTBSY,
]);

/** "copy": it is for the tree copier; "ended": done, skipped or failed, and reported. */
export type MoveOutcome = "copy" | "ended";

export class Mover {
  private readonly context: LaneContext;
  private readonly conflicts: ConflictResolver;
  /** The old directory is out of the way of one that is being copied. */
  private isAside = false;

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
    if (options.gnu.exchange) return this.exchange(entry);
    if (this.context.resumption?.hasNewcomer(entry) === true) {
      reportNewcomer(this.context.reporter, entry);
      return "ended";
    }
    const result = this.renameTo(entry, entry.name, Rename.NOREPLACE);
    if (result === -Errno.EINVAL) return this.renameWithoutFlags(entry);
    if (result !== -Errno.EEXIST) return this.ended(entry, result);
    return this.settle(entry, this.conflicts.resolve(entry, false));
  }

  /**
   * True where an argument can be moved nowhere, and that was reported: before anything is copied, because its copy's source could
   * only be emptied, and not be removed. A rename would find out by itself, but not from one mount to another.
   */
  isRefused(entry: Entry): boolean {
    const { sourceStat } = this.context;
    const isLink = this.isLinkWithSlash(entry);
    if (!isLink && !sourceStat.isMountRoot) return false;
    // What is left alone for what stands there already is left alone.
    const operation = this.conflicts.resolve(entry, false);
    if (operation.kind === "skip" || operation.kind === "fail") this.settle(entry, operation);
    else if (isLink) this.failed(entry, -Errno.ENOTDIR);
    else this.failed(entry, -Errno.EBUSY, "source-mounted");
    return true;
  }

  /** After `rename` said "copy" and the copy has ended. */
  finish(entry: Entry): void {
    // Nothing was made: the old directory gets its name back.
    if (this.isAside) this.context.backups.putBack(entry);
    this.isAside = false;
  }

  /** "link/" is the directory that the link leads to, for which another name is to stand than the one that would go. */
  private isLinkWithSlash(entry: Entry): boolean {
    const { arena, afterStat } = this.context;
    const found = nameOfSource(this.context, entry.directory.fields.argument);
    if (typeof found === "number" || !found.endsWith("/")) return false;
    const status = arena.withString(stripSlashes(found), (address) => afterStat.ofName(At.AT_FDCWD, address));
    return status === 0 && afterStat.type === Mode.S_IFLNK;
  }

  // What is put aside stays, so that of the refusals only these two count.
  private exchange(entry: Entry): MoveOutcome {
    const { argument, destinationFd } = entry.directory.fields;
    // A second exchange would undo the first.
    if (this.context.resumption?.wasRenamedTo(argument, destinationFd, entry.name) === true) return this.ended(entry, 0);
    const operation = this.conflicts.resolve(entry, false);
    const isRefused = operation.kind === "fail" && (operation.why === "same-file" || operation.why === "not-replacing");
    if (isRefused || operation.kind === "skip") return this.settle(entry, operation);
    return this.ended(entry, this.renameTo(entry, entry.name, Rename.EXCHANGE));
  }

  private settle(entry: Entry, operation: Resolution): MoveOutcome {
    switch (operation.kind) {
      case "skip":
        this.context.announcer?.skipped(entry.place);
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

  /** True when a former worker has moved this argument, which is missing, to its place or beside it. */
  wasMoved(argument: number, root: string): boolean {
    const { resumption, arena } = this.context;
    if (resumption === null) return false;
    const mark = arena.mark();
    const parentFd = this.context.openNamed(parentOf(root), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC);
    const isAt = (name: string): boolean => resumption.wasRenamedTo(argument, parentFd, arena.cstring(name));
    const name = baseName(root);
    let wasMoved = resumption.wasRemoved(argument) || (parentFd >= 0 && isAt(name));
    // What it was, is not to be seen any more: a directory's serial number goes to the end, a file's before the extension.
    const serials = this.context.options.onConflict === "rename" && parentFd >= 0 ? maxSerial : 0;
    for (let serial = 2; serial <= serials && !wasMoved; serial++) {
      const own = arena.mark();
      wasMoved = isAt(serialName(name, serial, "file")) || isAt(serialName(name, serial, "directory"));
      arena.reset(own);
    }
    this.context.close(parentFd);
    arena.reset(mark);
    if (wasMoved) this.context.count(Counter.filesDone, 1);
    return wasMoved;
  }

  private backUp(entry: Entry): MoveOutcome {
    const { backups } = this.context;
    backups.prepare(entry);
    if (!this.moveAside(entry)) return "ended";
    const result = this.renameTo(entry, entry.name, Rename.NOREPLACE);
    if (result < 0) backups.putBack(entry);
    return this.ended(entry, result, backups.name);
  }

  private moveAside(entry: Entry): boolean {
    const aside = this.context.backups.moveAside(entry);
    if (aside >= 0) return true;
    const { reporter } = this.context;
    reporter.fail({ place: entry.place, side: "destination", errno: -aside, syscall: "renameat2", what: "cannot backup %d" });
    return false;
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
    const { options } = this.context;
    if (result === 0) {
      this.context.count(Counter.filesDone, 1);
      if (options.gnu.exchange) this.context.announcer?.exchanged(entry.place);
      else this.context.announcer?.renamed(entry.place, backup);
      return "ended";
    }
    if (result === -Errno.EXDEV && !options.gnu.exchange) return this.acrossFilesystems(entry);
    return this.failed(entry, result);
  }

  private failed(entry: Entry, result: number, code?: FailureCode): "ended" {
    const { options, reporter } = this.context;
    const side = result === -Errno.ENOENT ? "source" : "destination";
    const what = options.gnu.exchange
      ? "cannot exchange %s and %d"
      : blamesDestination.has(-result)
        ? "cannot overwrite %d"
        : "cannot move %s to %d";
    reporter.fail({ place: entry.place, side, errno: -result, syscall: "renameat2", what, ...(code === undefined ? {} : { code }) });
    return "ended";
  }

  // mv decides about a directory that it has to copy as about one that it renames; everything else the tree copier decides.
  private acrossFilesystems(entry: Entry): MoveOutcome {
    const { options, sourceStat } = this.context;
    const { names, noCopy } = options.gnu;
    if (names === null || (sourceStat.type !== Mode.S_IFDIR && !noCopy)) return "copy";
    // What a former worker has made of it is neither to be removed nor to become a backup.
    if (this.context.resumption?.isMadeDirectory(entry) === true) return "copy";
    const operation = this.conflicts.resolve(entry, false);
    if (noCopy && operation.kind !== "skip" && operation.kind !== "fail") return this.failed(entry, -Errno.EXDEV);
    switch (operation.kind) {
      case "merge":
        return this.removeEmptyTarget(entry);
      case "back-up":
        this.context.backups.prepare(entry);
        this.isAside = true;
        return this.moveAside(entry) ? "copy" : "ended";
      case "create":
        return "copy";
      default:
        return this.settle(entry, operation);
    }
  }

  // rename(2) would replace an empty directory, and so does mv where it has to copy; a full one stays.
  private removeEmptyTarget(entry: Entry): MoveOutcome {
    const removed = libc.unlinkat(entry.directory.fields.destinationFd, entry.name, At.AT_REMOVEDIR);
    if (removed === 0 || removed === -Errno.ENOENT) return "copy";
    const errno = removed === -Errno.EEXIST ? Errno.ENOTEMPTY : -removed;
    const what = "inter-device move failed: %s to %d; unable to remove target";
    this.context.reporter.fail({ place: entry.place, side: "destination", errno, syscall: "unlinkat", what });
    return "ended";
  }
}
