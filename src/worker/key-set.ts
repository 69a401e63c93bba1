// A set of 64-bit keys in native memory: 16 bytes a key at most, and no work for the garbage collector.

import { NativeMemory } from "../ffi/memory.ts";

export class KeySet {
  private memory: NativeMemory;
  private words: Uint32Array;
  private count = 0;

  /** `expected`: how many keys it holds before it has to grow. */
  constructor(expected: number) {
    this.memory = new NativeMemory(capacityFor(expected) * 8);
    this.words = this.memory.u32;
  }

  /** Adds the key of two 32-bit halves (the upper one's lowest bit does not count). False when it was there. */
  add(low: number, high: number): boolean {
    if ((this.count + 1) * 2 > this.words.length / 2) this.grow();
    const at = this.find(low, high);
    if (this.words[at + 1] !== 0) return false;
    this.count++;
    this.words[at] = low;
    this.words[at + 1] = high | 1;
    return true;
  }

  has(low: number, high: number): boolean {
    return this.words[this.find(low, high) + 1] !== 0;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }

  // The upper half's lowest bit is always set in the table: a zero there is an empty place.
  private find(low: number, high: number): number {
    const capacity = this.words.length / 2;
    const wantedLow = low >>> 0;
    const wantedHigh = (high | 1) >>> 0;
    let index = Math.imul(low ^ (high | 1), 0x9e3779b1) >>> 0;
    for (;;) {
      index &= capacity - 1;
      const at = index * 2;
      const found = this.words[at + 1] ?? 0;
      if (found === 0 || (this.words[at] === wantedLow && found === wantedHigh)) return at;
      index++;
    }
  }

  private grow(): void {
    const old = this.memory;
    const oldWords = this.words;
    this.memory = new NativeMemory(oldWords.byteLength * 2);
    this.words = this.memory.u32;
    this.count = 0;
    for (let at = 0; at < oldWords.length; at += 2) {
      if (oldWords[at + 1] !== 0) this.add(oldWords[at] ?? 0, oldWords[at + 1] ?? 0);
    }
    old[Symbol.dispose]();
  }
}

function capacityFor(count: number): number {
  let capacity = 512;
  while (capacity < count * 2) capacity *= 2;
  return capacity;
}
