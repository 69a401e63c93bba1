// Writes into an existing file, as cp's contract demands: same inode, same hard links, whatever a symlink leads to (rule 4's exception).

import { Errno } from "../errno.ts";
import { libc, Mode, Open } from "../ffi/libc.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import type { FileMaker } from "./make-file.ts";

const writeFlags = Open.O_WRONLY | Open.O_NOCTTY | Open.O_CLOEXEC;

export class InPlaceWriter {
  private readonly context: LaneContext;
  private readonly maker: FileMaker;

  constructor(context: LaneContext, maker: FileMaker) {
    this.context = context;
    this.maker = maker;
  }

  /**
   * Overwrites what context.destinationStat describes; with "dangling", creates what a symlink to nothing names, where POSIX says so.
   */
  write(entry: Entry, sourceFd: number, link: "none" | "dangling"): "done" | "failed" {
    const { destinationFd } = entry.directory.fields;
    if (link === "dangling") return this.throughDanglingLink(entry, sourceFd);
    const fd = libc.openat(destinationFd, entry.name, writeFlags, 0);
    if (fd < 0) return this.afterFailedOpen(entry, fd);
    return this.closed(entry, fd, this.checked(entry, sourceFd, fd));
  }

  // Open, then fstat, then compare (rule 13): what is truncated now is neither the source nor something unplanned.
  private checked(entry: Entry, sourceFd: number, fd: number): "done" | "failed" {
    const { destinationStat, sourceStat, empty } = this.context;
    const planned = destinationStat.identity;
    if (destinationStat.ofDescriptor(fd, empty) < 0 || destinationStat.identity !== planned) {
      const what = "%d was replaced while it was being copied to";
      return this.maker.fail(entry, "destination", 0, "openat", what, "destination-changed");
    }
    if (destinationStat.isSameFile(sourceStat)) {
      return this.maker.fail(entry, "destination", 0, "", "%s and %d are the same file", "same-file");
    }
    if (this.context.policy?.mayWriteInto(entry, fd) === false) return "failed";
    return this.refill(entry, sourceFd, fd, 0);
  }

  private refill(entry: Entry, sourceFd: number, fd: number, withheld: number): "done" | "failed" {
    const { destinationStat, sourceStat, options, copier, log, copyStat, empty } = this.context;
    const isNoted = log !== null && destinationStat.type === Mode.S_IFREG && copyStat.ofDescriptor(fd, empty) === 0;
    if (isNoted) log.inPlace(copyStat, "begun");
    if (!options.gnu.attributesOnly) {
      const truncated = destinationStat.type === Mode.S_IFREG ? libc.ftruncate(fd, 0) : 0;
      if (truncated < 0) return this.maker.fail(entry, "destination", truncated, "ftruncate", "cannot create regular file %d");
      const result = copier.copyFile(sourceFd, fd, sourceStat, destinationStat.device);
      if (result < 0) return this.maker.failCopy(entry, result);
    }
    const { uid, gid, permissions } = destinationStat;
    const outcome = this.maker.complete(entry, fd, { uid, gid, mode: permissions, withheld });
    if (outcome === "done" && isNoted) {
      this.maker.noteDone(fd);
      log.inPlace(copyStat, "ended");
    }
    return outcome;
  }

  private closed(entry: Entry, fd: number, outcome: "done" | "failed"): "done" | "failed" {
    if (this.context.published !== null && outcome === "done") this.context.published.note(entry, fd, "in-place");
    const closed = libc.close(fd);
    if (outcome !== "done") return outcome;
    if (closed < 0 && closed !== -Errno.EINTR) return this.maker.fail(entry, "destination", closed, "close", "failed to close %d");
    this.maker.counted();
    return "done";
  }

  // -f: what cannot be opened is replaced, as cp would by removing it first.
  private afterFailedOpen(entry: Entry, error: number): "done" | "failed" {
    if (!this.context.options.gnu.force || error === -Errno.ENOENT) {
      return this.maker.fail(entry, "destination", error, "openat", "cannot create regular file %d");
    }
    const outcome = this.maker.make(entry, "replace");
    if (outcome === "done") this.context.announcer?.removed(entry.place);
    return outcome === "exists" ? "failed" : outcome;
  }

  // Rule 14, but for POSIXLY_CORRECT.
  private throughDanglingLink(entry: Entry, sourceFd: number): "done" | "failed" {
    // Where it leads is known only when it is made: too late for a policy.
    if (!this.context.options.gnu.followDanglingDestination || this.context.policy !== null) {
      return this.maker.fail(entry, "destination", 0, "openat", "not writing through dangling symlink %d", "dangling-symlink");
    }
    const { destinationStat, empty } = this.context;
    const mode = this.maker.creationMode(entry);
    const fd = libc.openat(entry.directory.fields.destinationFd, entry.name, writeFlags | Open.O_CREAT, mode);
    if (fd < 0) return this.maker.fail(entry, "destination", fd, "openat", "cannot create regular file %d");
    const status = destinationStat.ofDescriptor(fd, empty);
    const outcome =
      status < 0
        ? this.maker.fail(entry, "destination", status, "statx", "cannot fstat %d")
        : this.refill(entry, sourceFd, fd, this.maker.withheldFrom(mode));
    return this.closed(entry, fd, outcome);
  }
}
