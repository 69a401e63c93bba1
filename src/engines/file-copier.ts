// Copies the data of one file: takes the chooser's engines in turn, keeps or makes holes, and ends exactly where the source does.

import { Errno } from "../errno.ts";
import { Fadvise, Ioctl, libc, Mode, Seek } from "../ffi/libc.ts";
import { MediumReads } from "../ffi/medium-reads.ts";
import type { Stat } from "../ffi/stat.ts";
import type { EngineName } from "../request.ts";
import { Chooser, type EngineOptions, type Pair } from "./chooser.ts";
import { CopyFileRange } from "./copy-file-range.ts";
import { DropBehind } from "./drop-behind.ts";
import { type CopyControl, type DataCopy, type Engine, failed, stopped } from "./engine.ts";
import { EngineSet } from "./engine-set.ts";
import type { FileHasher } from "./file-hasher.ts";
import { IoUring } from "./io-uring.ts";
import { PlainCopy } from "./plain-copy.ts";
import { Preallocation } from "./preallocation.ts";
import type { RangeBoard } from "./range-board.ts";
import { blockBytes, ReadWrite } from "./read-write.ts";
import { Rereader } from "./reread.ts";
import { SegmentCopy } from "./segment-copy.ts";
import { canShare, SharedCopy, sharedFromBytes } from "./shared-copy.ts";
import { type DirtyBounds, WriteBehind } from "./write-behind.ts";

/** From this size on a cold source is read further ahead than the kernel does by itself. */
const readAheadFromBytes = 1024 * 1024;
const readWriteOnly: readonly EngineName[] = ["read-write"];

/**
 * A lane owns one and copies file after file with it. The public fields describe the latest file. Not usable after dispose.
 */
export class FileCopier {
  /** After a failure: whose fault, which call, at which byte. */
  failedSide: "source" | "destination" = "source";
  failedSyscall = "";
  failedOffset = 0;
  /** True when the failure means "the forced engine (or reflink=always) cannot serve here": engine-unavailable. */
  isEngineUnavailable = false;
  /** The errno of a read that succeeded when it was tried again, and where; 0: there was none. */
  retriedErrno = 0;
  retriedOffset = 0;
  /** The engine that moved the latest bytes; where isEngineUnavailable, the one that was to. */
  engine: EngineName = "read-write";
  /** Bytes moved, and bytes shared with the source. Holes are not moved; of a clone they are part. */
  copied = 0;
  cloned = 0;
  /** The destination's final length, holes included. */
  length = 0;
  /** True when no read has proved the end: as much was copied as the size said. Whoever stats the source again has the proof. */
  endsBySize = false;
  /** Bytes that were there before: of a file that is gone on with. */
  kept = 0;
  /** For files of one block and less that ask for nothing special; shares what is learnt of engines. null: the options ask for more. */
  readonly plain: PlainCopy | null;
  /** Told of every block how far the file is whole; null: nobody asks. */
  onReached: ((offset: number) => void) | null = null;

  private hasBlocksInFlight = false;
  /** True when an engine moved data that the hasher did not see. */
  private isUnseen = false;
  private readonly hasher: FileHasher | null;
  private readonly preallocation = new Preallocation();
  private readonly options: EngineOptions;
  private readonly control: CopyControl;
  private readonly chooser: Chooser;
  private readonly engines: EngineSet;
  private readonly dropBehind: DropBehind | undefined;
  private writeBehind: WriteBehind | null = null;
  private bounds: DirtyBounds | null = null;
  private readonly data: DataCopy;
  /** Stands between the engines and the lane: counts, and drops what lies behind from the page cache. */
  private readonly counting: CopyControl;
  private readonly rereader: Rereader;
  private readonly segments: SegmentCopy;
  /** Large files are copied with the help of other threads, and others' with ours; null where they are not. */
  private readonly shared: SharedCopy | null;
  private mediumReads: MediumReads | null = null;
  private latestPair: Pair | null = null;
  /** Of the own file that is shared out right now. */
  private sharedPair: Pair | null = null;

  /** `hasher` gets the data of each file; `board` shares large ones with other threads. Both stay the caller's. */
  constructor(options: EngineOptions, control: CopyControl, hasher: FileHasher | null = null, board: RangeBoard | null = null) {
    this.options = options;
    this.hasher = hasher;
    this.control = control;
    this.chooser = new Chooser(options);
    this.engines = new EngineSet(options, hasher);
    const isPlain = hasher === null && options.cache === "keep" && options.sparse === "auto";
    this.plain = isPlain ? new PlainCopy(this.chooser, () => this.engines.readWrite) : null;
    this.dropBehind = options.cache === "drop" ? new DropBehind() : undefined;
    this.data = { sourceFd: -1, destinationFd: -1, offset: 0, end: 0, sourceEnded: false, failedSide: "source", failedSyscall: "" };
    this.counting = { advanced: (bytes, how) => this.advanced(bytes, how), stepBytes: (most) => control.stepBytes?.(most) ?? most };
    this.rereader = new Rereader(control);
    this.segments = new SegmentCopy(
      this.data,
      (pair) => this.runPart(pair),
      (pair) => this.readOn(pair),
    );
    this.shared = board !== null && hasher === null && canShare(options) ? this.sharedOn(board) : null;
  }

  /** From now on, what is left unwritten behind the copy is bounded. cache=drop bounds it by itself. */
  bound(bounds: DirtyBounds): void {
    if (this.dropBehind !== undefined) return;
    this.bounds = bounds;
    this.writeBehind = new WriteBehind(bounds);
  }

  /** A plain file is there, of which so many bytes were written: it is held to the bound like the others. Returns 0 or -errno. hot: */
  wrotePlain(fd: number, bytes: number): number {
    return this.writeBehind?.wrote(fd, bytes) ?? 0;
  }

  /**
   * Copies all of `sourceFd` into `destinationFd`, an empty file opened O_WRONLY (or O_RDWR; never O_APPEND). `source` is the
   * source's fstat: its size is a hint, what is read counts. Returns 0, `stopped`, or -errno with the failed* fields set; the
   * destination is then to be dropped. Descriptors stay the caller's; their positions are undefined afterwards. With `from`, the file
   * holds that much of the source already, and no more.
   */
  // hot: for a small file this is one read, one write and the read that proves the end.
  copyFile(sourceFd: number, destinationFd: number, source: Stat, destinationDevice: number, from = 0): number {
    this.begin(sourceFd, destinationFd);
    this.data.offset = from;
    this.kept = from;
    const size = source.size;
    if (this.hasher !== null) this.hasher.begin(size);
    // Of the source, not of what is there: so that the proof covers that as well.
    if (this.hasher !== null && from > 0) {
      const read = this.hasher.takeFrom(sourceFd, from);
      if (read < 0) return this.described(failed(this.data, read, "source", "read"));
    }
    const pair = this.chooser.pairOf(source.device, destinationDevice, sourceFd, destinationFd);
    const isSparse = this.options.sparse !== "never" && source.type === Mode.S_IFREG && source.blocks * 512 < size;
    const result = this.copyData(pair, size, isSparse);
    if (result === 0) return this.hasher === null ? this.finish() : this.finishHashed(this.hasher, size);
    const error = result === stopped && this.behindError < 0 ? this.behindFailed() : result;
    if (error !== stopped) this.describeFailure(pair, error);
    return error;
  }

  /** Of the file just copied, where endsBySize: what lies behind the size, which has grown. Returns as copyFile. */
  readRest(): number {
    const pair = this.latestPair;
    if (pair === null) return 0;
    this.endsBySize = false;
    this.data.failedSyscall = "";
    const result = this.readOn(pair);
    if (result !== 0) return result === stopped ? result : this.described(result);
    return this.finish();
  }

  /** Copies ranges of a file that another thread shares out. False when there is none. */
  help(): boolean {
    if (this.shared === null) return false;
    // What a helper waited for, and was told of, its owner would not be (rule 2): it leaves that to the owner.
    const behind = this.writeBehind;
    this.writeBehind = null;
    const helped = this.shared.help((sourceFd, destinationFd) => this.begin(sourceFd, destinationFd));
    this.writeBehind = behind;
    return helped;
  }

  /** Whether the latest file came from this machine's own filesystems, and had to be read. */
  get readsLocally(): boolean {
    return this.chooser.readsLocally;
  }

  /** Whether it may have come from a server, or from another process. hot: */
  get readsFromAfar(): boolean {
    return this.chooser.readsFromAfar;
  }

  /** Why which engines serve, one line for each pair of filesystems; for --debug and the job's result. */
  reasons(): string[] {
    return this.chooser.reasons();
  }

  [Symbol.dispose](): void {
    this.engines[Symbol.dispose]();
    this.mediumReads?.[Symbol.dispose]();
  }

  private begin(sourceFd: number, destinationFd: number): void {
    const data = this.data;
    data.sourceFd = sourceFd;
    data.destinationFd = destinationFd;
    data.offset = 0;
    data.sourceEnded = false;
    data.failedSyscall = "";
    this.isEngineUnavailable = false;
    this.retriedErrno = 0;
    this.copied = 0;
    this.cloned = 0;
    this.length = 0;
    this.endsBySize = false;
    this.engine = "read-write";
    this.hasBlocksInFlight = false;
    this.preallocation.reset();
    this.dropBehind?.begin(sourceFd, destinationFd);
    this.writeBehind?.begin(destinationFd);
  }

  private copyData(pair: Pair, size: number, isSparse: boolean): number {
    const data = this.data;
    const from = data.offset;
    data.end = size;
    const order = pair.orderFor(size);
    if (order.length === 0) return failed(this.data, -Errno.EOPNOTSUPP, "destination", this.options.engine);
    if (order[0] === "copy-file-range" && !pair.knowsClones && from === 0) this.learnClones(pair);
    // A clone keeps the holes by itself, so it comes before any look at them.
    if (order[0] === "reflink" && (size > 0 || pair.isForced)) {
      data.offset = 0;
      const result = this.run(pair, "reflink");
      if (this.cloned > 0) this.kept = 0;
      data.offset = Math.max(data.offset, from);
      if (result === 0 || result === stopped || pair.isForced || !isUnsupported(this.engines.of("reflink"), result)) return result;
    }
    // Nothing for a warm source; a cold one has twice as much in flight. Refusals mean that there is nothing to read ahead.
    if (size >= readAheadFromBytes) libc.posixFadvise(data.sourceFd, 0, 0, Fadvise.SEQUENTIAL);
    // Steps of a huge clone may have succeeded before one was refused: then the rest is simply data.
    if (isSparse && data.offset === from) return this.segments.copy(pair, size, from);
    if (pair.shouldPreallocate(size) && this.options.sparse !== "always") this.preallocation.begin(data.destinationFd, size);
    if (size >= sharedFromBytes && pair.mayReadAndWrite && this.shared?.open(size)) {
      const result = this.runShared(this.shared, pair);
      return result !== 0 || data.sourceEnded ? result : this.readOn(pair);
    }
    // Whatever serves up to the promised size, reading goes on from there until it reads nothing (rule 7).
    if (order[0] !== "read-write" && size > 0) {
      const result = this.runInOrder(pair, order);
      if (result !== 0 || data.sourceEnded) return result;
    }
    if (size > 0 && size <= blockBytes && order[0] === "read-write" && pair.sizesAreTrue && this.hasher === null)
      return this.readBlock(pair);
    return this.readOn(pair);
  }

  // hot: a file of one block is one read and one write; the read that would find nothing more is left to the look at its size.
  private readBlock(pair: Pair): number {
    const result = this.run(pair, "read-write");
    this.endsBySize = result === 0 && !this.data.sourceEnded;
    this.latestPair = pair;
    return result;
  }

  /** Reads until the source's end, wherever that is. */
  private readOn(pair: Pair): number {
    this.data.end = Number.MAX_SAFE_INTEGER;
    return this.runInOrder(pair, readWriteOnly);
  }

  private runShared(shared: SharedCopy, pair: Pair): number {
    // A range behind the end of a source that shrinks meanwhile may be written before anybody knows.
    this.hasBlocksInFlight = true;
    this.sharedPair = pair;
    const result = shared.copy();
    this.sharedPair = null;
    this.copied += shared.helpedBytes;
    return result;
  }

  private runInOrder(pair: Pair, order: readonly EngineName[]): number {
    let result = -Errno.EOPNOTSUPP;
    for (const name of order) {
      // A clone was tried first, or makes no sense for a part.
      if (name === "reflink" && !pair.isForced) continue;
      result = this.run(pair, name);
      if (result === 0 || result === stopped || !isUnsupported(this.engines.of(name), result)) return result;
    }
    return result;
  }

  /** A part of a sparse file. */
  private runPart(pair: Pair): number {
    return this.runInOrder(pair, pair.orderForPart(this.data.end - this.data.offset));
  }

  private run(pair: Pair, name: EngineName): number {
    const engine = this.engines.of(name);
    if (engine instanceof CopyFileRange) engine.clones = pair.clones;
    if (this.dropBehind !== undefined) this.dropBehind.engine = engine instanceof ReadWrite ? engine : undefined;
    const moved = this.copied + this.cloned;
    if (name === "io-uring") this.hasBlocksInFlight = true;
    else if (name !== "read-write") this.isUnseen = true;
    let result = engine.copy(this.data, this.counting);
    if (result < 0 && result !== stopped && this.rereader.mayHelp(name, this.data, result)) result = this.copyAgain(pair, engine, result);
    if (result === 0) pair.worked(name);
    else if (result !== stopped && isUnsupported(engine, result)) {
      if (engine instanceof IoUring && engine.unavailable !== "") pair.exclude(name, engine.unavailable);
      else pair.refused(name, -result);
    }
    if (this.copied + this.cloned > moved) this.engine = name;
    return result;
  }

  /** After a failed read: goes on where it failed, some times. */
  private copyAgain(pair: Pair, engine: Engine, failure: number): number {
    // The kernel's own copy does not say which side failed: reading and writing does.
    const again = engine.name === "copy-file-range" && !pair.isForced ? this.engines.of("read-write") : engine;
    if (again !== engine && this.dropBehind !== undefined) this.dropBehind.engine = again instanceof ReadWrite ? again : undefined;
    const result = this.rereader.copy(again, this.data, this.counting, failure);
    this.retriedErrno = this.rereader.curedErrno;
    this.retriedOffset = this.rereader.curedOffset;
    return result;
  }

  /**
   * Whether copy_file_range shares extents here, it does not say. Where reflink came first, the pair knows; where
   * copy_file_range is forced, a clone of this very file is tried and taken back, once.
   */
  private learnClones(pair: Pair): void {
    const { sourceFd, destinationFd } = this.data;
    const result = libc.ioctl(destinationFd, Ioctl.FICLONE, sourceFd);
    if (result < 0) pair.refused("reflink", -result);
    else {
      pair.worked("reflink");
      libc.ftruncate(destinationFd, 0);
    }
  }

  private finish(): number {
    const data = this.data;
    this.length = data.offset;
    // A last block of zeros that was skipped leaves the file short; blocks in flight beyond the end of a source that shrank
    // leave it long, and blocks allocated for it are to be freed. Nothing else does, so nothing else pays for a look.
    const mayDiffer = this.options.sparse === "always" || (this.hasBlocksInFlight && data.sourceEnded);
    if (this.length < this.preallocation.end || (mayDiffer && libc.lseek(data.destinationFd, 0, Seek.END) !== this.length)) {
      const result = libc.ftruncate(data.destinationFd, this.length);
      if (result < 0 && result !== -Errno.EINVAL) {
        return this.described(failed(this.data, result, "destination", "ftruncate"));
      }
    }
    const behind = this.dropBehind?.finish(this.length) ?? this.writeBehind?.finish() ?? 0;
    return behind < 0 ? this.described(this.behindFailed()) : 0;
  }

  /** What a clone or the kernel's own copy moved is hashed by reading the source once more. */
  private finishHashed(hasher: FileHasher, size: number): number {
    const result = this.finish();
    if (result !== 0) return result;
    if (this.isUnseen) {
      hasher.begin(size);
      const read = hasher.takeFrom(this.data.sourceFd, this.length);
      if (read < 0) return this.described(failed(this.data, read, "source", "read"));
    }
    return hasher.finish(this.length) ? 0 : stopped;
  }

  private advanced(bytes: number, how: "copied" | "cloned"): boolean {
    if (how === "cloned") this.cloned += bytes;
    else this.copied += bytes;
    this.preallocation.advanced(this.data.offset);
    if (this.onReached !== null)
      this.onReached(this.sharedPair !== null && this.shared !== null ? this.shared.wholeUntil : this.data.offset);
    if (how === "copied") {
      if (this.dropBehind !== undefined && this.dropBehind.advanced(this.data.offset) < 0) return false;
      if (this.writeBehind !== null && this.writeBehind.advanced(this.data.offset, bytes) < 0) return false;
    }
    return this.control.advanced(bytes, how);
  }

  private get behindError(): number {
    return this.dropBehind?.error ?? this.writeBehind?.error ?? 0;
  }

  private behindFailed(): number {
    return failed(this.data, this.behindError, "destination", "sync_file_range");
  }

  private described(result: number): number {
    this.failedSide = this.data.failedSide;
    this.failedSyscall = this.data.failedSyscall;
    this.failedOffset = this.data.offset;
    return result;
  }

  private describeFailure(pair: Pair, result: number): void {
    this.described(result);
    if (!pair.isForced) return;
    const name = this.options.reflink === "always" ? "reflink" : this.options.engine;
    if (name === "auto" || name === "read-write") return;
    this.isEngineUnavailable = this.engines.of(name).isUnsupported(-result) && this.copied === 0 && this.cloned === 0;
    if (this.isEngineUnavailable) this.engine = name;
  }

  private sharedOn(board: RangeBoard): SharedCopy {
    const { data, counting, control } = this;
    // A helper's failed range is its owner's to copy again, who may also wait for the medium.
    const copyRange = (): number => {
      const pair = this.sharedPair;
      return pair === null ? this.engines.of("read-write").copy(data, counting) : this.run(pair, "read-write");
    };
    const paysToHelp = (): boolean => this.bounds === null || this.bounds.windowBytes === 0;
    const mediumReads = new MediumReads();
    this.mediumReads = mediumReads;
    return new SharedCopy({ board, data, copyRange, counted: () => this.copied, control, paysToHelp, mediumReads });
  }
}

function isUnsupported(engine: Engine, result: number): boolean {
  return engine.isUnsupported(-result);
}
