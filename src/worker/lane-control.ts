// Pause, cancel, bandwidth and progress, asked for by the engines after every block and by the lane before every entry.

import type { CopyControl } from "../engines/engine.ts";
import { Command, Counter, Float, LaneWord, type Shared, Word } from "./shared.ts";

/** Longest sleep of the limiter before it looks for pause and cancel again, milliseconds. */
const maxSleepMs = 50;
/** A limited lane moves so much at once as takes so long, and no less than this, bytes: it shall not look as if it stood still. */
const stepSeconds = 1 / 8;
const smallestStep = 64 * 1024;
/** How far the limiter's clock may lag behind: what an idle job may save up, milliseconds. */
const burstMs = 50;

/** The first wait before trying again; each further one is four times as long. Milliseconds. */
const retryMs = 50;
/** Tries beside the first: 1 s in all for a job of the service; 250 ms for whoever waits for cp. */
const serviceRetries = 3;
export const commandRetries = 2;
/** After so many rounds of retries in a row that came to nothing the medium is taken for what it is: one more try each, at once. */
const maxFruitlessRetries = 8;

export class LaneControl implements CopyControl {
  private readonly shared: Shared;
  private readonly words: Int32Array;
  private readonly floats: Float64Array;
  private readonly bytesDone: number;
  private readonly bytesCloned: number;
  private readonly wantCurrent: number;
  private readonly tellCurrent: () => void;

  private readonly retries: number;

  constructor(shared: Shared, lane: number, tellCurrent: () => void, retries = serviceRetries) {
    this.retries = retries;
    this.shared = shared;
    this.words = shared.words;
    this.floats = shared.floats;
    this.bytesDone = shared.counters(lane) + Counter.bytesDone;
    this.bytesCloned = shared.counters(lane) + Counter.bytesCloned;
    this.wantCurrent = shared.laneWords(lane) + LaneWord.wantCurrent;
    this.tellCurrent = tellCurrent;
  }

  /** CopyControl: counts, then waits as long as the job is paused or over its limit; false when it was cancelled. hot: */
  readonly advanced = (bytes: number, how: "copied" | "cloned"): boolean => {
    this.floats[this.bytesDone] = (this.floats[this.bytesDone] ?? 0) + bytes;
    if (how === "cloned") this.floats[this.bytesCloned] = (this.floats[this.bytesCloned] ?? 0) + bytes;
    else if ((this.floats[Float.bandwidthLimit] ?? 0) > 0) this.limit(bytes);
    return this.mayGoOn();
  };

  /** CopyControl: whole blocks of 64 KiB, of which a limit lets several through in a second. hot: */
  readonly stepBytes = (most: number): number => {
    const rate = this.floats[Float.bandwidthLimit] ?? 0;
    if (rate <= 0) return most;
    return Math.min(most, Math.max(1, Math.floor((rate * stepSeconds) / smallestStep)) * smallestStep);
  };

  /** For bytes read without being copied: waits and answers as `advanced`, and counts nothing. */
  mayRead(bytes: number): boolean {
    if ((this.floats[Float.bandwidthLimit] ?? 0) > 0) this.limit(bytes);
    return this.mayGoOn();
  }

  /** Takes back what a failed file had counted, so that the counters match what lies on disk. */
  takeBack(bytes: number, cloned: number): void {
    this.floats[this.bytesDone] = (this.floats[this.bytesDone] ?? 0) - bytes;
    this.floats[this.bytesCloned] = (this.floats[this.bytesCloned] ?? 0) - cloned;
  }

  /** Before each entry and after each block: true to go on, false when cancelled; sleeps while paused. hot: */
  mayGoOn(): boolean {
    if (this.words[this.wantCurrent] === 1) {
      this.words[this.wantCurrent] = 0;
      this.tellCurrent();
    }
    const command = Atomics.load(this.words, Word.command);
    return command === Command.run || this.obey();
  }

  /**
   * CopyControl: before the next try of what failed, `attempt` counting from 0: sleeps, longer each time, as long as the job may run.
   * False when it is not worth another try, or the job was cancelled.
   */
  readonly mayRetry = (attempt: number): boolean => {
    const isHopeless = Atomics.load(this.words, Word.fruitlessRetries) >= maxFruitlessRetries;
    if (attempt >= (isHopeless ? 1 : this.retries)) {
      if (attempt > 0) Atomics.add(this.words, Word.fruitlessRetries, 1);
      return false;
    }
    let left = isHopeless ? 0 : retryMs * 4 ** attempt;
    const until = performance.now() + left;
    while (left > 0 && Atomics.load(this.words, Word.command) !== Command.cancel) {
      Atomics.wait(this.words, Word.command, Command.run, left);
      if (!this.mayGoOn()) return false;
      left = until - performance.now();
    }
    return this.mayGoOn();
  };

  /** A retry has helped. */
  readonly retryHelped = (): void => {
    Atomics.store(this.words, Word.fruitlessRetries, 0);
  };

  get isCancelled(): boolean {
    return Atomics.load(this.words, Word.command) === Command.cancel;
  }

  private obey(): boolean {
    for (;;) {
      const command = Atomics.load(this.words, Word.command);
      if (command === Command.run) return true;
      if (command === Command.cancel) return false;
      Atomics.wait(this.words, Word.command, Command.pause);
    }
  }

  // A shared virtual clock: each block moves it on by what it costs, and whoever is ahead of it sleeps. Lanes share one limit.
  private limit(bytes: number): void {
    let rate = this.floats[Float.bandwidthLimit] ?? 0;
    // Lifted since the caller looked: dividing by it would sleep for ever.
    if (rate <= 0) return;
    this.shared.lock(Word.limiterLock);
    let now = performance.timeOrigin + performance.now();
    const owed = (this.floats[Float.limiterTime] ?? 0) - now;
    const formerRate = this.floats[Float.limiterRate] ?? 0;
    // What is owed is bytes: at another rate they take another time. Shares of a common limit change all the while.
    const owedNow = owed > 0 && formerRate !== rate ? (owed * formerRate) / rate : owed;
    this.floats[Float.limiterRate] = rate;
    let until = now + Math.max(owedNow, -burstMs) + (bytes / rate) * 1000;
    this.floats[Float.limiterTime] = until;
    this.shared.unlock(Word.limiterLock);
    let left = until - now;
    while (left > 1 && Atomics.load(this.words, Word.command) !== Command.cancel) {
      // Nobody notifies this word with an intent for the limiter: it is only a place to sleep that a command wakes.
      Atomics.wait(this.words, Word.command, Command.run, Math.min(left, maxSleepMs));
      if (Atomics.load(this.words, Word.command) === Command.pause) return;
      now = performance.timeOrigin + performance.now();
      const changed = this.floats[Float.bandwidthLimit] ?? 0;
      if (changed <= 0) return;
      if (changed !== rate) until = now + ((until - now) * rate) / changed;
      rate = changed;
      left = until - now;
    }
  }
}
