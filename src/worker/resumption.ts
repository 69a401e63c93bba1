// What a resumed job finds at its destination: its own finished work, what an interruption left of it, or somebody else's.
//
// The log says what is finished. What it does not name and this job may yet have made (a symlink made in the moment before it was
// noted; after a reboot everything since the last mark) is told by proof: born since the job began, and nothing in it that the source
// does not hold. So whatever is replaced as ours holds nothing that would be lost with it.

import { layout } from "../ffi/layout.ts";
import { Fadvise, libc, Mode, Open } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";
import { answerKeyOf, begunKeyOf, copyKeyOf, removeKey, renameKey, sourceKeyOf, unlinking, unlinkKeyOf } from "./checkpoint-log.ts";
import type { Entry } from "./entry.ts";
import { flushFilesystem, reliesOnFlush } from "./flush.ts";
import { KnownCopies, type KnownTable } from "./known-copies.ts";
import type { LaneContext } from "./lane-context.ts";
import { linkKey, readLinkPaths } from "./link-paths.ts";
import { LostTemporaries } from "./lost-temporaries.ts";
import type { Maker } from "./making.ts";
import { PartialFiles } from "./partial-files.ts";
import { questionChoices } from "./protocol.ts";
import { Answer } from "./questions.ts";
import { ContentComparer, type Likeness } from "./same-content.ts";
import { Word } from "./shared.ts";

/** Timestamps come from a clock that ticks in milliseconds, the job's start from a finer one. */
export const clockSlackUs = 100_000;
const maxTargetBytes = 64 * 1024;
const readFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_NOFOLLOW | Open.O_CLOEXEC;

/**
 * done: finished. ours: made by this job, and to be made again. begun: an existing file that this job was writing into. moved: a copy
 * of what had the source's name before, and perhaps the only one left of it.
 */
export type Finding = "nothing" | "done" | "ours" | "begun" | "moved";

export class Resumption {
  /** A former worker had begun to remove what was moved: all directories have their attributes. */
  readonly wasRemoving: boolean;
  /** What the latest look found "done" is not in the log yet: its content told. */
  wasProved = false;
  private readonly context: LaneContext;
  private readonly checkpoint: CheckpointMemory;
  /** Read when the first inode with several names is met. */
  private links: ReadonlyMap<string, string> | null = null;
  private readonly known: KnownCopies;
  private readonly doubtful: KnownCopies | null;
  /** Of what findCopy found. */
  private isDoubtful = false;
  private readonly isSameBoot: boolean;
  /** Whether content counts as it is on the medium, and not as the page cache has it. */
  private readonly isMediumWanted: boolean;
  private flushedDevice: number | null = null;
  private readonly bornSinceUs: number;
  private readonly stat: Stat;
  private comparer: ContentComparer | null = null;
  private readonly lost: LostTemporaries | null;

  constructor(context: LaneContext, checkpoint: CheckpointMemory, known: KnownTable) {
    this.context = context;
    this.checkpoint = checkpoint;
    this.known = new KnownCopies(known);
    this.doubtful = checkpoint.doubtful === null ? null : new KnownCopies(checkpoint.doubtful);
    this.wasRemoving = checkpoint.wasRemoving;
    this.isSameBoot = checkpoint.isSameBoot;
    this.isMediumWanted = reliesOnFlush(context.request);
    this.bornSinceUs = checkpoint.startedTimeUs - clockSlackUs;
    this.stat = new Stat(context.arena.allocate(layout.statx.size)).withBirth();
    const isTemporary = (name: string): boolean => context.publisher.isTemporary(name);
    const isInUse = (name: string): boolean => this.isInUse(name);
    const mayGoOn = (): boolean => context.control.mayGoOn();
    // In one boot, what was in flight is known, and has been removed.
    this.lost = this.isSameBoot ? null : new LostTemporaries({ isTemporary, isInUse, mayGoOn, bornSinceUs: this.bornSinceUs });
  }

  /** Before anything is done in a directory that stood there: removes what a power cut has left in it, and no record knows. */
  tidy(directoryFd: number): void {
    this.lost?.removeFrom(directoryFd);
  }

  /** What stands at the destination's name of the entry whose source statx is in context.sourceStat. */
  look(entry: Entry, maker: Maker): Finding {
    const { stat, context } = this;
    const { destinationFd } = entry.directory.fields;
    this.wasProved = false;
    if (stat.ofName(destinationFd, entry.name) < 0) return "nothing";
    const found = this.findCopy();
    if (found === "same" && !this.isDoubtful) return "done";
    if (stat.type === Mode.S_IFDIR) return "nothing";
    if (found === "same" && this.isOnMedium(entry, maker)) return this.proved(true);
    if (context.options.gnu.inPlace) return this.lookInPlace(entry, maker);
    if (found === "same") return "ours";
    if (found === "other") return this.wasRemoving ? (this.hasOnlyLostNames() ? "done" : "moved") : "ours";
    if (context.options.gnu.make === "hard-link" && stat.isSameFile(context.sourceStat)) return "done";
    return stat.birthTimeUs >= this.bornSinceUs ? this.prove(entry, maker) : "nothing";
  }

  /** True for the copy of context.sourceStat under a serial name. */
  isCopyAt(entry: Entry, maker: Maker): boolean {
    if (this.stat.ofName(entry.directory.fields.destinationFd, entry.name) < 0 || this.findCopy() !== "same") return false;
    this.wasProved = this.isDoubtful;
    return !this.isDoubtful || this.isOnMedium(entry, maker);
  }

  /** As isCopyAt, by name; false where that is in doubt. */
  isCopyNamed(directoryFd: number, name: number): boolean {
    return this.stat.ofName(directoryFd, name) === 0 && this.findCopy() === "same" && !this.isDoubtful;
  }

  /** Where the first copy of context.sourceStat's inode is said to be, below the destination. */
  pathOfFirst(): string | null {
    this.links ??= readLinkPaths(this.checkpoint);
    const path = this.links.get(linkKey(...sourceKeyOf(this.context.sourceStat))) ?? null;
    return path?.startsWith(`${this.context.request.destination.replace(/\/+$/, "")}/`) === true ? path : null;
  }

  /** True for a directory at the entry's name that this job made, or that somebody has made since it began. */
  isMadeDirectory(entry: Entry): boolean {
    const { stat } = this;
    if (stat.ofName(entry.directory.fields.destinationFd, entry.name) < 0) return false;
    return stat.type === Mode.S_IFDIR && stat.birthTimeUs >= this.bornSinceUs;
  }

  /** True when what stands at a path was there before the job began. */
  isOlderThanJob(directoryFd: number, path: number): boolean {
    return this.stat.ofTarget(directoryFd, path) === 0 && this.stat.birthTimeUs < this.bornSinceUs;
  }

  /** True when the argument, which is missing, was renamed to this name. */
  wasRenamedTo(argument: number, directoryFd: number, name: number): boolean {
    if (this.stat.ofName(directoryFd, name) < 0) return false;
    const [low, high] = renameKey(argument, this.stat);
    return this.known.find(low, high, 1, 0) === "same";
  }

  /** True when this name holds what the argument was once, and something else (context.sourceStat) has the argument's name now. */
  hasNewcomer(entry: Entry): boolean {
    const { argument, destinationFd } = entry.directory.fields;
    return this.wasRenamedTo(argument, destinationFd, entry.name) && !this.stat.isSameFile(this.context.sourceStat);
  }

  /** What was answered about these two, as they are, before this worker began; null: nothing was. */
  answerFor(source: Stat, destination: Stat): number | null {
    const [low, high] = answerKeyOf(source, destination);
    const answers = questionChoices.conflict.map((choice) => Answer[choice]);
    return answers.find((answer) => this.known.find(low, high, answer, 0) === "same") ?? null;
  }

  /** True when the argument, which is missing, was copied whole and was being removed. */
  wasRemoved(argument: number): boolean {
    const [low, high] = removeKey(argument);
    return this.known.find(low, high, 1, 0) === "same";
  }

  /** Of a temporary file: another lane's of this worker, or one that somebody will go on with. */
  private isInUse(name: string): boolean {
    const { shared } = this.context;
    if (isOfThisWorker(shared.words, name)) return true;
    return [...new PartialFiles(shared, this.checkpoint).used()].some((slot) => slot.read().name === name);
  }

  // The source's ctime is another one since this job removed another name of it: what is in it is what was copied.
  private hasOnlyLostNames(): boolean {
    const { stat, context, known, isSameBoot } = this;
    const { sourceStat } = context;
    const [low, high] = unlinkKeyOf(sourceStat);
    if (known.find(low, high, ...sourceKeyOf(sourceStat)) === "same" || known.find(low, high, ...unlinking) === "same") return true;
    // After a reboot the records of the removal need not be there, while the removal is.
    return !isSameBoot && context.preserve.has("times") && stat.size === sourceStat.size && stat.hasMtimeOf(sourceStat);
  }

  private findCopy(): "none" | "same" | "other" {
    const [copyLow, copyHigh] = copyKeyOf(this.stat);
    const [sourceLow, sourceHigh] = sourceKeyOf(this.context.sourceStat);
    const found = this.known.find(copyLow, copyHigh, sourceLow, sourceHigh);
    this.isDoubtful = found === "none" && this.doubtful !== null;
    return this.isDoubtful ? (this.doubtful?.find(copyLow, copyHigh, sourceLow, sourceHigh) ?? "none") : found;
  }

  /** Whether a copy in doubt is what its source is, as far as a flush of its own and its medium say (rule 5). */
  private isOnMedium(entry: Entry, maker: Maker): boolean {
    const { stat, context } = this;
    if (stat.type !== Mode.S_IFREG) return true;
    const sourceFd = maker.sourceFd ?? -1;
    if (sourceFd < 0 || stat.size !== context.sourceStat.size) return false;
    return this.compare(entry, sourceFd, stat.size) === "same";
  }

  // A file that was being written into is newer than any source, and -u would keep the half of it.
  private lookInPlace(entry: Entry, maker: Maker): Finding {
    const { stat } = this;
    if (stat.type === Mode.S_IFLNK && stat.ofTarget(entry.directory.fields.destinationFd, entry.name) < 0) return "nothing";
    const isCopy = this.findCopy() === "same";
    if (isCopy && !this.isDoubtful) return "done";
    const [low, high] = begunKeyOf(stat);
    // Who overwrites it compares what it opens with what was planned.
    const isBegun = isCopy || this.known.find(low, high, 1, 0) === "same";
    if (isBegun && this.context.destinationStat.ofTarget(entry.directory.fields.destinationFd, entry.name) === 0) return "begun";
    return stat.birthTimeUs >= this.bornSinceUs ? this.prove(entry, maker) : "nothing";
  }

  private prove(entry: Entry, maker: Maker): Finding {
    const { stat, context } = this;
    const { sourceStat } = context;
    if (stat.type !== sourceStat.type) return "nothing";
    if (stat.type === Mode.S_IFREG) return this.proveFile(entry, maker.sourceFd ?? -1);
    if (stat.type === Mode.S_IFLNK) return this.proved(this.hasSameTarget(entry));
    return this.proved(stat.rdevMajor === sourceStat.rdevMajor && stat.rdevMinor === sourceStat.rdevMinor);
  }

  private proved(isSame: boolean): Finding {
    this.wasProved = isSame;
    return isSame ? "done" : "nothing";
  }

  private proveFile(entry: Entry, sourceFd: number): Finding {
    const { stat, context } = this;
    const { sourceStat, preserve } = context;
    const hasSize = stat.size === sourceStat.size;
    const hasTimes = preserve.has("times") && stat.hasMtimeOf(sourceStat);
    // A file is noted before it has its name: where the log is whole, it is somebody else's, however alike it is.
    if (this.isSameBoot && this.checkpoint.isLogWhole) return "nothing";
    // Without a reboot nothing of ours is under its name before it is whole, with its times.
    if (this.isSameBoot && (!hasSize || (preserve.has("times") && !hasTimes))) return "nothing";
    if (sourceFd < 0 || stat.size > sourceStat.size) return "nothing";
    const likeness = this.compare(entry, sourceFd, stat.size);
    if (likeness === "different") return "nothing";
    if (likeness === "same" && hasSize && (this.isSameBoot || hasTimes)) return this.proved(true);
    return this.isSameBoot ? "nothing" : "ours";
  }

  private compare(entry: Entry, sourceFd: number, length: number): Likeness {
    const { control, empty, afterStat } = this.context;
    if (this.isMediumWanted) this.flushOnce();
    const fd = libc.openat(entry.directory.fields.destinationFd, entry.name, readFlags, 0);
    if (fd < 0) return "different";
    this.comparer ??= new ContentComparer();
    const isIt = afterStat.ofDescriptor(fd, empty) === 0 && afterStat.isSameFile(this.stat);
    // An inode that is in memory still has the error of its own; one that is not is read from the medium in any case.
    const isFlushed = !this.isMediumWanted || libc.fdatasync(fd) === 0;
    if (this.isMediumWanted) libc.posixFadvise(fd, 0, 0, Fadvise.DONTNEED);
    const likeness = isIt && isFlushed ? this.comparer.compare(sourceFd, fd, length, (bytes) => control.mayRead(bytes)) : "different";
    libc.close(fd);
    return likeness;
  }

  // One flush for all files: their own have nothing left to write then.
  private flushOnce(): void {
    const { context, stat } = this;
    const fd = context.keptDescriptor(stat.device);
    if (this.flushedDevice === stat.device || fd === null) return;
    this.flushedDevice = stat.device;
    flushFilesystem(context.shared, fd);
  }

  private hasSameTarget(entry: Entry): boolean {
    using memory = new NativeMemory(2 * maxTargetBytes);
    const { sourceFd, destinationFd } = entry.directory.fields;
    const wanted = libc.readlinkat(sourceFd, entry.sourceName, memory.address, maxTargetBytes);
    const found = libc.readlinkat(destinationFd, entry.name, memory.address + maxTargetBytes, maxTargetBytes);
    if (wanted < 0 || wanted !== found) return false;
    const { bytes } = memory;
    return Buffer.compare(bytes.subarray(0, wanted), bytes.subarray(maxTargetBytes, maxTargetBytes + wanted)) === 0;
  }
}

/** Whether a temporary name of the job is one that this worker has given. */
export function isOfThisWorker(words: Int32Array, name: string): boolean {
  const number = Number(name.slice(name.lastIndexOf("-") + 1));
  return number >= (words[Word.firstTemporary] ?? 0) && number < Atomics.load(words, Word.nextTemporary);
}
