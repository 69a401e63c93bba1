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
/** Directories are known by device and inode alone: removing their entries changes the rest. */
const directorySeed = 0x5bd1e995;
const leftDirectorySeed = 0x27d4eb2f;
const leftNameSeed = 0x165667b1;
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

  /** Notes a directory that stands at the destination too: it may go when it is empty. */
  addDirectory(stat: Stat): void {
    this.appendKey(stat.identityKey(directorySeed), stat.identityKey(highSeed));
  }

  /** Notes a directory of which the user knows that it was not made. */
  addLeftDirectory(stat: Stat): void {
    this.appendKey(stat.identityKey(leftDirectorySeed), stat.identityKey(highSeed));
  }

  /**
   * Notes one name, in this source directory, of an inode with several: another name's copy must not make it look copied. Rare, and
   * so it may allocate.
   */
  addLeftName(directory: Stat, name: string): void {
    this.appendKey(nameKey(directory, name, leftNameSeed), nameKey(directory, name, highSeed));
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

/** FNV-1a over the name's bytes, begun with the directory's identity. */
function nameKey(directory: Stat, name: string, seed: number): number {
  let hash = directory.identityKey(seed);
  for (let at = 0; at < name.length; at++) hash = Math.imul(hash ^ name.charCodeAt(at), 0x01000193);
  return (hash ^ (hash >>> 15)) >>> 0;
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

  hasDirectory(stat: Stat): boolean {
    return this.keys.has(stat.identityKey(directorySeed), stat.identityKey(highSeed));
  }

  isLeftName(directory: Stat, name: string): boolean {
    return this.keys.has(nameKey(directory, name, leftNameSeed), nameKey(directory, name, highSeed));
  }

  isLeftDirectory(stat: Stat): boolean {
    return this.keys.has(stat.identityKey(leftDirectorySeed), stat.identityKey(highSeed));
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
