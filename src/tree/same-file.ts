// Whether two names that lead to one file may be copied one onto the other: GNU cp's answer, as a pure function of facts.

import type { EntryFacts, PlanOptions } from "./plan.ts";

/** What is to be known besides when two names have to do with each other. */
export interface Kinship {
  /** The source's own name: a symlink, where `source` is what a followed one leads to. */
  readonly sourceName: EntryFacts;
  /** Of a source that is a symlink itself, what it leads to; null for a dangling one and for what is no symlink. */
  readonly sourceTarget: EntryFacts | null;
  /** Both names are one directory entry, however they are spelt. */
  readonly isOneName: boolean;
}

export interface SameFileFacts extends Kinship {
  readonly source: EntryFacts;
  /** The destination as cp looks at it: through a symlink, or not. */
  readonly seen: EntryFacts;
  readonly destination: EntryFacts;
  readonly target: EntryFacts | null;
}

/** "done": nothing is to be done, and that is a success. */
export type SameFileVerdict = "differ" | "done" | "refuse";

/**
 * cp's rule: never empty a file that is about to be read, never remove the only name of what is copied; but replace a link, make
 * backups, and take a hard link to itself as made. The order of the questions is coreutils'.
 */
export function sameFileVerdict(facts: SameFileFacts, options: PlanOptions): SameFileVerdict {
  const { source, seen, isOneName } = facts;
  const isSame = source.identity === seen.identity;
  if (isSame && options.make === "hard-link") return "done";
  if (options.keepsSymlinks) {
    if (source.type === "symlink" && seen.type === "symlink") return betweenLinks(facts, options);
    return among(facts, source, seen, isSame, options);
  }
  if (!isSame) return "differ";
  const { sourceName, destination } = facts;
  if (sourceName.type === "symlink" && destination.type === "symlink" && options.removeDestination) return "differ";
  return among({ ...facts, isOneName }, sourceName, destination, sourceName.identity === destination.identity, options);
}

function betweenLinks({ source, seen, isOneName }: SameFileFacts, options: PlanOptions): SameFileVerdict {
  if (isOneName) return "refuse";
  if (options.backup !== "none") return "differ";
  if (source.identity !== seen.identity) return "differ";
  // rename(2) does nothing with two names of one inode.
  return options.isMv ? "refuse" : "done";
}

/** `from` and `to`: the two directory entries themselves. */
function among(facts: SameFileFacts, from: EntryFacts, to: EntryFacts, isSameInode: boolean, options: PlanOptions): SameFileVerdict {
  const { isOneName } = facts;
  if (options.backup !== "none") {
    // A link onto what it leads to: with the target moved aside, there would be nothing left to read.
    const losesSource = !options.keepsSymlinks && from.type === "symlink" && to.type !== "symlink";
    if (!isSameInode) return losesSource ? "refuse" : "differ";
    return isOneName ? "refuse" : "differ";
  }
  if (options.removeDestination || options.isMv) {
    if (to.type === "symlink") return "differ";
    if (isSameInode && to.linkCount > 1 && !isOneName) return options.isMv ? "refuse" : "differ";
  }
  if (from.type !== "symlink" && to.type !== "symlink" && !isSameInode) return "differ";
  if (options.make === "symbolic-link" && to.type === "symlink") return "differ";
  if (options.keepsSymlinks) {
    const read = from.type === "symlink" ? facts.sourceTarget : from;
    const written = to.type === "symlink" ? facts.target : to;
    if (read === null || written === null || read.identity !== written.identity) return "differ";
    if (options.make === "hard-link") return to.type === "symlink" ? "differ" : "done";
  }
  return "refuse";
}
