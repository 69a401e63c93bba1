// A job's I/O and processor priority: low gives way to everybody else (ioprio_set(2), setpriority(2)).

import { libc, syscallNumbers } from "../ffi/libc.ts";
import type { JobOptions } from "../request.ts";

const IOPRIO_WHO_PROCESS = 1;
const PRIO_PROCESS = 0;
/** linux/ioprio.h: class in the top three bits, level 0 (first) to 7 below. */
const idleClass = 3 << 13;
const bestEffortClass = 2 << 13;
const highLevel = 0;
const lowNiceness = 15;

/**
 * For this thread and those started from it later: call it before the lanes start. Only lowering is open to everybody, and `high`
 * and `now` raise nothing but the place among equals; a refusal changes nothing about what is copied.
 */
export function applyPriority(priority: JobOptions["priority"]): void {
  switch (priority) {
    case "low":
      libc.syscall(syscallNumbers.ioprio_set, IOPRIO_WHO_PROCESS, 0, idleClass);
      libc.syscall(syscallNumbers.setpriority, PRIO_PROCESS, 0, lowNiceness);
      break;
    case "high":
    case "now":
      libc.syscall(syscallNumbers.ioprio_set, IOPRIO_WHO_PROCESS, 0, bestEffortClass | highLevel);
      break;
    case "normal":
      break;
  }
}
