// Makes the second and later names of an inode as links to its first copy, found again below directory descriptors only.

import { Errno } from "../errno.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";

/** How long to wait for another lane's copy of the same inode before looking for a cancel, milliseconds. */
const waitMs = 50;

export class HardLinker {
  private readonly context: LaneContext;
  /** Name of the first copy in the open directory, for `linkAgain` and `replace`. */
  private oldName = 0;
  private directoryPath = "";
  private directoryFd = -1;

  constructor(context: LaneContext) {
    this.context = context;
  }

  /**
   * For an entry whose source (context.sourceStat) has several names. "first": the caller copies it and calls `finished`; "exists":
   * something else has the name, and the conflict is to be resolved; "linked" and "failed" (reported): nothing is left to do.
   */
  link(entry: Entry): "first" | "linked" | "exists" | "failed" {
    const { hardLinks, sourceStat, control } = this.context;
    for (;;) {
      const answer = hardLinks.claim(sourceStat);
      if (answer.kind === "first") return "first";
      if (answer.kind === "link") return this.linkTo(entry, answer.path);
      if (control.isCancelled) return "failed";
      hardLinks.waitForEvent(waitMs);
    }
  }

  /** Ends the claim that `link` answered with "first". */
  finished(path: string | null): void {
    this.context.hardLinks.finished(this.context.sourceStat, path);
  }

  /** The link that `link` could not make, under the entry's present name. */
  linkAgain(entry: Entry): "linked" | "exists" | "failed" {
    const { destinationStat, afterStat } = this.context;
    const { destinationFd } = entry.directory.fields;
    const linked = libc.linkat(this.directoryFd, this.oldName, destinationFd, entry.name, 0);
    if (linked === 0) return "linked";
    if (linked !== -Errno.EEXIST) return this.fail(entry, linked, "linkat");
    const isThere = destinationStat.ofName(destinationFd, entry.name) === 0 && afterStat.ofName(this.directoryFd, this.oldName) === 0;
    // A second run over its own result: the link is there already.
    return isThere && destinationStat.isSameFile(afterStat) ? "linked" : "exists";
  }

  /** Puts the link in the place of what has the name now. */
  replace(entry: Entry): "linked" | "failed" {
    const { destinationFd } = entry.directory.fields;
    const make = (temporary: number): number => libc.linkat(this.directoryFd, this.oldName, destinationFd, temporary, 0);
    const replaced = this.context.publisher.replaceNode(destinationFd, entry.name, make);
    return replaced === 0 ? "linked" : this.fail(entry, replaced, this.context.publisher.failedSyscall);
  }

  private linkTo(entry: Entry, path: string): "linked" | "exists" | "failed" {
    const cut = path.lastIndexOf("/");
    const directoryFd = this.openDirectory(path.slice(0, cut));
    if (directoryFd < 0) return this.fail(entry, directoryFd, "openat2");
    this.oldName = this.context.arena.cstring(path.slice(cut + 1));
    return this.linkAgain(entry);
  }

  // The directory of the first copy, below the job's destination, without following any link. The latest one stays open.
  private openDirectory(path: string): number {
    if (this.directoryFd >= 0 && this.directoryPath === path) return this.directoryFd;
    this.context.close(this.directoryFd);
    const { opener, arena, request } = this.context;
    const top = request.destination;
    const base = path === top || path.startsWith(`${top}/`) ? top : path;
    const baseFd = libc.openat(At.AT_FDCWD, arena.cstring(base), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
    if (baseFd < 0) return baseFd;
    this.directoryFd = opener.open(baseFd, path.slice(base.length + 1), Open.O_PATH | Open.O_DIRECTORY);
    this.directoryPath = path;
    libc.close(baseFd);
    return this.directoryFd;
  }

  private fail(entry: Entry, result: number, syscall: string): "failed" {
    this.context.reporter.fail({ place: entry.place, side: "destination", errno: -result, syscall, what: "cannot create hard link %d" });
    return "failed";
  }
}
