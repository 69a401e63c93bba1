// What the threads of one worker share: control words, counters, and the lists from which idle lanes steal work.
//
// One SharedArrayBuffer holds every word that is waited on or changed by two threads. Bulk bytes (names, directory records) lie in
// native memory that all threads see at the same address. A lane is the only writer of its own counters.

import type { RangeBoardMemory } from "../engines/range-board.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";

/** The last one only counts totals. */
export const maxLanes = 32;
/** A job whose copies lie on more devices than this makes no marks. */
export const maxSyncDevices = 16;
/** Frames of a lane's stack that others may steal from; deeper ones are private, which bounds the scan of a thief. */
export const sharedLevels = 32;
/** Directory records each lane may have in use; more are private to the lane. */
export const slotsPerLane = 64;

/** Indexes of 32-bit control words. */
export const Word = {
  /** Command.*: what the parent wants. Lanes wait on it while paused. */
  command: 0,
  /** Bumped and notified when there may be something to steal. */
  work: 1,
  /** Lanes that hold work; the leader ends the job when it is the last. */
  active: 2,
  /** Lanes waiting for work: owners notify only when somebody listens. */
  idle: 3,
  /** 1: the tree is done, lanes return. */
  done: 4,
  /** Error messages sent and not yet taken over by the main thread; bounds the memory of a million failures. */
  errorsInFlight: 5,
  /** Number of the question being asked, and the answer: that number times 32, plus the choice (see questions.ts). */
  question: 6,
  answer: 7,
  questionLock: 8,
  hardLinkLock: 9,
  /** Bumped and notified when a pending hard link's first copy ended. */
  hardLinkEvent: 10,
  hardLinkCount: 11,
  hardLinkCapacity: 12,
  /** 1: an error asked to stop the job (on-error=stop). */
  stopOnError: 13,
  nextTemporary: 14,
  limiterLock: 15,
  lanes: 16,
  /** Index in `phases`. */
  phase: 17,
  /** 1: bytesTotal and filesTotal are final. */
  totalsKnown: 18,
  /** Lanes with files that are not verified yet; the leader waits for zero. */
  verifying: 19,
  /** The leader's descriptor of the manifest being written; and 1 where writing it failed. */
  manifestFd: 20,
  manifestFailed: 21,
  /** Pages in the checkpoint's log, and who may append one. */
  checkpointPages: 22,
  checkpointLock: 23,
  /** 1: somebody sees how far the job is, so the figures must be the device's. */
  isWatched: 24,
  /** 1: this worker has made a directory, so the destination could be written to. */
  hasMadeDirectory: 25,
  /** Bumped when trouble was answered with "retry" or is over: whoever met it before tries again without asking. */
  troubleEpoch: 26,
  /** Rounds of retries in a row that came to nothing; beyond some, nobody waits any more. */
  fruitlessRetries: 27,
  /** What was answered for all, by the index of the question's kind; 0: nothing. */
  standing: 28,
  /** Who writes a mark; 1: nobody but the leader any more. */
  markLock: 32,
  marksOff: 33,
  /** How many devices the copies lie on, and who may add one. */
  syncDevices: 35,
  syncDevicesLock: 36,
  /** 1: the job is to go on later: what is needed for that stays. */
  stopping: 37,
  /** 1: of an orderly stop, only the checkpoint's flush is left. */
  stopped: 38,
  partialLock: 39,
  /** Copying lanes whose thread has got as far as to look for work. */
  begun: 40,
  /** KiB that small files have left in the page cache, and how many of them a flush has reached since; both wrap around. */
  smallWritten: 41,
  smallFlushed: 42,
  /** 1: a flush is wanted, for lanes get far ahead of the device. The thread that flushes waits on it. */
  flushWanted: 43,
  /** Counts flushes of the copies; lanes that are too far ahead of the device wait on it. */
  flushes: 44,
  /** The first errno that a flush was told, where there is no checkpoint to keep it. */
  flushError: 45,
  /** Another number in another boot, for the in-flight record. */
  boot: 46,
  /** The first number of this worker's temporary files; `nextTemporary` is the one after its last. */
  firstTemporary: 47,
  /** 1: a lane has found that its files come from a medium, and asks for some ahead. */
  readsAhead: 48,
  /** The low half of a source's device that was found to answer slowly; 0: none was. And 1: a lane opens its files ahead. */
  slowDevice: 49,
  opensAhead: 50,
  /** 1: a thread flushes, or is about to. */
  flusher: 51,
  words: 52,
} as const;

export const Command = { run: 0, pause: 1, cancel: 2 } as const;

/** Per-lane 32-bit words: the lock, the open batch, then one triple per shared level. */
export const LaneWord = {
  lock: 0,
  batchSlot: 1,
  batchCursor: 2,
  batchEnd: 3,
  /** The main thread sets it to ask for the current file; the lane answers and clears it. */
  wantCurrent: 4,
  levels: 8,
  levelWords: 3,
  words: 8 + sharedLevels * 3,
} as const;

/** Per-lane 64-bit float counters. */
export const Counter = {
  bytesDone: 0,
  bytesCloned: 1,
  filesDone: 2,
  filesSkipped: 3,
  directoriesDone: 4,
  errors: 5,
  warnings: 6,
  bytesTotal: 7,
  filesTotal: 8,
  /** Files by engine, in the order of engineNames. */
  engineFiles: 9,
  /** Bytes read back and compared. */
  bytesVerified: 14,
  /** Index of the engine that moved the latest bytes, plus 1. */
  engine: 15,
  count: 16,
} as const;

/** Shared 64-bit floats. */
export const Float = {
  /** Bytes a second; 0 is unlimited. */
  bandwidthLimit: 0,
  /** The limiter's clock: the time, in milliseconds of performance.timeOrigin, at which the next byte may go. */
  limiterTime: 1,
  hardLinkTable: 2,
  hardLinkPaths: 3,
  hardLinkPathsUsed: 4,
  /** The limit that limiterTime was reckoned with. */
  limiterRate: 5,
  /** The device of the filesystem that the job's own flush has reached; 0 before. */
  flushedDevice: 6,
  /** Bytes done at which a slow destination is measured next, and what it was found to write a second; 0: none was found. */
  nextProbe: 7,
  /** Address and length of each lane's list of what a move copied. */
  copiedLists: 8,
  /** Device and descriptor of what a mark flushes. */
  syncDevices: 8 + maxLanes * 2,
  deviceRate: 8 + maxLanes * 2 + maxSyncDevices * 2,
  count: 9 + maxLanes * 2 + maxSyncDevices * 2,
} as const;

const laneWordsStart = Word.words;
const slotWordsStart = laneWordsStart + maxLanes * LaneWord.words;
const slotCount = maxLanes * slotsPerLane;
const totalWords = slotWordsStart + slotCount * 2;
const floatStart = Math.ceil((totalWords * 4) / 64) * 64;
const counterStart = floatStart + Float.count * 8;
const totalBytes = counterStart + maxLanes * Counter.count * 8;

/** A directory record in native memory (see frame.ts); its index is the slot. */
export const slotBytes = 8192;
/** Getdents buffer of a lane; a batch holds about a thousand names. */
export const batchBytes = 32 * 1024;
/** Virtual space for the names of subdirectories yet to be entered; only touched pages cost memory. */
export const namesBytes = 256 * 1024 * 1024;

export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
  /** Address of maxLanes * slotsPerLane directory records. */
  readonly slots: number;
  /** Address of the in-flight record, or 0. */
  readonly inFlight: number;
  /** null: nothing is logged. */
  readonly checkpoint: CheckpointMemory | null;
  /** Where lanes share out a large file; null where one lane works alone. */
  readonly ranges: RangeBoardMemory | null;
}

/** Views of the shared buffer, one set per thread. */
export class Shared {
  readonly words: Int32Array;
  readonly floats: Float64Array;
  readonly slots: number;
  readonly inFlight: number;
  readonly checkpoint: CheckpointMemory | null;
  readonly ranges: RangeBoardMemory | null;
  private readonly counterBase: number;

  constructor(memory: SharedMemory) {
    this.words = new Int32Array(memory.buffer, 0, totalWords);
    this.floats = new Float64Array(memory.buffer, floatStart);
    this.slots = memory.slots;
    this.inFlight = memory.inFlight;
    this.checkpoint = memory.checkpoint;
    this.ranges = memory.ranges;
    this.counterBase = Float.count;
  }

  static allocate(): SharedArrayBuffer {
    return new SharedArrayBuffer(totalBytes);
  }

  /** Index in `words` of a lane's first word. */
  laneWords(lane: number): number {
    return laneWordsStart + lane * LaneWord.words;
  }

  /** Index in `words` of a slot's reference count; the next word says whether it is in use. */
  slotWords(slot: number): number {
    return slotWordsStart + slot * 2;
  }

  slotAddress(slot: number): number {
    return this.slots + slot * slotBytes;
  }

  /** Index in `floats` of a lane's counters. */
  counters(lane: number): number {
    return this.counterBase + lane * Counter.count;
  }

  /** A counter summed over all lanes. */
  total(counter: number): number {
    let sum = 0;
    for (let lane = 0; lane < maxLanes; lane++) sum += this.floats[this.counters(lane) + counter] ?? 0;
    return sum;
  }

  /** Takes a lock word: 0 free, 1 held, 2 held and waited for (Drepper's futex mutex). hot: */
  lock(index: number): void {
    if (Atomics.compareExchange(this.words, index, 0, 1) === 0) return;
    while (Atomics.exchange(this.words, index, 2) !== 0) Atomics.wait(this.words, index, 2);
  }

  unlock(index: number): void {
    if (Atomics.exchange(this.words, index, 0) === 2) Atomics.notify(this.words, index, 1);
  }

  /** Tells idle lanes, if there are any, that something may be stolen. */
  announceWork(): void {
    if (Atomics.load(this.words, Word.idle) === 0) return;
    Atomics.add(this.words, Word.work, 1);
    Atomics.notify(this.words, Word.work);
  }
}
