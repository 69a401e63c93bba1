// Bytes to standard output and standard error, at once and in order: what cp prints is done when the next line is printed.

import { writeSync } from "node:fs";
import { errnoText } from "../errno.ts";

export type Stream = "stdout" | "stderr";

const descriptors: Readonly<Record<Stream, number>> = { stdout: 1, stderr: 2 };

/** Standard output takes no more: its reader has gone ("nobody reads"), or its disk is full. What follows would be for nobody. */
export class OutputLost extends Error {
  override readonly name = "OutputLost";
  /** That of a program which SIGPIPE ended, or that of cp where it cannot write. */
  readonly exitStatus: number;
  /** A shell says nothing of a program that SIGPIPE ended. */
  readonly isSilent: boolean;

  constructor(cause: NodeJS.ErrnoException) {
    super(`write error: ${errnoText(-(cause.errno ?? 0))}`, { cause });
    this.isSilent = cause.code === "EPIPE";
    this.exitStatus = this.isSilent ? 141 : 1;
  }
}

/**
 * Writes latin1 bytes whole. Throws OutputLost where standard output takes them no more; what cannot be written to standard error is
 * dropped, as there is nowhere left to say so.
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
      else throw new OutputLost(error as NodeJS.ErrnoException);
    }
  }
}
