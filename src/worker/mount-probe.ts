// Whether a filesystem is still there: a new file in it, a look at it, its block device in sysfs; and where it is mounted.

import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { parentOf } from "./destination.ts";

/** The errno of making an unnamed file in a directory; where the filesystem knows no such files, that of opening the directory. 0: none. */
export function createError(directoryFd: number): number {
  using arena = new Arena(64);
  const fd = libc.openat(directoryFd, arena.cstring("."), Open.O_RDWR | Open.O_TMPFILE | Open.O_CLOEXEC, 0o600);
  if (fd >= 0) libc.close(fd);
  if (fd >= 0) return 0;
  const isUnsupported = fd === -Errno.EOPNOTSUPP || fd === -Errno.EISDIR || fd === -Errno.EINVAL;
  return isUnsupported ? lookError(directoryFd, 0) : -fd;
}

/** The errno of looking at an entry (`name` is a C string's address), or at the directory itself where `name` is 0. */
export function lookError(directoryFd: number, name: number): number {
  using arena = new Arena(64 + layout.statx.size);
  const stat = new Stat(arena.allocate(layout.statx.size));
  // What the kernel remembers of the name says nothing; opening the directory asks whoever serves it.
  const fd = libc.openat(directoryFd, name === 0 || directoryFd !== At.AT_FDCWD ? arena.cstring(".") : name, lookFlags, 0);
  if (fd >= 0) libc.close(fd);
  if (fd < 0 && fd !== -Errno.ENOTDIR && fd !== -Errno.EACCES) return -fd;
  return name === 0 ? 0 : Math.max(0, -stat.ofName(directoryFd, name));
}

const lookFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NONBLOCK | Open.O_CLOEXEC;

/** True where the kernel has no block device of this number (Stat.device) any more. Filesystems without one are never gone so. */
export function isBlockDeviceGone(device: number): boolean {
  const major = Math.floor(device / 2 ** 20);
  if (major === 0) return false;
  using arena = new Arena(256 + layout.statx.size);
  const stat = new Stat(arena.allocate(layout.statx.size));
  if (stat.ofTarget(At.AT_FDCWD, arena.cstring("/sys/dev/block")) < 0) return false;
  return stat.ofTarget(At.AT_FDCWD, arena.cstring(`/sys/dev/block/${major}:${device % 2 ** 20}`)) === -Errno.ENOENT;
}

/** The mount point above an absolute path, or the highest part of it that cannot be looked at. Device numbers tell. */
export function mountPointOf(path: string): string {
  using arena = new Arena(16 * 1024);
  const stat = new Stat(arena.allocate(layout.statx.size));
  const mark = arena.mark();
  const deviceOf = (name: string): number => {
    arena.reset(mark);
    return stat.ofTarget(At.AT_FDCWD, arena.cstring(name)) === 0 ? stat.device : -1;
  };
  let here = path;
  let device = deviceOf(here);
  while (here !== "/") {
    const above = parentOf(here);
    const deviceAbove = deviceOf(above);
    if (device !== deviceAbove && device !== -1) return here;
    // What is not there yet lies where its parent does; what cannot be looked at is the mount that is gone.
    if (device === -1 && deviceAbove !== -1) {
      arena.reset(mark);
      if (stat.ofTarget(At.AT_FDCWD, arena.cstring(here)) !== -Errno.ENOENT) return here;
    }
    here = above;
    device = deviceAbove;
  }
  return here;
}
