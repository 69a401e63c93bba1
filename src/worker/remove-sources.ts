// The last step of a move across filesystems: deletes the sources that were copied, and nothing else (rule 5).
//
// It walks the source anew and unlinks an entry only when the very state of its inode is in the set of what was copied, and a
// directory only when it was made or joined at the destination. What changed, appeared or failed meanwhile stays, and so does every
// directory that holds it.

import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { isDotOrDotDot, nameString, recordLength, recordName } from "../tree/dirents.ts";
import { EntryFilter } from "../tree/filter.ts";
import { CopiedSet } from "./copied-set.ts";
import type { LaneContext } from "./lane-context.ts";
import { type EntryPlace, joinPath } from "./reporter.ts";
import { batchBytes } from "./shared.ts";
import { nameOfSource } from "./source-name.ts";

const directoryFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NOFOLLOW | Open.O_NONBLOCK | Open.O_CLOEXEC;

interface OpenDirectory {
  readonly fd: number;
  readonly name: string;
  readonly path: string;
  /** Names of subdirectories not yet visited. */
  readonly subdirectories: string[];
}

export class SourceRemover {
  private readonly context: LaneContext;
  private readonly copied: CopiedSet;
  private readonly batch = new NativeMemory(batchBytes);
  private readonly stat: Stat;
  private readonly after: Stat;
  /** The directory whose entries are being removed. */
  private readonly directory: Stat;
  private readonly filter: EntryFilter;
  /** The filesystem of the argument at hand, for one-file-system. */
  private argumentDevice = 0;

  constructor(context: LaneContext) {
    this.context = context;
    this.filter = new EntryFilter(context.options);
    this.copied = new CopiedSet(context.shared);
    this.stat = new Stat(context.arena.allocate(layout.statx.size));
    this.after = new Stat(context.arena.allocate(layout.statx.size));
    this.directory = new Stat(context.arena.allocate(layout.statx.size));
  }

  /** Removes what was copied of one argument. */
  remove(argument: number, destinationRoot: string): void {
    const found = nameOfSource(this.context, argument);
    const place = { argument, path: "", destinationRoot };
    if (typeof found === "number") {
      this.fail(place, found, "openat", "cannot access %s");
      return;
    }
    const source = found.replace(/\/+$/, "");
    if (this.removeName(At.AT_FDCWD, source, place) !== "directory") return;
    this.removeTree(source, place);
  }

  [Symbol.dispose](): void {
    this.batch[Symbol.dispose]();
    this.copied[Symbol.dispose]();
  }

  private removeTree(source: string, top: EntryPlace): void {
    const stack: OpenDirectory[] = [];
    this.enter(stack, At.AT_FDCWD, source, top, "");
    while (stack.length > 0) {
      const directory = stack[stack.length - 1] as OpenDirectory;
      const name = directory.subdirectories.pop();
      if (name !== undefined) {
        this.enter(stack, directory.fd, name, top, joinPath(directory.path, name));
        continue;
      }
      stack.pop();
      libc.close(directory.fd);
      const parentFd = stack[stack.length - 1]?.fd ?? At.AT_FDCWD;
      this.removeDirectory(parentFd, directory, top);
    }
  }

  private enter(stack: OpenDirectory[], parentFd: number, name: string, top: EntryPlace, path: string): void {
    const fd = this.context.arena.withString(name, (address) => libc.openat(parentFd, address, directoryFlags, 0));
    if (fd < 0) {
      this.fail({ ...top, path }, fd, "openat", "cannot access %s");
      return;
    }
    if (!this.wasMade(fd, { ...top, path }) || this.isLeftMount(path)) {
      libc.close(fd);
      return;
    }
    this.directory.bytes.set(this.stat.bytes);
    const directory = { fd, name, path, subdirectories: [] };
    stack.push(directory);
    this.removeFiles(directory, top);
  }

  // One that was not made at the destination holds nothing that was copied; empty, it would be lost without a trace.
  private wasMade(fd: number, place: EntryPlace): boolean {
    const status = this.stat.ofDescriptor(fd, this.context.empty);
    if (status < 0) this.fail(place, status, "statx", "cannot stat %s");
    else if (this.copied.hasDirectory(this.stat)) return true;
    else if (!this.copied.isLeftDirectory(this.stat)) this.reportChanged(place);
    return false;
  }

  // What is mounted there was left out with all that is in it (-x), and stands where it stood.
  private isLeftMount(path: string): boolean {
    if (path === "") this.argumentDevice = this.stat.device;
    return this.context.options.oneFileSystem && this.stat.device !== this.argumentDevice;
  }

  // Removing while reading is fine with getdents64: an entry is reported or gone, and what is skipped keeps its directory.
  private removeFiles(directory: OpenDirectory, top: EntryPlace): void {
    for (;;) {
      const length = libc.getdents64(directory.fd, this.batch.address, batchBytes);
      if (length === 0) return;
      if (length < 0) {
        this.fail({ ...top, path: directory.path }, length, "getdents64", "error reading directory %s");
        return;
      }
      for (let offset = 0; offset < length; offset += recordLength(this.batch.bytes, offset)) {
        const at = recordName(offset);
        if (isDotOrDotDot(this.batch.bytes, at)) continue;
        const name = nameString(this.batch.bytes, at);
        if (this.copied.isLeftName(this.directory, name)) continue;
        const outcome = this.removeName(directory.fd, name, { ...top, path: joinPath(directory.path, name) });
        if (outcome === "directory") directory.subdirectories.push(name);
      }
    }
  }

  private removeName(directoryFd: number, name: string, place: EntryPlace): "removed" | "directory" | "left" {
    return this.context.arena.withString(name, (address) => {
      const status = this.stat.ofName(directoryFd, address);
      if (status < 0) return this.left(place, status, "statx", "cannot stat %s");
      const isDirectory = this.stat.type === Mode.S_IFDIR;
      if (place.path !== "" && !this.isSelected(place, isDirectory)) return "left";
      if (isDirectory) return "directory";
      if (!this.copied.has(this.stat)) return this.leftUncopied(place);
      return this.unlink(directoryFd, address, place);
    });
  }

  // What the patterns left out was never looked at: it stays.
  private isSelected(place: EntryPlace, isDirectory: boolean): boolean {
    if (this.filter.isOpen) return true;
    const source = (this.context.request.sources[place.argument] ?? "").replace(/\/+$/, "");
    const path = joinPath(source.slice(source.lastIndexOf("/") + 1), place.path);
    return this.filter.accepts(path, isDirectory ? "directory" : "other");
  }

  private unlink(directoryFd: number, address: number, place: EntryPlace): "removed" | "left" {
    // The inode's other names get a new ctime by this very unlink: that state is noted as ours.
    const hasOtherNames = this.stat.linkCount > 1;
    const pathFlags = Open.O_PATH | Open.O_NOFOLLOW | Open.O_CLOEXEC;
    const fd = hasOtherNames ? libc.openat(directoryFd, address, pathFlags, 0) : -1;
    if (hasOtherNames && fd < 0) return this.left(place, fd, "openat", "cannot open %s to remove it");
    const { log } = this.context;
    if (hasOtherNames) log?.unlinks(this.stat, null);
    const removed = libc.unlinkat(directoryFd, address, 0);
    if (fd >= 0) {
      const looked = removed === 0 ? this.after.ofDescriptor(fd, this.context.empty) : 0;
      if (removed === 0 && looked === 0) {
        this.copied.add(this.after);
        log?.unlinks(this.stat, this.after);
      }
      // The other names stay, then, and would be said to have changed: this is why.
      if (looked < 0) this.fail(place, looked, "statx", "cannot stat what was %s under its other names");
      libc.close(fd);
    }
    if (removed < 0) return this.left(place, removed, "unlinkat", "cannot remove %s");
    this.context.announcer?.removedSource(place, "other");
    return "removed";
  }

  private removeDirectory(parentFd: number, directory: OpenDirectory, top: EntryPlace): void {
    const removed = this.context.arena.withString(directory.name, (address) => libc.unlinkat(parentFd, address, At.AT_REMOVEDIR));
    if (removed === 0) this.context.announcer?.removedSource({ ...top, path: directory.path }, "directory");
    if (removed === 0 || removed === -Errno.ENOENT) return;
    // What keeps it was reported by its own name.
    if (removed === -Errno.ENOTEMPTY || removed === -Errno.EEXIST) return;
    this.fail({ ...top, path: directory.path }, removed, "unlinkat", "cannot remove %s");
  }

  private leftUncopied(place: EntryPlace): "left" {
    if (!this.copied.isLeft(this.stat)) this.reportChanged(place);
    return "left";
  }

  private reportChanged(place: EntryPlace): void {
    const what = "%s changed or appeared while it was moved, and was left in place";
    this.context.reporter.fail({ place, side: "source", errno: 0, syscall: "statx", what, code: "source-changed" });
  }

  private left(place: EntryPlace, result: number, syscall: string, what: string): "left" {
    if (result !== -Errno.ENOENT) this.fail(place, result, syscall, what);
    return "left";
  }

  private fail(place: EntryPlace, result: number, syscall: string, what: string): void {
    const reason = result === -Errno.EBUSY ? { code: "source-mounted" as const } : {};
    this.context.reporter.fail({ place, side: "source", errno: -result, syscall, what, ...reason });
  }
}
