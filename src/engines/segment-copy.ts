// Copies a sparse file: what SEEK_DATA and SEEK_HOLE call data, into a file that has its full size, and so its holes, from the start.

import { Errno } from "../errno.ts";
import { libc, Seek } from "../ffi/libc.ts";
import type { Pair } from "./chooser.ts";
import { type DataCopy, failed } from "./engine.ts";

export class SegmentCopy {
  private readonly data: DataCopy;
  private readonly copyPart: (pair: Pair) => number;
  private readonly readOn: (pair: Pair) => number;

  /**
   * For the file that `data` describes. `copyPart` copies [offset, end) of it, `readOn` from the offset to wherever the source ends; both
   * answer as an engine's copy() does.
   */
  constructor(data: DataCopy, copyPart: (pair: Pair) => number, readOn: (pair: Pair) => number) {
    this.data = data;
    this.copyPart = copyPart;
    this.readOn = readOn;
  }

  /** Copies a source that was `size` bytes long, from `from` on. Returns 0, `stopped`, or -errno with failedSide and failedSyscall set. */
  copy(pair: Pair, size: number, from: number): number {
    const { data } = this;
    // Before the data: afterwards it would cost xfs a flush.
    const sized = libc.ftruncate(data.destinationFd, size);
    if (sized === -Errno.EINVAL) return this.readOn(pair);
    if (sized < 0) return failed(data, sized, "destination", "ftruncate");
    let dataEnd = from;
    let at = from;
    while (at < size) {
      const start = libc.lseek(data.sourceFd, at, Seek.DATA);
      // Only ENXIO says that the rest is a hole; for any other refusal, and for no progress, the rest is taken for data.
      if (start === -Errno.ENXIO || start >= size) break;
      data.offset = Math.max(start, at);
      const hole = start < at ? size : libc.lseek(data.sourceFd, data.offset, Seek.HOLE);
      data.end = hole <= data.offset || hole > size ? size : hole;
      const before = data.offset;
      const result = this.copyPart(pair);
      if (result !== 0) return result;
      if (data.offset > before) dataEnd = data.offset;
      if (data.sourceEnded) break;
      at = data.end;
    }
    return this.end(pair, size, dataEnd);
  }

  /** Finds the true end of a source that may have shrunk or grown meanwhile, and gives the destination the same. */
  private end(pair: Pair, size: number, dataEnd: number): number {
    const { data } = this;
    const end = libc.lseek(data.sourceFd, 0, Seek.END);
    if (end < 0) return failed(data, end, "source", "lseek");
    // Where a read found the end, that is the end: files of /sys say 4096 and hold less.
    data.offset = Math.max(dataEnd, Math.min(end, data.sourceEnded ? data.offset : size));
    if (end >= size && !data.sourceEnded) {
      const result = this.readOn(pair);
      if (result !== 0) return result;
    }
    if (data.offset >= size) return 0;
    const result = libc.ftruncate(data.destinationFd, data.offset);
    return result < 0 ? failed(data, result, "destination", "ftruncate") : 0;
  }
}
