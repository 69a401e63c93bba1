// How much a job may leave unwritten in the page cache: what one lane measures of the device, all of them keep to.
//
// Large files are held to it by waiting for their own data. Small ones cannot be: a device that is given one small file after the other,
// each with its metadata, is several times slower. So a thread flushes the filesystem whenever they have left half of the bound, and the
// lanes go on meanwhile, up to all of it: the device always has work.

import type { DirtyBounds } from "../engines/write-behind.ts";
import { Command, Counter, Float, type Shared, Word } from "./shared.ts";

const mebibyte = 1024 * 1024;
/** A job is measured for the first time after so many bytes: 4 MiB are waited for. */
const firstProbeBytes = 16 * mebibyte;
/** Of small files much less is waited for, and lanes that create files leave more while one of them waits. */
const firstSampleBytes = 4 * mebibyte;
/** It is measured again after what it was found to write in a second, within these. */
const probeBytes = 512 * mebibyte;
const maxProbeBytes = 4096 * mebibyte;
/** Devices that write faster are left to the kernel: what it holds back, they have written in a moment. Bytes a second. */
const fastBytesPerSecond = 200 * mebibyte;
/** What a bounded job may leave: what the device writes in a second, within these. */
const minWindowBytes = 16 * mebibyte;
const maxWindowBytes = 256 * mebibyte;
/** A bounded copy that never has to wait so many times in a row has no slow device before it. */
const easyWaits = 64;
const easyMilliseconds = 1;
/** How much a new measurement counts. */
const newShare = 0.3;
/**
 * Small files that are measured, at most. A device is suspected where so many in a row take it so long together, and none of them less
 * than a moment: one alone may have waited for a processor.
 */
const sampleFiles = 32;
const slowFiles = 3;
const slowMilliseconds = 20;
/** A flush of less says more of the device's latency than of its speed. */
const tellingKibibytes = 4096;
/** What a small file takes beside its blocks: an inode and its part of a directory. */
const blockKibibytes = 4;
const inodeKibibytes = 1;
/** A lane that waits looks so often for a command. */
const maxWaitMs = 50;

export class SharedDirtyBounds implements DirtyBounds {
  private readonly shared: Shared;
  private easy = 0;
  /** Small files that are still to be measured; and of those that were, how many slow ones came last, and what they took. */
  private samples = 0;
  private slowSamples = 0;
  private slowBytes = 0;
  private slowMs = 0;

  constructor(shared: Shared) {
    this.shared = shared;
  }

  /** hot: once a MiB of a large file. */
  get windowBytes(): number {
    const rate = this.rate;
    if (rate === 0) return 0;
    const window = windowAt(rate);
    // Of one bound, what small files have left is no longer there for large ones; but half of it always is.
    const rest = window - Math.min(this.aheadKibibytes() * 1024, window / 2);
    return rest / Math.max(1, this.shared.words[Word.lanes] ?? 1);
  }

  isProbeDue(): boolean {
    const { floats } = this.shared;
    const isFirst = floats[Float.nextProbe] === 0;
    if (!this.takeProbe(firstProbeBytes)) return false;
    // Until anything is known, the other lanes do not run ahead.
    if (isFirst) floats[Float.deviceRate] = minWindowBytes;
    return true;
  }

  measured(bytes: number, milliseconds: number, wasWaiting: boolean): void {
    const { floats } = this.shared;
    const rate = milliseconds > 0 ? (bytes / milliseconds) * 1000 : Number.POSITIVE_INFINITY;
    if (!wasWaiting) {
      floats[Float.deviceRate] = rate < fastBytesPerSecond ? rate : 0;
      floats[Float.nextProbe] = this.writtenBytes() + Math.min(maxProbeBytes, Math.max(probeBytes, rate));
      return;
    }
    // Found fast while this lane waited: what it took says nothing that the measurement did not.
    if (this.rate === 0) return;
    this.easy = milliseconds < easyMilliseconds ? this.easy + 1 : 0;
    if (this.easy >= easyWaits) {
      this.easy = 0;
      floats[Float.deviceRate] = 0;
    } else if (milliseconds >= easyMilliseconds) this.blend(Math.min(rate, fastBytesPerSecond));
  }

  /** hot: once a small file. */
  left(bytes: number): boolean {
    const kibibytes = Math.ceil(bytes / (blockKibibytes * 1024)) * blockKibibytes + inodeKibibytes;
    const before = Atomics.add(this.shared.words, Word.smallWritten, kibibytes);
    if (this.samples > 0) return true;
    if (this.rate > 0) {
      this.keepBound();
      return false;
    }
    // Once a MiB.
    if (before >> 10 === (before + kibibytes) >> 10 || !this.takeProbe(firstSampleBytes)) return false;
    this.samples = sampleFiles;
    this.slowSamples = 0;
    return true;
  }

  // Latency rather than speed, and only a suspicion: the flush that follows it measures the device.
  sampled(bytes: number, milliseconds: number): void {
    this.samples--;
    if (milliseconds < easyMilliseconds || bytes * 1000 >= fastBytesPerSecond * milliseconds) {
      this.slowSamples = 0;
      return;
    }
    const isFirst = this.slowSamples++ === 0;
    this.slowBytes = (isFirst ? 0 : this.slowBytes) + bytes;
    this.slowMs = (isFirst ? 0 : this.slowMs) + milliseconds;
    if (this.slowSamples < slowFiles || this.slowMs < slowMilliseconds) return;
    this.samples = 0;
    this.measured(this.slowBytes, this.slowMs, false);
  }

  /** All that small files had left when `written` was looked up is on the device, or lost: a flush has ended, after so many milliseconds. */
  flushed(written: number, milliseconds: number): void {
    const { words, floats } = this.shared;
    const kibibytes = (written - Atomics.load(words, Word.smallFlushed)) | 0;
    if (kibibytes > 0) Atomics.store(words, Word.smallFlushed, written);
    if (this.rate > 0 && kibibytes >= tellingKibibytes) {
      const rate = (kibibytes * 1024 * 1000) / Math.max(milliseconds, easyMilliseconds);
      if (rate >= fastBytesPerSecond) floats[Float.deviceRate] = 0;
      else this.blend(rate);
    }
    Atomics.add(words, Word.flushes, 1);
    Atomics.notify(words, Word.flushes);
  }

  private get rate(): number {
    return this.shared.floats[Float.deviceRate] ?? 0;
  }

  private blend(rate: number): void {
    const { floats } = this.shared;
    floats[Float.deviceRate] = Math.max(1, this.rate * (1 - newShare) + rate * newShare);
  }

  private takeProbe(first: number): boolean {
    const { floats } = this.shared;
    const done = this.writtenBytes();
    if (done < Math.max(first, floats[Float.nextProbe] ?? 0)) return false;
    floats[Float.nextProbe] = done + probeBytes;
    return true;
  }

  private writtenBytes(): number {
    return this.shared.total(Counter.bytesDone) - this.shared.total(Counter.bytesCloned);
  }

  /** Of small files: what they have left that no flush has reached. */
  private aheadKibibytes(): number {
    const { words } = this.shared;
    return (Atomics.load(words, Word.smallWritten) - Atomics.load(words, Word.smallFlushed)) | 0;
  }

  private keepBound(): void {
    const { words } = this.shared;
    for (;;) {
      const flushes = Atomics.load(words, Word.flushes);
      const window = windowAt(this.rate) / 1024;
      const ahead = this.aheadKibibytes();
      if (ahead < window / 2) return;
      if (Atomics.compareExchange(words, Word.flushWanted, 0, 1) === 0) Atomics.notify(words, Word.flushWanted);
      // Without marks there is nobody who flushes: the copies lie on too many devices, or all is copied.
      const mayGoOn = Atomics.load(words, Word.command) === Command.run && Atomics.load(words, Word.marksOff) === 0;
      if (ahead < window || !mayGoOn) return;
      Atomics.wait(words, Word.flushes, flushes, maxWaitMs);
    }
  }
}

function windowAt(rate: number): number {
  return rate === 0 ? Number.POSITIVE_INFINITY : Math.min(maxWindowBytes, Math.max(minWindowBytes, rate));
}
