// Blocks allocated ahead of a file's data, in steps, where the filesystem writes faster into them.

import { Falloc, libc } from "../ffi/libc.ts";

/** One call for a huge file would hold up a pause. */
const stepBytes = 2 ** 30;
/** The next step is taken this long before the data reaches the end of the last. */
const aheadBytes = stepBytes / 8;

export class Preallocation {
  /** Exclusive end of what was allocated; what lies beyond the file's final length is the copier's to free. */
  end = 0;
  private fd = -1;
  private target = 0;

  /** Nothing is allocated for the next file unless begin() says so. */
  reset(): void {
    this.end = 0;
    this.target = 0;
  }

  /** Allocates for an empty file that is to have `size` bytes. */
  begin(fd: number, size: number): void {
    this.fd = fd;
    this.target = size;
    this.step();
  }

  /** To be called as the data grows. hot: one comparison a block. */
  advanced(offset: number): void {
    if (this.end < this.target && offset >= this.end - aheadBytes) this.step();
  }

  /** KEEP_SIZE: the length grows with the data. Refusals (no such call, too little space) are for the writes to report. */
  private step(): void {
    const length = Math.min(stepBytes, this.target - this.end);
    const result = libc.fallocate(this.fd, Falloc.KEEP_SIZE, this.end, length);
    if (result < 0) this.target = 0;
    else this.end += length;
  }
}
