// The worker's threads as its main thread sees them: their shared memory, when another one is started, and what they report.

import { assert } from "../assert.ts";
import { type ByteString, byteStringFromText } from "../bytes.ts";
import { recordBytes } from "../engines/in-flight.ts";
import { RangeBoard } from "../engines/range-board.ts";
import { Errno } from "../errno.ts";
import { At, libc, Mmap, Open } from "../ffi/libc.ts";
import { Arena, mapAnonymous, NativeMemory } from "../ffi/memory.ts";
import { releaseProgramPages } from "../ffi/program-pages.ts";
import type { Policy } from "../policy.ts";
import type { JobRequest } from "../request.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";
import type { LaneStart } from "./lane.ts";
import { laneThread } from "./lane-thread.ts";
import type { PreviewLimits } from "./plan-reporter.ts";
import { inFlightBytes } from "./protocol.ts";
import type { LaneMessage } from "./reporter.ts";
import { LaneWord, maxLanes, Shared, type SharedMemory, slotBytes, slotsPerLane, Word } from "./shared.ts";
import type { SpacePlan } from "./space-check.ts";
import { laneBytes } from "./work-list.ts";

/** By then a thread has loaded what it needs, and has compiled most of what it runs often. Milliseconds. */
const startedAfterMs = 100;

export interface LanesOptions {
  readonly request: JobRequest;
  readonly token: string;
  readonly guardedSources: readonly ByteString[] | null;
  /** What the administrator allows; left out: everything. */
  readonly policy?: Policy;
  /** Descriptor of the in-flight record, or -1. */
  readonly inFlightFd: number;
  /** For that record: another number in another boot. */
  readonly boot?: number;
  /** Left out or null: nothing is logged. */
  readonly checkpoint?: CheckpointMemory | null;
  /** Whether several lanes may work on one large file. */
  readonly sharesFiles: boolean;
  readonly onMessage: (lane: number, message: LaneMessage) => void;
  /** A thread failed to start or threw outside its own net. */
  readonly onCrash: (message: string) => void;
}

export class Lanes {
  readonly shared: Shared;
  count = 0;
  private hasFlusher = false;
  private readonly memory: SharedMemory;
  private readonly lanesAddress: number;
  private readonly options: LanesOptions;
  /** Held so that none is collected while it runs. */
  private readonly threads: Worker[] = [];
  private starting: Timer | undefined;

  constructor(options: LanesOptions) {
    this.options = options;
    this.lanesAddress = mapAnonymous(maxLanes * laneBytes);
    const slots = mapAnonymous(maxLanes * slotsPerLane * slotBytes);
    const checkpoint = options.checkpoint ?? null;
    const ranges = options.sharesFiles ? RangeBoard.allocate(maxLanes) : null;
    this.memory = { buffer: Shared.allocate(), slots, inFlight: mapInFlight(options.inFlightFd), checkpoint, ranges };
    this.shared = new Shared(this.memory);
    this.shared.words[Word.checkpointPages] = checkpoint?.pages ?? 0;
    this.shared.words[Word.boot] = options.boot ?? 0;
    // What former workers left has other numbers. How many workers there were would not do: a power cut takes that back.
    const first = checkpoint === null ? 0 : (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) >>> 2;
    this.shared.words[Word.firstTemporary] = first;
    this.shared.words[Word.nextTemporary] = first;
    // The leader holds the arguments from the start.
    Atomics.store(this.shared.words, Word.active, 1);
  }

  /** Starts one more lane; the first one leads. "assist": one that takes ranges of a large file, and no entries. */
  add(role: "copy" | "assist" = "copy"): void {
    const lane = this.count;
    assert(lane < maxLanes - 1, "more lanes than maxLanes");
    this.count++;
    this.startThread(lane, role);
    Atomics.store(this.shared.words, Word.lanes, this.count);
  }

  /**
   * Whether all are done of which `told` have said so. A thread that is still starting is not waited for: when the leader has said that
   * all is done, it will find nothing to do, and has copied nothing that is to be verified.
   */
  areDone(told: number): boolean {
    const { words } = this.shared;
    return told === this.count || (Atomics.load(words, Word.done) === 1 && told >= Atomics.load(words, Word.begun));
  }

  /** Whether a lane shares out a large file right now. */
  get isSharing(): boolean {
    return this.memory.ranges !== null && RangeBoard.isOpen(this.memory.ranges);
  }

  /** Starts the one thread of a dry run. */
  addPreviewer(limits: PreviewLimits): void {
    this.count++;
    this.startThread(0, "preview", limits);
  }

  /** Starts the thread that counts totals, and then flushes where that is wanted. It says nothing of them: its counters do. */
  addScanner(space: SpacePlan | null): void {
    this.startThread(maxLanes - 1, "scan", null, space);
  }

  /** Starts the thread that waits for the device, unless there is one. It says nothing. */
  addFlusher(): void {
    if (this.hasFlusher || Atomics.load(this.shared.words, Word.flusher) === 1) return;
    this.hasFlusher = true;
    this.startThread(maxLanes - 1, "flush");
  }

  /** Asks one lane in turn for its current file; it answers with a `current` message soon, unless it sleeps. */
  askCurrent(turn: number): void {
    this.shared.words[this.shared.laneWords(turn % this.count) + LaneWord.wantCurrent] = 1;
  }

  private startThread(lane: number, role: LaneStart["role"], preview: PreviewLimits | null = null, space: SpacePlan | null = null): void {
    const { request, token, policy = [], guardedSources, inFlightFd, onMessage, onCrash } = this.options;
    const worker = laneThread();
    worker.onmessage = (event: { readonly data: LaneMessage }) => onMessage(lane, event.data);
    worker.onerror = (event: { readonly message: string }) => onCrash(event.message);
    const writesFiles = role === "copy" || role === "assist";
    const memory = !writesFiles || reserveRecord(inFlightFd, lane) ? this.memory : { ...this.memory, inFlight: 0 };
    const start: LaneStart = { role, lane, memory, lanes: this.lanesAddress, request, token, policy, guardedSources, preview, space };
    worker.postMessage(start);
    this.threads.push(worker);
    this.releaseWhenStarted();
  }

  /** A start reads much of the program that copying does not. */
  private releaseWhenStarted(): void {
    clearTimeout(this.starting);
    this.starting = setTimeout(releaseProgramPages, startedAfterMs);
    this.starting.unref();
  }

  /** Sets the command word and wakes whoever sleeps on it. */
  command(command: number): void {
    const words = this.shared.words;
    // A cancel is final: a late pause or resume must not undo it.
    if (Atomics.load(words, Word.command) === 2) return;
    Atomics.store(words, Word.command, command);
    Atomics.notify(words, Word.command);
    Atomics.notify(words, Word.answer);
  }
}

/** The in-flight record of a parent that started this process before it had one; `path` is text. Throws. */
export function openRecord(path: string): number {
  const bytes = byteStringFromText(path);
  using arena = new Arena(bytes.length + 1);
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(bytes), Open.O_RDWR | Open.O_CLOEXEC, 0);
  if (fd < 0) throw new Error(`the record of what is in flight cannot be opened: errno ${-fd}`);
  return fd;
}

/**
 * Room for a lane's record: a page of the mapping that the filesystem has no block for would kill the worker. False: it has none, and the
 * lane does without a record.
 */
function reserveRecord(fd: number, lane: number): boolean {
  if (fd < 0) return false;
  const reserved = libc.fallocate(fd, 0, lane * recordBytes, recordBytes);
  if (reserved !== -Errno.EOPNOTSUPP) return reserved === 0;
  using zeros = new NativeMemory(recordBytes);
  return libc.pwrite(fd, zeros.address, recordBytes, lane * recordBytes) === recordBytes;
}

function mapInFlight(fd: number): number {
  if (fd < 0) return 0;
  const address = libc.mmap(0, inFlightBytes, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.MAP_SHARED, fd, 0);
  // Without it, files are published by link or rename everywhere: slower, and as safe.
  return Math.max(address, 0);
}
