// cache=drop where RWF_DONTCACHE does not serve: writes back behind the copy, waits a window later, and drops the pages.

import { Errno } from "../errno.ts";
import { Fadvise, libc } from "../ffi/libc.ts";

/** What one file of a copy may keep in the page cache, twice: one window being written by us, one by the device. */
const windowBytes = 8 * 1024 * 1024;
const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
const SYNC_FILE_RANGE_WRITE = 2;
const SYNC_FILE_RANGE_WAIT_AFTER = 4;
const writeAndWait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;

/** An engine that drops what it brought into the cache by itself, on one side or both. */
export interface SelfDropping {
  readonly dropsSource: boolean;
  readonly dropsDestination: boolean;
}

export class DropBehind {
  /** Who moves the file's bytes now, if it drops pages itself. RWF_DONTCACHE spares pages that others had in the cache: so do we. */
  engine: SelfDropping | undefined;
  /** What one of the calls answered for the destination: a device's error, reported once and therefore final. */
  error = 0;
  private sourceFd = -1;
  private destinationFd = -1;
  /** Up to here writing back was started; up to `dropped` it was waited for. */
  private started = 0;
  private dropped = 0;

  begin(sourceFd: number, destinationFd: number): void {
    this.sourceFd = sourceFd;
    this.destinationFd = destinationFd;
    this.started = 0;
    this.dropped = 0;
    this.error = 0;
  }

  /** To be called as the copy's offset grows. Returns 0 or -errno of the destination. hot: two comparisons a block. */
  advanced(offset: number): number {
    if (offset - this.started < windowBytes) return 0;
    this.start(offset);
    // The window before this one has had the time of a whole window to reach the device.
    return this.drop(offset - windowBytes);
  }

  /** The file's end. One shorter than a window is not waited for: the device would set the pace of every small file. */
  finish(length: number): number {
    this.start(length);
    if (length >= windowBytes) return this.drop(length);
    if (this.engine?.dropsSource !== true) libc.posixFadvise(this.sourceFd, 0, 0, Fadvise.DONTNEED);
    return this.error;
  }

  private start(offset: number): void {
    if (offset <= this.started) return;
    const from = this.started;
    this.started = offset;
    if (this.engine?.dropsDestination === true) return;
    const result = libc.syncFileRange(this.destinationFd, from, offset - from, SYNC_FILE_RANGE_WRITE);
    this.note(result);
  }

  private drop(offset: number): number {
    const length = offset - this.dropped;
    if (length <= 0) return this.error;
    if (this.engine?.dropsDestination !== true) {
      this.note(libc.syncFileRange(this.destinationFd, this.dropped, length, writeAndWait));
      libc.posixFadvise(this.destinationFd, this.dropped, length, Fadvise.DONTNEED);
    }
    if (this.engine?.dropsSource !== true) libc.posixFadvise(this.sourceFd, this.dropped, length, Fadvise.DONTNEED);
    this.dropped = offset;
    return this.error;
  }

  /** Pipes and devices (ESPIPE, EINVAL) have no cache to drop. */
  private note(result: number): void {
    if (result < 0 && result !== -Errno.ESPIPE && result !== -Errno.EINVAL && this.error === 0) this.error = result;
  }
}
