// Sharing instead of copying: FICLONE makes the destination point at the source's own extents.

import { Errno } from "../errno.ts";
import { Ioctl, libc, Seek } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { type CopyControl, type DataCopy, type Engine, stopped } from "./engine.ts";
import { isUnsupportedErrno, sideAtFault } from "./unsupported.ts";

/** A clone of 1 GiB takes xfs about 15 ms: the step after which pause and cancel are looked at. */
const stepBytes = 2 ** 30;
const two32 = 2 ** 32;

/** Clones whole files into empty ones; anything else (a start in the middle) is unsupported. */
export class Reflink implements Engine {
  readonly name = "reflink" as const;
  /** struct file_clone_range: source descriptor, source offset, length (0: to the end), destination offset; 64 bits each. */
  private readonly range = new NativeMemory(4096);

  copy(copy: DataCopy, control: CopyControl): number {
    if (copy.offset !== 0) return -Errno.EINVAL;
    // Steps of aligned ranges are for the huge: for the rest one call is one consistent picture of the source.
    while (copy.end - copy.offset > 4 * stepBytes) {
      const result = this.cloneRange(copy, stepBytes);
      // Past the end of a source that shrank: the last range below takes what there is.
      if (result === -Errno.EINVAL && copy.offset > 0) break;
      if (result < 0) return this.failed(copy, result);
      copy.offset += stepBytes;
      if (!control.advanced(stepBytes, "cloned")) return stopped;
    }
    const result = copy.offset === 0 ? this.cloneAll(copy) : this.cloneRange(copy, 0);
    if (result < 0) return this.failed(copy, result);
    const length = libc.lseek(copy.destinationFd, 0, Seek.END);
    if (length < 0) return this.failed(copy, length);
    const cloned = Math.max(0, length - copy.offset);
    copy.offset = length;
    copy.sourceEnded = true;
    if (cloned > 0 && !control.advanced(cloned, "cloned")) return stopped;
    return 0;
  }

  isUnsupported(errno: number): boolean {
    return isUnsupportedErrno(errno);
  }

  [Symbol.dispose](): void {
    this.range[Symbol.dispose]();
  }

  private cloneAll(copy: DataCopy): number {
    for (;;) {
      const result = libc.ioctl(copy.destinationFd, Ioctl.FICLONE, copy.sourceFd);
      if (result !== -Errno.EINTR) return result;
    }
  }

  private cloneRange(copy: DataCopy, length: number): number {
    const words = this.range.u32;
    words[0] = copy.sourceFd;
    words[1] = 0;
    words[2] = copy.offset % two32;
    words[3] = Math.floor(copy.offset / two32);
    words[4] = length;
    words[5] = 0;
    words[6] = words[2];
    words[7] = words[3];
    for (;;) {
      const result = libc.ioctl(copy.destinationFd, Ioctl.FICLONERANGE, this.range.address);
      if (result !== -Errno.EINTR) return result;
    }
  }

  private failed(copy: DataCopy, result: number): number {
    copy.failedSyscall = "ioctl(FICLONE)";
    copy.failedSide = sideAtFault(copy, -result, this.range.address + 64);
    return result;
  }
}
