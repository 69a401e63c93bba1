// Enters a directory (opens the source, makes or joins the destination) and finishes it when its last entry is done.

import { Errno } from "../errno.ts";
import type { FailureCode, FailureSide } from "../errors.ts";
import { libc, Mode, Open } from "../ffi/libc.ts";
import { entryType } from "./conflict.ts";
import { type Directory, DirectoryFlag } from "./directory.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { withholdsUntilOwned } from "./making.ts";
import { joinPath } from "./reporter.ts";
import { Counter, Word } from "./shared.ts";

const openFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NONBLOCK | Open.O_CLOEXEC;

export class DirectoryCopier {
  private readonly context: LaneContext;
  private readonly keepsMode: boolean;
  private readonly withholds: boolean;

  constructor(context: LaneContext) {
    this.context = context;
    this.keepsMode = context.preserve.has("mode");
    this.withholds = withholdsUntilOwned(context);
  }

  /**
   * Opens the source directory of an entry, makes the destination directory (or joins an existing one), and registers both. null: it
   * failed and was reported, or there is nothing to enter.
   */
  enter(entry: Entry, follow: boolean): Directory | null {
    const { sourceStat, empty } = this.context;
    this.context.entry = entry;
    const flags = follow ? openFlags : openFlags | Open.O_NOFOLLOW;
    const opened = libc.openat(entry.directory.fields.sourceFd, entry.sourceName, flags, 0);
    const isUnreadable = opened === -Errno.EACCES;
    const sourceFd = isUnreadable ? this.openUnreadable(entry, flags) : opened;
    if (sourceFd < 0) return this.fail(entry, "source", sourceFd, "openat", "cannot access %s");
    const status = sourceStat.ofDescriptor(sourceFd, empty);
    const directory = status < 0 ? this.fail(entry, "source", status, "statx", "cannot stat %s") : this.enterFound(entry, sourceFd, follow);
    if (directory !== null) this.context.copied?.addDirectory(directory.stat);
    else if (status === 0) this.context.copied?.addLeftDirectory(sourceStat);
    if (directory === null) libc.close(sourceFd);
    else if (isUnreadable) {
      this.fail(entry, "source", opened, "openat", "cannot access %s");
      directory.isListed = true;
    }
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
    if (!this.keepsMode && (flags & (DirectoryFlag.made | DirectoryFlag.adopted)) !== 0) this.finishMode(directory);
    if (this.context.options.durability === "file") this.sync(destinationFd, directory);
    this.context.finishing = null;
    libc.close(sourceFd);
    libc.close(destinationFd);
    this.context.count(Counter.directoriesDone, 1);
    this.context.directories.free(directory);
  }

  // As cp does, a directory that cannot be read is still made, with its attributes, and remains empty.
  private openUnreadable(entry: Entry, flags: number): number {
    return libc.openat(entry.directory.fields.sourceFd, entry.sourceName, flags | Open.O_PATH, 0);
  }

  private enterFound(entry: Entry, sourceFd: number, follow: boolean): Directory | null {
    if (this.isItsOwnAncestor(entry)) {
      // Without links, only a mount of a directory into itself leads back up.
      const what =
        this.context.options.symlinks === "follow" ? "cannot copy cyclic symbolic link %s" : "cannot copy %s into a copy of itself, %d";
      return this.fail(entry, "source", 0, "", what, "symlink-loop");
    }
    if (this.context.policy?.mayEnter(entry, sourceFd, follow) === false) return null;
    if (entry.isArgument || !this.isDestination(entry)) return this.enterDestination(entry, sourceFd);
    // What is being made has turned up in what is being copied: through a link, or a mount.
    const top = { ...entry.place, path: "" };
    const what = "cannot copy a directory, %s, into itself, %d";
    this.context.reporter.fail({ place: top, side: "source", errno: 0, syscall: "", what, code: "into-itself" });
    return null;
  }

  private enterDestination(entry: Entry, sourceFd: number): Directory | null {
    const { sourceStat, destinationStat, options } = this.context;
    const parentFd = entry.directory.fields.destinationFd;
    if (this.context.policy?.mayMakeDirectory(entry) === false) return null;
    // Writable for us and closed to others while it fills (rule 17), unless its owner and mode are right from the start.
    const mode = this.keepsMode ? 0o700 : (this.withholds ? this.ownModeOf() & ~0o077 : this.ownModeOf()) | 0o700;
    let made = libc.mkdirat(parentFd, entry.name, mode);
    const standing = made === -Errno.EEXIST ? this.lookAt(entry) : "nothing";
    if (standing === "refused") return null;
    if (standing === "in the way") made = this.makeInPlaceOf(entry, mode);
    if (made < 0 && standing !== "joined") return this.fail(entry, "destination", made, "mkdirat", "cannot create directory %d");
    const isAdopted = made < 0 && this.context.resumption?.isMadeDirectory(entry) === true;
    const ownMode = made === 0 ? this.lend(entry) : isAdopted ? this.lendAgain(entry) : -1;
    if (made === 0) {
      this.context.announcer?.madeDirectory(entry.place);
      Atomics.store(this.context.shared.words, Word.hasMadeDirectory, 1);
    }
    const follows = made < 0 && options.gnu.keepDirectorySymlink;
    const destinationFd = libc.openat(parentFd, entry.name, follows ? openFlags : openFlags | Open.O_NOFOLLOW, 0);
    if (destinationFd < 0) return this.fail(entry, "destination", destinationFd, "openat", "cannot access %d");
    const status = destinationStat.ofDescriptor(destinationFd, this.context.empty);
    if (status < 0 || destinationStat.isSameFile(sourceStat)) {
      libc.close(destinationFd);
      if (status < 0) return this.fail(entry, "destination", status, "statx", "cannot stat %d");
      return this.fail(entry, "source", 0, "", "%s and %d are the same file", "same-file");
    }
    if (this.context.policy?.mayFill(entry, destinationFd, follows) === false) {
      libc.close(destinationFd);
      return null;
    }
    if (made < 0) this.context.resumption?.tidy(destinationFd);
    return this.register(entry, sourceFd, destinationFd, { flags: this.flagsFor({ isMade: made === 0, isAdopted }), ownMode });
  }

  private flagsFor({ isMade, isAdopted }: { readonly isMade: boolean; readonly isAdopted: boolean }): number {
    const { preserve, resumption } = this.context;
    // Everything was copied once: the sources have lost entries since, and with them the times that were kept.
    if (!isMade && resumption?.wasRemoving === true) return 0;
    const made = isMade ? DirectoryFlag.made : isAdopted ? DirectoryFlag.adopted : 0;
    const withheld = made !== 0 && this.withholds ? DirectoryFlag.withheld : 0;
    return made | withheld | (preserve.size > 0 ? DirectoryFlag.finish : 0);
  }

  /** A directory that a former worker made may be finished, and no longer writable for its owner. */
  private lendAgain(entry: Entry): number {
    const { options, destinationStat } = this.context;
    const { destinationFd } = entry.directory.fields;
    if (destinationStat.ofName(destinationFd, entry.name) < 0 || destinationStat.type !== Mode.S_IFDIR) return -1;
    const { permissions } = destinationStat;
    if ((permissions & 0o700) !== 0o700) libc.fchmodat(destinationFd, entry.name, permissions | 0o700);
    return (permissions | 0o700) & ~(options.umask & 0o700);
  }

  /** An umask that denies the owner must not keep us out while the directory fills. Returns the mode it is to have, -1 for its own. */
  private lend(entry: Entry): number {
    const { options, destinationStat } = this.context;
    if (this.keepsMode || (options.umask & 0o700) === 0) return -1;
    const { destinationFd } = entry.directory.fields;
    if (destinationStat.ofName(destinationFd, entry.name) < 0 || destinationStat.type !== Mode.S_IFDIR) return -1;
    libc.fchmodat(destinationFd, entry.name, destinationStat.permissions | 0o700);
    return destinationStat.permissions;
  }

  private register(
    entry: Entry,
    sourceFd: number,
    destinationFd: number,
    { flags, ownMode }: { readonly flags: number; readonly ownMode: number },
  ): Directory {
    const { sourceStat, destinationStat, directories, metadata } = this.context;
    const { argument, path, destinationRoot } = entry.directory.fields;
    const root = entry.isArgument ? destinationStat : null;
    this.context.noteDevice(destinationStat.device, destinationFd);
    const inheritsAcl = metadata.inheritsAcl(destinationFd);
    const fields = {
      sourceFd,
      destinationFd,
      flags: flags | (inheritsAcl ? DirectoryFlag.defaultAcl : 0),
      argument,
      argumentDevice: entry.isArgument ? sourceStat.device : entry.directory.fields.argumentDevice,
      path: entry.isArgument ? "" : joinPath(path, entry.text),
      destinationRoot,
      createdUid: destinationStat.uid,
      createdGid: destinationStat.gid,
      createdMode: (ownMode < 0 ? destinationStat.permissions : ownMode) | this.withheldFrom(flags),
      rootDevice: root?.device ?? entry.directory.fields.rootDevice,
      rootInodeLow: root?.inodeLow ?? entry.directory.fields.rootInodeLow,
      rootInodeHigh: root?.inodeHigh ?? entry.directory.fields.rootInodeHigh,
    };
    const directory = directories.register(fields, sourceStat);
    if (this.context.options.symlinks === "follow") directory.parent = entry.directory;
    return directory;
  }

  /** What a directory gets when it has its owner, beside the mode that it was made with. */
  private withheldFrom(flags: number): number {
    return (flags & DirectoryFlag.withheld) === 0 ? 0 : this.ownModeOf() & 0o077 & ~this.context.options.umask;
  }

  private ownModeOf(): number {
    const { options, sourceStat } = this.context;
    return options.gnu.defaultMode ? 0o777 | (sourceStat.permissions & 0o1000) : sourceStat.permissions & 0o1777;
  }

  /** What stands there: a directory to be joined, or something that cp --backup moves out of the way. */
  private lookAt(entry: Entry): "joined" | "in the way" | "refused" {
    const { destinationStat, options, makesBackups } = this.context;
    const parentFd = entry.directory.fields.destinationFd;
    const status = destinationStat.ofName(parentFd, entry.name);
    if (status < 0) {
      this.fail(entry, "destination", status, "statx", "cannot stat %d");
      return "refused";
    }
    if (destinationStat.type === Mode.S_IFDIR) return "joined";
    const leadsToDirectory = destinationStat.ofTarget(parentFd, entry.name) === 0 && entryType(destinationStat.type) === "directory";
    if (leadsToDirectory && options.gnu.keepDirectorySymlink) return "joined";
    if (makesBackups && options.gnu.backup !== "none") return "in the way";
    this.fail(entry, "destination", 0, "mkdirat", "cannot overwrite non-directory %d with directory %s", "destination-exists");
    return "refused";
  }

  private makeInPlaceOf(entry: Entry, mode: number): number {
    const { backups } = this.context;
    backups.prepare(entry);
    const aside = backups.moveAside(entry);
    if (aside < 0) return aside;
    const made = libc.mkdirat(entry.directory.fields.destinationFd, entry.name, mode);
    if (made < 0) backups.putBack(entry);
    return made;
  }

  // Only followed symlinks can lead back up; the chain of parents is kept for them alone.
  private isItsOwnAncestor(entry: Entry): boolean {
    for (let above: Directory | null = entry.directory; above !== null; above = above.parent) {
      if (above.fields.sourceFd >= 0 && above.stat.isSameFile(this.context.sourceStat)) return true;
    }
    return false;
  }

  private isDestination(entry: Entry): boolean {
    const { sourceStat } = this.context;
    const { rootDevice, rootInodeLow, rootInodeHigh } = entry.directory.fields;
    return sourceStat.inodeLow === rootInodeLow && sourceStat.inodeHigh === rootInodeHigh && sourceStat.device === rootDevice;
  }

  // Without preserved modes the umask decided at mkdir; only owner bits that were lent for filling are taken back, and what was
  // withheld until the owner was set is given.
  private finishMode(directory: Directory): void {
    const { options } = this.context;
    const wanted = options.gnu.defaultMode ? 0o777 : directory.stat.permissions;
    const { createdMode, destinationFd, flags } = directory.fields;
    if ((flags & DirectoryFlag.withheld) === 0 && (wanted & 0o700) === 0o700 && (options.umask & 0o700) === 0) return;
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
