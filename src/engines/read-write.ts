// The engine that serves everywhere: read a block, write a block. It also makes holes of zeros and keeps the page cache clean.

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { type CopyControl, type DataCopy, type Engine, stopped } from "./engine.ts";
import type { FileHasher } from "./file-hasher.ts";

/** The buffer of one lane: measured in bench/engines.md; beyond the second-level cache a block is copied at memory's speed. */
export const blockBytes = 256 * 1024;
/** The unit in which zeros become holes: no filesystem of ours allocates less. */
const pageBytes = 4096;
const RWF_DONTCACHE = 0x80;

export interface ReadWriteOptions {
  /** "holes": pages of zeros are not written; the caller sets the final size where the last of them was skipped. */
  readonly zeros: "write" | "holes";
  /** "drop": what the copy brings into the page cache leaves it again (RWF_DONTCACHE), where the filesystems can. */
  readonly cache: "keep" | "drop";
  /** Gets every byte that is read, before it is written. */
  readonly hasher?: FileHasher | null;
}

export class ReadWrite implements Engine {
  readonly name = "read-write" as const;
  private readonly options: ReadWriteOptions;
  private memory: NativeMemory | undefined;
  private words: Int32Array = new Int32Array(0);
  /** Pipes, terminals and the like know no offsets: each side falls back to the descriptor's own position, once a file. */
  private readsAtOffset = true;
  private writesAtOffset = true;
  private readFlags = 0;
  private writeFlags = 0;
  private readonly hasher: FileHasher | null;

  constructor(options: ReadWriteOptions = { zeros: "write", cache: "keep" }) {
    this.options = options;
    this.hasher = options.hasher ?? null;
  }

  // hot: bench/engines.ts; two calls a block, nothing allocated.
  copy(copy: DataCopy, control: CopyControl): number {
    const memory = this.memory ?? this.allocate();
    this.readsAtOffset = true;
    this.writesAtOffset = true;
    this.readFlags = this.options.cache === "drop" ? RWF_DONTCACHE : 0;
    this.writeFlags = this.readFlags;
    while (copy.offset < copy.end) {
      const step = control.stepBytes?.(blockBytes) ?? blockBytes;
      const length = this.read(copy, memory.address, Math.min(step, copy.end - copy.offset));
      if (length === 0) {
        copy.sourceEnded = true;
        break;
      }
      if (length < 0) {
        copy.failedSide = "source";
        copy.failedSyscall = "read";
        return length;
      }
      if (this.hasher !== null) this.hasher.take(memory.bytes, 0, length, copy.offset);
      const result =
        this.options.zeros === "holes" ? this.writeUnlessZero(copy, memory.address, length) : this.write(copy, memory.address, length);
      if (result < 0) {
        copy.failedSide = "destination";
        copy.failedSyscall = "write";
        return result;
      }
      if (!control.advanced(length, "copied")) return stopped;
    }
    return 0;
  }

  /** Whether RWF_DONTCACHE serves the file at hand on each side; where not, whoever asked for `drop` drops the pages another way. */
  get dropsSource(): boolean {
    return this.readFlags !== 0;
  }
  get dropsDestination(): boolean {
    return this.writeFlags !== 0;
  }

  /** The address of the block that is read into and written from; stays as long as the engine does. */
  get buffer(): number {
    return (this.memory ?? this.allocate()).address;
  }

  /** Nothing comes after this engine: each of its errors is the file's. */
  isUnsupported(): boolean {
    return false;
  }

  [Symbol.dispose](): void {
    this.memory?.[Symbol.dispose]();
    this.memory = undefined;
  }

  private allocate(): NativeMemory {
    // One page more than the block holds the iovec of preadv2 and pwritev2.
    const memory = new NativeMemory(blockBytes + pageBytes);
    this.words = new Int32Array(memory.bytes.buffer);
    this.memory = memory;
    return memory;
  }

  private read(copy: DataCopy, address: number, length: number): number {
    for (;;) {
      const result = !this.readsAtOffset
        ? libc.read(copy.sourceFd, address, length)
        : this.readFlags === 0
          ? libc.pread(copy.sourceFd, address, length, copy.offset)
          : libc.preadv2(copy.sourceFd, this.iovec(address, length), 1, copy.offset, this.readFlags);
      if (result >= 0) return result;
      if (result === -Errno.ESPIPE && this.readsAtOffset) this.readsAtOffset = false;
      else if (this.readFlags !== 0 && isFlagRefused(result)) this.readFlags = 0;
      else if (result !== -Errno.EINTR) return result;
    }
  }

  /** Writes all of it at copy.offset and advances the offset by what was written, also when it fails halfway. */
  private write(copy: DataCopy, address: number, length: number): number {
    let written = 0;
    while (written < length) {
      const from = address + written;
      const rest = length - written;
      const result = !this.writesAtOffset
        ? libc.write(copy.destinationFd, from, rest)
        : this.writeFlags === 0
          ? libc.pwrite(copy.destinationFd, from, rest, copy.offset)
          : libc.pwritev2(copy.destinationFd, this.iovec(from, rest), 1, copy.offset, this.writeFlags);
      if (result > 0) {
        written += result;
        copy.offset += result;
      } else if (result === -Errno.ESPIPE && this.writesAtOffset) this.writesAtOffset = false;
      else if (this.writeFlags !== 0 && isFlagRefused(result)) this.writeFlags = 0;
      // A write of nothing is no error and no progress: write(2) allows it for no regular file, so it would repeat for ever.
      else if (result !== -Errno.EINTR) return result === 0 ? -Errno.EIO : result;
    }
    return 0;
  }

  /** As write, but leaves out the pages of zeros: runs of others are written in one call each. */
  private writeUnlessZero(copy: DataCopy, address: number, length: number): number {
    let start = 0;
    while (start < length) {
      const zero = this.isZeroPage(start, length);
      let end = start + pageBytes;
      while (end < length && this.isZeroPage(end, length) === zero) end += pageBytes;
      end = Math.min(end, length);
      if (zero) copy.offset += end - start;
      else {
        const result = this.write(copy, address + start, end - start);
        if (result < 0) return result;
      }
      start = end;
    }
    return 0;
  }

  /** Most pages differ from zero in their first word, so the loop rarely runs; a Float64Array would take -0 for zero. */
  private isZeroPage(start: number, length: number): boolean {
    const words = this.words;
    const bytes = Math.min(pageBytes, length - start);
    const first = start >> 2;
    const last = first + (bytes >> 2);
    for (let index = first; index < last; index++) if (words[index] !== 0) return false;
    for (let rest = bytes & 3; rest > 0; rest--) if (this.memory?.bytes[start + bytes - rest] !== 0) return false;
    return true;
  }

  private iovec(address: number, length: number): number {
    const words = this.words;
    const at = blockBytes >> 2;
    words[at] = address % 2 ** 32;
    words[at + 1] = Math.floor(address / 2 ** 32);
    words[at + 2] = length;
    words[at + 3] = 0;
    return (this.memory?.address ?? 0) + blockBytes;
  }
}

function isFlagRefused(result: number): boolean {
  return result === -Errno.EOPNOTSUPP || result === -Errno.EINVAL || result === -Errno.ENOSYS;
}
