// Makes what has no data: symlinks, special files, and the links that cp -l and cp -s make instead of copies.

import { Errno } from "../errno.ts";
import type { FailureSide } from "../errors.ts";
import { At, libc, Mode, makeDevice } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { type How, type Maker, withholdsUntilOwned } from "./making.ts";

export const maxTargetBytes = 64 * 1024;

/** What a NodeMaker makes next. */
export type Node = "symlink" | "special" | "hard-link" | "symbolic-link";

export class NodeMaker implements Maker {
  /** Set before each entry; `follow`: a hard link leads to what the source's symlink does. */
  node: Node = "symlink";
  follow = false;
  private readonly context: LaneContext;
  private readonly keepsMode: boolean;
  private readonly withholds: boolean;
  private readonly target = new NativeMemory(maxTargetBytes);

  constructor(context: LaneContext) {
    this.context = context;
    this.keepsMode = context.preserve.has("mode");
    this.withholds = withholdsUntilOwned(context);
  }

  make(entry: Entry, how: How): "done" | "failed" | "exists" {
    const { arena, backups, publisher } = this.context;
    const mark = arena.mark();
    const prepared = this.prepare(entry);
    if (prepared === "failed") return prepared;
    const directoryFd = entry.directory.fields.destinationFd;
    const aside = how === "back-up" ? backups.moveAside(entry) : 0;
    if (aside < 0) return this.fail(entry, "destination", aside, "renameat2", "cannot backup %d");
    const isNoted = how === "new" && this.mustBeNotedFirst(entry);
    const made =
      how === "replace"
        ? publisher.replaceNode(directoryFd, entry.name, (temporary) => this.create(entry, temporary))
        : isNoted
          ? publisher.addNode(directoryFd, entry.name, (temporary) => this.createNoted(entry, temporary))
          : this.create(entry, entry.name);
    arena.reset(mark);
    if (made === -Errno.EEXIST && how === "new") return "exists";
    if (made < 0) {
      if (how === "back-up") backups.putBack(entry);
      return this.fail(entry, "destination", made, this.syscall, this.words);
    }
    if (isNoted) return "done";
    this.finish(entry, entry.name);
    this.noteDone(entry, entry.name);
    return "done";
  }

  restore(entry: Entry): void {
    this.finish(entry, entry.name);
  }

  /**
   * A worker that was killed after making "x (2)" and before noting it would leave it to the next, which knows nothing of it and makes
   * "x (3)". The name is given last, then.
   */
  private mustBeNotedFirst(entry: Entry): boolean {
    const { log, options } = this.context;
    return log !== null && options.onConflict === "rename" && this.node !== "hard-link" && !entry.directory.isMade;
  }

  private createNoted(entry: Entry, temporary: number): number {
    const made = this.create(entry, temporary);
    if (made < 0) return made;
    this.finish(entry, temporary);
    this.noteDone(entry, temporary);
    return made;
  }

  reportTaken(entry: Entry): void {
    this.fail(entry, "destination", -Errno.EEXIST, this.syscall, this.words);
  }

  private noteDone(entry: Entry, name: number): void {
    const { copyStat, log, sourceStat } = this.context;
    if (log !== null && copyStat.ofName(entry.directory.fields.destinationFd, name) === 0) log.done(sourceStat, copyStat);
  }

  private prepare(entry: Entry): "ready" | "failed" {
    if (this.node === "symbolic-link") return this.prepareLinkToSource(entry);
    if (this.node !== "symlink") return "ready";
    const length = libc.readlinkat(entry.directory.fields.sourceFd, entry.sourceName, this.target.address, maxTargetBytes - 1);
    if (length < 0) return this.fail(entry, "source", length, "readlinkat", "cannot read symbolic link %s");
    this.target.bytes[length] = 0;
    return "ready";
  }

  // cp -s writes the source as it was typed, which means something in the working directory only.
  private prepareLinkToSource(entry: Entry): "ready" | "failed" {
    const { reporter, request } = this.context;
    const place = entry.place;
    const text = reporter.sourceDisplay(place);
    const typed = request.options.gnu.names?.sources[place.argument] ?? "/";
    if (!typed.startsWith("/") && !this.isWorkingDirectory(entry, typed)) {
      const what = "%q: can make relative symbolic links only in current directory";
      return this.fail(entry, "destination", 0, "symlinkat", what);
    }
    if (text.length >= maxTargetBytes) return this.fail(entry, "destination", -Errno.ENAMETOOLONG, "symlinkat", this.words);
    this.target.bytes.set(Buffer.from(`${text}\0`, "latin1"));
    return "ready";
  }

  /** The destination's directory is the one in which the name was typed: the request holds that one's path before the name. */
  private isWorkingDirectory(entry: Entry, typed: string): boolean {
    const { arena, afterStat, empty, request } = this.context;
    const absolute = request.sources[entry.directory.fields.argument] ?? "";
    const mark = arena.mark();
    const here = arena.cstring(absolute.slice(0, absolute.length - typed.length) || "/");
    const isKnown = afterStat.ofTarget(At.AT_FDCWD, here) === 0;
    arena.reset(mark);
    const identity = afterStat.identity;
    // Where either cannot be looked at, other things will fail later.
    if (!isKnown || afterStat.ofDescriptor(entry.directory.fields.destinationFd, empty) < 0) return true;
    return afterStat.identity === identity;
  }

  private create(entry: Entry, name: number): number {
    const { sourceFd, destinationFd } = entry.directory.fields;
    if (this.node === "hard-link") {
      return libc.linkat(sourceFd, entry.sourceName, destinationFd, name, this.follow ? At.AT_SYMLINK_FOLLOW : 0);
    }
    if (this.node !== "special") return libc.symlinkat(this.target.address, destinationFd, name);
    const { sourceStat } = this.context;
    const mode = sourceStat.type | (sourceStat.permissions & (this.keepsMode || this.withholds ? 0o700 : 0o777));
    return libc.mknodat(destinationFd, name, mode, makeDevice(sourceStat.rdevMajor, sourceStat.rdevMinor));
  }

  private finish(entry: Entry, name: number): void {
    const { metadata, sourceStat, options } = this.context;
    const { sourceFd, destinationFd } = entry.directory.fields;
    if (this.node === "symlink") metadata.toSymlink(sourceFd, entry.sourceName, sourceStat, destinationFd, name);
    else if (this.node === "special") {
      const withheld = this.withholds ? sourceStat.permissions & 0o077 & ~options.umask : 0;
      metadata.toSpecial(sourceFd, entry.sourceName, sourceStat, destinationFd, name, withheld);
    }
    if (this.node === "symbolic-link") metadata.toLinkInstead(sourceStat, destinationFd, name);
  }

  private get words(): string {
    switch (this.node) {
      case "hard-link":
        return "cannot create hard link %d to %s";
      case "symbolic-link":
        return "cannot create symbolic link %d to %s";
      case "symlink":
        return "cannot create symbolic link %d";
      default:
        return this.context.sourceStat.type === Mode.S_IFIFO ? "cannot create fifo %d" : "cannot create special file %d";
    }
  }

  private get syscall(): string {
    return this.node === "hard-link" ? "linkat" : this.node === "special" ? "mknodat" : "symlinkat";
  }

  private fail(entry: Entry, side: FailureSide, result: number, syscall: string, what: string): "failed" {
    this.context.reporter.fail({ place: entry.place, side, errno: result < 0 ? -result : 0, syscall, what });
    return "failed";
  }
}
