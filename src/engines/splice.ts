// Pages through a pipe: splice(2) from the source into it and from it into the destination, never through our memory.

import { Errno } from "../errno.ts";
import { libc, Open } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { type CopyControl, type DataCopy, type Engine, failed, stopped } from "./engine.ts";
import { isUnsupportedErrno } from "./unsupported.ts";

const F_SETPIPE_SZ = 1031;
const SPLICE_F_MOVE = 1;
const pipeBytes = 2 ** 20;
const two32 = 2 ** 32;

export class Splice implements Engine {
  readonly name = "splice" as const;
  /** An offset for splice to advance, and the two descriptors that pipe2 writes. */
  private readonly memory = new NativeMemory(4096);
  private readEnd = -1;
  private writeEnd = -1;
  /** What the pipe takes in one call: the system may have refused to enlarge it. */
  private capacity = 65536;

  copy(copy: DataCopy, control: CopyControl): number {
    const opened = this.openPipe();
    if (opened < 0) return failed(copy, opened, "destination", "pipe2");
    while (copy.offset < copy.end) {
      const step = control.stepBytes?.(this.capacity) ?? this.capacity;
      const wanted = Math.min(step, copy.end - copy.offset);
      const length = libc.splice(copy.sourceFd, this.offset(copy.offset), this.writeEnd, 0, wanted, SPLICE_F_MOVE);
      if (length === -Errno.EINTR) continue;
      if (length === 0) {
        copy.sourceEnded = true;
        return 0;
      }
      if (length < 0) return failed(copy, length, "source", "splice");
      const result = this.drain(copy, length);
      if (result < 0) {
        // What is left in the pipe belongs to no file: the next one must not inherit it.
        this.closePipe();
        return failed(copy, result, "destination", "splice");
      }
      if (!control.advanced(length, "copied")) return stopped;
    }
    return 0;
  }

  /** Besides the usual: no pipe to be had (too many descriptors, too many pages) leaves the other engines. */
  isUnsupported(errno: number): boolean {
    return isUnsupportedErrno(errno) || errno === Errno.EMFILE || errno === Errno.ENFILE;
  }

  [Symbol.dispose](): void {
    this.closePipe();
    this.memory[Symbol.dispose]();
  }

  private drain(copy: DataCopy, length: number): number {
    let left = length;
    while (left > 0) {
      const written = libc.splice(this.readEnd, 0, copy.destinationFd, this.offset(copy.offset), left, SPLICE_F_MOVE);
      if (written === -Errno.EINTR) continue;
      if (written <= 0) return written === 0 ? -Errno.EIO : written;
      left -= written;
      copy.offset += written;
    }
    return 0;
  }

  private offset(value: number): number {
    this.memory.u32[0] = value % two32;
    this.memory.u32[1] = Math.floor(value / two32);
    return this.memory.address;
  }

  private openPipe(): number {
    if (this.readEnd >= 0) return 0;
    const result = libc.pipe2(this.memory.address + 16, Open.O_CLOEXEC);
    if (result < 0) return result;
    this.readEnd = this.memory.u32[4] ?? -1;
    this.writeEnd = this.memory.u32[5] ?? -1;
    const size = libc.fcntl(this.writeEnd, F_SETPIPE_SZ, pipeBytes);
    this.capacity = size > 0 ? size : 65536;
    return 0;
  }

  private closePipe(): void {
    if (this.readEnd < 0) return;
    libc.close(this.readEnd);
    libc.close(this.writeEnd);
    this.readEnd = -1;
    this.writeEnd = -1;
  }
}
