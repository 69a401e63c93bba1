// Copies one entry that is not a directory: regular files, symlinks, and special files, with their hard links kept.

import { stopped } from "../engines/engine.ts";
import { Errno } from "../errno.ts";
import type { FailureCode, FailureSide } from "../errors.ts";
import { libc, Mode, makeDevice, Open } from "../ffi/libc.ts";
import { serialName } from "../tree/plan.ts";
import { ConflictResolver, entryType } from "./conflict.ts";
import type { Directory } from "./directory.ts";
import type { Entry } from "./entry.ts";
import { HardLinker } from "./hard-linker.ts";
import type { LaneContext } from "./lane-context.ts";
import { joinPath } from "./reporter.ts";
import { Counter } from "./shared.ts";

/** O_NONBLOCK: a FIFO that appeared where a file was must not hang the lane. */
const readFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC;
const maxTargetBytes = 64 * 1024;
/** "x (2)" to "x (999)" before a conflict by renaming gives up. */
const maxSerial = 999;

export type FileOutcome = "done" | "failed" | "skipped" | "is-directory";

export class EntryCopier {
  private readonly context: LaneContext;
  private readonly conflicts: ConflictResolver;
  private readonly hardLinker: HardLinker;
  private readonly targetBuffer: number;
  private readonly mark: number;
  private entered: Directory | null = null;
  private readonly keepsMode: boolean;
  private readonly keepsHardLinks: boolean;

  constructor(context: LaneContext) {
    this.context = context;
    this.conflicts = new ConflictResolver(context);
    this.hardLinker = new HardLinker(context);
    this.targetBuffer = context.arena.allocate(maxTargetBytes);
    this.mark = context.arena.mark();
    this.keepsMode = context.preserve.has("mode");
    this.keepsHardLinks = context.preserve.has("hardlinks");
  }

  /**
   * Copies an entry whose type is not known to be a directory; `follow` resolves a symlink first. Failures are reported and counted
   * here. Returns "is-directory" for the caller to enter it. hot:
   */
  copy(entry: Entry, follow: boolean): FileOutcome {
    this.context.arena.reset(this.mark);
    const sourceDirectory = entry.directory.fields.sourceFd;
    const fd = libc.openat(sourceDirectory, entry.sourceName, follow ? readFlags : readFlags | Open.O_NOFOLLOW, 0);
    if (fd < 0) return this.copyUnopened(entry, follow, fd);
    const stat = this.context.sourceStat;
    const status = stat.ofDescriptor(fd, this.context.empty);
    let outcome: FileOutcome;
    if (status < 0) outcome = this.failSource(entry, status, "statx", "cannot stat %s");
    else if (stat.type === Mode.S_IFREG) outcome = this.copyRegular(entry, fd);
    else if (stat.type === Mode.S_IFDIR) outcome = "is-directory";
    else outcome = this.copySpecial(entry);
    libc.close(fd);
    return outcome;
  }

  // ELOOP: a symlink met with O_NOFOLLOW. ENXIO: a socket, or a FIFO or device nobody serves. Both have a name to copy still.
  private copyUnopened(entry: Entry, follow: boolean, openError: number): FileOutcome {
    const stat = this.context.sourceStat;
    const directory = entry.directory.fields.sourceFd;
    const status = follow ? stat.ofTarget(directory, entry.sourceName) : stat.ofName(directory, entry.sourceName);
    if (status < 0) return this.failSource(entry, status, "statx", "cannot stat %s");
    if (stat.type === Mode.S_IFLNK) return this.copySymlink(entry);
    if (stat.type === Mode.S_IFDIR) return "is-directory";
    if (stat.type !== Mode.S_IFREG) return this.copySpecial(entry);
    return this.failSource(entry, openError, "openat", "cannot open %s for reading");
  }

  private copyRegular(entry: Entry, sourceFd: number): FileOutcome {
    const { sourceStat, options } = this.context;
    if (options.maxFileSize > 0 && sourceStat.size > options.maxFileSize) return this.skip();
    if (!this.keepsHardLinks || sourceStat.linkCount < 2) return this.copyData(entry, sourceFd);
    return this.withHardLinks(entry, () => this.copyData(entry, sourceFd));
  }

  /** Runs `copyFirst` for the first name of an inode and links the others to its copy. */
  private withHardLinks(entry: Entry, copyFirst: () => FileOutcome): FileOutcome {
    this.enter(entry);
    const linked = this.hardLinker.link(entry);
    if (linked === "linked") return this.done();
    if (linked === "failed") return "failed";
    if (linked === "exists") return this.resolveLink(entry);
    const outcome = copyFirst();
    this.hardLinker.finished(outcome === "done" ? joinPath(entry.destinationDirectory, entry.text) : null);
    return outcome;
  }

  private resolveLink(entry: Entry): FileOutcome {
    const operation = this.conflicts.resolve(entry);
    if (operation.kind === "skip") return this.skip();
    if (operation.kind === "fail") return this.failPlan(entry, operation.code);
    const linkRenamed = (): FileOutcome | "exists" => {
      const again = this.hardLinker.linkAgain(entry);
      return again === "linked" ? this.done() : again;
    };
    if (operation.kind === "rename") return this.copyRenamed(entry, linkRenamed);
    return this.hardLinker.replace(entry) === "linked" ? this.done() : "failed";
  }

  private copyData(entry: Entry, sourceFd: number): FileOutcome {
    this.enter(entry);
    if (entry.directory.isMade) {
      const outcome = this.createAndFill(entry, sourceFd, false);
      if (outcome !== "exists") return outcome;
    }
    const operation = this.conflicts.resolve(entry);
    switch (operation.kind) {
      case "skip":
        return this.skip();
      case "fail":
        return this.failPlan(entry, operation.code);
      case "rename":
        return this.copyRenamed(entry, () => this.createAndFill(entry, sourceFd, false));
      case "overwrite-in-place":
        return this.overwriteInPlace(entry, sourceFd);
      default: {
        const outcome = this.createAndFill(entry, sourceFd, operation.kind === "replace");
        return outcome === "exists" ? this.fail(entry, "destination", -Errno.EEXIST, "linkat", "cannot create regular file %d") : outcome;
      }
    }
  }

  // hot: the way of nearly every file.
  private createAndFill(entry: Entry, sourceFd: number, replace: boolean): FileOutcome | "exists" {
    const { publisher } = this.context;
    const mode = this.creationMode(entry);
    const fd = publisher.create(entry.directory.fields.destinationFd, entry.name, entry.bytes, entry.at, mode, replace);
    if (fd < 0) {
      if (fd === -Errno.EEXIST) return "exists";
      return this.fail(entry, "destination", fd, publisher.failedSyscall, "cannot create regular file %d");
    }
    let outcome: FileOutcome | "exists" = this.fill(entry, sourceFd, fd, mode);
    if (outcome === "done") {
      const published = publisher.publish(replace);
      if (published < 0) {
        publisher.abandon();
        this.takeBack();
        if (published === -Errno.EEXIST) outcome = "exists";
        else outcome = this.fail(entry, "destination", published, publisher.failedSyscall, "cannot create regular file %d");
      }
    } else {
      publisher.abandon();
    }
    const closed = libc.close(fd);
    if (outcome !== "done") return outcome;
    if (closed < 0 && closed !== -Errno.EINTR) return this.fail(entry, "destination", closed, "close", "error writing %d");
    this.context.countFile();
    return this.done();
  }

  // Data, then metadata, then proof that the source held still. The file is not published yet. hot:
  private fill(entry: Entry, sourceFd: number, fd: number, mode: number): "done" | "failed" {
    const { copier, sourceStat, metadata, options } = this.context;
    const directory = entry.directory;
    const newcomer = directory.newcomer(fd, this.context);
    if (!options.gnu.attributesOnly) {
      const result = copier.copyFile(sourceFd, fd, sourceStat, newcomer.device);
      if (result < 0) return this.failCopy(entry, result);
    }
    newcomer.mode = mode;
    metadata.toDescriptor(sourceFd, sourceStat, fd, newcomer);
    if (!this.heldStill(entry, sourceFd)) return "failed";
    if (options.durability !== "file") return "done";
    // Rule 2: an fsync error is final; the file is dropped and never synced again.
    const synced = libc.fsync(fd);
    if (synced === 0) return "done";
    this.takeBack();
    this.fail(entry, "destination", synced, "fsync", "error writing %d", "flush-failed");
    return "failed";
  }

  // Rule 12. /proc and its like change with every look and say size 0: there is nothing to hold still. hot:
  private heldStill(entry: Entry, sourceFd: number): boolean {
    const { afterStat, sourceStat, options } = this.context;
    if (afterStat.ofDescriptor(sourceFd, this.context.empty) < 0 || sourceStat.isUnchanged(afterStat)) return true;
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

  private overwriteInPlace(entry: Entry, sourceFd: number): FileOutcome {
    const { sourceStat, destinationStat, options } = this.context;
    const directoryFd = entry.directory.fields.destinationFd;
    const fd = libc.openat(directoryFd, entry.name, Open.O_RDWR | Open.O_NOCTTY | Open.O_CLOEXEC, 0);
    const writeOnly = fd === -Errno.EACCES ? libc.openat(directoryFd, entry.name, Open.O_WRONLY | Open.O_NOCTTY | Open.O_CLOEXEC, 0) : fd;
    if (writeOnly < 0) return this.afterFailedOpen(entry, sourceFd, writeOnly);
    // Open, then fstat, then compare (rule 13): what is truncated now is neither the source nor something unplanned.
    const planned = destinationStat.identity;
    let outcome: FileOutcome;
    if (destinationStat.ofDescriptor(writeOnly, this.context.empty) < 0 || destinationStat.identity !== planned) {
      outcome = this.fail(entry, "destination", 0, "openat", "%d was replaced while it was being copied to", "destination-changed");
    } else if (destinationStat.isSameFile(sourceStat)) {
      outcome = this.failPlan(entry, "same-file");
    } else {
      outcome = this.refill(entry, sourceFd, writeOnly);
    }
    const closed = libc.close(writeOnly);
    if (outcome !== "done") return outcome;
    if (closed < 0 && closed !== -Errno.EINTR) return this.fail(entry, "destination", closed, "close", "error writing %d");
    if (!options.gnu.attributesOnly) this.context.countFile();
    return this.done();
  }

  private refill(entry: Entry, sourceFd: number, fd: number): "done" | "failed" {
    const { destinationStat, sourceStat, options, copier, metadata } = this.context;
    if (!options.gnu.attributesOnly) {
      const truncated = destinationStat.type === Mode.S_IFREG ? libc.ftruncate(fd, 0) : 0;
      if (truncated < 0) {
        this.fail(entry, "destination", truncated, "ftruncate", "error writing %d");
        return "failed";
      }
      const result = copier.copyFile(sourceFd, fd, sourceStat, destinationStat.device);
      if (result < 0) return this.failCopy(entry, result);
    }
    const { uid, gid, permissions } = destinationStat;
    metadata.toDescriptor(sourceFd, sourceStat, fd, { uid, gid, mode: permissions });
    if (!this.heldStill(entry, sourceFd)) return "failed";
    const synced = options.durability === "file" ? libc.fsync(fd) : 0;
    if (synced === 0) return "done";
    this.fail(entry, "destination", synced, "fsync", "error writing %d", "flush-failed");
    return "failed";
  }

  private afterFailedOpen(entry: Entry, sourceFd: number, error: number): FileOutcome {
    if (error === -Errno.ENOENT) return this.throughDanglingLink(entry);
    if (!this.context.options.gnu.force) return this.fail(entry, "destination", error, "openat", "cannot create regular file %d");
    const removed = libc.unlinkat(entry.directory.fields.destinationFd, entry.name, 0);
    if (removed < 0 && removed !== -Errno.ENOENT) return this.fail(entry, "destination", removed, "unlinkat", "cannot remove %d");
    const outcome = this.createAndFill(entry, sourceFd, false);
    return outcome === "exists" ? this.fail(entry, "destination", -Errno.EEXIST, "linkat", "cannot create regular file %d") : outcome;
  }

  // Rule 14.
  private throughDanglingLink(entry: Entry): FileOutcome {
    return this.fail(entry, "destination", 0, "openat", "not writing through dangling symlink %d", "dangling-symlink");
  }

  private copySymlink(entry: Entry): FileOutcome {
    if (!this.keepsHardLinks || this.context.sourceStat.linkCount < 2) return this.makeSymlink(entry);
    return this.withHardLinks(entry, () => this.makeSymlink(entry));
  }

  private makeSymlink(entry: Entry): FileOutcome {
    const { arena } = this.context;
    const length = libc.readlinkat(entry.directory.fields.sourceFd, entry.sourceName, this.targetBuffer, maxTargetBytes - 1);
    if (length < 0) return this.failSource(entry, length, "readlinkat", "cannot read symbolic link %s");
    arena.memory.bytes[this.targetBuffer - arena.memory.address + length] = 0;
    return this.makeNode(entry, "cannot create symbolic link %d", (directoryFd, name) =>
      libc.symlinkat(this.targetBuffer, directoryFd, name),
    );
  }

  private copySpecial(entry: Entry): FileOutcome {
    const { options, sourceStat } = this.context;
    if (options.gnu.copyContents) return this.copyContents(entry);
    if (!options.specials) return this.fail(entry, "source", 0, "statx", "cannot copy special file %s", "source-special");
    if (this.keepsHardLinks && sourceStat.linkCount > 1) return this.withHardLinks(entry, () => this.makeSpecial(entry));
    return this.makeSpecial(entry);
  }

  private makeSpecial(entry: Entry): FileOutcome {
    const { sourceStat } = this.context;
    const mode = sourceStat.type | (this.keepsMode ? sourceStat.permissions & 0o700 : sourceStat.permissions & 0o777);
    const device = makeDevice(sourceStat.rdevMajor, sourceStat.rdevMinor);
    const what = sourceStat.type === Mode.S_IFIFO ? "cannot create fifo %d" : "cannot create special file %d";
    return this.makeNode(entry, what, (directoryFd, name) => libc.mknodat(directoryFd, name, mode, device));
  }

  /** A FIFO or device read as if it were a file: opened anew, blocking, as cp without -R does. */
  private copyContents(entry: Entry): FileOutcome {
    const fd = libc.openat(entry.directory.fields.sourceFd, entry.sourceName, Open.O_RDONLY | Open.O_NOCTTY | Open.O_CLOEXEC, 0);
    if (fd < 0) return this.failSource(entry, fd, "openat", "cannot open %s for reading");
    const status = this.context.sourceStat.ofDescriptor(fd, this.context.empty);
    const outcome = status < 0 ? this.failSource(entry, status, "statx", "cannot stat %s") : this.copyData(entry, fd);
    libc.close(fd);
    return outcome;
  }

  /** A symlink or special file: made at once, so it needs no unpublished form, except to take an existing file's place. */
  private makeNode(entry: Entry, what: string, make: (directoryFd: number, name: number) => number): FileOutcome {
    this.enter(entry);
    const directoryFd = entry.directory.fields.destinationFd;
    let made = make(directoryFd, entry.name);
    if (made === -Errno.EEXIST) {
      const operation = this.conflicts.resolve(entry);
      if (operation.kind === "skip") return this.skip();
      if (operation.kind === "fail") return this.failPlan(entry, operation.code);
      if (operation.kind === "rename") return this.copyRenamed(entry, () => this.makeNode(entry, what, make));
      made = this.context.publisher.replaceNode(directoryFd, entry.name, (temporary) => make(directoryFd, temporary));
    }
    if (made < 0) return this.fail(entry, "destination", made, "mknodat", what);
    const { metadata, sourceStat } = this.context;
    const { sourceFd } = entry.directory.fields;
    this.context.entry = entry;
    if (sourceStat.type === Mode.S_IFLNK) metadata.toSymlink(sourceFd, entry.sourceName, sourceStat, directoryFd, entry.name);
    else metadata.toSpecial(sourceFd, entry.sourceName, sourceStat, directoryFd, entry.name);
    return this.done();
  }

  /** The first free "name (2)", "name (3)", ... */
  private copyRenamed(entry: Entry, copy: () => FileOutcome | "exists"): FileOutcome {
    const { arena, sourceStat, destinationStat } = this.context;
    const original = entry.text;
    const mark = arena.mark();
    for (let serial = 2; serial <= maxSerial; serial++) {
      arena.reset(mark);
      const name = arena.cstring(serialName(original, serial, entryType(sourceStat.type)));
      entry.setName(name, arena.memory.bytes, name - arena.memory.address);
      if (destinationStat.ofName(entry.directory.fields.destinationFd, entry.name) === 0) continue;
      const outcome = copy();
      if (outcome !== "exists") return outcome;
    }
    return this.fail(entry, "destination", -Errno.EEXIST, "linkat", "cannot create regular file %d");
  }

  private enter(entry: Entry): void {
    this.context.entry = entry;
    if (this.entered === entry.directory) return;
    this.entered = entry.directory;
    this.context.publisher.enterDirectory(entry.destinationDirectory, entry.directory.fields.destinationFd, entry.directory.isMade);
  }

  /** What a new file is created with; the process's umask is 0 when the mode is preserved, the caller's otherwise. hot: */
  private creationMode(entry: Entry): number {
    const { sourceStat, options } = this.context;
    if (!this.keepsMode) return options.gnu.defaultMode ? 0o666 : sourceStat.permissions & 0o777;
    const directory = entry.directory;
    const isOwned = directory.newUid === sourceStat.uid && directory.newGid === sourceStat.gid;
    // The final bits at once where the owner is right from the start; else nothing for group and other before it is.
    return isOwned ? sourceStat.permissions & 0o777 : sourceStat.permissions & 0o700;
  }

  private done(): FileOutcome {
    this.context.count(Counter.filesDone, 1);
    this.context.copied?.add(this.context.sourceStat);
    return "done";
  }

  private skip(): FileOutcome {
    this.context.count(Counter.filesSkipped, 1);
    this.context.copied?.addLeft(this.context.sourceStat);
    return "skipped";
  }

  private takeBack(): void {
    this.context.control.takeBack(this.context.copier.copied + this.context.copier.cloned, this.context.copier.cloned);
  }

  private failCopy(entry: Entry, result: number): "failed" {
    this.takeBack();
    this.context.copied?.addLeft(this.context.sourceStat);
    if (result === stopped) return "failed";
    const { copier, reporter } = this.context;
    const unavailable = copier.isEngineUnavailable;
    reporter.fail({
      place: entry.place,
      side: copier.failedSide,
      errno: -result,
      syscall: copier.failedSyscall,
      what: copier.failedSide === "source" ? "error reading %s" : unavailable ? "failed to clone %d from %s" : "error writing %d",
      engine: copier.engine,
      offset: copier.failedOffset,
      ...(unavailable ? { code: "engine-unavailable" as const } : {}),
    });
    return "failed";
  }

  private failSource(entry: Entry, result: number, syscall: string, what: string): "failed" {
    return this.fail(entry, "source", result, syscall, what);
  }

  private failPlan(entry: Entry, code: FailureCode): "failed" {
    return this.fail(entry, "destination", 0, "", planWords[code] ?? "cannot copy %s to %d", code);
  }

  private fail(entry: Entry, side: FailureSide, result: number, syscall: string, what: string, code?: FailureCode): "failed" {
    this.context.copied?.addLeft(this.context.sourceStat);
    this.context.reporter.fail({
      place: entry.place,
      side,
      errno: result < 0 ? -result : 0,
      syscall,
      what,
      ...(code === undefined ? {} : { code }),
    });
    return "failed";
  }
}

const planWords: Partial<Record<FailureCode, string>> = {
  "same-file": "%s and %d are the same file",
  "destination-exists": "%d exists already",
  "destination-is-directory": "cannot overwrite directory %d with non-directory %s",
};
