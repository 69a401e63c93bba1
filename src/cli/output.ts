// Bytes to standard output and standard error, at once and in order: what cp prints is done when the next line is printed.

import { readFileSync, readlinkSync, writeSync } from "node:fs";
import { Errno, errnoText } from "../errno.ts";

export type Stream = "stdout" | "stderr";

/** O_CLOEXEC, as fdinfo shows it. */
const closeOnExec = 0o2000000;

const descriptors: Readonly<Record<Stream, number>> = { stdout: 1, stderr: 2 };

/** Standard output takes no more: its reader has gone ("nobody reads"), its disk is full, or it is closed. What follows would be for nobody. */
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
  if (stream === "stdout" && isStdoutClosed()) throw new OutputLost(badDescriptor());
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

let stdoutClosed: boolean | undefined;

/**
 * Whether we were started with standard output closed. The runtime then opens /dev/null in its place, so that no file gets its number,
 * and closes that at exec, which nothing that was inherited can be. GNU's programs say so when they have something to print.
 */
function isStdoutClosed(): boolean {
  stdoutClosed ??= isRuntimesOwn(descriptors.stdout);
  return stdoutClosed;
}

function isRuntimesOwn(fd: number): boolean {
  try {
    if (readlinkSync(`/proc/self/fd/${fd}`) !== "/dev/null") return false;
    const [, flags = "0"] = /^flags:\t([0-7]+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, "latin1")) ?? [];
    return (Number.parseInt(flags, 8) & closeOnExec) !== 0;
  } catch {
    // No /proc: what is printed goes where it goes.
    return false;
  }
}

function badDescriptor(): NodeJS.ErrnoException {
  return Object.assign(new Error("standard output is closed"), { code: "EBADF", errno: -Errno.EBADF });
}
