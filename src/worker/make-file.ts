// Makes one regular file: unpublished while it is filled, then under its final name (rules 3 and 4).

import { stopped } from "../engines/engine.ts";
import type { Created } from "../engines/metadata.ts";
import { Errno } from "../errno.ts";
import type { FailureCode, FailureSide } from "../errors.ts";
import { libc } from "../ffi/libc.ts";
import { BigFiles } from "./big-files.ts";
import type { Entry } from "./entry.ts";
import { InPlaceWriter } from "./in-place.ts";
import type { LaneContext } from "./lane-context.ts";
import { type How, type Maker, withholdsUntilOwned } from "./making.ts";
import { Counter } from "./shared.ts";

export class FileMaker implements Maker {
  /** The open source of the entry to come. */
  sourceFd = -1;
  private readonly context: LaneContext;
  private readonly keepsMode: boolean;
  private readonly withholds: boolean;
  /** null: nobody resumes this job. */
  private readonly bigFiles: BigFiles | null;
  private readonly inPlace: InPlaceWriter;

  constructor(context: LaneContext) {
    this.context = context;
    this.keepsMode = context.preserve.has("mode");
    this.withholds = withholdsUntilOwned(context);
    const { checkpoint } = context.shared;
    this.bigFiles = checkpoint === null ? null : new BigFiles(context, checkpoint);
    this.inPlace = new InPlaceWriter(context, this);
  }

  // hot: the way of nearly every file.
  make(entry: Entry, how: How): "done" | "failed" | "exists" {
    const { publisher } = this.context;
    const mode = this.creationMode(entry);
    const big = this.bigFiles?.isBig() === true && !this.context.options.gnu.attributesOnly ? this.bigFiles : null;
    const fd =
      big !== null
        ? big.open(entry, mode, this.sourceFd)
        : publisher.create(entry.directory.fields.destinationFd, entry.name, mode, how !== "new");
    if (fd < 0) {
      if (fd === -Errno.EEXIST) return "exists";
      if (big?.wasStopped === true) return "failed";
      return this.failCreate(entry, fd, how);
    }
    let outcome: "done" | "failed" | "exists" = this.fill(entry, fd, mode, big);
    if (outcome === "done") outcome = this.publish(entry, fd, how);
    else if (big?.mayStay() === true) publisher.leave();
    else publisher.abandon();
    big?.ended();
    if (this.context.published !== null && outcome === "done") this.context.published.note(entry, fd, "new");
    const closed = libc.close(fd);
    if (outcome !== "done") return outcome;
    if (closed < 0 && closed !== -Errno.EINTR) return this.fail(entry, "destination", closed, "close", "failed to close %d");
    this.counted();
    return "done";
  }

  overwrite(entry: Entry, link: "none" | "dangling"): "done" | "failed" {
    return this.inPlace.write(entry, this.sourceFd, link);
  }

  reportTaken(entry: Entry): void {
    this.fail(entry, "destination", -Errno.EEXIST, "linkat", "cannot create regular file %d");
  }

  /** Metadata, then proof that the source held still, then the file's own flush where it is asked for. hot: */
  complete(entry: Entry, fd: number, had: Created): "done" | "failed" {
    const { sourceStat, metadata, options } = this.context;
    metadata.toDescriptor(this.sourceFd, sourceStat, fd, had);
    const status = this.context.afterStat.ofDescriptor(this.sourceFd, this.context.empty);
    if (this.context.copier.endsBySize && (status < 0 || this.context.afterStat.size > sourceStat.size)) {
      const rest = this.context.copier.readRest();
      if (rest < 0) return this.failCopy(entry, rest);
      // Writing has changed the times.
      metadata.toDescriptor(this.sourceFd, sourceStat, fd, had);
    }
    if (status === 0 && !this.heldStill(entry)) return "failed";
    if (options.durability !== "file") return "done";
    // Rule 2: an fsync error is final; the file is dropped and never synced again.
    const synced = libc.fsync(fd);
    if (synced === 0) return "done";
    this.takeBack();
    this.fail(entry, "destination", synced, "fsync", "error writing %d", "flush-failed");
    return "failed";
  }

  /** After a whole file. hot: */
  counted(): void {
    const { options, announcer, copier, sourceStat } = this.context;
    if (options.gnu.attributesOnly) return;
    this.context.countFile();
    if (copier.retriedErrno !== 0) this.tellRetry(copier.retriedErrno, copier.retriedOffset);
    if (announcer === null) return;
    const hasHoles = sourceStat.blocks * 512 < sourceStat.size && options.sparse !== "never";
    announcer.copied(copier, options.sparse === "always" ? (hasHoles ? "SEEK_HOLE + zeros" : "zeros") : hasHoles ? "SEEK_HOLE" : "no");
  }

  /** What a new file is created with; the process's umask is 0 when the mode is preserved, the caller's otherwise. hot: */
  creationMode(entry: Entry): number {
    const mode = this.wholeMode();
    // The final bits at once where the owner is right from the start; else nothing for group and other before it is.
    const isOpen = (!this.keepsMode && !this.withholds) || entry.directory.givesOwnerOf(this.context.sourceStat);
    return isOpen ? mode : mode & 0o700;
  }

  /** What a new file made with `mode` (see creationMode) gets back when it has its owner; a preserved mode comes by itself. hot: */
  withheldFrom(mode: number): number {
    return this.withholds ? this.wholeMode() & ~mode & ~this.context.options.umask : 0;
  }

  private wholeMode(): number {
    const { sourceStat, options } = this.context;
    return options.gnu.defaultMode && !this.keepsMode ? 0o666 : sourceStat.permissions & 0o777;
  }

  failCopy(entry: Entry, result: number): "failed" {
    this.takeBack();
    if (result === stopped) return "failed";
    const { copier, reporter, options } = this.context;
    const unavailable = copier.isEngineUnavailable;
    const clones = options.reflink === "always" || options.engine === "reflink";
    const couldNot = clones ? "failed to clone %d from %s" : `cannot copy %s to %d by ${options.engine}`;
    reporter.fail({
      place: entry.place,
      side: copier.failedSide,
      errno: -result,
      syscall: copier.failedSyscall,
      what: unavailable ? couldNot : copier.failedSide === "source" ? "error reading %s" : "error writing %d",
      engine: copier.engine,
      offset: copier.failedOffset,
      ...(unavailable ? { code: "engine-unavailable" as const } : {}),
    });
    return "failed";
  }

  fail(entry: Entry, side: FailureSide, result: number, syscall: string, what: string, code?: FailureCode): "failed" {
    const errno = result < 0 ? -result : 0;
    this.context.reporter.fail({ place: entry.place, side, errno, syscall, what, ...(code === undefined ? {} : { code }) });
    return "failed";
  }

  private publish(entry: Entry, fd: number, how: How): "done" | "failed" | "exists" {
    const { publisher, backups } = this.context;
    this.noteDone(fd);
    const aside = how === "back-up" ? backups.moveAside(entry) : 0;
    const published = aside < 0 ? aside : publisher.publish(how !== "new");
    if (published >= 0) return "done";
    if (how === "back-up") backups.putBack(entry);
    publisher.abandon();
    this.takeBack();
    if (aside < 0) return this.fail(entry, "destination", aside, "renameat2", "cannot backup %d");
    if (published === -Errno.EEXIST) return "exists";
    return this.failCreate(entry, published, how);
  }

  /** For whoever resumes the job; one statx, since only now the times are what they stay. hot: */
  noteDone(fd: number): void {
    const { log, copyStat, sourceStat, empty } = this.context;
    if (log !== null && copyStat.ofDescriptor(fd, empty) === 0) log.done(sourceStat, copyStat);
  }

  // cp removes the old file where copyd renames over it: where neither is allowed, the words are cp's.
  private failCreate(entry: Entry, result: number, how: How): "failed" {
    const isDenied = result === -Errno.EACCES || result === -Errno.EPERM || result === -Errno.EROFS;
    const what =
      isDenied && how === "replace"
        ? "cannot remove %d"
        : isDenied && how === "back-up"
          ? "cannot backup %d"
          : "cannot create regular file %d";
    return this.fail(entry, "destination", result, this.context.publisher.failedSyscall, what);
  }

  // The file is not published yet. hot:
  private fill(entry: Entry, fd: number, mode: number, big: BigFiles | null): "done" | "failed" {
    const { copier, sourceStat, options } = this.context;
    const begun = big?.begun ?? null;
    const newcomer = begun ?? entry.directory.newcomer(fd, this.context);
    if (big !== null) {
      const result = this.fillBig(fd, newcomer.device, big);
      if (result < 0) return this.failCopy(entry, result);
    } else if (!options.gnu.attributesOnly) {
      const result = copier.copyFile(this.sourceFd, fd, sourceStat, newcomer.device);
      if (result < 0) return this.failCopy(entry, result);
    }
    if (begun === null) newcomer.mode = this.keepsMode ? mode : mode & ~options.umask;
    newcomer.withheld = this.withheldFrom(mode);
    return this.complete(entry, fd, newcomer);
  }

  private fillBig(fd: number, device: number, big: BigFiles): number {
    const { copier, sourceStat } = this.context;
    const { from } = big;
    this.context.count(Counter.bytesDone, from);
    copier.onReached = big.reached;
    const result = copier.copyFile(this.sourceFd, fd, sourceStat, device, from);
    copier.onReached = null;
    // Cloned whole after all: then what was there has not been counted twice.
    if (copier.kept !== from) this.context.count(Counter.bytesDone, -from);
    // Rule 2: what a flush on the way was told is final.
    if (result < 0 || big.syncError === 0) return result;
    copier.failedSide = "destination";
    copier.failedSyscall = "fdatasync";
    return -big.syncError;
  }

  // Rule 12. /proc and its like change with every look and say size 0: there is nothing to hold still. hot:
  private heldStill(entry: Entry): boolean {
    const { afterStat, sourceStat, options } = this.context;
    // Unchanged, it also proves that what was read, as much as the size said, is all (rule 7).
    if (sourceStat.isUnchanged(afterStat)) return true;
    if (sourceStat.size === 0 && sourceStat.blocks === 0 && afterStat.size === 0) return true;
    // cp copies a log that is being written and says nothing; copyd says it, and fails only where it is not cp.
    const isCp = options.gnu.names !== null && this.context.request.operation === "copy";
    const severity = isCp ? "warning" : "error";
    if (!isCp) this.takeBack();
    this.context.reporter.fail({
      place: entry.place,
      side: "source",
      errno: 0,
      syscall: "statx",
      what: "%s changed while it was copied",
      code: "source-changed",
      severity,
    });
    return isCp;
  }

  /** cp says nothing of what went well in the end. */
  tellRetry(errno: number, offset: number): void {
    const { copier, reporter, options, entry } = this.context;
    if (options.gnu.names !== null || entry === null) return;
    reporter.fail({
      place: entry.place,
      side: "source",
      errno,
      syscall: "read",
      what: "%s could be read only when it was tried again",
      severity: "warning",
      engine: copier.engine,
      offset,
    });
  }

  private takeBack(): void {
    const { copied, cloned, kept } = this.context.copier;
    this.context.control.takeBack(copied + cloned + kept, cloned);
  }
}
