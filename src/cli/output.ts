// Bytes to standard output and standard error, at once and in order: what cp prints is done when the next line is printed.

import { writeSync } from "node:fs";

export type Stream = "stdout" | "stderr";

const descriptors: Readonly<Record<Stream, number>> = { stdout: 1, stderr: 2 };

/** The reader of standard output has gone: what follows is printed for nobody. */
export class BrokenPipe extends Error {
  override readonly name = "BrokenPipe";
}

/**
 * Writes latin1 bytes whole. Throws BrokenPipe where nobody reads standard output any more; what cannot be written to standard
 * error is dropped, as there is nowhere left to say so.
 */
export function writeBytes(stream: Stream, latin1: string): void {
  writeWhole(stream, Buffer.from(latin1, "latin1"));
}

/** As writeBytes, for text. */
export function writeText(stream: Stream, text: string): void {
  writeWhole(stream, Buffer.from(text, "utf8"));
}

function writeWhole(stream: Stream, bytes: Buffer): void {
  let at = 0;
  while (at < bytes.length) {
    try {
      at += writeSync(descriptors[stream], bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // A terminal or pipe that somebody made non-blocking and that is full: wait for its reader.
      if (code === "EAGAIN") Bun.sleepSync(5);
      else if (stream === "stderr") return;
      else if (code === "EPIPE") throw new BrokenPipe("nobody reads standard output", { cause: error });
      else throw error;
    }
  }
}
