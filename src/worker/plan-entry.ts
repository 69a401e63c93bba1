// The dry run's view of one entry: what a copy would do with it, by the code that plans a copy, and by looking.

import type { FailureCode } from "../errors.ts";
import { libc, Mode, Open } from "../ffi/libc.ts";
import { type EntryType, serialName } from "../tree/plan.ts";
import { ConflictResolver, entryType, type Resolution } from "./conflict.ts";
import type { Entry } from "./entry.ts";
import { KeySet } from "./key-set.ts";
import type { LaneContext } from "./lane-context.ts";
import { reportPlanFailure } from "./plan-failures.ts";
import type { PlanReporter } from "./plan-reporter.ts";
import type { PlannedAction, PlannedOperation } from "./protocol.ts";

/** O_NONBLOCK: a FIFO that appeared where a file was must not hang the walk. */
const readFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC;
/** As the copy's own: "x (2)" to "x (999)". */
const maxSerial = 999;

export class EntryPlanner {
  private readonly context: LaneContext;
  private readonly reporter: PlanReporter;
  private readonly conflicts: ConflictResolver;
  private readonly links = new KeySet(512);
  private readonly keepsHardLinks: boolean;

  constructor(context: LaneContext, reporter: PlanReporter) {
    this.context = context;
    this.reporter = reporter;
    this.conflicts = new ConflictResolver(context, { asks: false });
    this.keepsHardLinks = context.preserve.has("hardlinks");
  }

  /** Plans whatever is no directory. */
  file(entry: Entry, follow: boolean, isParentWritable: boolean): "planned" | "is-directory" {
    const { sourceStat, options, policy } = this.context;
    const { sourceFd } = entry.directory.fields;
    const status = follow ? sourceStat.ofTarget(sourceFd, entry.sourceName) : sourceStat.ofName(sourceFd, entry.sourceName);
    if (status === 0 && sourceStat.type === Mode.S_IFDIR) return "is-directory";
    const isFile = status === 0 && sourceStat.type === Mode.S_IFREG;
    const openError = isFile ? this.whyUnreadable(entry, follow) : 0;
    if (status < 0) this.fail(entry, status, "statx", "cannot stat %s");
    else if (openError < 0 && policy?.mayCopy(entry, -1, follow) === false) return "planned";
    else if (openError < 0) this.fail(entry, openError, "openat", "cannot open %s for reading");
    else if (entryType(sourceStat.type) === "special" && !options.specials && !options.gnu.copyContents)
      this.refuse(entry, "cannot copy special file %s", "source-special");
    else if (isFile && options.maxFileSize > 0 && sourceStat.size > options.maxFileSize) this.plan(entry, "skip", "file", 0);
    else this.planCopy(entry, follow, isParentWritable);
    return "planned";
  }

  private planCopy(entry: Entry, follow: boolean, isParentWritable: boolean): void {
    const { sourceStat, reporter, options, policy } = this.context;
    // What it does not allow it reports itself, before any conflict, as a copy does.
    if (policy?.mayCopy(entry, -1, follow) === false) return;
    const object = entryType(sourceStat.type);
    const isThere = entry.directory.fields.destinationFd >= 0;
    const operation: Resolution = isThere ? this.conflicts.resolve(entry, follow) : { kind: "create" };
    if (operation.kind !== "create") this.reporter.countConflict();
    const isHardLink = this.isSecondName();
    const isCopied = options.gnu.make === "copy" && !options.gnu.attributesOnly;
    const bytes = object === "file" && isCopied && !isHardLink ? sourceStat.size : 0;
    switch (operation.kind) {
      case "fail":
        reportPlanFailure(reporter, entry, operation.why);
        break;
      case "attempt":
        reportPlanFailure(reporter, entry, "exists");
        break;
      case "through-dangling-link":
        this.refuse(entry, "not writing through dangling symlink %d", "dangling-symlink");
        break;
      case "unknown":
        reporter.fail({ place: entry.place, side: "destination", errno: operation.errno, syscall: "statx", what: "cannot stat %d" });
        break;
      case "skip":
      case "nothing":
        this.plan(entry, "skip", object, 0);
        break;
      case "ask":
        this.plan(entry, "ask", object, bytes);
        break;
      case "overwrite-in-place":
        if (policy?.mayOverwrite(entry) !== false) this.plan(entry, "overwrite", object, bytes, { isInPlace: true });
        break;
      default:
        if (!isParentWritable) this.refuse(entry, "cannot create %d: Permission denied", "destination-unwritable");
        else if (operation.kind === "rename") this.planSerial(entry, object, bytes);
        else this.plan(entry, operation.kind === "create" ? "create" : "overwrite", object, bytes, { isHardLink });
    }
  }

  private planSerial(entry: Entry, type: EntryType, bytes: number): void {
    const { destinationStat, arena } = this.context;
    const original = entry.text;
    const mark = arena.mark();
    for (let serial = 2; serial <= maxSerial; serial++) {
      arena.reset(mark);
      const name = arena.cstring(serialName(original, serial, type));
      entry.setName(name, arena.memory.bytes, name - arena.memory.address);
      if (destinationStat.ofName(entry.directory.fields.destinationFd, entry.name) === 0) continue;
      this.plan(entry, "rename", type, bytes);
      arena.reset(mark);
      return;
    }
    this.refuse(entry, "%d exists already, under each name that was tried", "destination-exists");
  }

  /** A second name of an inode will be a link to its first copy. */
  private isSecondName(): boolean {
    const { inodeLow, inodeHigh, device, linkCount } = this.context.sourceStat;
    return this.keepsHardLinks && linkCount > 1 && !this.links.add(inodeLow, Math.imul(inodeHigh, 31) ^ device);
  }

  private whyUnreadable(entry: Entry, follow: boolean): number {
    const fd = libc.openat(entry.directory.fields.sourceFd, entry.sourceName, follow ? readFlags : readFlags | Open.O_NOFOLLOW, 0);
    if (fd >= 0) libc.close(fd);
    return Math.min(fd, 0);
  }

  /** Reports one operation. */
  plan(
    entry: Entry,
    action: PlannedAction,
    object: PlannedOperation["object"],
    bytes: number,
    details: { readonly isInPlace?: boolean; readonly isHardLink?: boolean } = {},
  ): void {
    const { destinationStat } = this.context;
    // Written into its inode, the old file gives its room to the new one.
    const room = details.isInPlace === true ? Math.max(0, bytes - destinationStat.size) : bytes;
    this.reporter.plan(entry.place, { action, object, bytes, isHardLink: details.isHardLink === true, room });
  }

  /** Reports an errno. */
  fail(entry: Entry, result: number, syscall: string, what: string, side: "source" | "destination" = "source"): void {
    this.reporter.fail({ place: entry.place, side, errno: -result, syscall, what });
  }

  /** Reports an objection of ours. */
  refuse(entry: Entry, what: string, code: FailureCode): void {
    this.reporter.fail({ place: entry.place, side: "destination", errno: 0, syscall: "", what, code });
  }
}
