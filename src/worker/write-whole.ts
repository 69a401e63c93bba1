// Blocking output to a descriptor that somebody may have made non-blocking.

import { writeSync } from "node:fs";

/** Writes all of it, waiting for a slow reader. Throws what writeSync throws, but for EAGAIN. */
export function writeWhole(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (cause) {
      if (!(cause instanceof Error && "code" in cause && cause.code === "EAGAIN")) throw cause;
      Bun.sleepSync(1);
    }
  }
}
