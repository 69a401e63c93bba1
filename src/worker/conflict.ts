// An entry whose destination may exist: looks, plans, asks the user where the plan says so, and gives the operation to carry out.

import { Errno } from "../errno.ts";
import { At, libc, Mode } from "../ffi/libc.ts";
import type { Stat } from "../ffi/stat.ts";
import {
  type EntryFacts,
  type EntryType,
  type Operation,
  type PlanFacts,
  type PlanOptions,
  planEntry,
  writesThroughLinks,
} from "../tree/plan.ts";
import type { Kinship } from "../tree/same-file.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { Answer, noTrouble } from "./questions.ts";
import type { QuestionFacts } from "./reporter.ts";
import { Command, Word } from "./shared.ts";

/** What the resolver says besides the planner's operations: the look itself failed with this errno. */
export type Resolution = Operation | { readonly kind: "unknown"; readonly errno: number };

const W_OK = 2;
const create: Operation = { kind: "create" };
const skip: Operation = { kind: "skip", isUpToDate: false };

export class ConflictResolver {
  private readonly context: LaneContext;
  private readonly asks: boolean;
  private options: PlanOptions;

  /** `asks`: puts questions to the user; a dry run gives them back as "ask". */
  constructor(context: LaneContext, { asks }: { readonly asks: boolean } = { asks: true }) {
    this.context = context;
    this.asks = asks;
    const { options, preserve, request } = context;
    this.options = {
      ...options.gnu,
      isMv: request.operation === "move" && options.gnu.names !== null,
      onConflict: options.onConflict,
      keepsSymlinks: options.symlinks === "copy",
      keepsHardLinks: preserve.has("hardlinks"),
    };
  }

  /**
   * The operation for an entry whose source statx is in context.sourceStat. Leaves in context.destinationStat what stands at the
   * destination as the operation means it: through a symlink for overwrite-in-place, else the name itself.
   */
  resolve(entry: Entry, follow: boolean): Resolution {
    const { sourceStat, destinationStat, makesBackups } = this.context;
    const { symlinks } = this.context.options;
    if (!makesBackups && this.options.backup !== "none") this.options = { ...this.options, backup: "none" };
    // -H holds for the arguments alone.
    const keepsSymlinks = symlinks === "copy" || (symlinks === "follow-arguments" && !entry.isArgument);
    if (keepsSymlinks !== this.options.keepsSymlinks) this.options = { ...this.options, keepsSymlinks };
    const destinationFd = entry.directory.fields.destinationFd;
    const status = destinationStat.ofName(destinationFd, entry.name);
    if (status === -Errno.ENOENT) return create;
    // Any other error of the service comes back, with its words, from the attempt to create.
    if (status < 0) return this.options.inPlace ? { kind: "unknown", errno: -status } : create;
    const source = factsOf(sourceStat);
    const destination = factsOf(destinationStat);
    let target: EntryFacts | null = null;
    if (destination.type === "symlink") {
      const followed = destinationStat.ofTarget(destinationFd, entry.name);
      if (followed === 0) target = factsOf(destinationStat);
      else if (followed !== -Errno.ENOENT && writesThroughLinks(source, this.options)) return this.unfollowable(-followed);
      if (target === null || !writesThroughLinks(source, this.options)) destinationStat.ofName(destinationFd, entry.name);
    }
    return this.plan(entry, follow, source, destination, target);
  }

  private plan(entry: Entry, follow: boolean, source: EntryFacts, destination: EntryFacts, target: EntryFacts | null): Operation {
    const { gnu } = this.context.options;
    const hasKin = this.options.inPlace || this.options.isMv;
    const kinship = hasKin ? this.kinshipOf(entry, follow, source, destination, target) : undefined;
    const facts: PlanFacts = {
      source,
      destination,
      target,
      ...(kinship === undefined ? {} : { kinship }),
      isProtected: gnu.askIfUnwritable && destination.type !== "symlink" && !this.isWritable(entry),
      isJustMade: entry.isArgument && this.context.justMade.get(entry.directory.fields.destinationRoot) === destination.identity,
      isBackupOfDestination: this.options.backup !== "none" && this.isBackup(entry, source),
    };
    const operation = planEntry(facts, this.options);
    if (operation.kind !== "ask" || !this.asks) return operation;
    switch (this.ask(entry)) {
      case Answer.overwrite: {
        const overwrite = planEntry({ ...facts, isProtected: false }, { ...this.options, onConflict: "overwrite" });
        // -i was asked about replacing, so that a link replaces what the answer gave up.
        return overwrite.kind === "attempt" && gnu.make === "hard-link" ? { kind: "replace", isTold: false } : overwrite;
      }
      case Answer.newer:
        return planEntry({ ...facts, isProtected: false }, { ...this.options, onConflict: "newer" });
      case Answer.rename:
        return { kind: "rename" };
      case Answer.abort:
        Atomics.store(this.context.shared.words, Word.command, Command.cancel);
        return skip;
      default:
        return skip;
    }
  }

  // A symlink in a circle cannot be written through; -f replaces it.
  private unfollowable(errno: number): Resolution {
    return errno === Errno.ELOOP && this.options.force ? { kind: "replace", isTold: true } : { kind: "unknown", errno };
  }

  /** Undefined, cheaply, for two files that have nothing to do with each other: nearly always. */
  private kinshipOf(
    entry: Entry,
    follow: boolean,
    source: EntryFacts,
    destination: EntryFacts,
    target: EntryFacts | null,
  ): Kinship | undefined {
    const { afterStat } = this.context;
    const { sourceFd } = entry.directory.fields;
    const sourceTarget = source.type === "symlink" && afterStat.ofTarget(sourceFd, entry.sourceName) === 0 ? factsOf(afterStat) : null;
    const isRelated = (one: EntryFacts | null): boolean =>
      one !== null && (one.identity === destination.identity || one.identity === target?.identity);
    if (!isRelated(source) && !isRelated(sourceTarget)) return undefined;
    const sourceName = follow && afterStat.ofName(sourceFd, entry.sourceName) === 0 ? factsOf(afterStat) : source;
    return { sourceName, sourceTarget, isOneName: this.isOneName(entry) };
  }

  private isOneName(entry: Entry): boolean {
    const { request, arena, afterStat, empty } = this.context;
    const { sourceFd, destinationFd, argument } = entry.directory.fields;
    if (!entry.isArgument) return this.isSameDirectory(sourceFd, destinationFd);
    const source = (request.sources[argument] ?? "").replace(/\/+$/, "");
    if (source.slice(source.lastIndexOf("/") + 1) !== entry.text) return false;
    const mark = arena.mark();
    const parent = arena.cstring(source.slice(0, source.lastIndexOf("/")) || "/");
    const isKnown = afterStat.ofTarget(At.AT_FDCWD, parent) === 0;
    const identity = afterStat.identity;
    arena.reset(mark);
    return isKnown && afterStat.ofDescriptor(destinationFd, empty) === 0 && afterStat.identity === identity;
  }

  private isSameDirectory(one: number, other: number): boolean {
    const { afterStat, empty } = this.context;
    if (afterStat.ofDescriptor(one, empty) < 0) return false;
    const identity = afterStat.identity;
    return afterStat.ofDescriptor(other, empty) === 0 && afterStat.identity === identity;
  }

  /** True when the source is what a simple backup of the destination would replace. */
  private isBackup(entry: Entry, source: EntryFacts): boolean {
    const { options, arena, afterStat } = this.context;
    const mark = arena.mark();
    const name = arena.cstring(entry.text + options.gnu.backupSuffix);
    const status = afterStat.ofTarget(entry.directory.fields.destinationFd, name);
    arena.reset(mark);
    return status === 0 && afterStat.identity === source.identity;
  }

  // What was answered for this very pair of files comes before what was answered for all since.
  private ask(entry: Entry): number {
    const { reporter, questions, log, resumption, sourceStat, destinationStat } = this.context;
    const earlier = resumption?.answerFor(sourceStat, destinationStat) ?? null;
    if (earlier !== null) return earlier;
    const facts = (): QuestionFacts => ({
      ...noTrouble,
      kind: "conflict",
      source: reporter.sourcePath(entry.place),
      destination: reporter.destinationPath(entry.place),
      message: this.questionFor(entry),
    });
    const keep = log === null ? null : (answer: number): void => log.answered(sourceStat, destinationStat, answer);
    return questions.askStanding("conflict", facts, keep);
  }

  private isWritable({ directory, name }: Entry): boolean {
    return libc.faccessat(directory.fields.destinationFd, name, W_OK, At.AT_EACCESS) === 0;
  }

  private questionFor(entry: Entry): string {
    const { reporter, destinationStat, options } = this.context;
    const name = reporter.quote(reporter.destinationDisplay(entry.place));
    if (destinationStat.type === Mode.S_IFLNK || this.isWritable(entry)) return `overwrite ${name}? `;
    const mode = destinationStat.permissions.toString(8).padStart(4, "0");
    const letters = permissionLetters(destinationStat.permissions);
    const replaces = this.context.request.operation === "move" || options.gnu.removeDestination || options.gnu.force;
    return replaces
      ? `replace ${name}, overriding mode ${mode} (${letters})? `
      : `unwritable ${name} (mode ${mode}, ${letters}); try anyway? `;
  }
}

/** What the planner needs to know of a file. Allocates. */
export function factsOf(stat: Stat): EntryFacts {
  return {
    type: entryType(stat.type),
    size: stat.size,
    mtimeSeconds: stat.mtimeSeconds,
    mtimeNanoseconds: stat.mtimeNanoseconds,
    identity: stat.identity,
    linkCount: stat.linkCount,
  };
}

/** The planner's type for a st_mode type. */
export function entryType(type: number): EntryType {
  if (type === Mode.S_IFREG) return "file";
  if (type === Mode.S_IFDIR) return "directory";
  return type === Mode.S_IFLNK ? "symlink" : "special";
}

/** "rwxr-xr-x", as ls has it. */
function permissionLetters(permissions: number): string {
  const triple = (bits: number, special: boolean, letter: string): string => {
    const execute = (bits & 1) !== 0;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? "x" : "-";
    return `${(bits & 4) !== 0 ? "r" : "-"}${(bits & 2) !== 0 ? "w" : "-"}${last}`;
  };
  return (
    triple(permissions >> 6, (permissions & 0o4000) !== 0, "s") +
    triple(permissions >> 3, (permissions & 0o2000) !== 0, "s") +
    triple(permissions, (permissions & 0o1000) !== 0, "t")
  );
}
