// Damages a file on its medium behind the filesystem's back: finds its bytes in the image and flips one bit of them.

import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { runChecked } from "./process.ts";

/** Parts of the image that hold data: the rest of it is a hole. */
async function* dataOf(image: string): AsyncGenerator<readonly [start: number, bytes: Buffer]> {
  const { stdout } = await runChecked(["xfs_io", "-r", "-c", "seek -a -r 0", image]);
  const marks = [...stdout.matchAll(/(DATA|HOLE)\s+(\d+)/g)].map(([, kind, at]) => ({ kind, at: Number(at) }));
  const fd = openSync(image, "r");
  try {
    for (const [index, { kind, at }] of marks.entries()) {
      if (kind !== "DATA") continue;
      const end = marks[index + 1]?.at ?? at;
      const overlap = 4096;
      const bytes = Buffer.alloc(8 * 1024 * 1024 + overlap);
      for (let start = at; start < end; start += bytes.length - overlap) {
        const length = readSync(fd, bytes, 0, Math.min(bytes.length, end - start), start);
        yield [start, bytes.subarray(0, length)];
      }
    }
  } finally {
    closeSync(fd);
  }
}

/**
 * Flips the lowest bit of the byte `after` bytes behind each occurrence of `marker` in the image. The file must be on the medium
 * (synced), and the marker must be in one of its blocks together with the byte. Returns how many it found.
 */
export async function flipBit(image: string, marker: Buffer, after: number): Promise<number> {
  const found = new Set<number>();
  for await (const [start, bytes] of dataOf(image)) {
    for (let at = bytes.indexOf(marker); at >= 0; at = bytes.indexOf(marker, at + 1)) found.add(start + at + after);
  }
  const fd = openSync(image, "r+");
  const byte = Buffer.alloc(1);
  for (const at of found) {
    readSync(fd, byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 1;
    writeSync(fd, byte, 0, 1, at);
  }
  closeSync(fd);
  return found.size;
}
