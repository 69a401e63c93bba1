// Whether a file is a copy of another, or what an interrupted copy of it may have left: proof by content, where no record tells.

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";

const stepBytes = 1024 * 1024;
/** What a filesystem writes or loses as one. */
const blockBytes = 4096;
const zeros = Buffer.alloc(blockBytes);

/** "torn": shorter, or with zeros where the source has something else. Nothing of it is lost with it. */
export type Likeness = "same" | "torn" | "different";

export class ContentComparer {
  private readonly source = new NativeMemory(stepBytes);
  private readonly copy = new NativeMemory(stepBytes);

  /** `goOn` waits while the job is paused, and is false when it was cancelled: then nothing is proved. */
  compare(sourceFd: number, copyFd: number, length: number, goOn: (bytes: number) => boolean): Likeness {
    let likeness: Likeness = "same";
    for (let offset = 0; offset < length; offset += stepBytes) {
      const wanted = Math.min(stepBytes, length - offset);
      const read = readFully(sourceFd, this.source, wanted, offset);
      const found = readFully(copyFd, this.copy, wanted, offset);
      if (read !== wanted || found < 0 || !goOn(wanted)) return "different";
      // Short: somebody cuts it while it is looked at.
      if (found < wanted) return "different";
      if (this.isEqual(0, wanted)) continue;
      if (!this.isTorn(wanted)) return "different";
      likeness = "torn";
    }
    return likeness;
  }

  /** Up to where [from, to) of a copy is what its source has, by steps of a MiB; null: it was cancelled. `goOn` as for compare. */
  sameUpTo(sourceFd: number, copyFd: number, [from, to]: readonly [number, number], goOn: (bytes: number) => boolean): number | null {
    for (let offset = from; offset < to; offset += stepBytes) {
      const wanted = Math.min(stepBytes, to - offset);
      const isWhole =
        readFully(sourceFd, this.source, wanted, offset) === wanted && readFully(copyFd, this.copy, wanted, offset) === wanted;
      if (!isWhole || !this.isEqual(0, wanted)) return offset;
      if (!goOn(wanted)) return null;
    }
    return to;
  }

  [Symbol.dispose](): void {
    this.source[Symbol.dispose]();
    this.copy[Symbol.dispose]();
  }

  private isEqual(start: number, end: number): boolean {
    return Buffer.compare(this.source.bytes.subarray(start, end), this.copy.bytes.subarray(start, end)) === 0;
  }

  private isTorn(length: number): boolean {
    for (let at = 0; at < length; at += blockBytes) {
      const end = Math.min(at + blockBytes, length);
      if (this.isEqual(at, end)) continue;
      if (Buffer.compare(this.copy.bytes.subarray(at, end), zeros.subarray(0, end - at)) !== 0) return false;
    }
    return true;
  }
}

function readFully(fd: number, memory: NativeMemory, length: number, offset: number): number {
  let filled = 0;
  while (filled < length) {
    const read = libc.pread(fd, memory.address + filled, length - filled, offset + filled);
    if (read === -Errno.EINTR) continue;
    if (read < 0) return read;
    if (read === 0) break;
    filled += read;
  }
  return filled;
}
