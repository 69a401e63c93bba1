// Copies what nearly every file is, in one piece: a small regular file with one name, without holes and attributes, that is new.
//
// It does what Placement, FileMaker, Publisher, FileCopier and MetadataCopier do for such a file, call by call, and no more: their way
// is a hundred functions long, which are compiled anew in each lane. Whatever turns out otherwise is undone and left to them, who
// know all the cases and how to tell of them.

import { notPlain, type PlainCopy } from "../engines/plain-copy.ts";
import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import type { Stat } from "../ffi/stat.ts";
import { engineNames } from "../request.ts";
import { type Directory, DirectoryFlag } from "./directory.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import type { FileMaker } from "./make-file.ts";
import { withholdsUntilOwned } from "./making.ts";
import { Counter, Float } from "./shared.ts";

const readWriteIndex = engineNames.indexOf("read-write");
const reflinkIndex = engineNames.indexOf("reflink");
/** Setuid, setgid and sticky: they go with a change of owner, and are set at the end. */
const specialBits = 0o7000;

export class PlainFiles {
  /** After "general": the errno of a read that is about to be tried again; 0: there was none. */
  failedRead = 0;
  private readonly context: LaneContext;
  private readonly files: FileMaker;
  private readonly data: PlainCopy;
  private readonly keepsHardLinks: boolean;
  private readonly keepsMode: boolean;
  private readonly needsOwner: boolean;
  private readonly keepsTimes: boolean;
  private readonly counters: number;
  private isOpen = false;
  /** The device that keeps times to the nanosecond, as a copy on it has shown; -1: none yet. */
  private exactDevice = -1;
  private isExact = false;

  /** null: the job asks for something that only the general way does. `files` tells of failures. */
  static of(context: LaneContext, files: FileMaker): PlainFiles | null {
    const { options, preserve, published, announcer, policy } = context;
    const { plain } = context.copier;
    const isPlain = options.gnu.make === "copy" && !options.gnu.attributesOnly && !options.gnu.defaultMode;
    const isUnwatched = published === null && announcer === null && policy === null;
    const linksNames = options.symlinks === "follow" && preserve.has("hardlinks");
    const asksMore = options.durability === "file" || options.maxFileSize > 0 || linksNames || withholdsUntilOwned(context);
    return plain !== null && isPlain && isUnwatched && !asksMore ? new PlainFiles(context, files, plain) : null;
  }

  private constructor(context: LaneContext, files: FileMaker, data: PlainCopy) {
    const { preserve, shared } = context;
    this.context = context;
    this.files = files;
    this.data = data;
    this.keepsHardLinks = preserve.has("hardlinks");
    this.keepsMode = preserve.has("mode");
    this.needsOwner = preserve.has("mode") || preserve.has("owner");
    this.keepsTimes = preserve.has("times");
    this.counters = shared.counters(context.lane);
  }

  /** The directory of the files to come, which the publisher has entered. */
  enter({ fields, stat }: Directory): void {
    const { publisher } = this.context;
    this.isExact = publisher.stat.device === this.exactDevice;
    this.isOpen =
      publisher.isExclusive &&
      (fields.flags & DirectoryFlag.defaultAcl) === 0 &&
      this.data.enter(stat.device, publisher.stat.device, fields.sourceFd, fields.destinationFd);
  }

  /**
   * Copies the open file of context.sourceStat to where `entry` says, in the directory entered. "general": it is not plain, nothing is
   * left of it, and the others are to copy it. hot:
   */
  copy(entry: Entry, sourceFd: number): "done" | "failed" | "general" {
    this.failedRead = 0;
    if (!this.isOpen) return "general";
    const { sourceStat, afterStat, publisher, copier, metadata, empty } = this.context;
    const { directory } = entry;
    const { size, permissions } = sourceStat;
    const way = this.data.wayOf(size);
    if (way === null || !this.isPlain(sourceStat, directory, size) || !metadata.hasNoAttributes(sourceFd, sourceStat.device)) {
      return "general";
    }
    // What nobody but the owner of the source may see, nobody sees before it is the owner's (rule 17).
    const isOwned = !this.needsOwner || this.givesOwnerOf(directory, sourceStat);
    const mode = isOwned ? permissions : permissions & 0o700;
    const fd = publisher.createPlain(directory.fields.destinationFd, entry.name, mode);
    // What stands there, or is wrong, the others find out.
    if (fd < 0) return "general";
    if (!this.isAsMade(publisher.stat, sourceStat, mode, isOwned)) return this.undo(fd);
    const result = this.data.copy(way, sourceFd, fd, size);
    if (result !== 0) return this.fail(entry, fd, result);
    const behind = copier.wrotePlain(fd, way === "reflink" ? 0 : size);
    if (behind < 0) return this.failWritten(entry, fd, behind, "sync_file_range");
    metadata.toPlain(sourceStat, fd, mode, isOwned);
    // Rule 12, and the proof that what was read is all (rule 7).
    if (afterStat.ofDescriptor(sourceFd, empty) < 0 || !sourceStat.isUnchanged(afterStat)) return this.undo(fd);
    this.note(fd);
    publisher.publish(false);
    const closed = libc.close(fd);
    if (closed < 0 && closed !== -Errno.EINTR) return this.files.fail(entry, "destination", closed, "close", "failed to close %d");
    this.count(way === "reflink", size);
    return "done";
  }

  // hot:
  private isPlain(source: Stat, directory: Directory, size: number): boolean {
    return (
      size > 0 &&
      source.blocks * 512 >= size &&
      (source.permissions & specialBits) === 0 &&
      (source.linkCount === 1 || !this.keepsHardLinks) &&
      source.device === directory.stat.device &&
      (this.context.shared.floats[Float.bandwidthLimit] ?? 0) === 0
    );
  }

  /** Whether a new file will have the owner and group of its source: those of the directory, as long as that is as we made it. hot: */
  private givesOwnerOf({ fields }: Directory, source: Stat): boolean {
    return fields.createdUid === source.uid && fields.createdGid === source.gid;
  }

  /** Some filesystems give another owner or mode than they were asked for; then nothing more is tried in this directory. hot: */
  private isAsMade(made: Stat, source: Stat, mode: number, isOwned: boolean): boolean {
    const hasOwner = !isOwned || !this.needsOwner || (made.uid === source.uid && made.gid === source.gid);
    // Where the mode is not kept, the umask has its say.
    this.isOpen = hasOwner && (!this.keepsMode || made.permissions === mode);
    return this.isOpen;
  }

  private fail(entry: Entry, fd: number, result: number): "failed" | "general" {
    const isRead = this.data.failedSyscall === "read";
    if (result !== notPlain && !isRead) return this.failWritten(entry, fd, result, "write");
    if (result !== notPlain) this.failedRead = -result;
    return this.undo(fd);
  }

  /** Rule 2 and its like: what was written is given up, and whether the file is copied anew is not for us to say. */
  private failWritten(entry: Entry, fd: number, result: number, syscall: string): "failed" {
    this.undo(fd);
    const facts = { side: "destination", errno: -result, syscall, engine: "read-write", offset: 0 } as const;
    this.context.reporter.fail({ place: entry.place, what: "error writing %d", ...facts });
    return "failed";
  }

  private undo(fd: number): "general" {
    this.context.publisher.abandon();
    libc.close(fd);
    return "general";
  }

  /**
   * Notes the copy in the log. What it looks like need not be asked of each: inode and birth were told when it was made, and size and times
   * are its source's, unless the filesystem keeps those coarser. hot:
   */
  private note(fd: number): void {
    const { log, copyStat, sourceStat, publisher, empty } = this.context;
    if (log === null) return;
    if (this.keepsTimes) copyStat.foretell(publisher.stat, sourceStat);
    if (!this.isExact) {
      const foretold = copyStat.copyKey(0);
      if (copyStat.ofDescriptor(fd, empty) < 0) return;
      if (this.keepsTimes && copyStat.copyKey(0) === foretold) this.learnExactness();
    }
    log.done(sourceStat, copyStat);
  }

  /** A copy turned out as foretold: a proof where the time is one that a coarser clock (NTFS's has 100 ns) could not have kept. */
  private learnExactness(): void {
    const { sourceStat, copyStat } = this.context;
    if (sourceStat.mtimeNanoseconds % 100 === 0) return;
    this.exactDevice = copyStat.device;
    this.isExact = true;
  }

  // hot:
  private count(isCloned: boolean, size: number): void {
    const { shared, copied, sourceStat } = this.context;
    const { floats } = shared;
    const { counters } = this;
    const engine = isCloned ? reflinkIndex : readWriteIndex;
    floats[counters + Counter.bytesDone] = (floats[counters + Counter.bytesDone] ?? 0) + size;
    if (isCloned) floats[counters + Counter.bytesCloned] = (floats[counters + Counter.bytesCloned] ?? 0) + size;
    floats[counters + Counter.engineFiles + engine] = (floats[counters + Counter.engineFiles + engine] ?? 0) + 1;
    floats[counters + Counter.engine] = engine + 1;
    floats[counters + Counter.filesDone] = (floats[counters + Counter.filesDone] ?? 0) + 1;
    copied?.add(sourceStat);
  }
}
