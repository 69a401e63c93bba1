// Bounded dirty data (rule 23): behind a large copy to a slow device, what lies a window back is waited for, so that progress is the
// device's and not the page cache's. Small files are not waited for one by one: that would take the device a call each.
//
// Which device is slow is measured: once in a while one step, or some small files, are written back and timed. A fast one pays that and
// no more.

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";

const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
const SYNC_FILE_RANGE_WRITE = 2;
const SYNC_FILE_RANGE_WAIT_AFTER = 4;
const writeAndWait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
/** Between two looks at a large file. */
const stepBytes = 4 * 1024 * 1024;
/** Of a bounded copy: short enough that one wait for a slow stick does not hold up a pause for long. */
const boundedStepBytes = 1024 * 1024;
/** The end of a file is worth measuring, or waiting for, from here on. */
const minEndBytes = 256 * 1024;

/** What all lanes of a job know of the device. */
export interface DirtyBounds {
  /** How much one lane may leave unwritten behind it; 0: as much as the kernel lets it. */
  readonly windowBytes: number;
  /** Whether a step of this job is to be measured now. */
  isProbeDue(): boolean;
  /** A small file has left so many behind it. Waits where the job is too far ahead of the device. True: this one is to be measured. */
  left(bytes: number): boolean;
  /** A small file's bytes were written back in so many milliseconds. */
  sampled(bytes: number, milliseconds: number): void;
  /** So many bytes were written back in so many milliseconds; `wasWaiting`: by a bounded copy, which tells less of a fast device. */
  measured(bytes: number, milliseconds: number, wasWaiting: boolean): void;
}

export class WriteBehind {
  /** What a wait answered: a device's error, reported once to this descriptor and therefore final (rule 2). */
  error = 0;
  private readonly bounds: DirtyBounds;
  private fd = -1;
  /** Up to here writing back was started; up to `waited` it was waited for; `reached` is the end of the latest block. */
  private started = 0;
  private waited = 0;
  private reached = 0;
  /** Left behind by former files. */
  private debt = 0;

  constructor(bounds: DirtyBounds) {
    this.bounds = bounds;
  }

  begin(fd: number): void {
    this.fd = fd;
    this.started = 0;
    this.waited = 0;
    this.reached = 0;
    this.error = 0;
  }

  /** As the copy's offset grows by `bytes`. Returns 0 or -errno of the destination. hot: two comparisons a block. */
  advanced(offset: number, bytes: number): number {
    if (offset - bytes !== this.reached) this.jump(offset - bytes);
    this.reached = offset;
    if (offset - this.started < boundedStepBytes) return 0;
    return this.step(offset);
  }

  /** A whole file that was written in one piece, or of which nothing was (a clone). Returns 0 or -errno. hot: */
  wrote(fd: number, bytes: number): number {
    this.begin(fd);
    this.reached = bytes;
    return this.finish();
  }

  /** The file's end. Returns 0 or -errno. hot: */
  finish(): number {
    const rest = this.reached - this.started;
    if (rest >= minEndBytes || this.started > 0) return this.finishLarge(rest);
    if (this.bounds.left(rest)) this.sample(rest);
    return this.error;
  }

  private sample(length: number): void {
    const begin = performance.now();
    this.note(libc.syncFileRange(this.fd, this.started, length, writeAndWait));
    this.bounds.sampled(length, performance.now() - begin);
  }

  private finishLarge(rest: number): number {
    const { bounds } = this;
    const window = bounds.windowBytes;
    if (window === 0) {
      if (rest >= minEndBytes * 4 && bounds.isProbeDue()) this.wait(this.started, rest, false);
      return this.error;
    }
    if (rest > 0) this.note(libc.syncFileRange(this.fd, this.started, rest, SYNC_FILE_RANGE_WRITE));
    this.debt += this.reached - this.waited;
    if (this.debt > window && this.error === 0) {
      // What earlier files left was handed to the device before this one.
      this.wait(this.waited, this.reached - this.waited, true);
      this.debt = 0;
    }
    return this.error;
  }

  private step(offset: number): number {
    const { bounds } = this;
    const window = bounds.windowBytes;
    if (window === 0) {
      if (offset - this.started < stepBytes) return 0;
      if (bounds.isProbeDue()) this.wait(this.started, offset - this.started, false);
      this.started = offset;
      this.waited = offset;
      return this.error;
    }
    this.note(libc.syncFileRange(this.fd, this.started, offset - this.started, SYNC_FILE_RANGE_WRITE));
    this.started = offset;
    const behind = offset - Math.max(0, window - this.debt);
    if (behind - this.waited >= boundedStepBytes && this.error === 0) {
      this.wait(this.waited, behind - this.waited, true);
      this.waited = behind;
      this.debt = 0;
    }
    return this.error;
  }

  private wait(from: number, length: number, wasWaiting: boolean): void {
    const begin = performance.now();
    this.note(libc.syncFileRange(this.fd, from, length, writeAndWait));
    this.bounds.measured(length, performance.now() - begin, wasWaiting);
  }

  /** Over a hole, or to another range of the file. */
  private jump(offset: number): void {
    this.debt += Math.max(0, this.reached - this.waited);
    this.started = offset;
    this.waited = offset;
  }

  /** Pipes and devices (ESPIPE, EINVAL) have no cache to bound, and some filesystems do not know the call. */
  private note(result: number): void {
    const isRefused = result === -Errno.ESPIPE || result === -Errno.EINVAL || result === -Errno.ENOSYS || result === -Errno.EOPNOTSUPP;
    if (result < 0 && result !== -Errno.EINTR && !isRefused && this.error === 0) this.error = result;
  }
}
