// The submission side of a ring: one SQE per call, written straight into the mapped queue without allocating anything.
//
// Every prepare call returns 0, or -EBUSY when as many completions are outstanding as the completion queue can hold (take some
// with next() first), or the -errno of the submission that making room needed. `tag` (0 to 2^32 - 1) comes back in the
// completion. What an address points to (names, buffers, statx results) stays where it is until that completion was taken.

import { assert } from "../assert.ts";
import { Errno } from "../errno.ts";
import { constants, layout } from "./layout.ts";
import { Statx } from "./libc.ts";

/** IOSQE_* by shorter names: how one operation relates to the others. */
export const Submit = {
  fixedFile: constants.sqeFlags.IOSQE_FIXED_FILE,
  drain: constants.sqeFlags.IOSQE_IO_DRAIN,
  /** The next operation starts when this one succeeded whole: a short read cancels it. */
  link: constants.sqeFlags.IOSQE_IO_LINK,
  hardLink: constants.sqeFlags.IOSQE_IO_HARDLINK,
  /** Straight to a kernel thread, without trying to finish at once. */
  async: constants.sqeFlags.IOSQE_ASYNC,
} as const;

const op = constants.operations;
const sqe = layout.io_uring_sqe;
const words = sqe.size / 4;
const two32 = 2 ** 32;
const anyLink = Submit.link | Submit.hardLink;

/** The mapped submission queue, as ring.ts found it in struct io_uring. */
export interface SubmissionMemory {
  readonly sqes: Uint32Array;
  /** Where liburing looks for the end of what was prepared. */
  readonly tail: Uint32Array;
  /** How far the kernel has consumed. */
  readonly kernelHead: Uint32Array;
  readonly entries: number;
  /** Entries of the completion queue: no more than these are outstanding, so that none can overflow. */
  readonly maxOutstanding: number;
}

export abstract class SubmissionQueue {
  protected readonly submission: SubmissionMemory;
  /** Prepared, and not yet taken with next(). */
  protected outstandingCount = 0;
  private tail = 0;
  private lastFlags = 0;

  protected constructor(submission: SubmissionMemory) {
    this.submission = submission;
  }

  /** Gives the kernel everything prepared. 0 or -errno; what the kernel did not take stays prepared. */
  abstract submit(): number;

  /** Operations prepared whose completions have not been taken. */
  get outstanding(): number {
    return this.outstandingCount;
  }

  /** Operations prepared that the kernel has not yet consumed. */
  get unsubmitted(): number {
    return (this.tail - Atomics.load(this.submission.kernelHead, 0)) >>> 0;
  }

  /** Makes room for `count` operations that belong together (a chain). 0 or as the prepare calls. */
  reserve(count: number): number {
    assert(count <= this.submission.entries, "a chain is not longer than the submission queue");
    if (this.outstandingCount + count > this.submission.maxOutstanding) return -Errno.EBUSY;
    if (this.unsubmitted + count <= this.submission.entries) return 0;
    const submitted = this.submit();
    if (submitted < 0) return submitted;
    return this.unsubmitted + count <= this.submission.entries ? 0 : -Errno.EBUSY;
  }

  prepareNop(tag: number, flags = 0): number {
    return this.push(op.IORING_OP_NOP, -1, 0, 0, 0, 0, 0, 0, tag, flags);
  }
  /** `offset` -1 reads at the file position; `rwFlags` are RWF_*. */
  prepareRead(fd: number, address: number, length: number, offset: number, tag: number, flags = 0, rwFlags = 0): number {
    return this.push(op.IORING_OP_READ, fd, offset, address, length, rwFlags, 0, 0, tag, flags);
  }
  prepareWrite(fd: number, address: number, length: number, offset: number, tag: number, flags = 0, rwFlags = 0): number {
    return this.push(op.IORING_OP_WRITE, fd, offset, address, length, rwFlags, 0, 0, tag, flags);
  }
  /** `address` lies within the registered buffer of that index. */
  prepareReadFixed(
    fd: number,
    address: number,
    length: number,
    offset: number,
    buffer: number,
    tag: number,
    flags = 0,
    rwFlags = 0,
  ): number {
    return this.push(op.IORING_OP_READ_FIXED, fd, offset, address, length, rwFlags, buffer, 0, tag, flags);
  }
  prepareWriteFixed(
    fd: number,
    address: number,
    length: number,
    offset: number,
    buffer: number,
    tag: number,
    flags = 0,
    rwFlags = 0,
  ): number {
    return this.push(op.IORING_OP_WRITE_FIXED, fd, offset, address, length, rwFlags, buffer, 0, tag, flags);
  }
  /** The completion's result is the descriptor. */
  prepareOpenat(dirFd: number, path: number, openFlags: number, mode: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_OPENAT, dirFd, 0, path, mode, openFlags, 0, 0, tag, flags);
  }
  /** `how` is the address of a struct open_how. */
  prepareOpenat2(dirFd: number, path: number, how: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_OPENAT2, dirFd, how, path, layout.open_how.size, 0, 0, 0, tag, flags);
  }
  /** statx(2) into the struct at `buffer`; `atFlags` are AT_*. */
  prepareStatx(dirFd: number, path: number, atFlags: number, buffer: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_STATX, dirFd, buffer, path, Statx.BASIC_STATS, atFlags, 0, 0, tag, flags);
  }
  prepareClose(fd: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_CLOSE, fd, 0, 0, 0, 0, 0, 0, tag, flags);
  }
  prepareFsync(fd: number, what: "all" | "data", tag: number, flags = 0): number {
    const fsyncFlags = what === "data" ? constants.operationFlags.IORING_FSYNC_DATASYNC : 0;
    return this.push(op.IORING_OP_FSYNC, fd, 0, 0, 0, fsyncFlags, 0, 0, tag, flags);
  }
  prepareSyncFileRange(fd: number, offset: number, length: number, rangeFlags: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_SYNC_FILE_RANGE, fd, offset, 0, length, rangeFlags, 0, 0, tag, flags);
  }
  prepareFallocate(fd: number, mode: number, offset: number, length: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_FALLOCATE, fd, offset, length, mode, 0, 0, 0, tag, flags);
  }
  prepareFadvise(fd: number, offset: number, length: number, advice: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_FADVISE, fd, offset, 0, length, advice, 0, 0, tag, flags);
  }
  /** An offset of -1 is a pipe's, or the file position. */
  prepareSplice(
    fdIn: number,
    offsetIn: number,
    fdOut: number,
    offsetOut: number,
    length: number,
    spliceFlags: number,
    tag: number,
    flags = 0,
  ): number {
    return this.push(op.IORING_OP_SPLICE, fdOut, offsetOut, offsetIn, length, spliceFlags, 0, fdIn, tag, flags);
  }
  prepareLinkat(oldDirFd: number, oldPath: number, newDirFd: number, newPath: number, atFlags: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_LINKAT, oldDirFd, newPath, oldPath, newDirFd, atFlags, 0, 0, tag, flags);
  }
  prepareRenameat(
    oldDirFd: number,
    oldPath: number,
    newDirFd: number,
    newPath: number,
    renameFlags: number,
    tag: number,
    flags = 0,
  ): number {
    return this.push(op.IORING_OP_RENAMEAT, oldDirFd, newPath, oldPath, newDirFd, renameFlags, 0, 0, tag, flags);
  }
  prepareUnlinkat(dirFd: number, path: number, atFlags: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_UNLINKAT, dirFd, 0, path, 0, atFlags, 0, 0, tag, flags);
  }
  prepareMkdirat(dirFd: number, path: number, mode: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_MKDIRAT, dirFd, 0, path, mode, 0, 0, 0, tag, flags);
  }
  prepareSymlinkat(target: number, dirFd: number, path: number, tag: number, flags = 0): number {
    return this.push(op.IORING_OP_SYMLINKAT, dirFd, path, target, 0, 0, 0, 0, tag, flags);
  }

  /** Cancels everything in flight; its own completion carries `markWord` beside the tag. Ignores the limit of outstanding ones. */
  protected prepareCancelAll(markWord: number): void {
    const how = constants.operationFlags.IORING_ASYNC_CANCEL_ALL | constants.operationFlags.IORING_ASYNC_CANCEL_ANY;
    const at = this.write(op.IORING_OP_ASYNC_CANCEL, -1, 0, 0, 0, how, 0, 0, 0, 0);
    this.submission.sqes[at + sqe.user_data / 4 + 1] = markWord;
  }

  /** Forgets what the kernel has not consumed; `kernelHead` becomes the end. Returns how many there were. */
  protected dropUnsubmitted(): number {
    const dropped = this.unsubmitted;
    this.tail = Atomics.load(this.submission.kernelHead, 0);
    this.submission.tail[0] = this.tail;
    this.outstandingCount -= dropped;
    this.lastFlags = 0;
    return dropped;
  }

  // hot: once per operation.
  private push(
    opcode: number,
    fd: number,
    offset: number,
    address: number,
    length: number,
    operationFlags: number,
    buffer: number,
    file: number,
    tag: number,
    flags: number,
  ): number {
    if (this.outstandingCount >= this.submission.maxOutstanding) return -Errno.EBUSY;
    if (this.unsubmitted >= this.submission.entries) {
      // The kernel ends a chain where a submission ends.
      assert((this.lastFlags & anyLink) === 0, "a chain is begun with reserve()");
      const submitted = this.submit();
      if (submitted < 0) return submitted;
    }
    this.write(opcode, fd, offset, address, length, operationFlags, buffer, file, tag, flags);
    return 0;
  }

  // hot: every word of the SQE, because slots are reused. Returns its first word's index.
  private write(
    opcode: number,
    fd: number,
    offset: number,
    address: number,
    length: number,
    operationFlags: number,
    buffer: number,
    file: number,
    tag: number,
    flags: number,
  ): number {
    const sqes = this.submission.sqes;
    const at = (this.tail & (this.submission.entries - 1)) * words;
    sqes[at] = opcode | (flags << 8);
    sqes[at + 1] = fd;
    sqes[at + 2] = offset;
    sqes[at + 3] = Math.floor(offset / two32);
    sqes[at + 4] = address;
    sqes[at + 5] = Math.floor(address / two32);
    sqes[at + 6] = length;
    sqes[at + 7] = operationFlags;
    sqes[at + 8] = tag;
    sqes[at + 9] = 0;
    sqes[at + 10] = buffer;
    sqes[at + 11] = file;
    sqes[at + 12] = 0;
    sqes[at + 13] = 0;
    sqes[at + 14] = 0;
    sqes[at + 15] = 0;
    this.tail = (this.tail + 1) >>> 0;
    this.submission.tail[0] = this.tail;
    this.outstandingCount++;
    this.lastFlags = flags;
    return at;
  }
}

assert(
  words === 16 && sqe.fd === 4 && sqe.off === 8 && sqe.addr === 16 && sqe.len === 24 && sqe.rw_flags === 28,
  "an SQE is laid out as it is written here",
);
assert(
  sqe.user_data === 32 && sqe.buf_index === 40 && sqe.splice_fd_in === 44 && sqe.addr3 === 48,
  "an SQE is laid out as it is written here",
);
