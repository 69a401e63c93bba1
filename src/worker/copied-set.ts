// What a move has copied whole: the exact states of the source inodes, so that only these, unchanged, are ever deleted (rule 5).
//
// Each lane appends 64-bit keys of (device, inode, size, mtime, ctime) to a list of its own in native memory: 8 bytes a file. The
// leader makes one table of all lists when everything is durable. A changed file has another key; that two different states share
// one by chance has a probability of files / 2^64.

import { NativeMemory, viewOf } from "../ffi/memory.ts";
import type { Stat } from "../ffi/stat.ts";
import { Float, maxLanes, type Shared } from "./shared.ts";

/** Virtual space of a lane's list: 32 million files; touched pages only cost memory. */
const listBytes = 256 * 1024 * 1024;

/** A lane's list. */
export class CopiedList {
  private readonly words: Uint32Array;
  private readonly floats: Float64Array;
  private readonly countIndex: number;

  constructor(shared: Shared, lane: number) {
    const memory = new NativeMemory(listBytes);
    this.words = memory.u32;
    this.floats = shared.floats;
    this.countIndex = Float.copiedLists + lane * 2 + 1;
    this.floats[Float.copiedLists + lane * 2] = memory.address;
    this.floats[this.countIndex] = 0;
  }

  /** Notes a source whose copy is complete. One that does not fit is simply never deleted. hot: */
  add(stat: Stat): void {
    const count = this.floats[this.countIndex] ?? 0;
    if (count * 2 + 2 > this.words.length) return;
    this.words[count * 2] = stat.stateKey(0x2545f491);
    this.words[count * 2 + 1] = stat.stateKey(0x9e3779b1);
    this.floats[this.countIndex] = count + 1;
  }
}

/** All lanes' lists as one set; made by the leader after the last lane has finished copying. */
export class CopiedSet {
  private words: Uint32Array;
  private memory: NativeMemory;
  private count = 0;

  constructor(shared: Shared) {
    let expected = 0;
    for (let lane = 0; lane < maxLanes; lane++) expected += shared.floats[Float.copiedLists + lane * 2 + 1] ?? 0;
    this.memory = new NativeMemory(capacityFor(expected) * 8);
    this.words = this.memory.u32;
    for (let lane = 0; lane < maxLanes; lane++) {
      const address = shared.floats[Float.copiedLists + lane * 2] ?? 0;
      const length = shared.floats[Float.copiedLists + lane * 2 + 1] ?? 0;
      if (address === 0 || length === 0) continue;
      const list = new Uint32Array(viewOf(address, length * 8));
      for (let index = 0; index < length; index++) this.insert(list[index * 2] ?? 0, list[index * 2 + 1] ?? 0);
    }
  }

  /** Adds a state that this program itself brought about: the other names of an inode after one of them was removed. */
  add(stat: Stat): void {
    this.insert(stat.stateKey(0x2545f491), stat.stateKey(0x9e3779b1));
  }

  has(stat: Stat): boolean {
    return this.words[this.find(stat.stateKey(0x2545f491), stat.stateKey(0x9e3779b1)) + 1] !== 0;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }

  private insert(low: number, high: number): void {
    if ((this.count + 1) * 2 > this.words.length / 2) this.grow();
    const at = this.find(low, high);
    if (this.words[at + 1] === 0) this.count++;
    this.words[at] = low;
    this.words[at + 1] = high | 1;
  }

  // The upper word's lowest bit is always set in the table: a zero there is an empty place.
  private find(low: number, high: number): number {
    const capacity = this.words.length / 2;
    let index = low & (capacity - 1);
    for (;;) {
      const at = index * 2;
      const found = this.words[at + 1] ?? 0;
      if (found === 0 || (this.words[at] === low && found === (high | 1) >>> 0)) return at;
      index = (index + 1) & (capacity - 1);
    }
  }

  private grow(): void {
    const old = this.memory;
    const oldWords = this.words;
    this.memory = new NativeMemory(oldWords.byteLength * 2);
    this.words = this.memory.u32;
    this.count = 0;
    for (let at = 0; at < oldWords.length; at += 2) {
      if (oldWords[at + 1] !== 0) this.insert(oldWords[at] ?? 0, oldWords[at + 1] ?? 0);
    }
    old[Symbol.dispose]();
  }
}

function capacityFor(count: number): number {
  let capacity = 512;
  while (capacity < count * 2) capacity *= 2;
  return capacity;
}
