// The manifest of a copy while it is written: unseen under its name until it is whole, and nothing left over where it never is.

import { Errno } from "../errno.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";

const newFile = Open.O_WRONLY | Open.O_APPEND | Open.O_CLOEXEC;

/** Made, and ended, by the leader. */
export class ManifestFile {
  fd = -1;
  private readonly arena = new Arena(16 * 1024);
  private readonly name: number;
  private readonly temporary: number;
  private readonly directory: number;
  private isNamed = false;

  /** `path` is absolute; `token` makes the temporary name this job's own. The process's own umask may be 0. */
  constructor(path: string, token: string, umask: number) {
    const directory = path.slice(0, path.lastIndexOf("/") + 1);
    this.name = this.arena.cstring(path);
    this.directory = this.arena.cstring(directory);
    this.temporary = this.arena.cstring(`${directory}.copyd-${token}-manifest`);
    this.fd = libc.openat(At.AT_FDCWD, this.directory, newFile | Open.O_TMPFILE, 0o666 & ~umask);
    if (this.fd >= 0) return;
    const make = (): number => libc.openat(At.AT_FDCWD, this.temporary, newFile | Open.O_CREAT | Open.O_EXCL, 0o666 & ~umask);
    this.fd = make();
    // The name is this job's own: a former worker of it was killed.
    if (this.fd === -Errno.EEXIST && libc.unlinkat(At.AT_FDCWD, this.temporary, 0) === 0) this.fd = make();
    this.isNamed = this.fd >= 0;
  }

  /** Gives it its name, in the place of an older one, when it is on the device: the sources of a move go after it. 0 or -errno. */
  publish(): number {
    const synced = libc.fdatasync(this.fd);
    if (synced < 0) {
      if (this.isNamed) libc.unlinkat(At.AT_FDCWD, this.temporary, 0);
      return this.ended(synced);
    }
    const published = this.giveName();
    const directoryFd = published < 0 ? -1 : libc.openat(At.AT_FDCWD, this.directory, Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
    // A directory that only root may read cannot be flushed: the name is there all the same.
    if (directoryFd >= 0) {
      libc.fsync(directoryFd);
      libc.close(directoryFd);
    }
    return this.ended(published);
  }

  private giveName(): number {
    if (this.isNamed) return this.rename();
    const unnamed = this.arena.cstring(`/proc/self/fd/${this.fd}`);
    const linked = libc.linkat(At.AT_FDCWD, unnamed, At.AT_FDCWD, this.name, At.AT_SYMLINK_FOLLOW);
    if (linked !== -Errno.EEXIST) return linked;
    // A former worker of this job was killed right here.
    libc.unlinkat(At.AT_FDCWD, this.temporary, 0);
    const aside = libc.linkat(At.AT_FDCWD, unnamed, At.AT_FDCWD, this.temporary, At.AT_SYMLINK_FOLLOW);
    return aside < 0 ? aside : this.rename();
  }

  abandon(): void {
    if (this.isNamed) libc.unlinkat(At.AT_FDCWD, this.temporary, 0);
    this.ended(0);
  }

  private rename(): number {
    const result = libc.renameat2(At.AT_FDCWD, this.temporary, At.AT_FDCWD, this.name, 0);
    if (result < 0) libc.unlinkat(At.AT_FDCWD, this.temporary, 0);
    return result;
  }

  private ended(result: number): number {
    if (this.fd >= 0) libc.close(this.fd);
    this.fd = -1;
    this.arena[Symbol.dispose]();
    return result;
  }
}
