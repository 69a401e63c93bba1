// How many files a worker may have open: deep trees hold two descriptors a level.

import { layout } from "../ffi/layout.ts";
import { libc } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";

const RLIMIT_NOFILE = 7;

/** As many as the hard limit allows. */
export function raiseDescriptorLimit(): void {
  using arena = new Arena(64);
  const limits = arena.allocate(16);
  const at = (limits - arena.memory.address) / layout.timespec.tv_nsec;
  if (libc.getrlimit(RLIMIT_NOFILE, limits) < 0) return;
  const words = arena.memory.u32;
  words[at * 2] = words[at * 2 + 2] ?? 0;
  words[at * 2 + 1] = words[at * 2 + 3] ?? 0;
  libc.setrlimit(RLIMIT_NOFILE, limits);
}

/** How many that are; 0 where nobody says. */
export function descriptorLimit(): number {
  using arena = new Arena(64);
  const limits = arena.allocate(16);
  if (libc.getrlimit(RLIMIT_NOFILE, limits) < 0) return 0;
  const at = (limits - arena.memory.address) / 4;
  return (arena.memory.u32[at] ?? 0) + (arena.memory.u32[at + 1] ?? 0) * 2 ** 32;
}
