// Enters a directory (opens the source, makes or joins the destination) and finishes it when its last entry is done.

import { Errno } from "../errno.ts";
import type { FailureCode, FailureSide } from "../errors.ts";
import { libc, Mode, Open } from "../ffi/libc.ts";
import { entryType } from "./conflict.ts";
import { type Directory, DirectoryFlag } from "./directory.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { joinPath } from "./reporter.ts";
import { Counter } from "./shared.ts";

const openFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NONBLOCK | Open.O_CLOEXEC;

export class DirectoryCopier {
  private readonly context: LaneContext;
  private readonly keepsMode: boolean;

  constructor(context: LaneContext) {
    this.context = context;
    this.keepsMode = context.preserve.has("mode");
  }

  /**
   * Opens the source directory of an entry, makes the destination directory (or joins an existing one), and registers both. null: it
   * failed and was reported, or there is nothing to enter.
   */
  enter(entry: Entry, follow: boolean): Directory | null {
    const { sourceStat, empty } = this.context;
    this.context.entry = entry;
    const flags = follow ? openFlags : openFlags | Open.O_NOFOLLOW;
    const sourceFd = libc.openat(entry.directory.fields.sourceFd, entry.sourceName, flags, 0);
    if (sourceFd < 0) return this.fail(entry, "source", sourceFd, "openat", "cannot access %s");
    const status = sourceStat.ofDescriptor(sourceFd, empty);
    if (status < 0) {
      libc.close(sourceFd);
      return this.fail(entry, "source", status, "statx", "cannot stat %s");
    }
    if (this.isWithinItself(entry)) {
      libc.close(sourceFd);
      return this.fail(entry, "source", 0, "", "cannot copy a directory, %s, into itself, %d", "into-itself");
    }
    const directory = this.enterDestination(entry, sourceFd);
    if (directory === null) libc.close(sourceFd);
    return directory;
  }

  /** Mode, owner, attributes and times of a directory whose entries are all done; then its descriptors are closed. */
  finish(directory: Directory): void {
    const { fields, stat } = directory;
    const { argument, path, destinationRoot, sourceFd, destinationFd, flags } = fields;
    this.context.finishing = { argument, path, destinationRoot };
    if ((flags & DirectoryFlag.finish) !== 0) {
      this.context.metadata.toDescriptor(sourceFd, stat, destinationFd, {
        uid: fields.createdUid,
        gid: fields.createdGid,
        mode: fields.createdMode,
      });
    }
    if (!this.keepsMode && (flags & DirectoryFlag.made) !== 0) this.finishMode(directory);
    if (this.context.options.durability === "file") this.sync(destinationFd, directory);
    this.context.finishing = null;
    libc.close(sourceFd);
    libc.close(destinationFd);
    this.context.count(Counter.directoriesDone, 1);
    this.context.directories.free(directory);
  }

  private enterDestination(entry: Entry, sourceFd: number): Directory | null {
    const { sourceStat, destinationStat, options } = this.context;
    const parentFd = entry.directory.fields.destinationFd;
    // Writable for us and closed to others while it fills (rule 17), unless its owner and mode are right from the start.
    const mode = this.keepsMode ? 0o700 : ((options.gnu.defaultMode ? 0o777 : sourceStat.permissions) & 0o1777) | 0o700;
    const made = libc.mkdirat(parentFd, entry.name, mode);
    if (made < 0 && made !== -Errno.EEXIST) return this.fail(entry, "destination", made, "mkdirat", "cannot create directory %d");
    if (made < 0 && !this.mayJoin(entry)) return null;
    const follows = made < 0 && options.gnu.keepDirectorySymlink;
    const destinationFd = libc.openat(parentFd, entry.name, follows ? openFlags : openFlags | Open.O_NOFOLLOW, 0);
    if (destinationFd < 0) return this.fail(entry, "destination", destinationFd, "openat", "cannot access %d");
    const status = destinationStat.ofDescriptor(destinationFd, this.context.empty);
    if (status < 0 || destinationStat.isSameFile(sourceStat)) {
      libc.close(destinationFd);
      if (status < 0) return this.fail(entry, "destination", status, "statx", "cannot stat %d");
      return this.fail(entry, "source", 0, "", "cannot copy a directory, %s, into itself, %d", "into-itself");
    }
    return this.register(entry, sourceFd, destinationFd, made === 0);
  }

  private register(entry: Entry, sourceFd: number, destinationFd: number, isMade: boolean): Directory {
    const { sourceStat, destinationStat, directories, metadata } = this.context;
    const { argument, path, destinationRoot } = entry.directory.fields;
    this.context.noteDevice(destinationStat.device, destinationFd);
    const inheritsAcl = metadata.inheritsAcl(destinationFd);
    const finish = this.context.preserve.size > 0 ? DirectoryFlag.finish : 0;
    const fields = {
      sourceFd,
      destinationFd,
      flags: (isMade ? DirectoryFlag.made : 0) | finish | (inheritsAcl ? DirectoryFlag.defaultAcl : 0),
      argument,
      argumentDevice: entry.isArgument ? sourceStat.device : entry.directory.fields.argumentDevice,
      path: entry.isArgument ? "" : joinPath(path, entry.text),
      destinationRoot,
      createdUid: destinationStat.uid,
      createdGid: destinationStat.gid,
      createdMode: destinationStat.permissions,
    };
    const directory = directories.register(fields, sourceStat);
    if (this.context.options.symlinks === "follow") directory.parent = entry.directory;
    return directory;
  }

  private mayJoin(entry: Entry): boolean {
    const { destinationStat, options } = this.context;
    const parentFd = entry.directory.fields.destinationFd;
    if (destinationStat.ofName(parentFd, entry.name) === 0 && destinationStat.type === Mode.S_IFDIR) return true;
    const leadsToDirectory = destinationStat.ofTarget(parentFd, entry.name) === 0 && entryType(destinationStat.type) === "directory";
    if (leadsToDirectory && options.gnu.keepDirectorySymlink) return true;
    this.fail(entry, "destination", 0, "mkdirat", "cannot overwrite non-directory %d with directory %s", "destination-exists");
    return false;
  }

  // Only followed symlinks can lead back up; the chain of parents is kept for them alone.
  private isWithinItself(entry: Entry): boolean {
    for (let above: Directory | null = entry.directory; above !== null; above = above.parent) {
      if (above.fields.sourceFd >= 0 && above.stat.isSameFile(this.context.sourceStat)) return above.parent !== null || !entry.isArgument;
    }
    return false;
  }

  // Without preserved modes the umask decided at mkdir; only owner bits that were lent for filling are taken back.
  private finishMode(directory: Directory): void {
    const wanted = directory.stat.permissions;
    if ((wanted & 0o700) === 0o700 || this.context.options.gnu.defaultMode) return;
    const { createdMode, destinationFd } = directory.fields;
    libc.fchmod(destinationFd, createdMode & (wanted | ~0o700));
  }

  private sync(fd: number, directory: Directory): void {
    const synced = libc.fsync(fd);
    // EINVAL: this filesystem does not sync directories.
    if (synced === 0 || synced === -Errno.EINVAL) return;
    const { argument, path, destinationRoot } = directory.fields;
    const place = { argument, path, destinationRoot };
    this.context.reporter.fail({
      place,
      side: "destination",
      errno: -synced,
      syscall: "fsync",
      what: "error writing %d",
      code: "flush-failed",
    });
  }

  private fail(entry: Entry, side: FailureSide, result: number, syscall: string, what: string, code?: FailureCode): null {
    const errno = result < 0 ? -result : 0;
    this.context.reporter.fail({ place: entry.place, side, errno, syscall, what, ...(code === undefined ? {} : { code }) });
    return null;
  }
}
