// What the lanes did since they were last looked at, by what the kernel counts for this process and by what they count themselves.

import { inblockBytes } from "../ffi/medium-reads.ts";
import type { LaneMeasurement } from "./lane-count.ts";
import { Counter, Float, type Shared, Word } from "./shared.ts";

export class LaneMeter {
  private last = { now: performance.now(), busy: 0, preemptions: 0, entries: 0, bytes: 0, mediumBytes: 0 };

  /** Since the call before, or since this was made. */
  next(shared: Shared): LaneMeasurement {
    const usage = process.resourceUsage();
    const before = this.last;
    this.last = {
      now: performance.now(),
      busy: (usage.userCPUTime + usage.systemCPUTime) / 1e6,
      preemptions: usage.involuntaryContextSwitches,
      entries: shared.total(Counter.filesDone) + shared.total(Counter.directoriesDone),
      bytes: shared.total(Counter.bytesDone),
      mediumBytes: usage.fsRead * inblockBytes,
    };
    const { now, busy, preemptions, entries, bytes, mediumBytes } = this.last;
    return {
      seconds: (now - before.now) / 1000,
      busySeconds: busy - before.busy,
      preemptions: preemptions - before.preemptions,
      entries: entries - before.entries,
      bytes: bytes - before.bytes,
      mediumBytes: mediumBytes - before.mediumBytes,
      readsAhead: Atomics.load(shared.words, Word.readsAhead) === 1,
      opensAhead: Atomics.load(shared.words, Word.opensAhead) === 1,
      limit: shared.floats[Float.bandwidthLimit] ?? 0,
    };
  }
}
