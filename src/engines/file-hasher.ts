// Hashes a file as its data goes by: the whole of it by the method asked for, and every stretch of it by XXH3.
//
// The stretches say where two files differ first, and are the proof by themselves where the method is xxh3. Holes, and whatever an
// engine left out, are hashed as the zeros that a reader finds there.

import { libc } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { maxDigestBytes, type StreamHash } from "./hash.ts";

/** What is hashed in one call: what read-write moves in one, so that nothing need be put together first. */
export const hashBlockBytes = 256 * 1024;
/** A stretch is at least 1 MiB, and so much longer that a file has at most this many: 512 KiB of record for any file. */
const maxStretches = 65536;
const minStretchBlocks = 4;
/** Between two looks at whether the job was cancelled; a hole may be huge. */
const pollBlocks = 64;

interface SavedHash {
  readonly stretchBlocks: number;
  readonly stretches: Uint32Array;
  readonly digest: Uint8Array;
}

export class FileHasher {
  /** Two 32-bit words a stretch; valid up to stretchCount after finish(). */
  readonly stretches: Uint32Array;
  stretchCount = 0;
  /** Blocks of hashBlockBytes in one stretch; the last one takes what a growing file has too many. */
  stretchBlocks = minStretchBlocks;
  /** Valid after finish(); digestBytes is 0 where the stretches are the proof. */
  readonly digest = new Uint8Array(maxDigestBytes);
  readonly digestBytes: number;
  /** The next byte to hash. */
  position = 0;

  private readonly stream: StreamHash | null;
  private readonly goOn: () => boolean;
  private readonly stretchMemory = new NativeMemory(maxStretches * 8);
  private readonly staging = new NativeMemory(hashBlockBytes);
  private readonly zeros = new NativeMemory(hashBlockBytes);
  /** One block's hash, and the same as two words. */
  private readonly hash64 = new BigUint64Array(1);
  private readonly hash32 = new Uint32Array(this.hash64.buffer);
  private readonly zeroHash: readonly [number, number];
  /** Whole blocks of each memory that data comes in, so that none is made while copying. */
  private readonly views = new Map<Uint8Array, readonly Uint8Array[]>();
  private blocks = 0;
  private stopped = false;

  /** `stream` null: stretches only. `goOn` waits while the job is paused and is false when it was cancelled. */
  constructor(stream: StreamHash | null, goOn: () => boolean) {
    this.stream = stream;
    this.goOn = goOn;
    this.digestBytes = stream?.digestBytes ?? 0;
    this.stretches = this.stretchMemory.u32;
    this.hash64[0] = Bun.hash.xxHash3(this.zeros.bytes);
    this.zeroHash = [this.hash32[0] ?? 0, this.hash32[1] ?? 0];
  }

  get method(): string {
    return this.stream?.method ?? "xxh3";
  }

  /** Begins a file; `size` is a hint. */
  begin(size: number): void {
    this.beginWith(stretchBlocksFor(size));
  }

  /** Begins the second look at a file, with the stretches of the first. */
  beginWith(stretchBlocks: number): void {
    this.stretchBlocks = stretchBlocks;
    this.stretchCount = 0;
    this.position = 0;
    this.blocks = 0;
    this.stopped = false;
    this.stream?.reset();
  }

  /**
   * Hashes `length` bytes of `memory` from `start` on, which lie at `offset` of the file; what offsets pass
   * over is zeros, and what was hashed before is left out. `memory` is a whole native buffer, the same object each time. hot:
   */
  take(memory: Uint8Array, start: number, length: number, offset: number): void {
    if (offset > this.position) this.takeZeros(offset - this.position);
    // Read once more after a failure behind it: it was hashed the first time.
    const known = Math.min(length, Math.max(0, this.position - offset));
    let at = start + known;
    let left = length - known;
    while (left > 0 && !this.stopped) {
      const filled = this.position % hashBlockBytes;
      if (filled === 0 && left >= hashBlockBytes) {
        this.takeBlock(this.viewOf(memory, at));
        at += hashBlockBytes;
        left -= hashBlockBytes;
        continue;
      }
      const part = Math.min(left, hashBlockBytes - filled);
      this.staging.bytes.set(memory.subarray(at, at + part), filled);
      this.stage(part);
      at += part;
      left -= part;
    }
  }

  /** Ends a file of this length: what was not taken up to there is zeros. False when the job was cancelled meanwhile. */
  finish(length: number): boolean {
    if (length > this.position) this.takeZeros(length - this.position);
    const filled = this.position % hashBlockBytes;
    if (filled > 0) {
      const rest = this.staging.bytes.subarray(0, filled);
      this.hash64[0] = Bun.hash.xxHash3(rest);
      this.fold(this.hash32[0] ?? 0, this.hash32[1] ?? 0);
      this.stream?.update(rest);
    }
    this.stream?.digest(this.digest, 0);
    return !this.stopped;
  }

  /** Hashes what a descriptor gives from `position` up to `end`, through the page cache. 0, or -errno of the read. */
  takeFrom(fd: number, end: number): number {
    const block = this.staging;
    while (this.position < end && !this.stopped) {
      const filled = this.position % hashBlockBytes;
      const wanted = Math.min(end - this.position, hashBlockBytes - filled);
      const length = libc.pread(fd, block.address + filled, wanted, this.position);
      if (length < 0) return length;
      if (length === 0) return 0;
      this.stage(length);
      if (!this.goOn()) this.stopped = true;
    }
    return 0;
  }

  /** What finish() left, for whoever needs the hasher for another file in between. */
  save(): SavedHash {
    const { stretchBlocks, stretchCount } = this;
    return { stretchBlocks, stretches: this.stretches.slice(0, stretchCount * 2), digest: this.digest.slice() };
  }

  restore(saved: SavedHash): void {
    this.stretchBlocks = saved.stretchBlocks;
    this.stretchCount = saved.stretches.length / 2;
    this.stretches.set(saved.stretches);
    this.digest.set(saved.digest);
  }

  [Symbol.dispose](): void {
    this.stretchMemory[Symbol.dispose]();
    this.staging[Symbol.dispose]();
    this.zeros[Symbol.dispose]();
  }

  /** What was just put into the staging block. */
  private stage(length: number): void {
    if ((this.position % hashBlockBytes) + length < hashBlockBytes) {
      this.position += length;
      return;
    }
    this.position -= this.position % hashBlockBytes;
    this.takeBlock(this.viewOf(this.staging.bytes, 0));
  }

  // hot: once a block. The one BigInt is Bun's, whose XXH3 has no other form.
  private takeBlock(view: Uint8Array): void {
    this.hash64[0] = Bun.hash.xxHash3(view);
    this.fold(this.hash32[0] ?? 0, this.hash32[1] ?? 0);
    this.stream?.update(view);
    this.position += hashBlockBytes;
  }

  private takeZeros(count: number): void {
    let left = count;
    while (left > 0 && !this.stopped) {
      const filled = this.position % hashBlockBytes;
      if (filled > 0 || left < hashBlockBytes) {
        const part = Math.min(left, hashBlockBytes - filled);
        this.staging.bytes.fill(0, filled, filled + part);
        this.stage(part);
        left -= part;
        continue;
      }
      this.fold(this.zeroHash[0], this.zeroHash[1]);
      this.stream?.update(this.zeros.bytes);
      this.position += hashBlockBytes;
      left -= hashBlockBytes;
      if (this.blocks % pollBlocks === 0 && !this.goOn()) this.stopped = true;
    }
  }

  /** Each step can be undone, so one changed block always changes its stretch. */
  private fold(low: number, high: number): void {
    const stretch = Math.min(Math.floor(this.blocks / this.stretchBlocks), maxStretches - 1);
    this.blocks++;
    if (stretch === this.stretchCount) {
      this.stretches[stretch * 2] = 0;
      this.stretches[stretch * 2 + 1] = 0;
      this.stretchCount++;
    }
    this.stretches[stretch * 2] = foldWord(this.stretches[stretch * 2] ?? 0, low);
    this.stretches[stretch * 2 + 1] = foldWord(this.stretches[stretch * 2 + 1] ?? 0, high);
  }

  private viewOf(memory: Uint8Array, start: number): Uint8Array {
    if (start % hashBlockBytes !== 0) return memory.subarray(start, start + hashBlockBytes);
    let views = this.views.get(memory);
    if (views === undefined) {
      const count = Math.floor(memory.length / hashBlockBytes);
      views = Array.from({ length: count }, (_, index) => memory.subarray(index * hashBlockBytes, (index + 1) * hashBlockBytes));
      this.views.set(memory, views);
    }
    return views[start / hashBlockBytes] ?? memory.subarray(start, start + hashBlockBytes);
  }
}

/** Blocks a stretch for a file of about this size: a power of two. */
export function stretchBlocksFor(size: number): number {
  let blocks = minStretchBlocks;
  while (size / (blocks * hashBlockBytes) > maxStretches) blocks *= 2;
  return blocks;
}

function foldWord(folded: number, word: number): number {
  return Math.imul(folded ^ word, 0x85ebca6b) >>> 0;
}
