// How much a job may leave unwritten in the page cache: what one lane measures of the device, all of them keep to.

import type { DirtyBounds } from "../engines/write-behind.ts";
import { Counter, Float, type Shared, Word } from "./shared.ts";

const mebibyte = 1024 * 1024;
/** A job is measured for the first time after so many bytes, and then after so many more: 4 MiB of each are waited for. */
const firstProbeBytes = 16 * mebibyte;
const probeBytes = 512 * mebibyte;
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

export class SharedDirtyBounds implements DirtyBounds {
  private readonly shared: Shared;
  private easy = 0;

  constructor(shared: Shared) {
    this.shared = shared;
  }

  /** hot: once a MiB of a large file. */
  get windowBytes(): number {
    const rate = this.shared.floats[Float.deviceRate] ?? 0;
    if (rate === 0) return 0;
    const window = Math.min(maxWindowBytes, Math.max(minWindowBytes, rate));
    return window / Math.max(1, this.shared.words[Word.lanes] ?? 1);
  }

  isProbeDue(): boolean {
    const { floats } = this.shared;
    const done = this.shared.total(Counter.bytesDone) - this.shared.total(Counter.bytesCloned);
    if (done < Math.max(firstProbeBytes, floats[Float.nextProbe] ?? 0)) return false;
    floats[Float.nextProbe] = done + probeBytes;
    // Until it is known, the other lanes do not run ahead.
    floats[Float.deviceRate] = minWindowBytes;
    return true;
  }

  measured(bytes: number, milliseconds: number, wasWaiting: boolean): void {
    const { floats } = this.shared;
    const rate = milliseconds > 0 ? (bytes / milliseconds) * 1000 : Number.POSITIVE_INFINITY;
    if (!wasWaiting) {
      floats[Float.deviceRate] = rate < fastBytesPerSecond ? rate : 0;
      return;
    }
    this.easy = milliseconds < easyMilliseconds ? this.easy + 1 : 0;
    if (this.easy >= easyWaits) {
      this.easy = 0;
      floats[Float.deviceRate] = 0;
    } else if (milliseconds >= easyMilliseconds) {
      const known = floats[Float.deviceRate] ?? 0;
      floats[Float.deviceRate] = Math.max(1, known * (1 - newShare) + Math.min(rate, fastBytesPerSecond) * newShare);
    }
  }
}
