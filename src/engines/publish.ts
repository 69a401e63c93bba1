// New files that nobody sees under their final name before they are whole (rules 3 and 4), by the cheapest way that serves.
//
// exclusive: O_EXCL under the final name plus an in-flight record; only in directories that this job made itself.
// anonymous: O_TMPFILE and linkat; nothing is left over whatever happens.
// named:     a temporary name that says whose it is, then renameat2; where O_TMPFILE or /proc is missing, and to replace a file.

import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Open, Rename } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { InFlight } from "./in-flight.ts";

type Way = "none" | "exclusive" | "anonymous" | "named";

/** Temporary names begin with this, followed by the job's token: a left-over tells whose it is. */
export const temporaryPrefix = ".copyd-";
const newFile = Open.O_CREAT | Open.O_EXCL | Open.O_NOFOLLOW | Open.O_CLOEXEC;

/** True for a name that the job of this token gives to temporary files. */
export function isTemporaryOf(token: string, name: string): boolean {
  const start = `${temporaryPrefix}${token}-`;
  return name.startsWith(start) && /^\d+$/.test(name.slice(start.length));
}

export interface PublisherOptions {
  readonly token: string;
  readonly inFlight: InFlight;
  /** A number that no other lane of this job gets. */
  readonly nextTemporary: () => number;
}

/** Creates, publishes or abandons one file at a time; one per lane. */
export class Publisher {
  /** The syscall behind the last -errno. */
  failedSyscall = "";
  private readonly options: PublisherOptions;
  private readonly arena = new Arena(8 * 1024);
  private readonly procPath: number;
  private readonly empty: number;
  private readonly dot: number;
  /** The latest file as it was created under its own name, or the directory entered since. */
  readonly stat: Stat;
  private readonly nameStat: Stat;
  private way: Way = "none";
  private fd = -1;
  private directoryFd = -1;
  private name = 0;
  private temporary = 0;
  private temporaryMark = 0;
  private anonymousWorks = true;
  private exclusiveAllowed = false;

  constructor(options: PublisherOptions) {
    this.options = options;
    this.procPath = this.arena.allocate(64);
    this.empty = this.arena.cstring("");
    this.dot = this.arena.cstring(".");
    this.stat = new Stat(this.arena.allocate(layout.statx.size));
    this.nameStat = new Stat(this.arena.allocate(layout.statx.size));
    this.temporaryMark = this.arena.mark();
  }

  /** The directory of the files to come, as an absolute byte string and open; `madeByThisJob` allows the exclusive way. */
  enterDirectory(directory: string, directoryFd: number, madeByThisJob: boolean): void {
    const known = this.stat.ofDescriptor(directoryFd, this.empty) === 0;
    const recorded = known && this.options.inFlight.enter(directory, this.stat);
    this.exclusiveAllowed = madeByThisJob && recorded;
  }

  /**
   * Creates the unpublished file for `name` (address of a C string). `replace`: it will take the place of an existing
   * one. Returns a descriptor opened for reading and writing, which the caller closes after publish() or abandon(), or -errno. hot:
   */
  create(directoryFd: number, name: number, mode: number, replace: boolean): number {
    this.directoryFd = directoryFd;
    this.name = name;
    if (this.exclusiveAllowed && !replace) return this.createExclusive(mode);
    if (this.anonymousWorks && !replace) {
      const fd = this.createAnonymous(mode);
      if (fd >= 0 || !isUnsupported(-fd)) return fd;
      this.anonymousWorks = false;
    }
    return this.createNamed(mode);
  }

  /** As create, of a file without a name: whatever happens, nothing is left of it. -errno also where there are no such files. */
  createUnnamed(directoryFd: number, name: number, mode: number): number {
    this.directoryFd = directoryFd;
    this.name = name;
    return this.createAnonymous(mode);
  }

  /** Whether files of the directory are created under their own names. */
  get isExclusive(): boolean {
    return this.exclusiveAllowed;
  }

  /** As create, where isExclusive, and with nothing to replace; `stat` then tells what was made. hot: */
  createPlain(directoryFd: number, name: number, mode: number): number {
    this.directoryFd = directoryFd;
    this.name = name;
    return this.createExclusive(mode);
  }

  /** As create, under a temporary name wherever it is: for a file that whoever comes after a killed worker may go on with. */
  createTemporary(directoryFd: number, name: number, mode: number): number {
    this.directoryFd = directoryFd;
    this.name = name;
    return this.createNamed(mode);
  }

  /** Goes on with what a former worker of this job created so. `fd` stays the caller's, as that of create(). */
  adoptTemporary(directoryFd: number, name: number, temporary: string, fd: number): void {
    this.directoryFd = directoryFd;
    this.name = name;
    this.arena.reset(this.temporaryMark);
    this.temporary = this.arena.cstring(temporary);
    this.way = "named";
    this.fd = fd;
  }

  /** The name of the temporary file at hand. */
  get temporaryText(): string {
    const { bytes, address } = this.arena.memory;
    const start = this.temporary - address;
    return Buffer.from(bytes.subarray(start, bytes.indexOf(0, start))).toString("latin1");
  }

  /** True for a name that this job gives to temporary files. */
  isTemporary(name: string): boolean {
    return isTemporaryOf(this.options.token, name);
  }

  /** The unfinished file is recorded elsewhere from now on. */
  handOver(): void {
    this.options.inFlight.clear();
  }

  /** Leaves the unfinished file where it is. */
  leave(): void {
    this.way = "none";
  }

  /** Gives the whole file its final name. 0, or -errno (-EEXIST where the name is taken and `replace` was not asked). hot: */
  publish(replace: boolean): number {
    const result = this.publishAs(replace);
    if (result < 0) return result;
    if (this.way !== "anonymous") this.options.inFlight.clear();
    this.way = "none";
    return 0;
  }

  /** Drops the unfinished file. The descriptor stays open: its owner closes it. */
  abandon(): void {
    if (this.way === "exclusive") this.unlinkIfOurs(this.name);
    if (this.way === "named") this.unlinkIfOurs(this.temporary);
    if (this.way !== "anonymous") this.options.inFlight.clear();
    this.way = "none";
  }

  /**
   * Puts a symlink, special file or hard link in the place of an existing name (rule 4): `make` creates it under a temporary name,
   * which then takes the final one. 0 or -errno.
   */
  replaceNode(directoryFd: number, name: number, make: (temporary: number) => number): number {
    return this.placeNode(directoryFd, make, (temporary) => libc.renameat2(directoryFd, temporary, directoryFd, name, 0));
  }

  /** As replaceNode, where the name must be free: -EEXIST where it is not, and nothing is left of what was made. */
  addNode(directoryFd: number, name: number, make: (temporary: number) => number): number {
    return this.placeNode(directoryFd, make, (temporary) => this.renameToFree(directoryFd, temporary, name));
  }

  private placeNode(directoryFd: number, make: (temporary: number) => number, giveName: (temporary: number) => number): number {
    const inFlight = this.options.inFlight;
    this.arena.reset(this.temporaryMark);
    this.temporary = this.arena.cstring(this.temporaryName());
    inFlight.creating(this.temporary);
    const made = make(this.temporary);
    const renamed = made < 0 ? made : giveName(this.temporary);
    // Renaming one link of a file over another link of it succeeds and leaves both (rename(2)).
    if (made >= 0) libc.unlinkat(directoryFd, this.temporary, 0);
    inFlight.clear();
    return this.failed(made < 0 ? "linkat" : "renameat2", renamed);
  }

  /** A name that no other lane or job uses and that says whose it is. */
  private temporaryName(): string {
    return `${temporaryPrefix}${this.options.token}-${this.options.nextTemporary()}`;
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }

  private createExclusive(mode: number): number {
    const inFlight = this.options.inFlight;
    inFlight.creating(this.name);
    const fd = libc.openat(this.directoryFd, this.name, Open.O_RDWR | newFile, mode);
    if (fd < 0) {
      inFlight.clear();
      return this.failed("openat", fd);
    }
    this.way = "exclusive";
    this.fd = fd;
    this.recordCreated();
    return fd;
  }

  private createAnonymous(mode: number): number {
    const fd = libc.openat(this.directoryFd, this.dot, Open.O_RDWR | Open.O_TMPFILE | Open.O_CLOEXEC, mode);
    if (fd < 0) return this.failed("openat", fd);
    this.way = "anonymous";
    this.fd = fd;
    return fd;
  }

  private createNamed(mode: number): number {
    const inFlight = this.options.inFlight;
    for (let attempt = 0; attempt < 16; attempt++) {
      this.arena.reset(this.temporaryMark);
      this.temporary = this.arena.cstring(this.temporaryName());
      inFlight.creating(this.temporary);
      const fd = libc.openat(this.directoryFd, this.temporary, Open.O_RDWR | newFile, mode);
      if (fd >= 0) {
        this.way = "named";
        this.fd = fd;
        this.recordCreated();
        return fd;
      }
      inFlight.clear();
      if (fd !== -Errno.EEXIST) return this.failed("openat", fd);
    }
    return this.failed("openat", -Errno.EEXIST);
  }

  // Without its inode (which cannot happen) the record stays at "creating": recovery then removes it only while it is empty.
  private recordCreated(): void {
    if (this.stat.ofDescriptor(this.fd, this.empty) < 0) return;
    this.options.inFlight.created(this.stat.inodeLow, this.stat.inodeHigh);
  }

  private publishAs(replace: boolean): number {
    if (this.way === "exclusive") return 0;
    if (this.way === "anonymous") return this.linkAnonymous();
    if (replace) return this.failed("renameat2", libc.renameat2(this.directoryFd, this.temporary, this.directoryFd, this.name, 0));
    return this.renameToFree(this.directoryFd, this.temporary, this.name);
  }

  private renameToFree(directoryFd: number, temporary: number, name: number): number {
    const result = libc.renameat2(directoryFd, temporary, directoryFd, name, Rename.NOREPLACE);
    if (result !== -Errno.EINVAL && result !== -Errno.ENOSYS) return this.failed("renameat2", result);
    // No RENAME_NOREPLACE on this filesystem: a hard link refuses an existing name just as well.
    const linked = libc.linkat(directoryFd, temporary, directoryFd, name, 0);
    // Nor links, as on a phone or in a cloud behind FUSE: the kernel itself has just seen that the name is free, and that must do.
    if (result === -Errno.EINVAL && hasNoLinks(linked)) {
      return this.failed("renameat2", libc.renameat2(directoryFd, temporary, directoryFd, name, 0));
    }
    if (linked < 0) return this.failed("linkat", linked);
    libc.unlinkat(directoryFd, temporary, 0);
    return 0;
  }

  private linkAnonymous(): number {
    this.writeProcPath();
    const result = libc.linkat(At.AT_FDCWD, this.procPath, this.directoryFd, this.name, At.AT_SYMLINK_FOLLOW);
    return this.failed("linkat", result);
  }

  private failed(syscall: string, result: number): number {
    if (result < 0) this.failedSyscall = syscall;
    return result;
  }

  private unlinkIfOurs(name: number): void {
    if (this.stat.ofDescriptor(this.fd, this.empty) < 0) return;
    if (this.nameStat.ofName(this.directoryFd, name) < 0) return;
    if (this.stat.isSameFile(this.nameStat)) libc.unlinkat(this.directoryFd, name, 0);
  }

  // "/proc/self/fd/N" without allocating a string for every file. hot:
  private writeProcPath(): void {
    const bytes = this.arena.memory.bytes;
    let at = this.procPath - this.arena.memory.address;
    for (let index = 0; index < procPrefix.length; index++) bytes[at++] = procPrefix[index] ?? 0;
    let divisor = 1;
    while (this.fd / divisor >= 10) divisor *= 10;
    for (; divisor >= 1; divisor /= 10) bytes[at++] = 0x30 + (Math.floor(this.fd / divisor) % 10);
    bytes[at] = 0;
  }
}

const procPrefix = Buffer.from("/proc/self/fd/");

/** link(2) where the filesystem has no hard links. */
function hasNoLinks(result: number): boolean {
  return result === -Errno.EPERM || result === -Errno.EOPNOTSUPP || result === -Errno.ENOSYS;
}

/** O_TMPFILE where the filesystem or the kernel lacks it (open(2)): EOPNOTSUPP, EISDIR, EINVAL; ENOENT on some network filesystems. */
function isUnsupported(errno: number): boolean {
  return errno === Errno.EOPNOTSUPP || errno === Errno.EISDIR || errno === Errno.EINVAL || errno === Errno.ENOENT || errno === Errno.ENOSYS;
}
