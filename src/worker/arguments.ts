// The arguments of a job, one after the other: what must be refused before anything is opened for writing (rule 15), and their places.

import { Errno } from "../errno.ts";
import type { FailureCode, FailureSide } from "../errors.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { baseName, Destination, parentOf, stripSlashes } from "./destination.ts";
import { Directory, type DirectoryFields } from "./directory.ts";
import { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { Mover } from "./move.ts";
import { ParentMaker } from "./parents.ts";
import { Counter } from "./shared.ts";
import { nameOfSource } from "./source-name.ts";

const pathFlags = Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC;

/** Who takes an argument whose place is settled: the tree copier, or a dry run. "done": it was copied. */
export interface ArgumentSink {
  copyArgument(entry: Entry, followArgument: boolean): string;
  helpUntilQuiet(until: { readonly holds: 1 }): void;
}

/** The leader's part: hands each source to the tree copier, or has it renamed. */
export class ArgumentCopier {
  /** Sources that a move copied because they could not be renamed. */
  readonly toRemove: { readonly argument: number; readonly destinationRoot: string }[] = [];
  private readonly context: LaneContext;
  private readonly tree: ArgumentSink;
  private readonly destination: Destination;
  private readonly parents: ParentMaker | null;
  private readonly mover: Mover | null;
  private isSecondName = false;
  /** Directories of arguments that were tidied. */
  private readonly tidied = new Set<string>();
  /** The directory entries of those: they are still there, but have been moved. */
  private readonly moved = new Set<string>();
  /** Sources seen so far, by the directory entry they are: cp copies each once. */
  private readonly seen = new Set<string>();

  constructor(context: LaneContext, tree: ArgumentSink) {
    this.context = context;
    this.tree = tree;
    this.destination = new Destination(context);
    this.parents = context.options.gnu.parents ? new ParentMaker(context) : null;
    this.mover = context.request.operation === "move" ? new Mover(context) : null;
  }

  /** Copies (or renames) all sources in order; failures are reported. */
  copyAll(): void {
    if (!this.destination.resolve()) return;
    const { request, control, arena } = this.context;
    for (let argument = 0; argument < request.sources.length; argument++) {
      if (!control.mayGoOn()) return;
      const mark = arena.mark();
      const root = this.destination.placeOf(argument);
      if (this.parents === null || this.parents.make(argument, root)) this.copyOne(argument, root);
      this.parents?.finish(argument);
      arena.reset(mark);
    }
  }

  /** For whoever resumes a move: which inodes are to be renamed. True when something was noted. */
  noteRenames(): boolean {
    const { request, log, resumption, copyStat, arena } = this.context;
    if (this.mover === null || log === null || resumption !== null) return false;
    for (let argument = 0; argument < request.sources.length; argument++) {
      const found = nameOfSource(this.context, argument);
      const mark = arena.mark();
      const isThere = typeof found === "string" && copyStat.ofName(At.AT_FDCWD, arena.cstring(stripSlashes(found))) === 0;
      if (isThere) log.willRename(argument, copyStat);
      arena.reset(mark);
    }
    return true;
  }

  get intoDirectory(): boolean {
    return this.destination.isDirectory;
  }

  private copyOne(argument: number, root: string): void {
    const { options, arena, sourceStat } = this.context;
    const found = nameOfSource(this.context, argument);
    const name = arena.cstring(typeof found === "string" ? found : "");
    const follow = options.symlinks !== "copy";
    const status =
      typeof found === "number" ? found : follow ? sourceStat.ofTarget(At.AT_FDCWD, name) : sourceStat.ofName(At.AT_FDCWD, name);
    if (status === -Errno.ENOENT && this.mover?.wasMoved(argument, root) === true) return;
    if (status < 0) {
      this.fail(argument, root, "source", -status, "statx", "cannot stat %s");
      return;
    }
    const isDirectory = sourceStat.type === Mode.S_IFDIR;
    if (isDirectory && !options.recursive) {
      this.fail(argument, root, "source", 0, "", "-r not specified; omitting directory %s", "source-is-directory");
      return;
    }
    // "new/" is a name for a directory to be made; "file/" is no name at all.
    const { slashErrno } = this.destination;
    if (slashErrno !== 0 && (!isDirectory || slashErrno !== Errno.ENOENT)) {
      this.failSlash(argument, root);
      return;
    }
    if (this.wasSeen(argument, root, isDirectory)) return;
    const place = this.ownBackup(argument, root) ?? root;
    if (this.isAllowed(argument, place)) this.hand(argument, name, place, follow);
  }

  private hand(argument: number, sourceName: number, root: string, follow: boolean): void {
    const { arena } = this.context;
    const parentFd = this.context.openNamed(parentOf(root), pathFlags);
    if (parentFd < 0) {
      this.failParent(argument, root, -parentFd);
      return;
    }
    const fields: DirectoryFields = { ...noDirectory, destinationFd: parentFd, argument, destinationRoot: root };
    const entry = new Entry(new Directory(fields, -1, this.context.afterStat));
    entry.sourceName = sourceName;
    const name = arena.cstring(root.slice(root.lastIndexOf("/") + 1) || ".");
    entry.setName(name, arena.memory.bytes, name - arena.memory.address);
    this.context.noteArgumentDevice(parentFd);
    this.tidyOnce(parentOf(root), parentFd);
    if (this.context.policy?.mayPlace(entry.place, parentFd, entry.text) !== false) this.copyOrMove(entry, follow);
    libc.close(parentFd);
  }

  private tidyOnce(path: string, directoryFd: number): void {
    const { resumption } = this.context;
    if (resumption === null || this.tidied.has(path)) return;
    this.tidied.add(path);
    resumption.tidy(directoryFd);
  }

  private copyOrMove(entry: Entry, follow: boolean): void {
    const { argument, destinationRoot } = entry.directory.fields;
    if (this.mover === null) {
      if (this.tree.copyArgument(entry, follow) === "done") this.noteMade(entry);
      return;
    }
    if (this.mover.isRefused(entry)) return;
    const allowed = this.context.policy?.mayRename(entry) ?? "rename";
    if (allowed === "refused") return;
    if (this.isSecondName) {
      this.mover.dropSecondName(entry);
      return;
    }
    if (allowed === "rename" && this.mover.rename(entry) !== "copy") return;
    if (this.copyToMove(entry)) {
      this.toRemove.push({ argument, destinationRoot });
      this.moved.add(this.entryKey(this.context.request.sources[argument] ?? ""));
    }
    this.mover.finish(entry);
  }

  // mv keeps the whole of an argument of which anything failed; a file manager's move keeps what failed and what holds it.
  private copyToMove(entry: Entry): boolean {
    const { shared, options } = this.context;
    const errors = shared.total(Counter.errors);
    const outcome = this.tree.copyArgument(entry, false);
    // The name that was skipped stays, also where the inode was copied under another one.
    if (outcome === "skipped" || outcome === "failed") return false;
    if (options.gnu.names === null) return true;
    this.tree.helpUntilQuiet({ holds: 1 });
    return shared.total(Counter.errors) === errors;
  }

  /** cp never overwrites, nor writes through, what it has just made for another argument. */
  private noteMade(entry: Entry): void {
    const { request, destinationStat, justMade } = this.context;
    if (request.sources.length < 2) return;
    const { destinationFd, destinationRoot } = entry.directory.fields;
    if (destinationStat.ofName(destinationFd, entry.name) === 0) justMade.set(destinationRoot, destinationStat.identity);
  }

  // A source given twice is copied once, and cp says so. Directories count as the same only where they would go to the same place.
  // mv comes to the latter only where the first time failed: else there is no such source any more.
  private wasSeen(argument: number, root: string, isDirectory: boolean): boolean {
    const { request, options, sourceStat, reporter } = this.context;
    if (request.sources.length < 2) return false;
    if (this.mover !== null && this.moved.has(this.entryKey(request.sources[argument] ?? ""))) {
      this.fail(argument, root, "source", Errno.ENOENT, "statx", "cannot stat %s");
      return true;
    }
    if (isDirectory ? this.mover !== null && options.gnu.names === null : this.mover !== null || options.gnu.backup !== "none")
      return false;
    const key = `${isDirectory ? root : this.entryKey(request.sources[argument] ?? "")} ${sourceStat.identity}`;
    if (!this.seen.has(key)) {
      this.seen.add(key);
      return false;
    }
    const what = `warning: source ${isDirectory ? "directory" : "file"} %s specified more than once`;
    const place = { argument, path: "", destinationRoot: root };
    reporter.fail({ place, side: "source", errno: 0, syscall: "", what, code: "same-file", severity: "warning" });
    return true;
  }

  /** Equal for two spellings of one name in one directory. */
  private entryKey(path: string): string {
    const { arena, afterStat } = this.context;
    const mark = arena.mark();
    const status = afterStat.ofTarget(At.AT_FDCWD, arena.cstring(parentOf(stripSlashes(path))));
    arena.reset(mark);
    return status < 0 ? path : `${afterStat.identity}/${baseName(path)}`;
  }

  // `cp --force --backup x x` makes the backup itself: the only way to make one without touching the file.
  private ownBackup(argument: number, root: string): string | null {
    const { options, sourceStat, backups } = this.context;
    const { gnu } = options;
    const isItself = gnu.names !== null && gnu.names.sources[argument] === gnu.names.destination && !this.destination.isDirectory;
    if (!isItself || this.mover !== null || !gnu.force || gnu.backup === "none" || sourceStat.type !== Mode.S_IFREG) return null;
    this.context.makesBackups = false;
    return backups.pathFor(root);
  }

  // By device and inode, up to the root (rule 15).
  private isAllowed(argument: number, root: string): boolean {
    const { sourceStat, destinationStat, arena } = this.context;
    const isOneName =
      arena.withString(root, (address) => destinationStat.ofName(At.AT_FDCWD, address)) === 0 && destinationStat.isSameFile(sourceStat);
    const isDirectory = sourceStat.type === Mode.S_IFDIR;
    if (this.mover !== null && !isDirectory) return this.mayMoveFile(argument, root, isOneName);
    // What is not a directory is looked at when it is placed: before anything is opened for writing, but after -n and -u.
    if (!isDirectory) return true;
    // mv -n has nothing to do with it, then; it finds out when it finds the name taken.
    const { names } = this.context.options.gnu;
    const isSettled = this.mover !== null && names !== null && ["skip", "fail"].includes(this.context.options.onConflict);
    if (isOneName && isSettled) return true;
    if (isOneName) {
      this.fail(argument, root, "source", 0, "", "%s and %d are the same file", "same-file");
      return false;
    }
    if (!this.isInside(root)) return true;
    const what = this.mover === null ? "cannot copy a directory, %s, into itself, %d" : "cannot move %s to a subdirectory of itself, %d";
    this.fail(argument, root, "source", 0, "", what, "into-itself");
    return false;
  }

  private mayMoveFile(argument: number, root: string, isOneName: boolean): boolean {
    const { options } = this.context;
    // mv looks when it finds the name taken; and of one file's two names it removes neither.
    const isMv = options.gnu.names !== null;
    if (isMv && isOneName) return true;
    this.isSecondName = !isMv && isOneName && options.onConflict === "overwrite" && !this.isSameName(argument, root);
    if (!isMv && isOneName && !this.isSecondName && options.onConflict !== "rename") {
      this.fail(argument, root, "source", 0, "", "%s and %d are the same file", "same-file");
      return false;
    }
    const key = `made ${root}`;
    if (this.seen.has(key) && options.onConflict === "overwrite" && options.gnu.backup !== "numbered") {
      this.fail(argument, root, "destination", 0, "", "will not overwrite just-created %d with %s", "destination-exists");
      return false;
    }
    this.seen.add(key);
    return true;
  }

  /** True when source and destination are one directory entry: same name in the same directory, however it was spelt. */
  private isSameName(argument: number, root: string): boolean {
    return this.entryKey(this.context.request.sources[argument] ?? "") === this.entryKey(root);
  }

  /** True when context.sourceStat is the directory that `root` lies in, or one above it. */
  private isInside(root: string): boolean {
    const { arena, sourceStat, destinationStat, empty, afterStat } = this.context;
    const mark = arena.mark();
    let fd = this.context.openNamed(parentOf(root), pathFlags);
    const up = arena.cstring("..");
    let inside = false;
    while (fd >= 0 && !inside && destinationStat.ofDescriptor(fd, empty) === 0) {
      inside = destinationStat.isSameFile(sourceStat);
      const next = libc.openat(fd, up, pathFlags, 0);
      const isRoot = next >= 0 && afterStat.ofDescriptor(next, empty) === 0 && afterStat.isSameFile(destinationStat);
      libc.close(fd);
      if (isRoot && next >= 0) libc.close(next);
      fd = isRoot ? -1 : next;
    }
    if (fd >= 0) libc.close(fd);
    arena.reset(mark);
    return inside;
  }

  // A name that ends in a slash is a directory's. cp finds out in two ways.
  private failSlash(argument: number, root: string): void {
    const errno = this.destination.slashErrno;
    if (errno === Errno.ENOENT) {
      const cannot = this.mover === null ? "cannot create regular file %d" : "cannot move %s to %d";
      const what = this.context.options.gnu.names === null ? "the destination %d" : cannot;
      this.fail(argument, root, "destination", Errno.ENOTDIR, "openat", what, "destination-not-directory");
    } else this.fail(argument, root, "destination", errno, "statx", "cannot stat %d", "destination-not-directory");
  }

  // The directory to be written into is not there, or cannot be entered.
  private failParent(argument: number, root: string, errno: number): void {
    const { options, sourceStat, announcer } = this.context;
    if (options.gnu.names === null) {
      this.fail(argument, root, "destination", errno, "openat", "cannot create %d");
      return;
    }
    if (errno !== Errno.ENOENT) {
      this.fail(argument, root, "destination", errno, "statx", "cannot stat %d");
      return;
    }
    const isDirectory = sourceStat.type === Mode.S_IFDIR;
    if (!isDirectory) announcer?.copying({ argument, path: "", destinationRoot: root }, null);
    const isLink = sourceStat.type === Mode.S_IFLNK;
    const kind = isDirectory ? "directory" : isLink ? "symbolic link" : "regular file";
    const move = this.mover === null ? `cannot create ${kind} %d` : "cannot move %s to %d";
    this.fail(argument, root, "destination", errno, "openat", move);
  }

  private fail(argument: number, root: string, side: FailureSide, errno: number, syscall: string, what: string, code?: FailureCode): void {
    const place = { argument, path: "", destinationRoot: root };
    this.context.reporter.fail({ place, side, errno, syscall, what, ...(code === undefined ? {} : { code }) });
  }
}

const noDirectory: DirectoryFields = {
  sourceFd: At.AT_FDCWD,
  destinationFd: -1,
  flags: 0,
  argument: 0,
  path: "",
  destinationRoot: "",
  createdUid: 0,
  createdGid: 0,
  createdMode: 0,
  argumentDevice: 0,
  rootDevice: 0,
  rootInodeLow: 0,
  rootInodeHigh: 0,
};
