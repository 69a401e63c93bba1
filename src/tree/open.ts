// Opening below a directory descriptor so that no symlink, magic link or ".." can lead elsewhere (openat2(2), rule 13).

import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { libc, Open, Resolve, syscallNumbers } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";

const beneath = Resolve.BENEATH | Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS;
/** Longest path handed to one system call; longer ones are walked in pieces. */
const maxPieceBytes = 4000;

/** Opens paths below a root, piece by piece where they are longer than PATH_MAX. One per lane. */
export class BeneathOpener {
  private readonly arena = new Arena(16 * 1024);
  private readonly how: number;

  constructor() {
    this.how = this.arena.allocate(layout.open_how.size);
  }

  /**
   * Opens `path` (relative, byte string; "" is the root itself) below `rootFd` with open(2) flags. Returns a descriptor or -errno:
   * -ELOOP for a symlink in it, -EXDEV for an attempt to leave the root.
   */
  open(rootFd: number, path: string, flags: number): number {
    return this.walk(rootFd, path, flags, beneath);
  }

  /** Like `open`, but symlinks in the path are followed, wherever they lead: for paths that a caller named. */
  openFollowing(rootFd: number, path: string, flags: number): number {
    return this.walk(rootFd, path, flags, Resolve.NO_MAGICLINKS);
  }

  /** Any path, with no symlink anywhere in it, the last name included unless `flags` has O_PATH | O_NOFOLLOW. */
  openWithoutLinks(rootFd: number, path: string, flags: number): number {
    return this.walk(rootFd, path, flags, Resolve.NO_SYMLINKS | Resolve.NO_MAGICLINKS);
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }

  private walk(rootFd: number, path: string, flags: number, resolve: number): number {
    let directory = rootFd;
    let rest = path === "" ? "." : path;
    while (rest.length > maxPieceBytes) {
      const cut = rest.lastIndexOf("/", maxPieceBytes);
      if (cut <= 0) return this.end(directory, rootFd, -Errno.ENAMETOOLONG);
      const next = this.openPiece(directory, rest.slice(0, cut), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, resolve);
      if (next < 0) return this.end(directory, rootFd, next);
      this.end(directory, rootFd, 0);
      directory = next;
      rest = rest.slice(cut + 1);
    }
    return this.end(directory, rootFd, this.openPiece(directory, rest, flags | Open.O_CLOEXEC, resolve));
  }

  private openPiece(directory: number, piece: string, flags: number, resolve: number): number {
    const mark = this.arena.mark();
    const name = this.arena.cstring(piece);
    const words = this.arena.memory.u32;
    const base = (this.how - this.arena.memory.address) / 4;
    words.fill(0, base, base + layout.open_how.size / 4);
    words[base + layout.open_how.flags / 4] = flags >>> 0;
    words[base + layout.open_how.resolve / 4] = resolve;
    const fd = libc.syscall(syscallNumbers.openat2, directory, name, this.how, layout.open_how.size);
    this.arena.reset(mark);
    return fd;
  }

  private end(directory: number, rootFd: number, result: number): number {
    if (directory !== rootFd) libc.close(directory);
    return result;
  }
}
