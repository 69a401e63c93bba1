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

interface OpenOptions {
  /** What former workers noted and no mark covers, in this boot. */
  readonly unmarked: "believed" | "in doubt";
  readonly waitMs?: number;
}

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
  /** Copies that were noted, and of which no flush that anybody heard of says that they are not lost; null: there are none. */
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
export function openCheckpoint(start: CheckpointStart, { unmarked, waitMs = lockTimeoutMs }: OpenOptions): CheckpointMemory | null {
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
  const takeover = new Takeover(fd, words, mayResume && isOurs ? length : 0, { isSameBoot, unmarked });
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
  /** Whether what no mark covers is in doubt; of another boot, it does not count at all. */
  private readonly isInDoubt: boolean;
  private pages = 0;

  constructor(
    fd: number,
    words: Uint32Array,
    length: number,
    { isSameBoot, unmarked }: { readonly isSameBoot: boolean; readonly unmarked: OpenOptions["unmarked"] },
  ) {
    this.fd = fd;
    this.words = words;
    this.length = length;
    this.isSameBoot = isSameBoot;
    // The kernel tells an error once. A worker that is killed in the call that is told takes it with it; and of what was written back
    // between two workers, another program may have been told. What was flushed before the removal began, a mark covers.
    this.isInDoubt = unmarked === "in doubt";
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
    const mark = this.latestMark();
    const marked = mark === null ? 0 : (words[mark + MarkWord.pages] ?? 0);
    const counted = this.isSameBoot ? found : Math.min(found, marked);
    if (!this.isSameBoot) words[HeadWord.removing] = mark === null ? 0 : (words[mark + MarkWord.removing] ?? 0);
    const expected = (counted + 2 * maxLanes) * recordsPerPage;
    if (expected > maxKnownCopies) words[HeadWord.incomplete] = 1;
    const builder = new KnownCopiesBuilder(expected);
    this.known = builder.table;
    using page = new NativeMemory(pageBytes);
    for (; this.pages < counted; this.pages++) {
      const at = logStart + this.pages * pageBytes;
      if (libc.pread(this.fd, page.address, pageBytes, at) !== pageBytes) break;
      if (this.isInDoubt && this.pages >= marked && page.u32[PageWord.isDoubtful] !== 1) {
        page.u32[PageWord.isDoubtful] = 1;
        libc.pwrite(this.fd, page.address, pageBytes, at);
      }
      this.addPage(builder, page.u32, expected);
    }
    // What a mark does not cover must not be taken for durable by the next one.
    libc.ftruncate(this.fd, logStart + this.pages * pageBytes);
    for (let lane = 0; lane < maxLanes; lane++) this.moveTail(builder, mark, lane, expected);
    return this.pages;
  }

  /** A lane's tails become pages of the log, and begin anew. What they say of links is proved where it is used, so it needs no mark. */
  private moveTail(builder: KnownCopiesBuilder, mark: number | null, lane: number, expected: number): void {
    const { words } = this;
    const start = (tailsStart + lane * tailBytes) / 4;
    const tail = words.subarray(start, start + pageBytes / 4);
    const links = words.subarray(start + pageBytes / 4, start + (2 * pageBytes) / 4);
    if (links[PageWord.kind] === PageKind.links && (links[PageWord.used] ?? 0) > 0) this.append(links);
    links[PageWord.used] = 0;
    const generation = tail[PageWord.generation] ?? 0;
    const at = mark === null ? -1 : mark + MarkWord.tails + lane * 2;
    const covered = at >= 0 && words[at] === generation ? (words[at + 1] ?? 0) : 0;
    const used = Math.min(this.isSameBoot ? recordsPerPage : covered, tail[PageWord.used] ?? 0, recordsPerPage);
    const sure = this.isInDoubt ? Math.min(covered, used) : used;
    if (tail[PageWord.kind] === PageKind.copies) {
      this.movePart(builder, tail, { from: 0, to: sure, isDoubtful: 0 }, expected);
      this.movePart(builder, tail, { from: sure, to: used, isDoubtful: 1 }, expected);
    }
    tail[PageWord.used] = 0;
    tail[PageWord.generation] = generation + 1;
  }

  private movePart(
    builder: KnownCopiesBuilder,
    tail: Uint32Array,
    { from, to, isDoubtful }: { readonly from: number; readonly to: number; readonly isDoubtful: 0 | 1 },
    expected: number,
  ): void {
    if (from === to) return;
    const page = new Uint32Array(pageBytes / 4);
    page.set(tail.subarray(0, PageWord.records));
    page.set(tail.subarray(PageWord.records + from * recordWords, PageWord.records + to * recordWords), PageWord.records);
    page[PageWord.used] = to - from;
    page[PageWord.isDoubtful] = isDoubtful;
    this.addPage(builder, page, expected);
    this.append(page);
  }

  private append(page: Uint32Array): void {
    using copy = new NativeMemory(pageBytes);
    copy.u32.set(page);
    const isWritten =
      this.pages < maxLogPages && libc.pwrite(this.fd, copy.address, pageBytes, logStart + this.pages * pageBytes) === pageBytes;
    if (isWritten) this.pages++;
    else this.words[HeadWord.incomplete] = 1;
  }

  private addPage(builder: KnownCopiesBuilder, page: Uint32Array, expected: number): void {
    if (page[PageWord.kind] !== PageKind.copies) return;
    if (page[PageWord.isDoubtful] === 1) this.doubtful ??= new KnownCopiesBuilder(expected);
    const copies = page[PageWord.isDoubtful] === 1 ? (this.doubtful ?? builder) : builder;
    const used = Math.min(page[PageWord.used] ?? 0, recordsPerPage);
    for (let record = 0; record < used; record++) {
      const at = PageWord.records + record * recordWords;
      const isNote = ((page[at] ?? 0) & noteBit) !== 0;
      const table = isNote ? builder : copies;
      table.add(page[at] ?? 0, page[at + 1] ?? 0, page[at + 2] ?? 0, page[at + 3] ?? 0);
    }
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
