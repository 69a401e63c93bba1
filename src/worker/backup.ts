// Backups of what is overwritten, as GNU's: `name~`, `name.~1~`; the old file is renamed only when the new one is complete.

import { Errno } from "../errno.ts";
import { At, libc, Open, Rename } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { isDotOrDotDot, nameString, recordLength, recordName } from "../tree/dirents.ts";
import { type BackupName, backupNameOf } from "../tree/plan.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";

const listBytes = 32 * 1024;
/** Somebody else may take the number just found: another one is tried this often. */
const maxAttempts = 16;
const dot = ".";

export class BackupKeeper {
  /** The name that the old file gets, for -v; set by `prepare`. */
  name = "";
  private readonly context: LaneContext;
  private list: NativeMemory | null = null;
  private isNumbered = false;
  private kept = false;

  constructor(context: LaneContext) {
    this.context = context;
  }

  /** Finds the backup's name for an entry whose destination exists. */
  prepare(entry: Entry): void {
    this.kept = false;
    this.choose(entry);
  }

  /** The path of the backup that a file at this absolute path would get now. */
  pathFor(path: string): string {
    const { arena } = this.context;
    const cut = path.lastIndexOf("/");
    const fd = arena.withString(path.slice(0, cut) || "/", (address) =>
      libc.openat(At.AT_FDCWD, address, Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, 0),
    );
    const name = path.slice(cut + 1);
    const backup = this.nameIn(fd, name);
    this.context.close(fd);
    return path.slice(0, cut + 1) + backup.name;
  }

  /** Renames the old file. 0 (also when it has gone meanwhile) or -errno. */
  moveAside(entry: Entry): number {
    const { destinationFd } = entry.directory.fields;
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const result = this.renameTo(destinationFd, entry.name, this.name, this.isNumbered);
      if (result === -Errno.ENOENT) return 0;
      if (result === 0) this.kept = true;
      if (result !== -Errno.EEXIST || !this.isNumbered) return result;
      this.choose(entry);
    }
    return -Errno.EEXIST;
  }

  /** After a failure: the old file gets its name back, if nothing else has it now. */
  putBack(entry: Entry): void {
    if (!this.kept) return;
    const { arena } = this.context;
    const mark = arena.mark();
    const { destinationFd } = entry.directory.fields;
    libc.renameat2(destinationFd, arena.cstring(this.name), destinationFd, entry.name, Rename.NOREPLACE);
    arena.reset(mark);
    this.kept = false;
  }

  private choose(entry: Entry): void {
    const { name, isNumbered } = this.nameIn(entry.directory.fields.destinationFd, entry.text);
    this.name = name;
    this.isNumbered = isNumbered;
  }

  private nameIn(directoryFd: number, name: string): BackupName {
    const { backup, backupSuffix } = this.context.options.gnu;
    const names = backup === "simple" ? [] : this.namesBeside(directoryFd, name);
    return backupNameOf(name, backup === "none" ? "simple" : backup, backupSuffix, names);
  }

  private renameTo(directoryFd: number, from: number, to: string, isNumbered: boolean): number {
    const { arena } = this.context;
    const mark = arena.mark();
    let result = libc.renameat2(directoryFd, from, directoryFd, arena.cstring(to), isNumbered ? Rename.NOREPLACE : 0);
    // A filesystem without RENAME_NOREPLACE: the name was free a moment ago.
    if (isNumbered && result === -Errno.EINVAL) result = libc.renameat2(directoryFd, from, directoryFd, arena.cstring(to), 0);
    arena.reset(mark);
    return result;
  }

  /** The names of the destination's directory that begin like a numbered backup. */
  private namesBeside(directoryFd: number, name: string): string[] {
    const { arena } = this.context;
    this.list ??= new NativeMemory(listBytes);
    const { address, bytes } = this.list;
    const mark = arena.mark();
    const flags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC;
    const fd = libc.openat(directoryFd, arena.cstring(dot), flags, 0);
    arena.reset(mark);
    const names: string[] = [];
    if (fd < 0) return names;
    for (let length = libc.getdents64(fd, address, listBytes); length > 0; length = libc.getdents64(fd, address, listBytes)) {
      for (let at = 0; at < length; at += recordLength(bytes, at)) {
        if (isDotOrDotDot(bytes, recordName(at))) continue;
        const other = nameString(bytes, recordName(at));
        if (other.startsWith(`${name}.~`)) names.push(other);
      }
    }
    libc.close(fd);
    return names;
  }
}
