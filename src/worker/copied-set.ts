// What a move has copied whole: the exact states of the source inodes, so that only these, unchanged, are ever deleted (rule 5).
//
// Each lane appends 64-bit keys of (device, inode, size, mtime, ctime) to a list of its own in native memory: 8 bytes a file. The
// leader makes one table of all lists when everything is durable. A changed file has another key; that two different states share
// one by chance has a probability of files / 2^63.

import { mapAnonymous, viewOf } from "../ffi/memory.ts";
import type { Stat } from "../ffi/stat.ts";
import { KeySet } from "./key-set.ts";
import { Float, maxLanes, type Shared } from "./shared.ts";

/** Virtual space of a lane's list: 32 million files; touched pages only cost memory. */
const listBytes = 256 * 1024 * 1024;
/**
 * How much of its list a lane sees at a time. The collector counts what is in sight as used memory, and lets garbage grow with it:
 * with whole lists in sight, a move of 300,000 files grew by a hundred megabytes.
 */
const windowKeys = 64 * 1024;
/** Two independent 32-bit hashes make one key. */
const copiedSeed = 0x2545f491;
const leftSeed = 0x6c62272e;
const highSeed = 0x9e3779b1;
/** Turns the key of a copied state into that of one whose copy proved wrong. */
const revokedMask = 0x3c6ef372;

/** A lane's list. */
export class CopiedList {
  private readonly address: number;
  private window: Uint32Array;
  /** The number of the window's first key. */
  private windowStart = 0;
  private readonly floats: Float64Array;
  private readonly countIndex: number;

  constructor(shared: Shared, lane: number) {
    this.address = mapAnonymous(listBytes);
    this.window = new Uint32Array(viewOf(this.address, windowKeys * 8));
    this.floats = shared.floats;
    this.countIndex = Float.copiedLists + lane * 2 + 1;
    this.floats[Float.copiedLists + lane * 2] = this.address;
    this.floats[this.countIndex] = 0;
  }

  /** Notes a source whose copy is complete. One that does not fit is simply never deleted. hot: */
  add(stat: Stat): void {
    this.append(stat, copiedSeed);
  }

  /** Notes a source that stays, skipped or failed, and of which the user knows. */
  addLeft(stat: Stat): void {
    this.append(stat, leftSeed);
  }

  /** What `revoke` knows a source by. */
  static keyOf(stat: Stat): readonly [low: number, high: number] {
    return [stat.stateKey(copiedSeed), stat.stateKey(highSeed)];
  }

  /** Takes an `add` back: the copy proved wrong, so the source stays. */
  revoke([low, high]: readonly [low: number, high: number]): void {
    // Without room to say so, nothing of this lane's is deleted.
    if (!this.appendKey((low ^ revokedMask) >>> 0, high)) this.floats[this.countIndex] = 0;
  }

  private append(stat: Stat, seed: number): void {
    this.appendKey(stat.stateKey(seed), stat.stateKey(highSeed));
  }

  private appendKey(low: number, high: number): boolean {
    const count = this.floats[this.countIndex] ?? 0;
    if ((count + 1) * 8 > listBytes) return false;
    const at = count % windowKeys;
    if (count - at !== this.windowStart) this.moveWindow(count - at);
    this.window[at * 2] = low;
    this.window[at * 2 + 1] = high;
    this.floats[this.countIndex] = count + 1;
    return true;
  }

  private moveWindow(start: number): void {
    this.windowStart = start;
    this.window = new Uint32Array(viewOf(this.address + start * 8, windowKeys * 8));
  }
}

/** All lanes' lists as one set; made by the leader after the last lane has finished copying. */
export class CopiedSet {
  private readonly keys: KeySet;

  constructor(shared: Shared) {
    const lists = Array.from({ length: maxLanes }, (_, lane) => ({
      address: shared.floats[Float.copiedLists + lane * 2] ?? 0,
      length: shared.floats[Float.copiedLists + lane * 2 + 1] ?? 0,
    })).filter(({ length }) => length > 0);
    this.keys = new KeySet(lists.reduce((sum, { length }) => sum + length, 0));
    for (const { address, length } of lists) {
      const words = new Uint32Array(viewOf(address, length * 8));
      for (let index = 0; index < length; index++) this.keys.add(words[index * 2] ?? 0, words[index * 2 + 1] ?? 0);
    }
  }

  /** Adds a state that this program itself brought about: the other names of an inode after one of them was removed. */
  add(stat: Stat): void {
    this.keys.add(stat.stateKey(copiedSeed), stat.stateKey(highSeed));
  }

  has(stat: Stat): boolean {
    const [low, high] = CopiedList.keyOf(stat);
    return this.keys.has(low, high) && !this.keys.has((low ^ revokedMask) >>> 0, high);
  }

  /** True for one that was skipped or failed in this very state, or whose copy proved wrong. */
  isLeft(stat: Stat): boolean {
    const [low, high] = CopiedList.keyOf(stat);
    return this.keys.has(stat.stateKey(leftSeed), high) || this.keys.has((low ^ revokedMask) >>> 0, high);
  }

  [Symbol.dispose](): void {
    this.keys[Symbol.dispose]();
  }
}
