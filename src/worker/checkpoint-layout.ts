// How a checkpoint file is laid out: a head that all threads map, and behind it the log, page after page.
//
// head page | two pages a lane: what it has finished and not yet written to the log | one page for each partial file | log
//
// The head is shared memory backed by the page cache, so a kill -9 loses nothing of it. What of the file counts after a power cut is
// said by marks: a mark is written when all that it covers is on the device.

import { maxLanes } from "./shared.ts";

export const pageBytes = 4096;
export const checkpointMagic = 0x31706b63;
export const checkpointVersion = 1;

/** 32-bit words of the head page. */
export const HeadWord = {
  magic: 0,
  version: 1,
  /** How many workers this job has had. */
  runs: 2,
  /** Placement.*: whether the arguments went into the destination, or the one argument became it. */
  placement: 3,
  /** 1: everything is copied and flushed, and a move has begun to remove its sources. */
  removing: 4,
  /** 1: a worker had no room to note something. */
  incomplete: 5,
  /** The first errno that a flush of copies was told, which the kernel tells once; 0: none, as in a file of a worker that kept none. */
  flushError: 6,
} as const;

export const Placement = { unknown: 0, exact: 1, into: 2 } as const;

/** Two marks, written in turn, so that a torn one leaves the other. */
export const markStarts = [512, 1024] as const;
export const MarkWord = {
  sequence: 0,
  /** Pages of the log that are on the device. */
  pages: 1,
  removing: 2,
  check: 3,
  /** Of each lane's tail: which one, and how many of its records. */
  tails: 4,
  words: 4 + maxLanes * 2,
} as const;

/** copies: records of four words; the lowest bit of the first is 0 for a copy, 1 for a note of something else. links: of inodes with several names, the source's key and the path of the first copy. */
export const PageKind = { none: 0, copies: 0x70636b31, links: 0x70636b32 } as const;
/** Words of a page of the log, which is a lane's tail as it was when it was full. */
export const PageWord = {
  kind: 0,
  /** Counts the tails that a lane has had. */
  generation: 1,
  used: 2,
  /** 1: its copies were noted, and may be lost all the same: the worker ended before a flush said that they are not. */
  isDoubtful: 3,
  records: 4,
} as const;
/** In a page of links, `used` counts words; each record is the source's key, the path's length in bytes, and the path. */
export const linkHeadWords = 3;
export const maxLinkPathBytes = 3072;
export const recordWords = 4;
export const noteBit = 1;
export const recordsPerPage = (pageBytes / 4 - PageWord.records) / recordWords;

export const tailsStart = pageBytes;
export const tailBytes = 2 * pageBytes;
export const maxPartials = 64;
export const partialsStart = tailsStart + maxLanes * tailBytes;
export const logStart = partialsStart + maxPartials * pageBytes;
/** 160 MiB: ten million files. */
export const maxLogPages = 40 * 1024;

/** A hash over 32-bit words that is never 0: a torn or empty mark has none. */
export function checkOf(words: Uint32Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let index = start; index < end; index++) hash = Math.imul((hash ^ (words[index] ?? 0)) >>> 0, 0x01000193) ^ (hash >>> 13);
  return (hash | 1) >>> 0;
}
