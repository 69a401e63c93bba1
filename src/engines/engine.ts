// The one interface of every copy engine: bytes from one descriptor to another, in blocks, stopping when told.

import type { EngineName } from "../request.ts";

/** What a lane lends to the engines: called after every block, so that pause, cancel, limits and progress need no thread of their own. */
export interface CopyControl {
  /**
   * Counts `bytes` as copied (or `cloned`: shared with the source). Waits while the job is paused or over its bandwidth limit.
   * Returns false when the job was cancelled: the engine stops at once with Stopped. // hot: once a block
   */
  readonly advanced: (bytes: number, how: "copied" | "cloned") => boolean;
  /** How much may be moved before `advanced` is called again, `most` at most: less where a low limit would make of it a long sleep. */
  readonly stepBytes?: (most: number) => number;
  /** After a read that failed and may succeed: waits and says whether to read again. Without it the first error is the last. */
  readonly mayRetry?: (attempt: number) => boolean;
  readonly retryHelped?: () => void;
  /** Uncounts what will be counted again; `cloned` of these bytes were. */
  readonly takeBack?: (bytes: number, cloned: number) => void;
}

/** One file's data on its way; a lane owns one and reuses it for each file. */
export interface DataCopy {
  sourceFd: number;
  destinationFd: number;
  /** The next byte to copy, the same in both files. Engines advance it; after a failure the next engine goes on from here. */
  offset: number;
  /** Exclusive end of the range to copy. The source may end before it; engines never copy past it. */
  end: number;
  /** Set by the engine when a read returned 0: the source ended at `offset`. */
  sourceEnded: boolean;
  /** After a failure: whose fault it was, and which call. */
  failedSide: "source" | "destination";
  failedSyscall: string;
}

/** The copy() return value for "the job was cancelled"; not an errno. */
export const stopped = -4096;

/** Says of a failure whose fault it was, and which call; returns the result. */
export function failed(copy: DataCopy, result: number, side: DataCopy["failedSide"], syscall: string): number {
  copy.failedSide = side;
  copy.failedSyscall = syscall;
  return result;
}

export interface Engine {
  readonly name: EngineName;
  /**
   * Copies [offset, end) or up to the source's end. Returns 0 when done, `stopped`, or -errno with failedSide and failedSyscall
   * set; whether an errno means "unsupported, ask the next engine" is the engine's to say through `isUnsupported`.
   * A block is at most 1 MiB between two calls of control.advanced (1 GiB for calls that move no data, such as a clone).
   */
  copy(copy: DataCopy, control: CopyControl): number;
  isUnsupported(errno: number): boolean;
  [Symbol.dispose](): void;
}
