// A thread of its own that makes the checkpoint durable now and then: a flush takes as long as the device does, and no lane waits for it.

import { libc } from "../ffi/libc.ts";
import { CheckpointMarker } from "./checkpoint-marker.ts";
import { PartialFiles } from "./partial-files.ts";
import { type Shared, Word } from "./shared.ts";

const tickMs = 1000;
/** A mark flushes the destination's filesystem: as often as the kernel's own flusher, which wakes every five seconds. */
const ticksPerMark = 5;

/** Returns when the job is done. */
export function markUntilDone(shared: Shared): void {
  const { words } = shared;
  const { checkpoint } = shared;
  if (checkpoint === null) return;
  const marker = new CheckpointMarker(shared);
  const partials = new PartialFiles(shared, checkpoint);
  for (let tick = 1; Atomics.load(words, Word.done) === 0 && Atomics.load(words, Word.marksOff) === 0; tick++) {
    Atomics.wait(words, Word.done, 0, tickMs);
    const isChanged = partials.makeDurable();
    if (tick % ticksPerMark === 1) marker.mark("copies");
    else if (isChanged) libc.fdatasync(checkpoint.fd);
  }
}
