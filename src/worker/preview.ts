// The dry run: walks the arguments as a copy would, looks at what stands at the destination, and says what would be done. It writes
// nothing.
//
// The arguments are resolved and refused by the code that a copy uses; below them this walk only looks. What it cannot know is what
// a copy changes on its way: a directory that two sources would fill is reported as made by both.

import { assert } from "../assert.ts";
import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, DirentType, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena, NativeMemory } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { isDotOrDotDot, nameString, recordLength, recordName, recordType } from "../tree/dirents.ts";
import { ArgumentCopier, type ArgumentSink } from "./arguments.ts";
import { stripSlashes } from "./destination.ts";
import { Directory, type DirectoryFields } from "./directory.ts";
import { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { EntryPlanner } from "./plan-entry.ts";
import type { PlanReporter } from "./plan-reporter.ts";
import type { PlannedOperation } from "./protocol.ts";
import { joinPath } from "./reporter.ts";
import { Selection } from "./selection.ts";
import { batchBytes } from "./shared.ts";

const directoryFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NONBLOCK | Open.O_CLOEXEC;
/** faccessat(2): to make names in a directory, by the effective ids. */
const mayWriteAndSearch = 3;

/** A directory being walked. `directory.fields.destinationFd` is -1 where the copy would make it. */
interface Level {
  readonly directory: Directory;
  readonly subdirectories: string[];
  /** Names can be made in it. */
  readonly isWritable: boolean;
  /** Where there is a policy, the true path of the destination, while that is not there; else null. */
  readonly futurePath: string | null;
}

export class Previewer implements ArgumentSink {
  private readonly context: LaneContext;
  private readonly reporter: PlanReporter;
  private readonly planner: EntryPlanner;
  private readonly selection: Selection;
  private readonly batch = new NativeMemory(batchBytes);
  private readonly arena = new Arena(16 * 1024);
  private readonly follow: boolean;
  private readonly stack: Level[] = [];

  constructor(context: LaneContext, reporter: PlanReporter) {
    this.context = context;
    this.reporter = reporter;
    this.planner = new EntryPlanner(context, reporter);
    this.selection = new Selection(context);
    this.follow = context.options.symlinks === "follow";
  }

  /** Looks at all arguments and sends the operations and their summary. */
  run(): void {
    const { operation, options } = this.context.request;
    assert(operation === "copy" && !options.gnu.parents, "what a move or --parents does on its way cannot be foreseen");
    const looked = new ArgumentCopier(this.context, this);
    looked.copyAll();
    this.reporter.finish({ spaceFree: this.freeBytes(looked.intoDirectory), isWhole: !this.context.control.isCancelled });
  }

  /** Nobody else is at work here. */
  helpUntilQuiet(): void {}

  /** One argument; its entry's directory is where its copy goes. */
  copyArgument(entry: Entry, follow: boolean): string {
    const parentFd = entry.directory.fields.destinationFd;
    if (this.planner.file(entry, follow, isWritable(parentFd, this.arena)) !== "is-directory") return "looked at";
    const base = this.stack.length;
    this.push(entry, follow, isWritable(parentFd, this.arena));
    while (this.stack.length > base) this.step();
    return "looked at";
  }

  private step(): void {
    const level = this.stack[this.stack.length - 1] as Level;
    const name = this.context.control.mayGoOn() ? level.subdirectories.pop() : undefined;
    if (name === undefined) {
      this.stack.pop();
      closeBoth(level.directory);
      return;
    }
    this.arena.reset();
    const address = this.arena.cstring(name);
    const entry = new Entry(level.directory);
    entry.set(level.directory, address, this.arena.memory.bytes, address - this.arena.memory.address);
    this.push(entry, this.follow, level.isWritable);
  }

  /** Plans a directory, opens it, and lists it: its files are planned at once, its subdirectories kept for later. */
  private push(entry: Entry, follow: boolean, isParentWritable: boolean): void {
    const { sourceStat, empty } = this.context;
    const sourceFd = libc.openat(
      entry.directory.fields.sourceFd,
      entry.sourceName,
      follow ? directoryFlags : directoryFlags | Open.O_NOFOLLOW,
      0,
    );
    if (sourceFd < 0) {
      this.planner.fail(entry, sourceFd, "openat", "cannot access %s");
      return;
    }
    const status = sourceStat.ofDescriptor(sourceFd, empty);
    const isAbove = status === 0 && this.stack.some(({ directory }) => directory.stat.isSameFile(sourceStat));
    if (status < 0 || isAbove) {
      libc.close(sourceFd);
      if (status < 0) this.planner.fail(entry, status, "statx", "cannot stat %s");
      else this.planner.refuse(entry, "cannot copy cyclic symbolic link %s", "symlink-loop");
      return;
    }
    const mayEnter = this.context.policy?.mayEnter(entry, sourceFd, follow) !== false;
    const destinationFd = mayEnter ? this.planDirectory(entry, isParentWritable) : null;
    const level = destinationFd === null ? null : this.levelOf(entry, sourceFd, destinationFd);
    if (level === null) {
      libc.close(sourceFd);
      return;
    }
    this.stack.push(level);
    const { oneFileSystem } = this.context.options;
    if (!oneFileSystem || level.directory.stat.device === level.directory.fields.argumentDevice) this.list(level);
  }

  /** The descriptor of the directory that is there, -1 for one that would be made, null where neither can be. */
  private planDirectory(entry: Entry, isParentWritable: boolean): number | null {
    const { destinationStat, sourceStat, options, empty, policy } = this.context;
    if (policy?.mayMakeDirectory(entry) === false) return null;
    const parentFd = entry.directory.fields.destinationFd;
    const status = parentFd < 0 ? -Errno.ENOENT : destinationStat.ofName(parentFd, entry.name);
    if (status === -Errno.ENOENT) {
      if (!isParentWritable) {
        this.planner.refuse(entry, "cannot create directory %d: Permission denied", "destination-unwritable");
        return null;
      }
      this.planner.plan(entry, "create", "directory", 0);
      return -1;
    }
    const follows = status === 0 && destinationStat.type === Mode.S_IFLNK && options.gnu.keepDirectorySymlink;
    const fd = libc.openat(parentFd, entry.name, follows ? directoryFlags : directoryFlags | Open.O_NOFOLLOW, 0);
    if (fd < 0) {
      const isOther = fd === -Errno.ENOTDIR || fd === -Errno.ELOOP;
      if (isOther) this.reporter.countConflict();
      if (isOther) this.planner.refuse(entry, "cannot overwrite non-directory %d with directory %s", "destination-exists");
      else this.planner.fail(entry, fd, "openat", "cannot access %d", "destination");
      return null;
    }
    if (destinationStat.ofDescriptor(fd, empty) === 0 && destinationStat.isSameFile(sourceStat)) {
      libc.close(fd);
      this.planner.refuse(entry, "%s and %d are the same file", "same-file");
      return null;
    }
    if (policy?.mayFill(entry, fd, options.gnu.keepDirectorySymlink) === false) {
      libc.close(fd);
      return null;
    }
    this.planner.plan(entry, "merge", "directory", 0);
    return fd;
  }

  private levelOf(entry: Entry, sourceFd: number, destinationFd: number): Level {
    const { sourceStat } = this.context;
    const { argument, path, destinationRoot, argumentDevice } = entry.directory.fields;
    const fields: DirectoryFields = {
      sourceFd,
      destinationFd,
      flags: 0,
      argument,
      argumentDevice: entry.isArgument ? sourceStat.device : argumentDevice,
      path: entry.isArgument ? "" : joinPath(path, entry.text),
      destinationRoot,
      createdUid: 0,
      createdGid: 0,
      createdMode: 0,
      rootDevice: 0,
      rootInodeLow: 0,
      rootInodeHigh: 0,
    };
    const directory = new Directory(fields, -1, Stat.owned(sourceStat.bytes));
    const above = this.stack.at(-1)?.futurePath ?? null;
    const futurePath = destinationFd < 0 ? (this.context.policy?.foresee(directory, entry, above) ?? null) : null;
    return { directory, subdirectories: [], isWritable: destinationFd < 0 || isWritable(destinationFd, this.arena), futurePath };
  }

  private list(level: Level): void {
    const { directory } = level;
    const entry = new Entry(directory);
    for (;;) {
      const length = libc.getdents64(directory.fields.sourceFd, this.batch.address, batchBytes);
      if (length === 0) return;
      if (length < 0) {
        const { argument, path, destinationRoot } = directory.fields;
        const place = { argument, path, destinationRoot };
        this.reporter.fail({ place, side: "source", errno: -length, syscall: "getdents64", what: "error reading directory %s" });
        return;
      }
      for (let offset = 0; offset < length; offset += recordLength(this.batch.bytes, offset)) {
        if (!this.context.control.mayGoOn()) return;
        this.listEntry(level, entry, offset);
      }
    }
  }

  private listEntry(level: Level, entry: Entry, offset: number): void {
    const at = recordName(offset);
    if (isDotOrDotDot(this.batch.bytes, at)) return;
    const type = recordType(this.batch.bytes, offset);
    entry.set(level.directory, this.batch.address + at, this.batch.bytes, at);
    if (!this.selection.accepts(entry, type)) {
      if (type !== DirentType.DIR) this.planner.plan(entry, "skip", objectOf(type), 0);
      return;
    }
    const name = nameString(this.batch.bytes, at);
    if (type === DirentType.DIR) level.subdirectories.push(name);
    else if (this.planRenamed(entry, level.isWritable) === "is-directory") level.subdirectories.push(name);
  }

  private planRenamed(entry: Entry, isParentWritable: boolean): "planned" | "is-directory" {
    if (!this.selection.renames) return this.planner.file(entry, this.follow, isParentWritable);
    const isDirectory = this.selection.copyRenamed(entry, () =>
      this.planner.file(entry, this.follow, isParentWritable) === "planned" ? "done" : "is-directory",
    );
    return isDirectory === "is-directory" ? "is-directory" : "planned";
  }

  /** What is free at the destination for whoever we are; -1 where it cannot be asked. */
  private freeBytes(intoDirectory: boolean): number {
    const destination = stripSlashes(this.context.request.destination);
    const directory = intoDirectory ? destination : destination.slice(0, destination.lastIndexOf("/")) || "/";
    this.arena.reset();
    const fd = libc.openat(At.AT_FDCWD, this.arena.cstring(directory), Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
    if (fd < 0) return -1;
    using buffer = new NativeMemory(layout.statfs.size);
    const status = libc.fstatfs(fd, buffer.address);
    libc.close(fd);
    if (status < 0) return -1;
    const word = (offset: number): number => (buffer.u32[offset / 4] ?? 0) + (buffer.u32[offset / 4 + 1] ?? 0) * 2 ** 32;
    return word(layout.statfs.f_bavail) * word(layout.statfs.f_bsize);
  }
}

function isWritable(directoryFd: number, arena: Arena): boolean {
  const status = arena.withString(".", (address) => libc.faccessat(directoryFd, address, mayWriteAndSearch, At.AT_EACCESS));
  // What cannot be asked is found out by the copy.
  return status !== -Errno.EACCES && status !== -Errno.EROFS;
}

function objectOf(type: number): PlannedOperation["object"] {
  if (type === DirentType.LNK) return "symlink";
  return type === DirentType.REG || type === DirentType.UNKNOWN ? "file" : "special";
}

function closeBoth(directory: Directory): void {
  libc.close(directory.fields.sourceFd);
  if (directory.fields.destinationFd >= 0) libc.close(directory.fields.destinationFd);
}
