// A big file under its temporary name: begun with a slot of the checkpoint, or gone on with where a former worker left it.

import { layout } from "../ffi/layout.ts";
import { Fadvise, libc, Mode, Open } from "../ffi/libc.ts";
import { Stat } from "../ffi/stat.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";
import type { Newcomer } from "./directory.ts";
import type { Entry } from "./entry.ts";
import { promisesDurability } from "./flush.ts";
import type { LaneContext } from "./lane-context.ts";
import { alignedToBlocks, bigFileBytes, PartialFiles, type PartialSlot } from "./partial-files.ts";
import { ContentComparer } from "./same-content.ts";
import { Word } from "./shared.ts";

const openFlags = Open.O_RDWR | Open.O_NOFOLLOW | Open.O_NONBLOCK | Open.O_CLOEXEC;

/** One lane's way with big files; what it holds is of the file at hand. */
export class BigFiles {
  /** How much of the file is there already. */
  from = 0;
  /** What a file that is gone on with has by now; null: it is new. */
  begun: Newcomer | null = null;
  /** The job was stopped before it was known how much is there: the file is left as it is. */
  wasStopped = false;
  private readonly context: LaneContext;
  private readonly partials: PartialFiles;
  private readonly isSameBoot: boolean;
  private readonly isPromised: boolean;
  private readonly stat: Stat;
  private slot: PartialSlot | null = null;

  constructor(context: LaneContext, checkpoint: CheckpointMemory) {
    this.context = context;
    this.partials = new PartialFiles(context.shared, checkpoint);
    this.isSameBoot = checkpoint.isSameBoot;
    this.isPromised = promisesDurability(context.request);
    this.stat = new Stat(context.arena.allocate(layout.statx.size)).withBirth();
  }

  /** True when the source of context.sourceStat is one. hot: */
  isBig(): boolean {
    return this.context.sourceStat.size > bigFileBytes;
  }

  /** A descriptor of its temporary file, which the publisher then has; or -errno. Meaningless where it leaves `wasStopped`. */
  open(entry: Entry, mode: number, sourceFd: number): number {
    this.from = 0;
    this.begun = null;
    this.wasStopped = false;
    this.slot = null;
    const continued = this.continue(entry, sourceFd);
    if (continued >= 0 || this.wasStopped) return continued;
    const { publisher, sourceStat, empty } = this.context;
    const { destinationFd } = entry.directory.fields;
    const fd = publisher.createTemporary(destinationFd, entry.name, mode);
    if (fd < 0 || this.stat.ofDescriptor(destinationFd, empty) < 0) return fd;
    const { inodeLow, inodeHigh } = this.stat;
    const place = {
      name: publisher.temporaryText,
      directory: entry.destinationDirectory,
      directoryInodeLow: inodeLow,
      directoryInodeHigh: inodeHigh,
    };
    if (this.stat.ofDescriptor(fd, empty) < 0) return fd;
    this.slot = this.partials.take(sourceStat, this.stat, place);
    // From here on the slot names it for whoever sweeps up, and only when the job does not go on.
    if (this.slot !== null) publisher.handOver();
    if (this.slot !== null) this.partials.enter(this.slot, fd);
    return fd;
  }

  /** What the copier tells its progress to. hot: once a block. */
  readonly reached = (offset: number): void => {
    if (this.slot !== null) this.slot.written = offset;
  };

  /** An errno that the flushes on the way were told; 0: none. */
  get syncError(): number {
    return this.slot?.syncError ?? 0;
  }

  /** The file has its name, or was dropped. */
  ended(): void {
    if (this.slot !== null) this.partials.leave(this.slot, "forget");
    this.slot = null;
  }

  /** True when the job was told to go on later: then the file stays as it is, and its descriptor is closed by the caller. */
  mayStay(): boolean {
    const { control, shared } = this.context;
    if (this.slot === null || !control.isCancelled || Atomics.load(shared.words, Word.stopping) === 0) return false;
    this.partials.leave(this.slot, "keep");
    this.slot = null;
    return true;
  }

  // What is continued is the very inode that the slot names, in the very directory that the copy belongs to.
  private continue(entry: Entry, sourceFd: number): number {
    const { context, partials, stat } = this;
    if (context.resumption === null) return -1;
    const slot = partials.claim(context.sourceStat);
    if (slot === null) return -1;
    const written = Math.min(slot.usable(this.isSameBoot ? "written" : "durable"), context.sourceStat.size);
    const { name } = slot.read();
    const { destinationFd } = entry.directory.fields;
    const isName = name !== "" && !name.includes("/");
    const fd = isName ? context.arena.withString(name, (address) => libc.openat(destinationFd, address, openFlags, 0)) : -1;
    const isIt = fd >= 0 && stat.ofDescriptor(fd, context.empty) === 0 && slot.isFile(stat) && stat.type === Mode.S_IFREG;
    const isSound = isIt && stat.linkCount === 1 && stat.size >= written && context.publisher.isTemporary(name);
    const from = isSound ? this.keptOf(slot, [sourceFd, fd], written) : 0;
    if (from === null) {
      context.close(fd);
      partials.giveBack(slot);
      this.wasStopped = true;
      return -1;
    }
    // Whatever lies beyond is of no known state.
    if (!isSound || libc.ftruncate(fd, from) < 0) {
      if (isSound) this.drop(destinationFd, name);
      context.close(fd);
      partials.leave(slot, "forget");
      return -1;
    }
    this.begun = entry.directory.begun(stat);
    context.publisher.adoptTemporary(destinationFd, entry.name, name, fd);
    // It was the answer to a flush of what has just been cut off.
    slot.syncError = 0;
    slot.written = from;
    slot.durable = this.isPromised ? from : Math.min(slot.durable, from);
    partials.enter(slot, fd);
    this.slot = slot;
    this.from = from;
    return fd;
  }

  // What was given to the kernel and is not known to be on the device may be lost, though nobody hears of it any more: the error of it is
  // told once, and perhaps another program had it. So that part is read from the medium. null: the job was stopped meanwhile.
  private keptOf(slot: PartialSlot, [sourceFd, fd]: readonly [number, number], written: number): number | null {
    const durable = Math.min(slot.usable("durable"), written);
    if (!this.isPromised || durable === written) return written;
    // It has the error where it has not gone from memory, and what was lost may still be read there.
    if (libc.fdatasync(fd) < 0) return durable;
    libc.posixFadvise(fd, 0, 0, Fadvise.DONTNEED);
    using comparer = new ContentComparer();
    const same = comparer.sameUpTo(sourceFd, fd, [durable, written], (bytes) => this.context.control.mayRead(bytes));
    return same === null ? null : alignedToBlocks(same);
  }

  private drop(directoryFd: number, name: string): void {
    this.context.arena.withString(name, (address) => libc.unlinkat(directoryFd, address, 0));
  }
}
