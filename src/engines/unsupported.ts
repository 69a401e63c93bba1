// Which errnos of the kernel's own copy calls mean "not here, ask the next engine", and whose fault the others are.

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import type { DataCopy } from "./engine.ts";

/**
 * Reasons of a filesystem, a mount, a seccomp profile or a kind of file, never of the data. EBADF is what copy_file_range
 * answers for O_APPEND, ESPIPE what offsets get on pipes, ENOTTY what an ioctl gets where nobody knows it; were one of them
 * more than that, the next engine fails with it too.
 */
const unsupportedErrnos: ReadonlySet<number> = new Set([
  Errno.EXDEV,
  Errno.EINVAL,
  Errno.EOPNOTSUPP,
  Errno.ENOSYS,
  Errno.EPERM,
  Errno.EACCES,
  Errno.ETXTBSY,
  Errno.ENOENT,
  Errno.EBADF,
  Errno.ESPIPE,
  Errno.ENOTTY,
  Errno.EISDIR,
]);

export function isUnsupportedErrno(errno: number): boolean {
  return unsupportedErrnos.has(errno);
}

/** Errnos that hold for every file of the pair of filesystems; the others may be one file's own. */
export function isWholePairErrno(errno: number): boolean {
  return errno === Errno.EXDEV || errno === Errno.EOPNOTSUPP || errno === Errno.ENOSYS || errno === Errno.ENOTTY;
}

/** For a call that reads and writes at once: the source is at fault when reading there fails by itself. */
export function sideAtFault(copy: DataCopy, errno: number, oneByte: number): "source" | "destination" {
  if (isUnsupportedErrno(errno) || errno === Errno.ENOSPC || errno === Errno.EDQUOT || errno === Errno.EFBIG || errno === Errno.EROFS)
    return "destination";
  return libc.pread(copy.sourceFd, oneByte, 1, copy.offset) < 0 ? "source" : "destination";
}
