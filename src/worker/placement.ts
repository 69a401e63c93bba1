// Gives one entry that is not a directory its place: new, over what stands there, beside it, linked to its first copy, or not at all.

import { Mode } from "../ffi/libc.ts";
import { type Operation, serialName } from "../tree/plan.ts";
import { ConflictResolver, entryType, type Resolution } from "./conflict.ts";
import type { Entry } from "./entry.ts";
import { HardLinker } from "./hard-linker.ts";
import type { LaneContext } from "./lane-context.ts";
import type { FileOutcome, How, Maker } from "./making.ts";
import { reportNewcomer, reportPlanFailure } from "./plan-failures.ts";
import { joinPath } from "./reporter.ts";
import { Counter } from "./shared.ts";

/** "x (2)" to "x (999)" before a conflict by renaming gives up. */
const maxSerial = 999;
/** Names that come and go meanwhile are looked at again this often. */
const maxAttempts = 8;
const create: Operation = { kind: "create" };
/** What a former worker of this job did not finish is made again, whatever the policy says of other people's files. */
const remakes = { ours: { kind: "replace", isTold: false }, begun: { kind: "overwrite-in-place" } } as const;

export class Placement {
  private readonly context: LaneContext;
  private readonly conflicts: ConflictResolver;
  private readonly hardLinker: HardLinker;
  private readonly keepsHardLinks: boolean;

  constructor(context: LaneContext) {
    this.context = context;
    this.conflicts = new ConflictResolver(context);
    this.hardLinker = new HardLinker(context);
    this.keepsHardLinks = context.preserve.has("hardlinks") && context.options.gnu.make !== "hard-link";
  }

  /** Places the entry of context.sourceStat with what `maker` makes. Failures are reported. hot: */
  place(entry: Entry, maker: Maker, follow: boolean): FileOutcome {
    // In a directory that this job made there is nothing, and so nothing to look at.
    const isNew = entry.directory.isMade;
    const finding = isNew ? "nothing" : (this.context.resumption?.look(entry, maker) ?? "nothing");
    if (finding === "done") return this.adopt(entry, maker, follow);
    if (finding === "moved") {
      reportNewcomer(this.context.reporter, entry);
      return "failed";
    }
    let operation: Resolution = isNew ? create : finding === "nothing" ? this.conflicts.resolve(entry, follow) : remakes[finding];
    for (let attempt = 0; attempt < maxAttempts; attempt++) {
      const outcome = this.carryOut(entry, maker, follow, operation);
      if (outcome !== "exists") return outcome;
      // Somebody made it meanwhile: then that is what stands there.
      operation = this.conflicts.resolve(entry, follow);
    }
    maker.reportTaken(entry);
    return "failed";
  }

  private carryOut(entry: Entry, maker: Maker, follow: boolean, operation: Resolution): FileOutcome | "exists" {
    const { announcer, backups } = this.context;
    switch (operation.kind) {
      case "create":
        if (!this.linksSilently(follow)) announcer?.copying(entry.place, null);
        return this.makeOrLink(entry, maker, follow, "new");
      case "attempt":
        announcer?.copying(entry.place, null);
        return this.attempt(entry, maker);
      case "overwrite-in-place":
        announcer?.copying(entry.place, null);
        return this.overwriteOrLink(entry, maker, follow);
      case "through-dangling-link":
        announcer?.copying(entry.place, null);
        return this.ended(maker.overwrite?.(entry, "dangling") ?? "failed");
      case "replace":
        if (operation.isTold) announcer?.removed(entry.place);
        if (!this.linksSilently(follow)) announcer?.copying(entry.place, null);
        return this.makeOrLink(entry, maker, follow, "replace");
      case "back-up":
        backups.prepare(entry);
        if (!this.linksSilently(follow)) announcer?.copying(entry.place, backups.name);
        return this.makeOrLink(entry, maker, follow, "back-up");
      case "rename":
        return this.renamed(entry, maker, follow);
      case "nothing":
      case "merge":
        return "done";
      case "skip":
        return this.skipped(entry, follow, operation.isUpToDate);
      case "fail":
        reportPlanFailure(this.context.reporter, entry, operation.why);
        return "failed";
      case "unknown": {
        const what = "cannot stat %d";
        this.context.reporter.fail({ place: entry.place, side: "destination", errno: operation.errno, syscall: "statx", what });
        return "failed";
      }
      case "ask":
        return "failed";
    }
  }

  /** Several names of one inode become one; so do links that were followed to one file, which is what -L with links kept means. */
  private mayLink(follow: boolean): boolean {
    return this.keepsHardLinks && (this.context.sourceStat.linkCount > 1 || follow);
  }

  /** mv says nothing of a further name of what it copied: it is told when it turns out to be the first. */
  private linksSilently(follow: boolean): boolean {
    return this.context.announcer !== null && this.context.request.operation === "move" && this.mayLink(follow);
  }

  private makeOrLink(entry: Entry, maker: Maker, follow: boolean, how: How): FileOutcome | "exists" {
    if (!this.mayLink(follow)) return this.ended(maker.make(entry, how));
    const linked = this.hardLinker.link(entry, how);
    if (linked === "linked") this.context.published?.noteLink(entry);
    if (linked === "linked" && this.hardLinker.hasReplaced && this.linksSilently(follow)) this.context.announcer?.removed(entry.place);
    if (linked !== "first") return this.ended(linked);
    if (this.linksSilently(follow)) this.context.announcer?.copying(entry.place, how === "back-up" ? this.context.backups.name : null);
    const outcome = maker.make(entry, how);
    this.hardLinker.finished(outcome === "done" ? this.pathOf(entry) : null);
    return this.ended(outcome);
  }

  private overwriteOrLink(entry: Entry, maker: Maker, follow: boolean): FileOutcome | "exists" {
    const linked = this.mayLink(follow) ? this.hardLinker.link(entry, "replace") : "none";
    if (linked === "linked") this.context.published?.noteLink(entry);
    if (linked === "linked" && this.hardLinker.hasReplaced) this.context.announcer?.removed(entry.place);
    if (linked !== "first" && linked !== "none") return this.ended(linked);
    const outcome = maker.overwrite?.(entry, "none") ?? "failed";
    if (linked === "first") this.hardLinker.finished(outcome === "done" ? this.pathOf(entry) : null);
    return this.ended(outcome);
  }

  private attempt(entry: Entry, maker: Maker): FileOutcome {
    const outcome = maker.make(entry, "new");
    if (outcome === "exists") maker.reportTaken(entry);
    return outcome === "exists" ? "failed" : (this.ended(outcome) as FileOutcome);
  }

  // What is new enough already is still what later names of the same inode are links to. coreutils also makes it a link itself
  // when an earlier name of that inode was copied, and so replaces the newer file that -u was to protect: copyd leaves it.
  private skipped(entry: Entry, follow: boolean, isUpToDate: boolean): FileOutcome {
    if (isUpToDate && this.context.options.gnu.inPlace && this.mayLink(follow)) this.hardLinker.note(this.pathOf(entry));
    this.context.announcer?.skipped(entry.place);
    this.context.count(Counter.filesSkipped, 1);
    return "skipped";
  }

  /** The first free "name (2)", "name (3)", ... */
  private renamed(entry: Entry, maker: Maker, follow: boolean): FileOutcome {
    const { arena, sourceStat, destinationStat } = this.context;
    const original = entry.text;
    const mark = arena.mark();
    for (let serial = 2; serial <= maxSerial; serial++) {
      arena.reset(mark);
      const name = arena.cstring(serialName(original, serial, entryType(sourceStat.type)));
      entry.setName(name, arena.memory.bytes, name - arena.memory.address);
      if (this.context.resumption?.isCopyAt(entry, maker) === true) return this.adopt(entry, maker, follow);
      if (destinationStat.ofName(entry.directory.fields.destinationFd, entry.name) === 0) continue;
      const outcome = this.makeOrLink(entry, maker, follow, "new");
      if (outcome !== "exists") return outcome;
    }
    maker.reportTaken(entry);
    return "failed";
  }

  /** What a former worker finished counts as done now. It may have become a copy of its own where it was to be a link. */
  private adopt(entry: Entry, maker: Maker, follow: boolean): FileOutcome {
    const { sourceStat, published, resumption } = this.context;
    maker.restore?.(entry);
    if (resumption?.wasProved === true) this.noteProved(entry);
    const linked = this.mayLink(follow) ? this.hardLinker.link(entry, "replace") : "first";
    if (linked === "failed" || linked === "exists") return "failed";
    if (linked === "first" && this.mayLink(follow)) this.hardLinker.finished(this.pathOf(entry));
    if (sourceStat.type === Mode.S_IFREG) {
      if (linked === "first") this.context.count(Counter.bytesDone, sourceStat.size);
      published?.noteFinished(entry, maker.sourceFd ?? -1);
    }
    return this.ended("done") as FileOutcome;
  }

  /** For the worker after this one, to which the proof may not be open any more. */
  private noteProved(entry: Entry): void {
    const { log, copyStat, sourceStat } = this.context;
    if (copyStat.ofName(entry.directory.fields.destinationFd, entry.name) === 0) log?.done(sourceStat, copyStat);
  }

  private pathOf(entry: Entry): string {
    return joinPath(entry.destinationDirectory, entry.text);
  }

  private ended(outcome: "done" | "linked" | "failed" | "exists"): FileOutcome | "exists" {
    if (outcome === "failed" || outcome === "exists") return outcome;
    this.context.count(Counter.filesDone, 1);
    this.context.copied?.add(this.context.sourceStat);
    return "done";
  }
}
