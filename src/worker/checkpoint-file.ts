// A job's checkpoint as the worker's main thread opens it: makes a fresh one, or takes over what a former worker left.
//
// Whoever runs as the user may have written anything into it: numbers are bounded, unknown pages are passed over, and what is read
// decides about nothing but the user's own files.

import { Errno } from "../errno.ts";
import { libc, Mmap, Open, syscallNumbers } from "../ffi/libc.ts";
import { mapAnonymous, NativeMemory, viewOf } from "../ffi/memory.ts";
import {
  checkOf,
  checkpointMagic,
  checkpointVersion,
  HeadWord,
  logStart,
  MarkWord,
  markStarts,
  maxLogPages,
  noteBit,
  PageKind,
  PageWord,
  pageBytes,
  recordsPerPage,
  recordWords,
  tailBytes,
  tailsStart,
} from "./checkpoint-layout.ts";
import { KnownCopiesBuilder, type KnownTable, maxKnownCopies } from "./known-copies.ts";
import type { ParentMessage } from "./protocol.ts";
import { maxLanes } from "./shared.ts";

type CheckpointStart = NonNullable<Extract<ParentMessage, { type: "start" }>["checkpoint"]>;

/** What the threads are told; addresses are the same in all of them. */
export interface CheckpointMemory {
  readonly fd: number;
  readonly head: number;
  /** Pages in the log when this worker began. */
  readonly pages: number;
  readonly startedTimeUs: number;
  readonly isSameBoot: boolean;
  /** Counts the job's workers, from 1. */
  readonly run: number;
  /** null: this is the job's first worker. */
  readonly known: KnownTable | null;
  /** Copies that were noted, while a flush after them may have failed unheard; null: there are none. */
  readonly doubtful: KnownTable | null;
  /** All that former workers finished in this boot is in `known`, or `doubtful`. */
  readonly isLogWhole: boolean;
  /** A former worker had begun to remove what was moved. */
  readonly wasRemoving: boolean;
}

const F_SETFL = 4;
const SEEK_END = 2;
const LOCK_EX = 2;
const LOCK_NB = 4;
/** A worker whose service has died ends within seconds. */
const lockTimeoutMs = 10_000;
const lockPollMs = 20;

/**
 * null: the file cannot be used (no space, not a file of ours), and the job runs without one; resumed, by proof alone. Throws where a
 * former worker, whose service has died, still has it after ten seconds: two of them would undo each other's work.
 */
export function openCheckpoint(start: CheckpointStart, waitMs = lockTimeoutMs): CheckpointMemory | null {
  const { fd, isResumed, isSameBoot, startedTimeUs } = start;
  waitForFormerWorker(fd, waitMs);
  const length = libc.lseek(fd, 0, SEEK_END);
  const mayResume = isResumed && length >= logStart;
  const mapped = length < 0 || (!mayResume && libc.ftruncate(fd, 0) < 0) ? -1 : mapHead(fd);
  if (mapped < 0 && !isResumed) return null;
  const head = mapped < 0 ? mapAnonymous(logStart) : mapped;
  const words = new Uint32Array(viewOf(head, logStart));
  const isOurs = words[HeadWord.magic] === checkpointMagic && words[HeadWord.version] === checkpointVersion;
  if (mayResume && !isOurs) words.fill(0);
  const isLogWhole = mayResume && isOurs && words[HeadWord.incomplete] === 0;
  // What is missing now, be it only because the machine went off, is missing for good.
  if (isResumed && !(isLogWhole && isSameBoot)) words[HeadWord.incomplete] = 1;
  const takeover = new Takeover(fd, words, mayResume && isOurs ? length : 0, isSameBoot);
  const pages = takeover.run();
  words[HeadWord.magic] = checkpointMagic;
  words[HeadWord.version] = checkpointVersion;
  words[HeadWord.runs] = ((words[HeadWord.runs] ?? 0) + 1) & 0x7fff;
  return {
    fd: mapped < 0 ? -1 : fd,
    head,
    pages,
    run: words[HeadWord.runs] ?? 0,
    startedTimeUs,
    isSameBoot,
    isLogWhole: isLogWhole && words[HeadWord.incomplete] === 0,
    known: isResumed ? takeover.known : null,
    doubtful: isResumed ? (takeover.doubtful?.table ?? null) : null,
    wasRemoving: isResumed && words[HeadWord.removing] === 1,
  };
}

/** Allocated at once: a page of a mapping for which there is no space would kill the worker. An address, or -errno. */
function mapHead(fd: number): number {
  const allocated = libc.fallocate(fd, 0, 0, logStart);
  // A filesystem without the call: written, it is there as well.
  if (allocated === -Errno.EOPNOTSUPP) {
    using zeros = new NativeMemory(pageBytes);
    for (let at = libc.lseek(fd, 0, SEEK_END); at < logStart; at += pageBytes) {
      if (libc.pwrite(fd, zeros.address, pageBytes, at) !== pageBytes) return -Errno.ENOSPC;
    }
  } else if (allocated < 0) return allocated;
  libc.fcntl(fd, F_SETFL, Open.O_RDWR);
  return libc.mmap(0, logStart, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.MAP_SHARED, fd, 0);
}

/** The lock is the open file's, which a service and its worker share: one held by another service's worker goes with that. */
function waitForFormerWorker(fd: number, waitMs: number): void {
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  for (let waitedMs = 0; libc.syscall(syscallNumbers.flock, fd, LOCK_EX | LOCK_NB) === -Errno.EAGAIN; waitedMs += lockPollMs) {
    if (waitedMs >= waitMs) throw new Error("a former worker of this job has not ended");
    Atomics.wait(sleeper, 0, 0, lockPollMs);
  }
}

/** Reads what counts of the log and of the lanes' tails, and leaves a log that holds just that. */
class Takeover {
  known: KnownTable | null = null;
  doubtful: KnownCopiesBuilder | null = null;
  private readonly fd: number;
  private readonly words: Uint32Array;
  private readonly length: number;
  private readonly isSameBoot: boolean;

  constructor(fd: number, words: Uint32Array, length: number, isSameBoot: boolean) {
    this.fd = fd;
    this.words = words;
    this.length = length;
    this.isSameBoot = isSameBoot;
  }

  /** Returns the pages of the log. */
  run(): number {
    const { words } = this;
    // Nothing was there: nor need the pages of the tails be touched.
    if (this.length === 0) {
      this.known = new KnownCopiesBuilder(0).table;
      return 0;
    }
    const found = Math.min(Math.max(0, Math.floor((this.length - logStart) / pageBytes)), maxLogPages);
    const isInDoubt = this.isSameBoot && words[HeadWord.flushing] !== 0;
    if (isInDoubt) this.doubt();
    const mark = this.isSameBoot ? null : this.latestMark();
    const counted = this.isSameBoot ? found : Math.min(found, mark === null ? 0 : (words[mark + MarkWord.pages] ?? 0));
    if (!this.isSameBoot) words[HeadWord.removing] = mark === null ? 0 : (words[mark + MarkWord.removing] ?? 0);
    const expected = (counted + maxLanes) * recordsPerPage;
    if (expected > maxKnownCopies) words[HeadWord.incomplete] = 1;
    const builder = new KnownCopiesBuilder(expected);
    this.known = builder.table;
    if ((words[HeadWord.doubtfulTo] ?? 0) > 0) this.doubtful = new KnownCopiesBuilder(expected);
    using page = new NativeMemory(pageBytes);
    for (let index = 0; index < counted; index++) {
      if (libc.pread(this.fd, page.address, pageBytes, logStart + index * pageBytes) !== pageBytes) break;
      this.addPage(builder, page.u32, recordsPerPage, index);
    }
    // What a mark does not cover must not be taken for durable by the next one.
    libc.ftruncate(this.fd, logStart + counted * pageBytes);
    const pages = counted + this.moveTails(builder, mark, counted);
    if (isInDoubt) words[HeadWord.doubtfulTo] = pages;
    // Only now: another kill on the way here leaves the same doubt.
    words[HeadWord.flushing] = 0;
    return pages;
  }

  // The kernel tells an error once, and a worker that is killed in the call that is told takes it with it. What the latest mark covers
  // was flushed before.
  private doubt(): void {
    const { words } = this;
    const mark = this.latestMark();
    const from = mark === null ? 0 : (words[mark + MarkWord.pages] ?? 0);
    const isFirst = words[HeadWord.doubtfulTo] === 0;
    words[HeadWord.doubtfulFrom] = isFirst ? from : Math.min(from, words[HeadWord.doubtfulFrom] ?? 0);
    words[HeadWord.doubtfulTo] = maxLogPages;
  }

  /** `index`: which page of the log it is, or becomes. */
  private addPage(builder: KnownCopiesBuilder, page: Uint32Array, limit: number, index: number): void {
    const { words, doubtful } = this;
    const isDoubtful = index >= (words[HeadWord.doubtfulFrom] ?? 0) && index < (words[HeadWord.doubtfulTo] ?? 0);
    addPage(builder, isDoubtful ? doubtful : null, page, limit);
  }

  /** The tails become pages of the log, and begin anew. What they say of links is proved where it is used, so it needs no mark. */
  private moveTails(builder: KnownCopiesBuilder, mark: number | null, pages: number): number {
    const { words, fd, isSameBoot } = this;
    let moved = 0;
    const move = (tail: Uint32Array): void => {
      if (pages + moved >= maxLogPages) {
        words[HeadWord.incomplete] = 1;
        return;
      }
      using copy = new NativeMemory(pageBytes);
      copy.u32.set(tail);
      if (libc.pwrite(fd, copy.address, pageBytes, logStart + (pages + moved) * pageBytes) === pageBytes) moved++;
      else words[HeadWord.incomplete] = 1;
    };
    for (let lane = 0; lane < maxLanes; lane++) {
      const start = (tailsStart + lane * tailBytes) / 4;
      const tail = words.subarray(start, start + pageBytes / 4);
      const links = words.subarray(start + pageBytes / 4, start + (2 * pageBytes) / 4);
      if (links[PageWord.kind] === PageKind.links && (links[PageWord.used] ?? 0) > 0) move(links);
      links[PageWord.used] = 0;
      const generation = tail[PageWord.generation] ?? 0;
      const at = mark === null ? -1 : mark + MarkWord.tails + lane * 2;
      const covered = at >= 0 && words[at] === generation ? (words[at + 1] ?? 0) : 0;
      const used = Math.min(isSameBoot ? recordsPerPage : covered, tail[PageWord.used] ?? 0, recordsPerPage);
      tail[PageWord.used] = used;
      if (used > 0 && tail[PageWord.kind] === PageKind.copies) {
        this.addPage(builder, tail, used, pages + moved);
        move(tail);
      }
      tail[PageWord.used] = 0;
      tail[PageWord.generation] = generation + 1;
    }
    return moved;
  }

  /** Index of the latest whole mark's first word. */
  private latestMark(): number | null {
    const { words } = this;
    let latest: number | null = null;
    for (const start of markStarts) {
      const at = start / 4;
      const check = words[at + MarkWord.check] ?? 0;
      if (check === 0 || check !== checkOfMark(words, at)) continue;
      if (latest === null || (words[at + MarkWord.sequence] ?? 0) > (words[latest + MarkWord.sequence] ?? 0)) latest = at;
    }
    return latest;
  }
}

/** The check of the mark at a word index. */
export function checkOfMark(words: Uint32Array, at: number): number {
  return ((checkOf(words, at, at + MarkWord.check) ^ checkOf(words, at + MarkWord.tails, at + MarkWord.words)) | 1) >>> 0;
}

/** `doubtful`: where its copies go; null: with everything else. */
function addPage(builder: KnownCopiesBuilder, doubtful: KnownCopiesBuilder | null, words: Uint32Array, limit: number): void {
  if (words[PageWord.kind] !== PageKind.copies) return;
  const used = Math.min(words[PageWord.used] ?? 0, limit);
  for (let record = 0; record < used; record++) {
    const at = PageWord.records + record * recordWords;
    const isNote = ((words[at] ?? 0) & noteBit) !== 0;
    const table = isNote ? builder : (doubtful ?? builder);
    table.add(words[at] ?? 0, words[at + 1] ?? 0, words[at + 2] ?? 0, words[at + 3] ?? 0);
  }
}
