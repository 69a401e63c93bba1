// What the kernel counts against workers: processes that it ended for want of memory, and those that it refused for being too many.

import { readFileSync } from "node:fs";

/**
 * How many processes the kernel has ended for want of memory, to tell such an end of a worker from any other SIGKILL: in this control
 * group (an absolute path, version 2); else in this process's own, workers included; else on this machine; -1: unknown. Only ascends.
 */
export function memoryKills(group: string | null = null): number {
  const kills = group === null ? null : countIn(`${group}/memory.events`, "oom_kill");
  if (kills !== null) return kills;
  const own = /^0::(.*)$/m.exec(textOf("/proc/self/cgroup"))?.[1] ?? "";
  return countIn(`/sys/fs/cgroup${own}/memory.events`, "oom_kill") ?? countIn("/proc/vmstat", "oom_kill") ?? -1;
}

/** How many processes and threads the kernel has refused this control group, because it has as many as it may; -1: unknown. Only ascends. */
export function processRefusals(group: string | null): number {
  return (group === null ? null : countIn(`${group}/pids.events`, "max")) ?? -1;
}

/** Both counts at one moment. */
export interface KernelCounts {
  readonly memoryKills: number;
  readonly processRefusals: number;
}

/** Of this control group, as of the two functions. */
export function kernelCounts(group: string | null): KernelCounts {
  return { memoryKills: memoryKills(group), processRefusals: processRefusals(group) };
}

function countIn(path: string, name: string): number | null {
  const count = new RegExp(`^${name} (\\d+)$`, "m").exec(textOf(path))?.[1];
  return count === undefined ? null : Number(count);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    // Not there: no control groups of that version, no such controller, or no /proc.
    return "";
  }
}
