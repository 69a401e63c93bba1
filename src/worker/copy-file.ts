// Copies one entry that is not a directory: opens what is to be read, and nothing else, and has it made and placed.

import type { FailureCode, FailureSide } from "../errors.ts";
import { DirentType, libc, Mode, Open } from "../ffi/libc.ts";
import type { Directory } from "./directory.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { FileMaker } from "./make-file.ts";
import { type Node, NodeMaker } from "./make-node.ts";
import type { FileOutcome, Maker } from "./making.ts";
import { Placement } from "./placement.ts";
import { PlainFiles } from "./plain-files.ts";
import { Counter } from "./shared.ts";

/** O_NONBLOCK: a FIFO that appeared where a file was must not hang the lane. */
const readFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC;

export class EntryCopier {
  private readonly context: LaneContext;
  private readonly placement: Placement;
  private readonly files: FileMaker;
  /** null: this job has no plain files. */
  private readonly plain: PlainFiles | null;
  private readonly nodes: NodeMaker;
  private readonly unreadable: UnreadableFile;
  private readonly linksInstead: boolean;
  private entered: Directory | null = null;

  constructor(context: LaneContext) {
    this.context = context;
    this.placement = new Placement(context);
    this.files = new FileMaker(context);
    this.plain = PlainFiles.of(context, this.files);
    this.nodes = new NodeMaker(context);
    this.unreadable = new UnreadableFile(context);
    this.linksInstead = context.options.gnu.make !== "copy";
  }

  /**
   * Copies an entry whose type is not known to be a directory; `follow` resolves a symlink first, `type` is a DirentType, UNKNOWN
   * where nobody knows. Failures are reported and counted here. Returns "is-directory" for the caller to enter it. hot:
   */
  copy(entry: Entry, follow: boolean, type: number): FileOutcome {
    const { arena, trouble } = this.context;
    const mark = arena.mark();
    const { name, bytes, at } = entry;
    trouble.begin();
    let outcome = this.copyOnce(entry, follow, type);
    while (trouble.isPending && outcome === "failed" && this.mayRepeat(entry)) {
      arena.reset(mark);
      // A conflict may have given it another.
      entry.setName(name, bytes, at);
      outcome = this.copyOnce(entry, follow, type);
    }
    trouble.end(outcome === "done");
    arena.reset(mark);
    if (outcome === "failed" || outcome === "skipped") this.noteLeft(entry);
    return outcome;
  }

  private noteLeft(entry: Entry): void {
    const { copied, sourceStat } = this.context;
    if (copied === null) return;
    copied.addLeft(sourceStat);
    // What is left of an argument itself is never removed.
    if (!entry.isArgument) copied.addLeftName(entry.directory.stat, entry.sourceText);
  }

  private copyOnce(entry: Entry, follow: boolean, type: number): FileOutcome {
    // Only a regular file is opened to be read: opening a FIFO wakes who waits to write to it, opening a tape rewinds it.
    return type === DirentType.REG && !this.linksInstead ? this.copyOpened(entry, follow) : this.copyByLook(entry, follow);
  }

  private mayRepeat(entry: Entry): boolean {
    const { sourceFd, destinationFd } = entry.directory.fields;
    const { size, blocks } = this.context.sourceStat;
    const neededBytes = Math.min(size, blocks * 512);
    return this.context.trouble.mayRepeat({
      directory: entry.directory,
      sourceFd,
      destinationFd,
      sourceName: entry.sourceName,
      neededBytes,
    });
  }

  private copyOpened(entry: Entry, follow: boolean): FileOutcome {
    const { opened } = this.context;
    const ahead = opened === null ? -1 : opened.take();
    const fd = ahead >= 0 ? ahead : this.open(entry, follow);
    if (fd < 0) return this.copyUnopened(entry, follow, fd);
    const stat = this.context.sourceStat;
    const status = ahead >= 0 ? 0 : stat.ofDescriptor(fd, this.context.empty);
    let outcome: FileOutcome;
    if (status < 0) outcome = this.fail(entry, "source", status, "statx", "cannot stat %s");
    else if (stat.type === Mode.S_IFREG) outcome = this.copyRegular(entry, fd, follow);
    else if (stat.type === Mode.S_IFDIR) outcome = "is-directory";
    else outcome = this.copyOther(entry, follow);
    if (opened === null) libc.close(fd);
    else opened.close(fd);
    return outcome;
  }

  private copyByLook(entry: Entry, follow: boolean): FileOutcome {
    const stat = this.context.sourceStat;
    const status = this.look(entry, follow);
    if (status < 0) return this.fail(entry, "source", status, "statx", "cannot stat %s");
    if (stat.type === Mode.S_IFDIR) return "is-directory";
    if (stat.type !== Mode.S_IFREG || this.linksInstead) return this.copyOther(entry, follow);
    return this.copyOpened(entry, follow);
  }

  // What cannot be opened may be something else by now, or may not need to be read (cp -n where a file is).
  private copyUnopened(entry: Entry, follow: boolean, openError: number): FileOutcome {
    const stat = this.context.sourceStat;
    const status = this.look(entry, follow);
    if (status < 0) return this.fail(entry, "source", status, "statx", "cannot stat %s");
    if (stat.type === Mode.S_IFDIR) return "is-directory";
    if (stat.type !== Mode.S_IFREG) return this.copyOther(entry, follow);
    this.unreadable.error = openError;
    return this.place(entry, this.unreadable, follow);
  }

  private copyRegular(entry: Entry, sourceFd: number, follow: boolean): FileOutcome {
    const { sourceStat, options } = this.context;
    if (options.maxFileSize > 0 && sourceStat.size > options.maxFileSize) {
      this.context.count(Counter.filesSkipped, 1);
      return "skipped";
    }
    if (this.plain !== null) {
      this.context.entry = entry;
      this.enter(entry);
      const outcome = this.plain.copy(entry, sourceFd);
      if (outcome !== "general") return outcome;
    }
    this.files.sourceFd = sourceFd;
    const outcome = this.place(entry, this.files, follow);
    if (this.plain !== null && this.plain.failedRead !== 0 && outcome === "done") this.files.tellRetry(this.plain.failedRead, 0);
    return outcome;
  }

  /** Whatever is not read: links, special files, and everything with -l and -s. */
  private copyOther(entry: Entry, follow: boolean): FileOutcome {
    const { sourceStat, options } = this.context;
    if (options.gnu.make === "hard-link") return this.makeNode(entry, "hard-link", follow);
    if (options.gnu.make === "symbolic-link") return this.makeNode(entry, "symbolic-link", follow);
    if (sourceStat.type === Mode.S_IFLNK) return this.makeNode(entry, "symlink", follow);
    if (options.gnu.copyContents) return this.copyContents(entry, follow);
    if (!options.specials) return this.fail(entry, "source", 0, "statx", "cannot copy special file %s", "source-special");
    return this.makeNode(entry, "special", follow);
  }

  private makeNode(entry: Entry, node: Node, follow: boolean): FileOutcome {
    this.nodes.node = node;
    this.nodes.follow = follow;
    return this.place(entry, this.nodes, follow);
  }

  /** A FIFO or device read as if it were a file, waiting for who writes to it, as cp without -R does. */
  private copyContents(entry: Entry, follow: boolean): FileOutcome {
    const flags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_CLOEXEC | (follow ? 0 : Open.O_NOFOLLOW);
    const fd = libc.openat(entry.directory.fields.sourceFd, entry.sourceName, flags, 0);
    if (fd < 0) return this.fail(entry, "source", fd, "openat", "cannot open %s for reading");
    const status = this.context.sourceStat.ofDescriptor(fd, this.context.empty);
    const outcome = status < 0 ? this.fail(entry, "source", status, "statx", "cannot fstat %s") : this.copyRegular(entry, fd, follow);
    libc.close(fd);
    return outcome;
  }

  private place(entry: Entry, maker: Maker, follow: boolean): FileOutcome {
    this.context.entry = entry;
    if (this.context.policy !== null && !this.context.policy.mayCopy(entry, maker.sourceFd ?? -1, follow)) return "failed";
    this.enter(entry);
    return this.placement.place(entry, maker, follow);
  }

  // hot:
  private enter(entry: Entry): void {
    const { directory } = entry;
    if (this.entered === directory) return;
    this.entered = directory;
    this.context.publisher.enterDirectory(entry.destinationDirectory, directory.fields.destinationFd, directory.isMade);
    this.plain?.enter(directory);
  }

  private open(entry: Entry, follow: boolean): number {
    const flags = follow ? readFlags : readFlags | Open.O_NOFOLLOW;
    const { opened } = this.context;
    if (opened?.isWatching === true) return opened.openTimed(entry, flags);
    return libc.openat(entry.directory.fields.sourceFd, entry.sourceName, flags, 0);
  }

  private look(entry: Entry, follow: boolean): number {
    const { sourceFd } = entry.directory.fields;
    const { sourceStat } = this.context;
    return follow ? sourceStat.ofTarget(sourceFd, entry.sourceName) : sourceStat.ofName(sourceFd, entry.sourceName);
  }

  private fail(entry: Entry, side: FailureSide, result: number, syscall: string, what: string, code?: FailureCode): "failed" {
    const errno = result < 0 ? -result : 0;
    this.context.reporter.fail({ place: entry.place, side, errno, syscall, what, ...(code === undefined ? {} : { code }) });
    return "failed";
  }
}

/** Stands for a file that cannot be read: whether that matters depends on what stands at the destination. */
class UnreadableFile implements Maker {
  error = 0;
  private readonly context: LaneContext;

  constructor(context: LaneContext) {
    this.context = context;
  }

  make(entry: Entry): "failed" {
    const what = "cannot open %s for reading";
    this.context.reporter.fail({ place: entry.place, side: "source", errno: -this.error, syscall: "openat", what });
    return "failed";
  }

  overwrite(entry: Entry): "failed" {
    return this.make(entry);
  }

  reportTaken(entry: Entry): void {
    this.make(entry);
  }
}
