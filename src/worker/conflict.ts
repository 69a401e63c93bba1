// An entry whose destination may exist: looks, plans, asks the user where the plan says so, and gives the operation to carry out.

import { Mode } from "../ffi/libc.ts";
import type { Stat } from "../ffi/stat.ts";
import { type EntryFacts, type EntryType, type Operation, overwrite, planEntry } from "../tree/plan.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { Command, Word } from "./shared.ts";

/** Answers as they travel in the shared word; the flag makes one hold for all later questions. */
export const Answer = { overwrite: 1, skip: 2, rename: 3, newer: 4, abort: 5, forAll: 16 } as const;

export class ConflictResolver {
  private readonly context: LaneContext;

  constructor(context: LaneContext) {
    this.context = context;
  }

  /** The operation for an entry whose source statx is in context.sourceStat; leaves the destination's in context.destinationStat. */
  resolve(entry: Entry): Operation {
    const { options, sourceStat, destinationStat } = this.context;
    const status = this.lookAt(entry);
    // Any error but "no such file" comes back, with its words, from the attempt to create.
    if (status < 0) return { kind: "create" };
    const source = factsOf(sourceStat);
    const destination = factsOf(destinationStat);
    const plan = planEntry(source, destination, { ...options.gnu, onConflict: options.onConflict });
    if (plan.kind !== "ask") return plan;
    const answer = this.ask(entry);
    switch (answer) {
      case Answer.overwrite:
        return overwrite(source, destination, { ...options.gnu, onConflict: "overwrite" });
      case Answer.newer:
        return planEntry(source, destination, { ...options.gnu, onConflict: "newer" });
      case Answer.rename:
        return { kind: "rename" };
      case Answer.abort:
        Atomics.store(this.context.shared.words, Word.command, Command.cancel);
        return { kind: "skip" };
      default:
        return { kind: "skip" };
    }
  }

  // cp writes through a symlink that stands where a regular file goes; everything else looks at the name itself.
  private lookAt(entry: Entry): number {
    const { options, sourceStat, destinationStat } = this.context;
    const destinationFd = entry.directory.fields.destinationFd;
    const status = destinationStat.ofName(destinationFd, entry.name);
    if (status < 0 || destinationStat.type !== Mode.S_IFLNK) return status;
    const gnu = options.gnu;
    const follows = gnu.inPlace && sourceStat.type === Mode.S_IFREG && !gnu.removeDestination && gnu.backup === "none";
    if (!follows) return status;
    const target = destinationStat.ofTarget(destinationFd, entry.name);
    return target < 0 ? destinationStat.ofName(destinationFd, entry.name) : target;
  }

  // One question at a time: the others wait, which is what a person answering expects.
  private ask(entry: Entry): number {
    const { shared, reporter, control } = this.context;
    const words = shared.words;
    shared.lock(Word.questionLock);
    try {
      const standing = Atomics.load(words, Word.answer);
      if ((standing & Answer.forAll) !== 0) return standing & ~Answer.forAll;
      Atomics.store(words, Word.answer, 0);
      Atomics.add(words, Word.question, 1);
      const place = entry.place;
      const message = `overwrite ${reporter.quote(reporter.destinationDisplay(place))}? `;
      reporter.question(reporter.sourcePath(place), reporter.destinationPath(place), message);
      for (;;) {
        const answer = Atomics.load(words, Word.answer);
        if (answer !== 0) return answer & ~Answer.forAll;
        if (control.isCancelled) return Answer.skip;
        Atomics.wait(words, Word.answer, 0, 100);
      }
    } finally {
      shared.unlock(Word.questionLock);
    }
  }
}

function factsOf(stat: Stat): EntryFacts {
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
