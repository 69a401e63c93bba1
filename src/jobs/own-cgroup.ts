// Where this process's control group of version 2 lies.

import { existsSync, readFileSync } from "node:fs";
import { parseMountInfo } from "../mountinfo.ts";

/**
 * Its directory, or null where no hierarchy of version 2 is mounted where this process could see its own group in it. cgroups(7): beside
 * hierarchies of version 1 it is mounted below them, in a container perhaps only a part of it.
 */
export function ownCgroup(): string | null {
  const own = /^0::(\/.*)$/m.exec(readFileSync("/proc/self/cgroup", "latin1"))?.[1];
  if (own === undefined) return null;
  const path = own === "/" ? "" : own;
  for (const { type, root, point } of parseMountInfo(readFileSync("/proc/self/mountinfo", "latin1"))) {
    if (type !== "cgroup2" || !(path === root || path.startsWith(`${root}/`))) continue;
    const directory = `${point}${path.slice(root.length)}`;
    if (existsSync(`${directory}/cgroup.procs`)) return directory;
  }
  return null;
}

/** Controllers that groups below this one could have. */
export function controllersOf(group: string): string[] {
  return readFileSync(`${group}/cgroup.controllers`, "latin1").trim().split(" ").filter(Boolean);
}
