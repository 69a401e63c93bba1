// What a thread may still do: one attempt of each kind, as >= 0 or -errno. Run by the confined child and by its threads.

import type { ByteString } from "../../src/bytes.ts";
import { At, Ioctl, libc, Mode, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { Ring } from "../../src/ffi/ring.ts";

export type Attempts = Record<string, number>;

/** Reading, listing and writing at a path (a file, its directory, a new name in it), by plain calls and through a ring. */
export function attemptAccess(directory: string, file: string): Attempts {
  using arena = new Arena(64 * 1024);
  const name = (path: string): number => arena.cstring(path as ByteString);
  const open = (path: string, flags: number): number => closed(libc.openat(At.AT_FDCWD, name(path), flags | Open.O_CLOEXEC, 0o600));
  const created = open(`${directory}/new`, Open.O_WRONLY | Open.O_CREAT | Open.O_EXCL);
  if (created >= 0) libc.unlinkat(At.AT_FDCWD, name(`${directory}/new`), 0);
  return {
    read: open(`${directory}/${file}`, Open.O_RDONLY),
    write: open(`${directory}/${file}`, Open.O_WRONLY),
    truncate: open(`${directory}/${file}`, Open.O_WRONLY | Open.O_TRUNC),
    list: open(directory, Open.O_RDONLY | Open.O_DIRECTORY),
    create: created,
    anonymous: open(directory, Open.O_RDWR | Open.O_TMPFILE),
    ringRead: ringOpen(`${directory}/${file}`, Open.O_RDONLY),
    ringWrite: ringOpen(`${directory}/${file}`, Open.O_WRONLY),
  };
}

/** Everything that a copy does to its destination. */
export function attemptCopying(source: string, destination: string): Attempts {
  using arena = new Arena(64 * 1024);
  const name = (path: string): number => arena.cstring(path as ByteString);
  const at = (path: string): number => name(`${destination}/${path}`);
  const cwd = At.AT_FDCWD;
  const attempts: Attempts = {};
  attempts.mkdir = libc.mkdirat(cwd, at("one"), 0o700);
  attempts.mkdirOther = libc.mkdirat(cwd, at("two"), 0o700);
  const input = libc.openat(cwd, name(source), Open.O_RDONLY | Open.O_CLOEXEC, 0);
  const anonymous = libc.openat(cwd, at("one"), Open.O_RDWR | Open.O_TMPFILE | Open.O_CLOEXEC, 0o600);
  attempts.clone = libc.ioctl(anonymous, Ioctl.FICLONE, input);
  attempts.copyFileRange = libc.copyFileRange(input, 0, anonymous, 0, 4096);
  attempts.ftruncate = libc.ftruncate(anonymous, 3);
  attempts.xattr = libc.fsetxattr(anonymous, name("user.copyd"), name("value"), 5, 0);
  attempts.chmod = libc.fchmod(anonymous, 0o644);
  attempts.publish = libc.linkat(cwd, name(`/proc/self/fd/${anonymous}`), cwd, at("one/file"), At.AT_SYMLINK_FOLLOW);
  attempts.reopen = closed(libc.openat(cwd, name(`/proc/self/fd/${anonymous}`), Open.O_RDWR, 0));
  attempts.linkElsewhere = libc.linkat(cwd, at("one/file"), cwd, at("two/link"), 0);
  attempts.renameElsewhere = libc.renameat2(cwd, at("two/link"), cwd, at("one/moved"), 1);
  attempts.symlink = libc.symlinkat(name("anywhere"), cwd, at("symlink"));
  attempts.fifo = libc.mknodat(cwd, at("fifo"), Mode.S_IFIFO | 0o600, 0);
  attempts.socket = libc.mknodat(cwd, at("socket"), Mode.S_IFSOCK | 0o600, 0);
  attempts.device = libc.mknodat(cwd, at("device"), Mode.S_IFCHR | 0o600, 0x103);
  attempts.exchange = libc.renameat2(cwd, at("one"), cwd, at("two"), 2);
  attempts.unlink = libc.unlinkat(cwd, at("two/moved"), 0);
  attempts.rmdir = libc.unlinkat(cwd, at("one"), At.AT_REMOVEDIR);
  libc.close(input);
  libc.close(anonymous);
  return attempts;
}

/** renameat2 and linkat between two paths. */
export function attemptMove(from: string, to: string): number {
  using arena = new Arena(64 * 1024);
  return libc.renameat2(At.AT_FDCWD, arena.cstring(from), At.AT_FDCWD, arena.cstring(to), 0);
}

export function attemptLink(from: string, to: string): number {
  using arena = new Arena(64 * 1024);
  return libc.linkat(At.AT_FDCWD, arena.cstring(from), At.AT_FDCWD, arena.cstring(to), 0);
}

function ringOpen(path: string, flags: number): number {
  const ring = Ring.create(4);
  if (!ring.available) throw new Error(ring.message);
  using owned = ring;
  using arena = new Arena(8192);
  // By a kernel thread as well as by this one.
  owned.prepareOpenat(At.AT_FDCWD, arena.cstring(path), flags | Open.O_CLOEXEC, 0, 1, 16);
  owned.submitAndWait(1);
  owned.next();
  return closed(owned.result);
}

function closed(fd: number): number {
  if (fd >= 0) libc.close(fd);
  return Math.min(fd, 0);
}
