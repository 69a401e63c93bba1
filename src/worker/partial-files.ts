// Big files on their way: how much of each is there, so that an interrupted one goes on instead of beginning anew.
//
// A slot of the checkpoint names the temporary file and the source's state, and holds two lengths: what the kernel has been given,
// which outlives the worker, and what is on the device, which outlives the machine's being switched off.

import { At, libc, Open } from "../ffi/libc.ts";
import { Arena, viewOf } from "../ffi/memory.ts";
import type { Stat } from "../ffi/stat.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";
import { checkOf, maxPartials, pageBytes, partialsStart } from "./checkpoint-layout.ts";
import { sourceKeyOf } from "./checkpoint-log.ts";
import { type Shared, Word } from "./shared.ts";

/** What is copied twice at most of one file: smaller ones are not worth a slot. */
export const bigFileBytes = 64 * 1024 * 1024;
/** Where an interrupted file goes on: engines and hashes like whole blocks. */
const alignmentBytes = 1024 * 1024;

const slotWord = {
  isUsed: 0,
  run: 1,
  sourceLow: 2,
  sourceHigh: 3,
  /** The temporary file's inode and time of birth, as one key. */
  fileLow: 4,
  fileHigh: 5,
  directoryInodeLow: 6,
  directoryInodeHigh: 7,
  nameBytes: 8,
  directoryBytes: 9,
  /** Of the words before, the names left out. */
  check: 10,
  durableCheck: 11,
  /** For the thread that flushes. Valid for the run that it is of. */
  fd: 12,
  /** An errno that fdatasync told the thread that calls it; the file is not to be believed then. */
  syncError: 13,
} as const;
const slotFloat = { written: 8, durable: 9 } as const;
const durableWord = slotFloat.durable * 2;
const nameStart = 256;
const maxNameBytes = 255;
const directoryStart = 512;
const maxDirectoryBytes = pageBytes - directoryStart;
/** Runs are counted from 1. */
const nobody = 0;
const fileSeeds = [0x428a2f98, 0x71374491] as const;

export function alignedToBlocks(bytes: number): number {
  return bytes - (bytes % alignmentBytes);
}

/** What a slot says, for the removal of a file that nobody will continue. */
export interface PartialRecord {
  readonly name: string;
  readonly directory: string;
  readonly directoryInodeLow: number;
  readonly directoryInodeHigh: number;
}

/** One slot of the checkpoint, as one thread sees it. */
export class PartialSlot {
  private readonly words: Uint32Array;
  private readonly floats: Float64Array;
  private readonly bytes: Buffer;

  constructor(head: number, index: number) {
    const buffer = viewOf(head + partialsStart + index * pageBytes, pageBytes);
    this.words = new Uint32Array(buffer);
    this.floats = new Float64Array(buffer);
    this.bytes = Buffer.from(buffer);
  }

  get isUsed(): boolean {
    return this.words[slotWord.isUsed] === 1;
  }
  get run(): number {
    return this.words[slotWord.run] ?? 0;
  }
  set run(run: number) {
    this.words[slotWord.run] = run;
  }
  get fd(): number {
    return (this.words[slotWord.fd] ?? 0) - 1;
  }
  set fd(fd: number) {
    this.words[slotWord.fd] = fd + 1;
  }
  get syncError(): number {
    return this.words[slotWord.syncError] ?? 0;
  }
  set syncError(errno: number) {
    this.words[slotWord.syncError] = errno;
  }
  get written(): number {
    return this.floats[slotFloat.written] ?? 0;
  }
  set written(bytes: number) {
    this.floats[slotFloat.written] = bytes;
  }
  get durable(): number {
    return this.floats[slotFloat.durable] ?? 0;
  }
  /** Only after fdatasync. */
  set durable(bytes: number) {
    this.floats[slotFloat.durable] = bytes;
    this.words[slotWord.durableCheck] = this.durableCheck();
  }

  isOf(source: Stat): boolean {
    const [low, high] = sourceKeyOf(source);
    return this.isUsed && this.words[slotWord.sourceLow] === low && this.words[slotWord.sourceHigh] === high;
  }

  isFile(file: Stat): boolean {
    return this.words[slotWord.fileLow] === file.inodeKey(fileSeeds[0]) && this.words[slotWord.fileHigh] === file.inodeKey(fileSeeds[1]);
  }

  /** False when the directory's path does not fit. */
  fill(source: Stat, file: Stat, place: PartialRecord, run: number): boolean {
    const { words, bytes } = this;
    if (place.directory.length > maxDirectoryBytes || place.name.length > maxNameBytes) return false;
    this.clear();
    [words[slotWord.sourceLow], words[slotWord.sourceHigh]] = sourceKeyOf(source);
    words[slotWord.fileLow] = file.inodeKey(fileSeeds[0]);
    words[slotWord.fileHigh] = file.inodeKey(fileSeeds[1]);
    words[slotWord.directoryInodeLow] = place.directoryInodeLow;
    words[slotWord.directoryInodeHigh] = place.directoryInodeHigh;
    words[slotWord.nameBytes] = bytes.write(place.name, nameStart, "latin1");
    words[slotWord.directoryBytes] = bytes.write(place.directory, directoryStart, "latin1");
    words[slotWord.run] = run;
    words[slotWord.check] = this.check();
    words[slotWord.isUsed] = 1;
    return true;
  }

  clear(): void {
    this.words[slotWord.isUsed] = 0;
    this.words.fill(0, 0, nameStart / 4);
  }

  /** How much of the file there is: as it was given to the kernel, or to the device. */
  usable(what: "written" | "durable"): number {
    // What a flush could not write is lost, be it still to be read in the page cache (rule 2).
    if (this.syncError !== 0) return 0;
    // A head that was being written to the device when the machine went off may be of two moments.
    if (this.words[slotWord.check] !== this.check()) return 0;
    const isDurableTrue = this.words[slotWord.durableCheck] === this.durableCheck();
    const bytes = what === "written" ? this.written : isDurableTrue ? this.durable : 0;
    return Number.isSafeInteger(bytes) && bytes > 0 ? alignedToBlocks(bytes) : 0;
  }

  /** Lengths are clamped: the record is as hostile as its worker was. */
  read(): PartialRecord {
    const { words, bytes } = this;
    const nameBytes = Math.min(words[slotWord.nameBytes] ?? 0, maxNameBytes);
    const directoryBytes = Math.min(words[slotWord.directoryBytes] ?? 0, maxDirectoryBytes);
    return {
      name: bytes.toString("latin1", nameStart, nameStart + nameBytes),
      directory: bytes.toString("latin1", directoryStart, directoryStart + directoryBytes),
      directoryInodeLow: words[slotWord.directoryInodeLow] ?? 0,
      directoryInodeHigh: words[slotWord.directoryInodeHigh] ?? 0,
    };
  }

  private check(): number {
    return checkOf(this.words, slotWord.sourceLow, slotWord.check);
  }

  private durableCheck(): number {
    return (checkOf(this.words, durableWord, durableWord + 2) ^ (this.words[slotWord.check] ?? 0)) >>> 0;
  }
}

/** All slots, for one thread. */
export class PartialFiles {
  readonly run: number;
  private readonly shared: Shared;
  private readonly slots: readonly PartialSlot[];

  constructor(shared: Shared, checkpoint: CheckpointMemory) {
    this.shared = shared;
    this.slots = Array.from({ length: maxPartials }, (_, index) => new PartialSlot(checkpoint.head, index));
    this.run = checkpoint.run;
  }

  /** The slot of a former worker's copy of this source, now this lane's; null: there is none. */
  claim(source: Stat): PartialSlot | null {
    return this.locked(() => {
      const slot = this.slots.find((candidate) => candidate.run !== this.run && candidate.isOf(source)) ?? null;
      if (slot === null) return null;
      slot.fd = -1;
      slot.run = this.run;
      return slot;
    });
  }

  /** A slot for a file just begun; null: all are in use, or its path is too long. */
  take(source: Stat, file: Stat, place: PartialRecord): PartialSlot | null {
    return this.locked(() => {
      const slot = this.slots.find(({ isUsed }) => !isUsed);
      return slot?.fill(source, file, place, this.run) === true ? slot : null;
    });
  }

  /** What claim() took is for the next worker, as it was. */
  giveBack(slot: PartialSlot): void {
    this.locked(() => {
      slot.run = nobody;
    });
  }

  /**
   * From now on, until leave(), the thread that flushes may flush the file of this descriptor. It does so by an open file of its own: each is
   * told once of what could not be written, and what that thread was told, the lane's own flush is to be told as well (rule 2).
   */
  enter(slot: PartialSlot, fd: number): void {
    using arena = new Arena(32);
    // Where it cannot be had, nothing is flushed on the way.
    const own = libc.openat(At.AT_FDCWD, arena.cstring(`/proc/self/fd/${fd}`), Open.O_RDONLY | Open.O_CLOEXEC, 0);
    this.locked(() => {
      slot.fd = Math.max(-1, own);
    });
  }

  /** "forget": the file has its name now, or is gone. */
  leave(slot: PartialSlot, what: "keep" | "forget"): void {
    this.locked(() => {
      if (slot.fd >= 0) libc.close(slot.fd);
      slot.fd = -1;
      if (what === "forget") slot.clear();
    });
  }

  /** Flushes what was written, file by file, and says so. True when there was something. */
  makeDurable(): boolean {
    let hasChanged = false;
    for (const slot of this.slots) {
      if (slot.run !== this.run || slot.fd < 0 || slot.written <= slot.durable) continue;
      // Another descriptor of that file: leave() may close this one at any moment.
      const fd = this.locked(() => (slot.fd < 0 ? -1 : libc.dup(slot.fd)));
      if (fd < 0) continue;
      const { written } = slot;
      const synced = libc.fdatasync(fd);
      this.locked(() => {
        if (slot.fd < 0) return;
        if (synced < 0) slot.syncError = -synced;
        else slot.durable = written;
      });
      libc.close(fd);
      hasChanged = true;
    }
    return hasChanged;
  }

  /** After a flush of all devices, with every lane at rest. */
  noteFlushed(checkpointFd: number): void {
    for (const slot of this.used()) if (slot.run === this.run) slot.durable = slot.written;
    libc.fdatasync(checkpointFd);
  }

  /** Slots in use. */
  *used(): Generator<PartialSlot> {
    for (const slot of this.slots) if (slot.isUsed) yield slot;
  }

  private locked<Result>(action: () => Result): Result {
    this.shared.lock(Word.partialLock);
    try {
      return action();
    } finally {
      this.shared.unlock(Word.partialLock);
    }
  }
}
