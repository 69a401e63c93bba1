// One large file copied by several threads: what they have to agree on, in memory that all of them see.
//
// A write holds the inode's lock, a read does not, so a second thread reads while the first one writes (measured: bench/split.md).
// One file at a time: the lane that opened it shares out its ranges in order and takes them itself as well; lanes with nothing else
// to do join. A range that a helper could not finish is the owner's to copy again, who meets the error, or the file's end, as if
// it had been alone.

import { assert } from "../assert.ts";

/** What a thread takes at a time: some milliseconds' work. Bytes. */
export const rangeBytes = 4 * 1024 * 1024;

const Slot = { state: 0, next: 1, helpers: 2, sourceFd: 3, destinationFd: 4, isStopped: 5, isAlone: 6, words: 8 } as const;
const State = { free: 0, open: 1, closed: 2 } as const;
/** Per thread: the range it failed at, plus 1; and the one that it is at, plus 1. Behind them, as 64-bit floats: the end, the first byte, and what each helper copied. */
const endFloat = 0;
const startFloat = 1;
const headFloats = 2;

export interface RangeBoardMemory {
  readonly buffer: SharedArrayBuffer;
  readonly threads: number;
}

/** A thread's view of the board. */
export class RangeBoard {
  private readonly words: Int32Array;
  private readonly floats: Float64Array;
  private readonly threads: number;
  private readonly thread: number;
  private readonly announce: () => void;

  /** `announce` wakes threads that have nothing to do. */
  constructor({ buffer, threads }: RangeBoardMemory, thread: number, announce: () => void) {
    this.words = new Int32Array(buffer, 0, Slot.words + 2 * threads);
    this.floats = new Float64Array(buffer, wordBytes(threads), headFloats + threads);
    this.threads = threads;
    this.thread = thread;
    this.announce = announce;
  }

  static allocate(threads: number): RangeBoardMemory {
    return { buffer: new SharedArrayBuffer(wordBytes(threads) + (headFloats + threads) * 8), threads };
  }

  /** Shares out [start, end) of a file. False when another file has the board. The descriptors stay open until `close` returned. */
  open(sourceFd: number, destinationFd: number, start: number, end: number): boolean {
    const { words, floats } = this;
    if (Atomics.compareExchange(words, Slot.state, State.free, State.closed) !== State.free) return false;
    words[Slot.sourceFd] = sourceFd;
    words[Slot.destinationFd] = destinationFd;
    words.fill(0, Slot.words);
    floats.fill(0);
    floats[startFloat] = start;
    floats[endFloat] = end;
    Atomics.store(words, Slot.isStopped, 0);
    Atomics.store(words, Slot.isAlone, 0);
    Atomics.store(words, Slot.next, 0);
    Atomics.store(words, Slot.state, State.open);
    this.announce();
    return true;
  }

  /** Whether a file is shared out right now. */
  static isOpen({ buffer }: RangeBoardMemory): boolean {
    const words = new Int32Array(buffer, 0, Slot.words);
    return Atomics.load(words, Slot.state) === State.open && Atomics.load(words, Slot.isAlone) === 0;
  }

  /** The owner's: whether it gets on best alone for now. Helpers finish the range that they are at. */
  set isAlone(isAlone: boolean) {
    if (Atomics.exchange(this.words, Slot.isAlone, isAlone ? 1 : 0) === 1 && !isAlone) this.announce();
  }

  get isAlone(): boolean {
    return Atomics.load(this.words, Slot.isAlone) === 1;
  }

  /** The first byte of the next range, or -1 when none is left. hot: once a range. */
  take(): number {
    if (Atomics.load(this.words, Slot.isStopped) === 1) return -1;
    const mine = Slot.words + this.threads + this.thread;
    // Before it is known which one it is: nobody may believe meanwhile that all ranges but the known ones are whole.
    Atomics.store(this.words, mine, Atomics.load(this.words, Slot.next) + 1);
    const range = Atomics.add(this.words, Slot.next, 1);
    Atomics.store(this.words, mine, range + 1);
    const start = (this.floats[startFloat] ?? 0) + range * rangeBytes;
    return start < this.end ? start : -1;
  }

  /** The owner's, who is at `offset`: all before this byte is copied. hot: once a block. */
  wholeUntil(offset: number): number {
    let until = offset;
    for (let thread = 0; thread < this.threads; thread++) {
      const range = thread === this.thread ? 0 : Atomics.load(this.words, Slot.words + this.threads + thread);
      if (range > 0) until = Math.min(until, (this.floats[startFloat] ?? 0) + (range - 1) * rangeBytes);
    }
    return until;
  }

  /** Nobody takes another range: the job was cancelled, or the file failed. */
  stop(): void {
    Atomics.store(this.words, Slot.isStopped, 1);
  }

  get end(): number {
    return this.floats[endFloat] ?? 0;
  }

  /** The owner's: nobody joins from now on; returns when all helpers have left. The board is still the owner's. */
  close(): void {
    const { words } = this;
    Atomics.store(words, Slot.state, State.closed);
    for (let helpers = Atomics.load(words, Slot.helpers); helpers > 0; helpers = Atomics.load(words, Slot.helpers)) {
      Atomics.wait(words, Slot.helpers, helpers);
    }
  }

  /** After `close`: the bytes that helpers counted, those of the ranges that failed included. */
  get helpedBytes(): number {
    let sum = 0;
    for (let thread = 0; thread < this.threads; thread++) sum += this.floats[headFloats + thread] ?? 0;
    return sum;
  }

  /** After `close`: the first bytes of the ranges that are to be copied again, in order. */
  failedRanges(): number[] {
    const starts: number[] = [];
    for (let thread = 0; thread < this.threads; thread++) {
      const range = this.words[Slot.words + thread] ?? 0;
      if (range > 0) starts.push((this.floats[startFloat] ?? 0) + (range - 1) * rangeBytes);
    }
    return starts.sort((one, other) => one - other);
  }

  /** After all that: the next file may have the board. */
  free(): void {
    assert(Atomics.load(this.words, Slot.helpers) === 0, "a board is freed when nobody helps");
    Atomics.store(this.words, Slot.state, State.free);
  }

  /** A helper's: true when there is a file to help with; then `leave` has to follow. */
  join(): boolean {
    const { words } = this;
    if (Atomics.load(words, Slot.state) !== State.open) return false;
    Atomics.add(words, Slot.helpers, 1);
    if (Atomics.load(words, Slot.state) === State.open && !this.isTakenUp && !this.isAlone) return true;
    this.leave();
    return false;
  }

  get sourceFd(): number {
    return this.words[Slot.sourceFd] ?? -1;
  }

  get destinationFd(): number {
    return this.words[Slot.destinationFd] ?? -1;
  }

  /** A helper's: it counted these bytes. */
  helped(bytes: number): void {
    const index = headFloats + this.thread;
    this.floats[index] = (this.floats[index] ?? 0) + bytes;
  }

  /** A helper's: the range that begins at `start` is not whole, and the helper takes no other. */
  failed(start: number): void {
    this.words[Slot.words + this.thread] = (start - (this.floats[startFloat] ?? 0)) / rangeBytes + 1;
  }

  leave(): void {
    Atomics.sub(this.words, Slot.helpers, 1);
    Atomics.notify(this.words, Slot.helpers);
  }

  /** Nothing is left to take, though the owner may still be at work: no reason to join. */
  private get isTakenUp(): boolean {
    return (this.floats[startFloat] ?? 0) + Atomics.load(this.words, Slot.next) * rangeBytes >= this.end;
  }
}

function wordBytes(threads: number): number {
  return Math.ceil(((Slot.words + 2 * threads) * 4) / 8) * 8;
}
