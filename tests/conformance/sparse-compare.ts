// Compares two files byte by byte without reading their holes twice over: what one of them calls data is read from both.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { libc, Seek } from "../../src/ffi/libc.ts";

const chunk = 1024 * 1024;

/** null where sizes and all bytes are equal, else the first difference in words. */
export function difference(left: string, right: string): string | null {
  const a = openSync(left, "r");
  const b = openSync(right, "r");
  try {
    const size = fstatSync(a).size;
    if (fstatSync(b).size !== size) return `sizes ${size} and ${fstatSync(b).size}`;
    return differenceInData(a, a, b, size) ?? differenceInData(b, a, b, size);
  } finally {
    closeSync(a);
    closeSync(b);
  }
}

function differenceInData(map: number, a: number, b: number, size: number): string | null {
  const left = Buffer.alloc(chunk);
  const right = Buffer.alloc(chunk);
  let at = 0;
  while (at < size) {
    const start = libc.lseek(map, at, Seek.DATA);
    if (start < 0) return null;
    const end = libc.lseek(map, start, Seek.HOLE);
    for (let offset = start; offset < end; offset += chunk) {
      const length = Math.min(chunk, end - offset);
      const read = readSync(a, left, 0, length, offset);
      if (read !== readSync(b, right, 0, length, offset)) return `a read at ${offset} is shorter in one of them`;
      if (!left.subarray(0, read).equals(right.subarray(0, read))) return `bytes between ${offset} and ${offset + read}`;
    }
    at = end;
  }
  return null;
}
