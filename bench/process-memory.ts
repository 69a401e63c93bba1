// The peak memory of a process with all its descendants, watched from outside.

import { readdirSync, readFileSync } from "node:fs";

export interface MemoryPeak {
  /** Most proportional set size of all processes at one moment: pages that several share count once. */
  readonly pssBytes: number;
  /** The processes' highest resident set sizes, added up: pages that several share count for each. */
  readonly rssBytes: number;
}

export interface MemoryWatch {
  stop(): Promise<MemoryPeak>;
}

const intervalMs = 10;

/** Watches these processes and what they start until stopped. */
export function watchMemory(roots: readonly number[]): MemoryWatch {
  let running = true;
  let pssBytes = 0;
  const highest = new Map<number, number>();
  const look = (): void => {
    let now = 0;
    // A process that was just begun shares all memory with its parent, until it becomes a program of its own.
    const seen = new Set<string>();
    for (const pid of descendants(roots)) {
      const memory = memoryOf(pid);
      if (seen.has(memory)) continue;
      seen.add(memory);
      now += pssOf(pid);
      highest.set(pid, Math.max(highest.get(pid) ?? 0, kilobytes(`/proc/${pid}/status`, "VmHWM")));
    }
    pssBytes = Math.max(pssBytes, now);
  };
  const watching = (async () => {
    while (running) {
      look();
      await Bun.sleep(intervalMs);
    }
  })();
  return {
    async stop() {
      running = false;
      await watching;
      return { pssBytes, rssBytes: [...highest.values()].reduce((sum, value) => sum + value, 0) };
    },
  };
}

/** The processes and all their descendants that there are right now. */
export function descendants(roots: readonly number[]): number[] {
  const found = [...roots];
  for (const pid of found) {
    for (const child of childrenOf(pid)) if (!found.includes(child)) found.push(child);
  }
  return found;
}

function childrenOf(pid: number): number[] {
  try {
    return readdirSync(`/proc/${pid}/task`).flatMap((task) =>
      readFileSync(`/proc/${pid}/task/${task}/children`, "latin1")
        .split(" ")
        .filter((word) => word !== "")
        .map(Number),
    );
  } catch {
    // It has ended meanwhile.
    return [];
  }
}

/** The fields of proc(5)'s stat behind the command's name: the state is the first. Throws where there is no such process. */
export function statFields(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  return stat.slice(stat.lastIndexOf(")") + 2).split(" ");
}

/** What tells one process's memory from another's: where its stack begins, which each program has elsewhere (proc(5), stat, startstack). */
function memoryOf(pid: number): string {
  try {
    return statFields(pid)[25] ?? `${pid}`;
  } catch {
    return `${pid}`;
  }
}

function pssOf(pid: number): number {
  return kilobytes(`/proc/${pid}/smaps_rollup`, "Pss");
}

/** A line "Name:  123 kB" in bytes; 0 where the process has ended. */
function kilobytes(path: string, name: string): number {
  try {
    return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(readFileSync(path, "latin1"))?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
