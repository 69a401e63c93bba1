// Whether a filesystem has room: what statfs says, and, because quotas and reserves do not show there, whether it can be allocated.

import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { Falloc, libc, Open } from "../ffi/libc.ts";
import { Arena, NativeMemory } from "../ffi/memory.ts";

const { statfs } = layout;

/** Bytes free for ordinary users on the filesystem of a descriptor; -1 where it cannot be asked. */
export function freeBytesOf(fd: number): number {
  using buffer = new NativeMemory(statfs.size);
  if (libc.fstatfs(fd, buffer.address) < 0) return -1;
  const word = (offset: number): number => (buffer.u32[offset / 4] ?? 0) + (buffer.u32[offset / 4 + 1] ?? 0) * 2 ** 32;
  return word(statfs.f_bavail) * word(statfs.f_bsize);
}

/**
 * Whether a new file of this many bytes can be had in the directory: an unnamed one is made, gets its blocks, and goes again. Counts
 * inodes, quotas and reserves as the kernel does. "unknown": the filesystem knows no unnamed files or no allocation.
 */
export function hasRoom(directoryFd: number, bytes: number): "yes" | "no" | "unknown" {
  using arena = new Arena(64);
  const fd = libc.openat(directoryFd, arena.cstring("."), Open.O_RDWR | Open.O_TMPFILE | Open.O_CLOEXEC, 0o600);
  if (fd < 0) return isUnsupported(-fd) ? "unknown" : "no";
  const result = bytes > 0 ? libc.fallocate(fd, Falloc.KEEP_SIZE, 0, bytes) : 0;
  libc.close(fd);
  if (result === 0) return "yes";
  return isUnsupported(-result) ? "unknown" : "no";
}

function isUnsupported(errno: number): boolean {
  return errno === Errno.EOPNOTSUPP || errno === Errno.EISDIR || errno === Errno.EINVAL || errno === Errno.ENOENT || errno === Errno.ENOSYS;
}
