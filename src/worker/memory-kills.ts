// How many processes the kernel has ended for want of memory, to tell such an end of a worker from any other SIGKILL.

import { readFileSync } from "node:fs";

/** In this process's control group, workers included, where that is told (version 2); else on this machine; -1: unknown. Only ascends. */
export function memoryKills(): number {
  const group = /^0::(.*)$/m.exec(textOf("/proc/self/cgroup"))?.[1] ?? "";
  return countIn(`/sys/fs/cgroup${group}/memory.events`) ?? countIn("/proc/vmstat") ?? -1;
}

function countIn(path: string): number | null {
  const count = /^oom_kill (\d+)$/m.exec(textOf(path))?.[1];
  return count === undefined ? null : Number(count);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Not there: no control groups of that version, or no /proc.
    return "";
  }
}
