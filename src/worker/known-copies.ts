// What a former worker of this job finished, as its checkpoint says: the key of each copy, and of the source that it was made of.
//
// An open-addressing table in native memory, 16 bytes a slot, filled once by the main thread and then only looked into by the lanes.

import { mapAnonymous, viewOf, wordAt } from "../ffi/memory.ts";

const slotBytes = 16;
/** Beyond this many the content of what is found is looked at instead: 256 MiB of table, at most. */
export const maxKnownCopies = 8 * 1024 * 1024;

/** As it travels to the threads. */
export interface KnownTable {
  readonly address: number;
  /** Slots, a power of two. */
  readonly capacity: number;
}

/** A key is two 32-bit halves; the lower one's lowest bit does not count. */
export class KnownCopiesBuilder {
  readonly table: KnownTable;
  private readonly words: Uint32Array;
  private count = 0;

  /** `expected`: how many are added at most; more than maxKnownCopies are forgotten. */
  constructor(expected: number) {
    let capacity = 1024;
    while (capacity * 3 < Math.min(expected, maxKnownCopies) * 4) capacity *= 2;
    const address = mapAnonymous(capacity * slotBytes);
    this.table = { address, capacity };
    this.words = new Uint32Array(viewOf(address, capacity * slotBytes));
  }

  /** A later source of the same copy takes the place of the earlier one. */
  add(copyLow: number, copyHigh: number, sourceLow: number, sourceHigh: number): void {
    const { capacity } = this.table;
    const low = (copyLow | 1) >>> 0;
    let index = placeOf(low, copyHigh);
    for (;;) {
      index &= capacity - 1;
      const at = index * 4;
      const isFree = this.words[at] === 0;
      if (isFree && this.count * 4 >= capacity * 3) return;
      if (isFree || (this.words[at] === low && this.words[at + 1] === copyHigh >>> 0)) {
        if (isFree) this.count++;
        this.words[at] = low;
        this.words[at + 1] = copyHigh;
        this.words[at + 2] = sourceLow;
        this.words[at + 3] = sourceHigh;
        return;
      }
      index++;
    }
  }
}

/** One thread's look into the table. */
export class KnownCopies {
  private readonly table: KnownTable;

  constructor(table: KnownTable) {
    this.table = table;
  }

  /** "same": it is the copy of this very source. "other": of another one, or of another state of it. */
  find(copyLow: number, copyHigh: number, sourceLow: number, sourceHigh: number): "none" | "same" | "other" {
    const { address, capacity } = this.table;
    const low = (copyLow | 1) >>> 0;
    let index = placeOf(low, copyHigh);
    for (;;) {
      index &= capacity - 1;
      const at = address + index * slotBytes;
      const found = wordAt(at);
      if (found === 0) return "none";
      if (found === low && wordAt(at + 4) === copyHigh >>> 0) {
        return wordAt(at + 8) === sourceLow >>> 0 && wordAt(at + 12) === sourceHigh >>> 0 ? "same" : "other";
      }
      index++;
    }
  }
}

function placeOf(low: number, high: number): number {
  return Math.imul(low ^ high, 0x9e3779b1) >>> 7;
}
