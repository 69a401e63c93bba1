// The name that ps shows of a worker: its command line is a descriptor of /proc, whose number the kernel would take for a name.

import { libc } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";

/** Of the calling thread, which is the process's where that is the main one (prctl(2)). */
const PR_SET_NAME = 15;

export function nameProcess(name: string): void {
  using arena = new Arena(name.length + 1);
  libc.prctl(PR_SET_NAME, arena.cstring(name), 0, 0, 0);
}
