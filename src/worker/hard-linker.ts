// Makes the second and later names of an inode as links to its first copy, found again below directory descriptors only.

import { Errno } from "../errno.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";

/** How long to wait for another lane's copy of the same inode before looking for a cancel, milliseconds. */
const waitMs = 50;

export class HardLinker {
  private readonly context: LaneContext;
  private directoryPath = "";
  private directoryFd = -1;

  constructor(context: LaneContext) {
    this.context = context;
  }

  /**
   * For an entry whose source (context.sourceStat) has several names. "first": the caller copies it and calls `finished`; "linked" and
   * "failed" (reported): nothing is left to do.
   */
  link(entry: Entry): "first" | "linked" | "failed" {
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

  private linkTo(entry: Entry, path: string): "first" | "linked" | "failed" {
    const { arena } = this.context;
    const cut = path.lastIndexOf("/");
    const directoryFd = this.openDirectory(path.slice(0, cut));
    if (directoryFd < 0) return this.fail(entry, directoryFd, "openat2");
    const oldName = arena.cstring(path.slice(cut + 1));
    const { destinationFd } = entry.directory.fields;
    const linked = libc.linkat(directoryFd, oldName, destinationFd, entry.name, 0);
    if (linked === 0) return "linked";
    if (linked !== -Errno.EEXIST) return this.fail(entry, linked, "linkat");
    return this.linkOverExisting(entry, directoryFd, oldName);
  }

  private linkOverExisting(entry: Entry, directoryFd: number, oldName: number): "linked" | "failed" {
    const { options, destinationStat, afterStat, publisher } = this.context;
    const { destinationFd } = entry.directory.fields;
    const isThere = destinationStat.ofName(destinationFd, entry.name) === 0 && afterStat.ofName(directoryFd, oldName) === 0;
    // A second run over its own result: the link is there already.
    if (isThere && destinationStat.isSameFile(afterStat)) return "linked";
    if (options.onConflict !== "overwrite") return this.fail(entry, -Errno.EEXIST, "linkat");
    const make = (temporary: number): number => libc.linkat(directoryFd, oldName, destinationFd, temporary, 0);
    const replaced = publisher.replaceNode(destinationFd, entry.name, make);
    return replaced === 0 ? "linked" : this.fail(entry, replaced, publisher.failedSyscall);
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
