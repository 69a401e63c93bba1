// Flushes of the filesystems that copies lie on. The kernel tells an error of writing once, to whoever asks first: so it is kept in the
// checkpoint, for the job's own flush at its end, and for a later worker where this one is killed (rules 2 and 5).

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { viewOf } from "../ffi/memory.ts";
import type { JobRequest } from "../request.ts";
import { HeadWord, pageBytes } from "./checkpoint-layout.ts";
import { SharedDirtyBounds } from "./dirty-bounds.ts";
import { Float, maxSyncDevices, type Shared, Word } from "./shared.ts";

const maxErrno = 4095;

/** Whether a job may have to wait for the devices that its copies lie on: a move does only where it could not rename. */
export function mayEndWithFlush({ operation, options }: JobRequest): boolean {
  return options.durability === "job" || options.verify !== "none" || operation === "move";
}

/** Whether a job says of its copies that they are on the device. */
export function promisesDurability(request: JobRequest): boolean {
  return request.options.durability !== "none" || mayEndWithFlush(request);
}

/** As promisesDurability, by a flush of their filesystem and not of each by itself before it has its name. */
export function reliesOnFlush(request: JobRequest): boolean {
  return request.options.durability !== "file" && mayEndWithFlush(request);
}

/**
 * Whether a job notes now and then what of it was flushed, so that a later worker need not read it again: also a move, or what is verified,
 * that is to be flushed at its end only for its own sake.
 */
export function isMarked(shared: Shared, request: JobRequest): boolean {
  return shared.checkpoint !== null && promisesDurability(request);
}

/** syncfs(2). 0, or -errno, which is then in the checkpoint, durably. */
export function flushFilesystem(shared: Shared, fd: number): number {
  const { checkpoint } = shared;
  const result = flushUnasked(shared, fd);
  if (result < 0 && checkpoint !== null && checkpoint.fd >= 0) libc.fdatasync(checkpoint.fd);
  return result;
}

/** syncfs(2) of a job for which nothing depends on it. 0, or -errno, which the job tells at its end. */
function flushUnasked(shared: Shared, fd: number): number {
  const { checkpoint } = shared;
  const result = libc.syncfs(fd);
  // EBADF is about the descriptor.
  if (result < 0 && result !== -Errno.EBADF) {
    if (checkpoint === null) Atomics.compareExchange(shared.words, Word.flushError, 0, -result);
    else Atomics.compareExchange(headOf(checkpoint.head), HeadWord.flushError, 0, -result);
  }
  return result;
}

/**
 * Flushes the filesystems that copies lie on. "relied": on the answer, by this worker or a later one. False where one was told an error,
 * and where there are no copies yet. The lanes hear that it is over.
 */
export function flushCopies(shared: Shared, how: "relied" | "unasked"): boolean {
  const { words, floats } = shared;
  const written = Atomics.load(words, Word.smallWritten);
  const begin = performance.now();
  const devices = Math.min(Atomics.load(words, Word.syncDevices), maxSyncDevices);
  let isFlushed = devices > 0;
  for (let index = 0; index < devices && isFlushed; index++) {
    const fd = floats[Float.syncDevices + index * 2 + 1] ?? -1;
    isFlushed = (how === "relied" ? flushFilesystem(shared, fd) : flushUnasked(shared, fd)) === 0;
  }
  new SharedDirtyBounds(shared).flushed(written, performance.now() - begin);
  return isFlushed;
}

/** Nobody but the caller flushes for a mark or a bound from here on: descriptors that others flush through are closed soon. */
export function endFlushes(shared: Shared): void {
  shared.lock(Word.markLock);
  Atomics.store(shared.words, Word.marksOff, 1);
  shared.unlock(Word.markLock);
}

/** What a flush of this job was told, by this worker or a former one: an errno, or 0. */
export function flushErrorOf({ checkpoint, words }: Shared): number {
  if (checkpoint === null) return Atomics.load(words, Word.flushError);
  const errno = Atomics.load(headOf(checkpoint.head), HeadWord.flushError);
  // The file may hold anything.
  return errno > maxErrno ? Errno.EIO : errno;
}

function headOf(address: number): Uint32Array {
  return new Uint32Array(viewOf(address, pageBytes));
}
