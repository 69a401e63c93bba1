// The data of a small file in one go: one read and one write, or one clone. Whatever is not so simple is left to FileCopier.

import { Errno } from "../errno.ts";
import { Ioctl, libc } from "../ffi/libc.ts";
import type { Chooser, Pair } from "./chooser.ts";
import { blockBytes, type ReadWrite } from "./read-write.ts";

/** What copy() returns when the file is not as its size said: nothing failed, and another way is to be gone. */
export const notPlain = 1;

/** A lane owns one, and reuses FileCopier's buffer. */
export class PlainCopy {
  /** After a failure: which call; the side follows from it. */
  failedSyscall: "read" | "write" = "read";
  private readonly chooser: Chooser;
  private readonly readWrite: () => ReadWrite;
  private pair: Pair | null = null;
  private buffer = 0;

  constructor(chooser: Chooser, readWrite: () => ReadWrite) {
    this.chooser = chooser;
    this.readWrite = readWrite;
  }

  /** The two filesystems of the files to come, named by a descriptor on each. False: none of them can be copied so. */
  enter(sourceDevice: number, destinationDevice: number, sourceFd: number, destinationFd: number): boolean {
    const pair = this.chooser.pairOf(sourceDevice, destinationDevice, sourceFd, destinationFd);
    if (this.buffer === 0) this.buffer = this.readWrite().buffer;
    this.pair = pair;
    return pair.sizesAreTrue;
  }

  /** How a file of this size is copied, null: not here. hot: */
  wayOf(size: number): "read-write" | "reflink" | null {
    if (this.pair === null || size > blockBytes) return null;
    const first = this.pair.orderFor(size)[0];
    return first === "read-write" || first === "reflink" ? first : null;
  }

  /**
   * Copies `size` bytes, which is all that the source had when it was looked at, into an empty file. 0, notPlain, or -errno. That nothing
   * has changed since is for the caller to see, who looks at the source again. hot:
   */
  copy(way: "read-write" | "reflink", sourceFd: number, destinationFd: number, size: number): number {
    // A refusal is for FileCopier to learn from.
    if (way === "reflink") return libc.ioctl(destinationFd, Ioctl.FICLONE, sourceFd) < 0 ? notPlain : 0;
    const got = libc.pread(sourceFd, this.buffer, size, 0);
    if (got !== size) return this.ended("read", got);
    const written = libc.pwrite(destinationFd, this.buffer, size, 0);
    return written === size ? 0 : this.ended("write", written);
  }

  private ended(syscall: "read" | "write", result: number): number {
    this.failedSyscall = syscall;
    return result >= 0 || result === -Errno.EINTR ? notPlain : result;
  }
}
