// Filters and new names, as the request asks, for the entries below the arguments; costs a field's look where neither is asked.

import { DirentType, Mode } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { EntryFilter } from "../tree/filter.ts";
import { NameRewriter } from "../tree/rename.ts";
import { baseName } from "./destination.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import type { FileOutcome } from "./making.ts";
import { joinPath } from "./reporter.ts";
import { Counter } from "./shared.ts";

export class Selection {
  /** True when files get new names. Such a job has one lane: collisions are found by what it remembers. */
  readonly renames: boolean;
  /** True when no entry is left out. */
  readonly isOpen: boolean;
  private readonly context: LaneContext;
  private readonly filter: EntryFilter;
  private readonly rewriter: NameRewriter;
  private readonly arena = new Arena(4096);
  /** Destination paths that this job has given away, when it renames. */
  private readonly taken = new Set<string>();

  constructor(context: LaneContext) {
    this.context = context;
    this.filter = new EntryFilter(context.options);
    this.rewriter = new NameRewriter(context.options);
    this.isOpen = this.filter.isOpen;
    this.renames = !this.rewriter.isIdentity;
  }

  /** Whether the patterns let an entry through; one left out counts as skipped. `type` is a DirentType. hot: */
  accepts(entry: Entry, type: number): boolean {
    return this.isOpen || this.ask(entry, type);
  }

  /** Runs `copy` with the entry under its new name; a directory keeps its name. */
  copyRenamed(entry: Entry, copy: () => FileOutcome): FileOutcome {
    if (this.isDirectory(entry)) return copy();
    const renamed = this.rewriter.rewrite(entry.text);
    if (renamed.kind === "invalid") return this.fail(entry, `cannot rename %s: the new name ${renamed.reason}`, "name-not-allowed");
    this.arena.reset();
    const address = this.arena.cstring(renamed.name);
    entry.setName(address, this.arena.memory.bytes, address - this.arena.memory.address);
    const path = joinPath(entry.destinationDirectory, renamed.name);
    if (this.taken.has(path))
      return this.fail(entry, "cannot rename %s to %d: another file of this job has that name", "destination-exists");
    this.taken.add(path);
    return copy();
  }

  private ask(entry: Entry, type: number): boolean {
    const { argument, path } = entry.directory.fields;
    const top = baseName(this.context.request.sources[argument] ?? "");
    const isDirectory = type === DirentType.DIR || (type === DirentType.UNKNOWN && this.isDirectory(entry));
    const accepted = this.filter.accepts(joinPath(joinPath(top, path), entry.text), isDirectory ? "directory" : "other");
    if (!accepted && !isDirectory) this.context.count(Counter.filesSkipped, 1);
    return accepted;
  }

  private isDirectory(entry: Entry): boolean {
    const { afterStat } = this.context;
    return afterStat.ofName(entry.directory.fields.sourceFd, entry.sourceName) === 0 && afterStat.type === Mode.S_IFDIR;
  }

  private fail(entry: Entry, what: string, code: "name-not-allowed" | "destination-exists"): "failed" {
    this.context.reporter.fail({ place: entry.place, side: "destination", errno: 0, syscall: "", what, code });
    return "failed";
  }
}
