// Flushes of the filesystems that copies lie on. The kernel tells an error of writing once, to whoever asks first: so it is kept in the
// checkpoint, for the job's own flush at its end, and for a later worker where this one is killed (rules 2 and 5).

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { viewOf } from "../ffi/memory.ts";
import type { JobRequest } from "../request.ts";
import { HeadWord, pageBytes } from "./checkpoint-layout.ts";
import type { Shared } from "./shared.ts";

const maxErrno = 4095;

/** Whether a job may have to wait for the devices that its copies lie on: a move does only where it could not rename. */
export function mayEndWithFlush({ operation, options }: JobRequest): boolean {
  return options.durability === "job" || options.verify !== "none" || operation === "move";
}

/** syncfs(2). 0, or -errno, which is then in the checkpoint, durably. */
export function flushFilesystem(shared: Shared, fd: number): number {
  const { checkpoint } = shared;
  if (checkpoint === null) return libc.syncfs(fd);
  const head = headOf(checkpoint.head);
  // A kill lets the call end and its answer go: whoever comes then is to know that there may have been one.
  Atomics.add(head, HeadWord.flushing, 1);
  const result = libc.syncfs(fd);
  // EBADF is about the descriptor.
  if (result < 0 && result !== -Errno.EBADF) {
    Atomics.compareExchange(head, HeadWord.flushError, 0, -result);
    if (checkpoint.fd >= 0) libc.fdatasync(checkpoint.fd);
  }
  Atomics.sub(head, HeadWord.flushing, 1);
  return result;
}

/** What a flush of this job was told, by this worker or a former one: an errno, or 0. */
export function flushErrorOf({ checkpoint }: Shared): number {
  if (checkpoint === null) return 0;
  const errno = Atomics.load(headOf(checkpoint.head), HeadWord.flushError);
  // The file may hold anything.
  return errno > maxErrno ? Errno.EIO : errno;
}

function headOf(address: number): Uint32Array {
  return new Uint32Array(viewOf(address, pageBytes));
}
