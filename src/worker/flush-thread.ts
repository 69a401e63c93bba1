// A thread of its own for what takes as long as the device does: marks that make the checkpoint durable now and then, and flushes that
// hold small files to the bound on dirty data. No lane waits for the former, and for the latter only where it is far ahead.

import { libc } from "../ffi/libc.ts";
import type { JobRequest } from "../request.ts";
import { CheckpointMarker } from "./checkpoint-marker.ts";
import { flushCopies, flushErrorOf, isMarked, promisesDurability } from "./flush.ts";
import { PartialFiles } from "./partial-files.ts";
import { type Shared, Word } from "./shared.ts";

const tickMs = 1000;
/** A mark flushes the destination's filesystem: as often as the kernel's own flusher, which wakes every five seconds. */
const markMs = 5000;

/** Returns when everything is copied, or at once where another thread does this. */
export function flushUntilDone(shared: Shared, request: JobRequest): void {
  const { words } = shared;
  if (Atomics.exchange(words, Word.flusher, 1) === 1) return;
  const flusher = new Flusher(shared, request);
  let nextTick = performance.now() + tickMs;
  while (Atomics.load(words, Word.done) === 0 && Atomics.load(words, Word.marksOff) === 0) {
    Atomics.wait(words, Word.flushWanted, 0, Math.max(0, nextTick - performance.now()));
    if (Atomics.exchange(words, Word.flushWanted, 0) === 1) flusher.flush();
    if (performance.now() < nextTick) continue;
    flusher.tick();
    nextTick = performance.now() + tickMs;
  }
}

class Flusher {
  private readonly shared: Shared;
  /** null: no later worker wants to know what was flushed. */
  private readonly marker: CheckpointMarker | null;
  private readonly partials: PartialFiles | null;
  private nextMark = 0;

  constructor(shared: Shared, request: JobRequest) {
    const { checkpoint } = shared;
    const isTimed = isMarked(shared, request);
    this.shared = shared;
    // Where a kill in a flush would leave all copies in doubt, each flush is a mark.
    this.marker = checkpoint !== null && promisesDurability(request) ? new CheckpointMarker(shared) : null;
    this.partials = checkpoint !== null && isTimed ? new PartialFiles(shared, checkpoint) : null;
  }

  /** For lanes that are ahead of the device. */
  flush(): void {
    const { shared } = this;
    if (this.marker !== null && flushErrorOf(shared) === 0) {
      this.mark(this.marker);
      return;
    }
    shared.lock(Word.markLock);
    if (Atomics.load(shared.words, Word.marksOff) === 0) flushCopies(shared, "unasked");
    shared.unlock(Word.markLock);
  }

  tick(): void {
    const { partials, marker } = this;
    if (partials === null || marker === null) return;
    const isChanged = partials.makeDurable();
    if (performance.now() >= this.nextMark) this.mark(marker);
    else if (isChanged) libc.fdatasync(this.shared.checkpoint?.fd ?? -1);
  }

  private mark(marker: CheckpointMarker): void {
    this.nextMark = performance.now() + markMs;
    marker.mark("copies");
  }
}
