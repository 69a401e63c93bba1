// Makes the second and later names of an inode as links to its first copy, found again below directory descriptors only.

import { Errno } from "../errno.ts";
import { libc, Mode, Open } from "../ffi/libc.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import type { How } from "./making.ts";
import { Counter } from "./shared.ts";

/** How long to wait for another lane's copy of the same inode before looking for a cancel, milliseconds. */
const waitMs = 50;

export class HardLinker {
  /** The latest link took the place of something. */
  hasReplaced = false;
  private readonly context: LaneContext;
  private directoryPath = "";
  private directoryFd = -1;

  constructor(context: LaneContext) {
    this.context = context;
  }

  /**
   * For an entry whose source (context.sourceStat) has several names. "first": the caller copies it and calls `finished`; "exists":
   * the name is taken and `how` is "new"; "linked" and "failed" (reported): nothing is left to do.
   */
  link(entry: Entry, how: How): "first" | "linked" | "exists" | "failed" {
    const { hardLinks, sourceStat, control } = this.context;
    this.hasReplaced = false;
    for (;;) {
      const answer = hardLinks.claim(sourceStat);
      if (answer.kind === "first" && !this.isKnownFirst()) return "first";
      if (answer.kind === "first") continue;
      if (answer.kind === "link") return this.linkTo(entry, answer.path, how);
      if (control.isCancelled) return "failed";
      hardLinks.waitForEvent(waitMs);
    }
  }

  /** A former worker may have copied the inode under a name that this one has not come to yet. */
  private isKnownFirst(): boolean {
    const { resumption, arena } = this.context;
    const path = resumption?.pathOfFirst() ?? null;
    if (resumption === null || path === null) return false;
    const cut = path.lastIndexOf("/");
    const directoryFd = this.openDirectory(path.slice(0, cut));
    const isThere = directoryFd >= 0 && resumption.isCopyNamed(directoryFd, arena.cstring(path.slice(cut + 1)));
    if (isThere) this.context.hardLinks.finished(this.context.sourceStat, path);
    if (isThere && this.context.sourceStat.type === Mode.S_IFREG) this.context.count(Counter.bytesDone, this.context.sourceStat.size);
    return isThere;
  }

  /** Notes an existing file as the copy of an inode (context.sourceStat) that was not copied yet. */
  note(path: string): void {
    const { hardLinks, sourceStat } = this.context;
    if (hardLinks.claim(sourceStat).kind === "first") hardLinks.finished(sourceStat, path);
  }

  /** Ends the claim that `link` answered with "first". */
  finished(path: string | null): void {
    if (path !== null) this.context.log?.linked(this.context.sourceStat, path);
    this.context.hardLinks.finished(this.context.sourceStat, path);
  }

  private linkTo(entry: Entry, path: string, how: How): "linked" | "exists" | "failed" {
    const { arena, backups } = this.context;
    const { destinationFd } = entry.directory.fields;
    const cut = path.lastIndexOf("/");
    const directoryFd = this.openDirectory(path.slice(0, cut));
    if (directoryFd < 0) return this.fail(entry, path, directoryFd, "openat2");
    const first = arena.cstring(path.slice(cut + 1));
    const aside = how === "back-up" ? backups.moveAside(entry) : 0;
    if (aside < 0) return this.fail(entry, path, aside, "renameat2", "cannot backup %d");
    const linked = libc.linkat(directoryFd, first, destinationFd, entry.name, 0);
    if (linked === 0) return "linked";
    if (linked === -Errno.EEXIST && how !== "back-up") return this.linkOver(entry, path, directoryFd, first, how);
    if (how === "back-up") backups.putBack(entry);
    return this.fail(entry, path, linked, "linkat");
  }

  /** In the place of what has the name now. */
  private linkOver(entry: Entry, path: string, directoryFd: number, first: number, how: How): "linked" | "exists" | "failed" {
    const { destinationStat, afterStat, publisher } = this.context;
    const { destinationFd } = entry.directory.fields;
    const isThere = destinationStat.ofName(destinationFd, entry.name) === 0 && afterStat.ofName(directoryFd, first) === 0;
    // A second run over its own result: the link is there already.
    if (isThere && destinationStat.isSameFile(afterStat)) return "linked";
    if (how === "new") return "exists";
    const make = (temporary: number): number => libc.linkat(directoryFd, first, destinationFd, temporary, 0);
    const replaced = publisher.replaceNode(destinationFd, entry.name, make);
    if (replaced < 0) return this.fail(entry, path, replaced, publisher.failedSyscall);
    this.hasReplaced = true;
    return "linked";
  }

  // The directory of the first copy, below the job's destination, without following any link. The latest one stays open.
  private openDirectory(path: string): number {
    if (this.directoryFd >= 0 && this.directoryPath === path) return this.directoryFd;
    this.context.close(this.directoryFd);
    const { opener, request } = this.context;
    const top = request.destination;
    const base = path === top || path.startsWith(`${top}/`) ? top : path;
    const baseFd = this.context.openNamed(base, Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC);
    if (baseFd < 0) return baseFd;
    this.directoryFd = opener.open(baseFd, path.slice(base.length + 1), Open.O_PATH | Open.O_DIRECTORY);
    this.directoryPath = path;
    libc.close(baseFd);
    return this.directoryFd;
  }

  private fail(entry: Entry, path: string, result: number, syscall: string, what?: string): "failed" {
    const { reporter } = this.context;
    const place = entry.place;
    const words = what ?? "cannot create hard link %d to %e";
    reporter.fail({ place, side: "destination", errno: -result, syscall, what: words, other: reporter.shown(path) });
    return "failed";
  }
}
