// Free memory that stays where it is. A virtual machine may hand free pages back to its host (free page reporting, a balloon); each of
// them then costs a fault in the host when it is used again, a tenth of a second for a gigabyte or several seconds, as the host
// pleases. A run of a copy is timed by that instead of by its work, and the same command takes from 0.3 to 4 seconds.

import { dlopen } from "bun:ffi";
import { readFileSync } from "node:fs";
import { libc, Mmap } from "../src/ffi/libc.ts";

const mebibyte = 1024 ** 2;
/** Only free blocks of 2 MiB and more are handed back: a page in each mebibyte keeps every block smaller than that. */
const stride = mebibyte;
const pageBytes = 4096;
const madviseNoHugePage = 15;
const madvisePopulateWrite = 23;
/** What the rest of the machine may want meanwhile. */
const spareBytes = 1024 * mebibyte;

/**
 * Touches `bytes` of free memory, or what there is of it, and gives it back but for one page in each mebibyte, until disposed.
 * Allocators take small blocks before they break large ones, so that what is copied next lands in these. Throws where mmap fails.
 */
export function holdMemory(bytes: number): Disposable {
  const length = Math.floor(Math.min(bytes, availableBytes() - spareBytes) / stride) * stride;
  if (length <= 0) return { [Symbol.dispose]: () => {} };
  const flags = Mmap.MAP_PRIVATE | Mmap.MAP_ANONYMOUS | Mmap.MAP_NORESERVE;
  const address = libc.mmap(0, length, Mmap.PROT_READ | Mmap.PROT_WRITE, flags, -1, 0);
  if (address < 0) throw new Error(`mmap of ${length} bytes failed: errno ${-address}`);
  const { symbols, close } = dlopen("libc.so.6", { madvise: { args: ["u64", "u64", "i32"], returns: "i32" } });
  // A huge page that is partly unmapped would stay whole, and so would what it holds.
  symbols.madvise(address, length, madviseNoHugePage);
  symbols.madvise(address, length, madvisePopulateWrite);
  close();
  for (let offset = 0; offset < length; offset += stride) libc.munmap(address + offset + pageBytes, stride - pageBytes);
  return {
    [Symbol.dispose]: () => {
      for (let offset = 0; offset < length; offset += stride) libc.munmap(address + offset, pageBytes);
    },
  };
}

/** Free memory and what can be made free, in bytes. */
export function availableBytes(): number {
  return Number(/^MemAvailable:\s+(\d+)/m.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0) * 1024;
}
