// A lane's open work: the names of the batch it reads, and the subdirectories it has yet to enter; idle lanes steal from both.
//
// The owner works depth first, which bounds the list by the depth of the tree and not by its size. A thief takes the oldest
// subdirectory it finds (the largest piece of work), else one entry of the open batch (so that one flat directory feeds all lanes).

import { libc } from "../ffi/libc.ts";
import { viewOf } from "../ffi/memory.ts";
import { isDotOrDotDot, nameLength, recordLength, recordName, recordType } from "../tree/dirents.ts";
import type { Directory } from "./directory.ts";
import { batchBytes, LaneWord, maxLanes, namesBytes, type Shared, sharedLevels, Word } from "./shared.ts";

/** Bytes of native memory per lane: its getdents buffer, then its arena of names. */
export const laneBytes = batchBytes + namesBytes;

/**
 * How much of the arena JavaScript sees at first. The collector counts a view as memory that is used: with the whole arena in sight
 * of every lane it believed in gigabytes, and let garbage grow to as much before it looked.
 */
const firstNamesView = 64 * 1024;

/** What a thief got. `type` is a DirentType; the name is at `nameAddress`, NUL-terminated, until the next steal. */
export interface Stolen {
  slot: number;
  type: number;
}

export class WorkList {
  /** The getdents buffer, and its address for the kernel. */
  readonly batch: Uint8Array;
  readonly batchAddress: number;
  readonly namesAddress: number;
  private readonly shared: Shared;
  private readonly words: number;
  private namesView: Uint8Array;
  private namesUsed = 0;
  private depth = 0;
  // One triple a level: slot (-1: private), cursor and end in `names`. Shared levels have theirs in the shared words.
  private readonly starts: number[] = [];
  private readonly cursors: number[] = [];
  private readonly ends: number[] = [];
  private batchIsShared = false;
  private cursor = 0;
  private end = 0;

  constructor(shared: Shared, lanesAddress: number, lane: number) {
    this.shared = shared;
    this.words = shared.laneWords(lane);
    this.batchAddress = lanesAddress + lane * laneBytes;
    this.namesAddress = this.batchAddress + batchBytes;
    this.batch = new Uint8Array(viewOf(this.batchAddress, batchBytes));
    this.namesView = new Uint8Array(viewOf(this.namesAddress, firstNamesView));
  }

  /** The arena of names as far as it is used, for callers that read one at an address this list gave. */
  get names(): Uint8Array {
    return this.namesView;
  }

  get level(): number {
    return this.depth;
  }

  /** Enters a directory: a new level with no names yet. */
  push(directory: Directory): void {
    const level = this.depth++;
    this.starts[level] = this.namesUsed;
    this.cursors[level] = this.namesUsed;
    this.ends[level] = this.namesUsed;
    if (level < sharedLevels) this.setShared(level, directory.slot, this.namesUsed, this.namesUsed);
  }

  /** Leaves the directory: its names are forgotten. Nothing of it can be stolen any more. */
  pop(): void {
    const level = --this.depth;
    if (level < sharedLevels) this.setShared(level, -1, 0, 0);
    this.namesUsed = this.starts[level] ?? 0;
  }

  /** Offers the `length` bytes that getdents64 wrote to the batch; only entries of a directory with a slot can be stolen. */
  openBatch(directory: Directory, length: number): void {
    this.batchIsShared = directory.slot >= 0;
    this.cursor = 0;
    this.end = length;
    if (!this.batchIsShared) return;
    this.shared.lock(this.words + LaneWord.lock);
    this.shared.words[this.words + LaneWord.batchSlot] = directory.slot;
    this.shared.words[this.words + LaneWord.batchCursor] = 0;
    this.shared.words[this.words + LaneWord.batchEnd] = length;
    this.shared.unlock(this.words + LaneWord.lock);
    this.shared.announceWork();
  }

  /** Drops what is left of the batch (a cancel). */
  closeBatch(): void {
    this.end = 0;
    if (!this.batchIsShared) return;
    this.shared.lock(this.words + LaneWord.lock);
    this.shared.words[this.words + LaneWord.batchEnd] = 0;
    this.shared.unlock(this.words + LaneWord.lock);
  }

  /** Offset of the next record in the batch, or -1 when it is used up. hot: */
  takeEntry(): number {
    if (!this.batchIsShared) {
      const offset = this.cursor;
      if (offset >= this.end) return -1;
      this.cursor += recordLength(this.batch, offset);
      return offset;
    }
    this.shared.lock(this.words + LaneWord.lock);
    const offset = this.shared.words[this.words + LaneWord.batchCursor] ?? 0;
    const more = offset < (this.shared.words[this.words + LaneWord.batchEnd] ?? 0);
    if (more) this.shared.words[this.words + LaneWord.batchCursor] = offset + recordLength(this.batch, offset);
    this.shared.unlock(this.words + LaneWord.lock);
    return more ? offset : -1;
  }

  /** Keeps the name at an offset of the batch for later, as a subdirectory of the current level. False when the arena is full. */
  addSubdirectory(offset: number): boolean {
    const name = recordName(offset);
    return this.addName(this.batch.subarray(name, name + nameLength(this.batch, name) + 1));
  }

  /** As addSubdirectory, for a name with its NUL. */
  addName(name: Uint8Array): boolean {
    if (this.namesUsed + name.length > namesBytes) return false;
    if (this.namesUsed + name.length > this.namesView.length) this.lookFurther(this.namesUsed + name.length);
    this.names.set(name, this.namesUsed);
    this.namesUsed += name.length;
    const level = this.depth - 1;
    if (level >= sharedLevels) {
      this.ends[level] = this.namesUsed;
      return true;
    }
    this.shared.lock(this.words + LaneWord.lock);
    this.shared.words[this.levelWords(level) + 2] = this.namesUsed;
    this.shared.unlock(this.words + LaneWord.lock);
    this.shared.announceWork();
    return true;
  }

  /** Address of the current level's next subdirectory name, or 0. It stays valid until the level is popped. */
  takeSubdirectory(): number {
    const level = this.depth - 1;
    if (level >= sharedLevels) {
      const cursor = this.cursors[level] ?? 0;
      if (cursor >= (this.ends[level] ?? 0)) return 0;
      this.cursors[level] = cursor + nameLength(this.names, cursor) + 1;
      return this.namesAddress + cursor;
    }
    const at = this.levelWords(level);
    this.shared.lock(this.words + LaneWord.lock);
    const cursor = this.shared.words[at + 1] ?? 0;
    const more = cursor < (this.shared.words[at + 2] ?? 0);
    if (more) this.shared.words[at + 1] = cursor + nameLength(this.names, cursor) + 1;
    this.shared.unlock(this.words + LaneWord.lock);
    return more ? this.namesAddress + cursor : 0;
  }

  private lookFurther(needed: number): void {
    let length = this.namesView.length;
    while (length < needed) length *= 2;
    this.namesView = new Uint8Array(viewOf(this.namesAddress, Math.min(length, namesBytes)));
  }

  private levelWords(level: number): number {
    return this.words + LaneWord.levels + level * LaneWord.levelWords;
  }

  private setShared(level: number, slot: number, cursor: number, end: number): void {
    const at = this.levelWords(level);
    this.shared.lock(this.words + LaneWord.lock);
    this.shared.words[at] = slot;
    this.shared.words[at + 1] = cursor;
    this.shared.words[at + 2] = end;
    this.shared.unlock(this.words + LaneWord.lock);
  }
}

/** Takes work from other lanes, with a reference to its directory, and counts the thief as active before the victim can end. */
export class Thief {
  private readonly shared: Shared;
  private readonly lanesAddress: number;
  private readonly lane: number;
  private readonly target: number;
  private readonly batches: (Uint8Array | undefined)[] = [];

  /** `target`: address of 256 bytes and more of native memory for the stolen name. */
  constructor(shared: Shared, lanesAddress: number, lane: number, target: number) {
    this.shared = shared;
    this.lanesAddress = lanesAddress;
    this.lane = lane;
    this.target = target;
  }

  /** True when `stolen` and the target's name were filled. */
  steal(stolen: Stolen): boolean {
    const lanes = Atomics.load(this.shared.words, Word.lanes);
    for (let step = 1; step < maxLanes; step++) {
      const victim = (this.lane + step) % maxLanes;
      if (victim < lanes && victim !== this.lane && this.stealFrom(victim, stolen)) return true;
    }
    return false;
  }

  private stealFrom(victim: number, stolen: Stolen): boolean {
    const base = this.shared.laneWords(victim);
    this.shared.lock(base + LaneWord.lock);
    const found = this.stealSubdirectory(victim, base, stolen) || this.stealEntry(victim, base, stolen);
    if (found) {
      Atomics.add(this.shared.words, this.shared.slotWords(stolen.slot), 1);
      Atomics.add(this.shared.words, Word.active, 1);
    }
    this.shared.unlock(base + LaneWord.lock);
    return found;
  }

  private stealSubdirectory(victim: number, base: number, stolen: Stolen): boolean {
    const words = this.shared.words;
    for (let level = 0; level < sharedLevels; level++) {
      const at = base + LaneWord.levels + level * LaneWord.levelWords;
      const cursor = words[at + 1] ?? 0;
      if (cursor >= (words[at + 2] ?? 0)) continue;
      const slot = words[at] ?? -1;
      if (slot < 0) continue;
      const length = this.copyName(victim, batchBytes + cursor);
      words[at + 1] = cursor + length + 1;
      stolen.slot = slot;
      stolen.type = 4;
      return true;
    }
    return false;
  }

  private stealEntry(victim: number, base: number, stolen: Stolen): boolean {
    const words = this.shared.words;
    const end = words[base + LaneWord.batchEnd] ?? 0;
    const batch = this.batchOf(victim);
    let cursor = words[base + LaneWord.batchCursor] ?? 0;
    while (cursor < end && isDotOrDotDot(batch, recordName(cursor))) cursor += recordLength(batch, cursor);
    if (cursor >= end) return false;
    words[base + LaneWord.batchCursor] = cursor + recordLength(batch, cursor);
    this.copyName(victim, recordName(cursor));
    stolen.slot = words[base + LaneWord.batchSlot] ?? -1;
    stolen.type = recordType(batch, cursor);
    return true;
  }

  /** Copies the name at an offset of the victim's memory without making it visible to JavaScript. Returns its length. */
  private copyName(victim: number, start: number): number {
    return libc.stpcpy(this.target, this.lanesAddress + victim * laneBytes + start) - this.target;
  }

  private batchOf(victim: number): Uint8Array {
    let batch = this.batches[victim];
    if (batch === undefined) {
      batch = new Uint8Array(viewOf(this.lanesAddress + victim * laneBytes, batchBytes));
      this.batches[victim] = batch;
    }
    return batch;
  }
}
