// Where a former worker put the first copies of inodes with several names, so that the others become links to them.

import { libc } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";
import { linkHeadWords, logStart, maxLinkPathBytes, PageKind, PageWord, pageBytes } from "./checkpoint-layout.ts";

/** Beyond this many an inode may be copied a second time and its names linked to that: what is remembered lies on the heap. */
const maxLinks = 200_000;

export function linkKey(low: number, high: number): string {
  return `${high}:${low}`;
}

/** Reads the log's pages of links as they were when this worker began. Nothing in them is believed before it was looked at. */
export function readLinkPaths({ fd, pages }: CheckpointMemory): Map<string, string> {
  const paths = new Map<string, string>();
  using page = new NativeMemory(pageBytes);
  for (let index = 0; index < pages && paths.size < maxLinks; index++) {
    const at = logStart + index * pageBytes;
    // Most pages are of the other kind, which the first word tells.
    if (libc.pread(fd, page.address, 4, at) !== 4 || page.u32[PageWord.kind] !== PageKind.links) continue;
    if (libc.pread(fd, page.address, pageBytes, at) === pageBytes) addPage(paths, page);
  }
  return paths;
}

function addPage(paths: Map<string, string>, { u32: words, bytes }: NativeMemory): void {
  const end = PageWord.records + Math.min(words[PageWord.used] ?? 0, pageBytes / 4 - PageWord.records);
  for (let at = PageWord.records; at + linkHeadWords < end; ) {
    const length = words[at + 2] ?? 0;
    const start = (at + linkHeadWords) * 4;
    if (length === 0 || length > maxLinkPathBytes || start + length > pageBytes) return;
    const path = Buffer.from(bytes.subarray(start, start + length)).toString("latin1");
    if (!path.includes("\0")) paths.set(linkKey(words[at] ?? 0, words[at + 1] ?? 0), path);
    at += linkHeadWords + Math.ceil(length / 4);
  }
}
