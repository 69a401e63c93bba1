// The kernel's own copy: copy_file_range(2), in which a filesystem or a file server may clone or copy by itself.

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { type CopyControl, type DataCopy, type Engine, stopped } from "./engine.ts";
import { isUnsupportedErrno, sideAtFault } from "./unsupported.ts";

const copyStepBytes = 2 ** 20;
const cloneStepBytes = 2 ** 30;
const two32 = 2 ** 32;

export class CopyFileRange implements Engine {
  readonly name = "copy-file-range" as const;
  /** Where the two filesystems are known to clone, the call shares extents: large steps, counted as cloned. */
  clones = false;
  /** Two 64-bit offsets (source, destination) that the kernel advances, and one byte to read. */
  private readonly offsets = new NativeMemory(4096);

  copy(copy: DataCopy, control: CopyControl): number {
    const how = this.clones ? "cloned" : "copied";
    while (copy.offset < copy.end) {
      const step = this.clones ? cloneStepBytes : (control.stepBytes?.(copyStepBytes) ?? copyStepBytes);
      const length = this.call(copy, Math.min(step, copy.end - copy.offset));
      if (length === -Errno.EINTR) continue;
      if (length < 0) return this.failed(copy, length);
      // 0 proves nothing: pseudo files, and filesystems that gave up, answer it in the middle (rule 8).
      if (length === 0) return this.proveEnd(copy);
      copy.offset += length;
      if (!control.advanced(length, how)) return stopped;
    }
    return 0;
  }

  isUnsupported(errno: number): boolean {
    return isUnsupportedErrno(errno);
  }

  [Symbol.dispose](): void {
    this.offsets[Symbol.dispose]();
  }

  private call(copy: DataCopy, length: number): number {
    const words = this.offsets.u32;
    const low = copy.offset % two32;
    const high = Math.floor(copy.offset / two32);
    words[0] = low;
    words[1] = high;
    words[2] = low;
    words[3] = high;
    return libc.copyFileRange(copy.sourceFd, this.offsets.address, copy.destinationFd, this.offsets.address + 8, length);
  }

  private proveEnd(copy: DataCopy): number {
    for (;;) {
      const length = libc.pread(copy.sourceFd, this.offsets.address + 64, 1, copy.offset);
      if (length === -Errno.EINTR) continue;
      if (length === 0) {
        copy.sourceEnded = true;
        return 0;
      }
      copy.failedSide = "source";
      copy.failedSyscall = length < 0 ? "read" : "copy_file_range";
      return length < 0 ? length : -Errno.EOPNOTSUPP;
    }
  }

  private failed(copy: DataCopy, result: number): number {
    copy.failedSyscall = "copy_file_range";
    copy.failedSide = sideAtFault(copy, -result, this.offsets.address + 64);
    return result;
  }
}
