// The copy of one large file by several threads: the owner's part and a helper's. What they agree on lies on a RangeBoard.

import type { MediumReads } from "../ffi/medium-reads.ts";
import type { EngineOptions } from "./chooser.ts";
import type { CopyControl, DataCopy } from "./engine.ts";
import { type RangeBoard, rangeBytes } from "./range-board.ts";

/** Files from this size on are shared out among the threads that have nothing else to do. Measured: bench/split.md. */
export const sharedFromBytes = 16 * 1024 * 1024;

/** A range of which this share comes from a medium tells that the file is cold. */
const coldShare = 1 / 8;
/** So many ranges without any tell that it is no more: what the kernel reads ahead at a time is less than they are. */
const warmRanges = 8;

export interface SharedCopySetup {
  readonly board: RangeBoard;
  readonly data: DataCopy;
  /** Copies [data.offset, data.end) as an engine does, in any order of ranges. */
  readonly copyRange: () => number;
  /** Bytes that copyRange has counted for the file at hand. */
  readonly counted: () => number;
  readonly control: CopyControl;
  /** False where a second thread helps nobody: before a slow device. Asked before each range. */
  readonly paysToHelp: () => boolean;
  /** This thread's. */
  readonly mediumReads: MediumReads;
}

export class SharedCopy {
  /** Of the latest file that was this thread's own: what helpers copied of it. */
  helpedBytes = 0;
  private isOnBoard = false;
  /** Ranges to go until the file counts as warm again. */
  private coldRanges = 0;
  private readonly setup: SharedCopySetup;

  constructor(setup: SharedCopySetup) {
    this.setup = setup;
  }

  /** Shares out what is left of a file up to `end`. False when another file is shared out already. */
  open(end: number): boolean {
    const { board, data } = this.setup;
    return board.open(data.sourceFd, data.destinationFd, data.offset, end);
  }

  /**
   * The owner's part. Returns what an engine would: 0 with data.offset at the end or, where the source ended before,
   * data.sourceEnded set; `stopped` or -errno. Nobody else uses the descriptors any more.
   */
  copy(): number {
    const { board, data } = this.setup;
    let result = 0;
    this.isOnBoard = true;
    this.coldRanges = 0;
    this.setup.mediumReads.take();
    for (let start = board.take(); start >= 0; start = board.take()) {
      result = this.copyFrom(start);
      if (result !== 0 || data.sourceEnded) break;
      this.lookForMedium();
    }
    this.isOnBoard = false;
    const endedAt = data.sourceEnded ? data.offset : board.end;
    if (result !== 0 || data.sourceEnded) board.stop();
    board.close();
    this.helpedBytes = board.helpedBytes;
    const again = board.failedRanges();
    const lastByte = board.end;
    board.free();
    if (result !== 0) return result;
    for (const start of again) {
      if (start >= endedAt) break;
      data.sourceEnded = false;
      result = this.copyFrom(start, lastByte);
      if (result !== 0 || data.sourceEnded) return result;
    }
    data.sourceEnded = endedAt < lastByte;
    data.offset = endedAt;
    return 0;
  }

  /** While copy() runs: all before this byte is copied. */
  get wholeUntil(): number {
    const { board, data } = this.setup;
    // What is copied again comes in order, when all else is there.
    return this.isOnBoard ? board.wholeUntil(data.offset) : data.offset;
  }

  /** A helper's part, until no range is left. False when there was nothing to join. `begin` prepares data for the board's descriptors. */
  help(begin: (sourceFd: number, destinationFd: number) => void): boolean {
    const { board, data, counted, control, paysToHelp } = this.setup;
    if (!paysToHelp() || !board.join()) return false;
    begin(board.sourceFd, board.destinationFd);
    let whole = 0;
    for (let start = board.take(); start >= 0; start = paysToHelp() && !board.isAlone ? board.take() : -1) {
      if (this.copyFrom(start) !== 0 || data.sourceEnded) {
        board.failed(start);
        break;
      }
      whole = counted();
    }
    // Whoever copies the range again counts all of it.
    if (counted() > whole) control.takeBack?.(counted() - whole, 0);
    board.helped(whole);
    board.leave();
    return true;
  }

  /**
   * One thread that reads in order gets as much from a medium as there is: the kernel reads ahead of it, in large pieces. Two in turns take
   * from each other what was read ahead, and have it read in smaller ones. Measured: bench/cold.md.
   */
  private lookForMedium(): void {
    const { board, mediumReads } = this.setup;
    if (mediumReads.take() >= rangeBytes * coldShare) this.coldRanges = warmRanges;
    else if (this.coldRanges > 0) this.coldRanges--;
    board.isAlone = this.coldRanges > 0;
  }

  private copyFrom(start: number, end = this.setup.board.end): number {
    const { data, copyRange } = this.setup;
    data.offset = start;
    data.end = Math.min(start + rangeBytes, end);
    return copyRange();
  }
}

/** Dropping pages follows one reader, and holes are made by looking at every block: only plain reading and writing is shared. */
export function canShare({ engine, cache, sparse }: EngineOptions): boolean {
  return (engine === "auto" || engine === "read-write") && cache === "keep" && sparse !== "always";
}
