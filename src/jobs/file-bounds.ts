// How much a worker may write to its job's own files. They lie where its user can write nothing, and count in nobody's quota: a worker
// that was taken over could fill the service's filesystem through the descriptors that it was given.

import { fstatSync, ftruncateSync } from "node:fs";
import { inFlightBytes, maxCheckpointBytes } from "../worker/protocol.ts";

/** A fast disk takes some hundred megabytes in this time. */
const intervalMs = 250;

/**
 * Calls `onBeyond` once, when one of the files has become larger than any worker needs it. What is beyond is cut off, before for
 * the sake of the worker that begins, and when the watch is disposed. The descriptors stay the caller's to close.
 */
export function watchFileBounds(inFlightFd: number, checkpointFd: number | null, onBeyond: () => void): Disposable {
  const bounds: [fd: number, maxBytes: number][] = [[inFlightFd, inFlightBytes]];
  if (checkpointFd !== null) bounds.push([checkpointFd, maxCheckpointBytes]);
  const beyond = (): typeof bounds => bounds.filter(([fd, maxBytes]) => fstatSync(fd).size > maxBytes);
  const cut = (): void => {
    for (const [fd, maxBytes] of beyond()) ftruncateSync(fd, maxBytes);
  };
  cut();
  const timer = setInterval(() => {
    if (beyond().length === 0) return;
    clearInterval(timer);
    onBeyond();
  }, intervalMs);
  timer.unref();
  return {
    [Symbol.dispose]: () => {
      clearInterval(timer);
      cut();
    },
  };
}
