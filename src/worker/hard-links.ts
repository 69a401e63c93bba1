// Which inodes with several names were already copied, and where: shared by all lanes, so that hard links stay hard links (rule 18).
//
// An open-addressing table in native memory under one lock. The first lane to meet an inode copies it while the others wait;
// if that copy fails, the next one takes over. Memory: 40 bytes an inode and its first path, only for files with several names.

import { libc } from "../ffi/libc.ts";
import { mapAnonymous, viewOf } from "../ffi/memory.ts";
import type { Stat } from "../ffi/stat.ts";
import { Float, type Shared, Word } from "./shared.ts";

const entryWords = 10;
const field = { inodeLow: 0, inodeHigh: 1, device: 2, state: 4, pathOffset: 6, pathLength: 8 } as const;
const state = { empty: 0, pending: 1, done: 2, failed: 3 } as const;
const initialCapacity = 1 << 12;
/** Virtual space for paths; touched pages only cost memory. */
const pathSpace = 1024 * 1024 * 1024;

export type HardLinkAnswer =
  /** The caller copies the file and then calls `finished`. */
  | { readonly kind: "first" }
  /** A lane is copying it: wait for hardLinkEvent and ask again. */
  | { readonly kind: "pending" }
  /** Link to this destination path (absolute, byte string). */
  | { readonly kind: "link"; readonly path: string };

const first: HardLinkAnswer = { kind: "first" };
const pending: HardLinkAnswer = { kind: "pending" };

export class HardLinks {
  private readonly shared: Shared;
  private tableAddress = 0;
  private table = new Uint32Array(0);

  constructor(shared: Shared) {
    this.shared = shared;
  }

  /** Asks for an inode with more than one name. The answer "first" makes it pending. */
  claim(stat: Stat): HardLinkAnswer {
    this.shared.lock(Word.hardLinkLock);
    try {
      const entry = this.find(stat);
      const was = this.table[entry + field.state] ?? 0;
      if (was === state.done) return { kind: "link", path: this.pathOf(entry) };
      if (was === state.pending) return pending;
      if (was === state.empty) this.insert(entry, stat);
      else this.table[entry + field.state] = state.pending;
      return first;
    } finally {
      this.shared.unlock(Word.hardLinkLock);
    }
  }

  /** Ends a claim: with the absolute path of the copy, or null when it failed. */
  finished(stat: Stat, path: string | null): void {
    this.shared.lock(Word.hardLinkLock);
    const entry = this.find(stat);
    if (path === null) {
      this.table[entry + field.state] = state.failed;
    } else {
      this.storePath(entry, path);
      this.table[entry + field.state] = state.done;
    }
    this.shared.unlock(Word.hardLinkLock);
    Atomics.add(this.shared.words, Word.hardLinkEvent, 1);
    Atomics.notify(this.shared.words, Word.hardLinkEvent);
  }

  /** Waits until some pending copy has ended, at most `timeoutMs`. */
  waitForEvent(timeoutMs: number): void {
    const words = this.shared.words;
    Atomics.wait(words, Word.hardLinkEvent, Atomics.load(words, Word.hardLinkEvent), timeoutMs);
  }

  private find(stat: Stat): number {
    this.attach();
    const capacity = this.shared.words[Word.hardLinkCapacity] ?? 0;
    const device = stat.device;
    let index = hashOf(stat.inodeLow, stat.inodeHigh, device) & (capacity - 1);
    for (;;) {
      const entry = index * entryWords;
      if (this.table[entry + field.state] === state.empty) return entry;
      if (
        this.table[entry + field.inodeLow] === stat.inodeLow &&
        this.table[entry + field.inodeHigh] === stat.inodeHigh &&
        this.table[entry + field.device] === device >>> 0
      ) {
        return entry;
      }
      index = (index + 1) & (capacity - 1);
    }
  }

  private insert(entry: number, stat: Stat): void {
    this.table[entry + field.inodeLow] = stat.inodeLow;
    this.table[entry + field.inodeHigh] = stat.inodeHigh;
    this.table[entry + field.device] = stat.device >>> 0;
    this.shared.words[Word.hardLinkCount] = (this.shared.words[Word.hardLinkCount] ?? 0) + 1;
    this.table[entry + field.state] = state.pending;
    // Grown once two thirds are used; `entry` means nothing after that.
    if ((this.shared.words[Word.hardLinkCount] ?? 0) * 3 > (this.shared.words[Word.hardLinkCapacity] ?? 0) * 2) this.grow();
  }

  // Another lane may have grown the table: the address in shared memory is the truth. Under the lock.
  private attach(): void {
    const floats = this.shared.floats;
    if ((this.shared.words[Word.hardLinkCapacity] ?? 0) === 0) {
      this.shared.words[Word.hardLinkCapacity] = initialCapacity;
      floats[Float.hardLinkTable] = mapAnonymous(initialCapacity * entryWords * 4);
      floats[Float.hardLinkPaths] = mapAnonymous(pathSpace);
    }
    const address = floats[Float.hardLinkTable] ?? 0;
    const length = (this.shared.words[Word.hardLinkCapacity] ?? 0) * entryWords;
    // The length too: a table that grew twice may have come back to the address of the first.
    if (address === this.tableAddress && length === this.table.length) return;
    this.tableAddress = address;
    this.table = new Uint32Array(viewOf(address, length * 4));
  }

  private grow(): void {
    const old = this.table;
    const oldAddress = this.tableAddress;
    const capacity = (this.shared.words[Word.hardLinkCapacity] ?? 0) * 2;
    const address = mapAnonymous(capacity * entryWords * 4);
    const table = new Uint32Array(viewOf(address, capacity * entryWords * 4));
    for (let entry = 0; entry < old.length; entry += entryWords) {
      if (old[entry + field.state] === state.empty) continue;
      const hash = hashOf(old[entry + field.inodeLow] ?? 0, old[entry + field.inodeHigh] ?? 0, old[entry + field.device] ?? 0);
      let index = hash & (capacity - 1);
      while (table[index * entryWords + field.state] !== state.empty) index = (index + 1) & (capacity - 1);
      table.set(old.subarray(entry, entry + entryWords), index * entryWords);
    }
    this.shared.words[Word.hardLinkCapacity] = capacity;
    this.shared.floats[Float.hardLinkTable] = address;
    const oldBytes = old.byteLength;
    this.attach();
    libc.munmap(oldAddress, oldBytes);
  }

  private storePath(entry: number, path: string): void {
    const floats = this.shared.floats;
    const used = floats[Float.hardLinkPathsUsed] ?? 0;
    if (used + path.length > pathSpace) {
      // No room to remember it: later names become copies of their own, which loses only the link.
      this.table[entry + field.state] = state.failed;
      return;
    }
    const address = (floats[Float.hardLinkPaths] ?? 0) + used;
    if (path.length > 0) Buffer.from(viewOf(address, path.length)).write(path, "latin1");
    floats[Float.hardLinkPathsUsed] = used + path.length;
    this.table[entry + field.pathOffset] = used >>> 0;
    this.table[entry + field.pathLength] = path.length;
  }

  private pathOf(entry: number): string {
    const address = (this.shared.floats[Float.hardLinkPaths] ?? 0) + (this.table[entry + field.pathOffset] ?? 0);
    const length = this.table[entry + field.pathLength] ?? 0;
    return Buffer.from(viewOf(address, length)).toString("latin1");
  }
}

function hashOf(inodeLow: number, inodeHigh: number, device: number): number {
  let hash = Math.imul(inodeLow ^ 0x9e3779b9, 0x85ebca6b) ^ Math.imul(inodeHigh + (device >>> 0), 0xc2b2ae35);
  hash ^= hash >>> 15;
  return Math.imul(hash, 0x2c1b3c6d) >>> 0;
}
