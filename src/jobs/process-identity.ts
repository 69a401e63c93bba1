// Which process a number means: with the time of its start, a number names one process for good, also when it is given away again. And
// which boot it is.

import { readFileSync } from "node:fs";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, as text. */
  readonly startTime: string;
}

/** null where there is no such process. */
export function processIdentity(pid: number): ProcessIdentity | null {
  const startTime = startTimeOf(pid);
  return startTime === "" ? null : { pid, startTime };
}

/** Whether that very process is still there. */
export function isAlive({ pid, startTime }: ProcessIdentity): boolean {
  return startTimeOf(pid) === startTime;
}

/**
 * When a process started (proc(5), field 22). "" for none, and for one that has ended and only waits to be reaped, which in a
 * container whose first process reaps nobody lasts for ever.
 */
export function startTimeOf(pid: number): string {
  try {
    const status = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = status.slice(status.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" || fields[0] === "X" ? "" : (fields[19] ?? "");
  } catch {
    // No such process.
    return "";
  }
}

/** random(4): another one after each boot. */
export function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    // Not to be told: then every start counts as another boot, which trusts less.
    return crypto.randomUUID();
  }
}

/** As much of it as workers note. */
export function bootNumber(id = bootId()): number {
  return Number.parseInt(id.slice(0, 8), 16) >>> 0;
}
