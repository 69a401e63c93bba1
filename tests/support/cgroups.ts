// Control groups of version 2 for tests: a group of a test's own on the real hierarchy, and what it can limit here.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { parseMountInfo } from "../../src/mountinfo.ts";
import { unlessRoot } from "./skip.ts";

/** Where the hierarchy of version 2 is mounted; null where there is none. */
const hierarchy = parseMountInfo(readFileSync("/proc/self/mountinfo", "latin1")).find(({ type }) => type === "cgroup2")?.point ?? null;

/** Why a test can have no group of its own, or null. */
export function whyNoCgroup(): string | null {
  if (unlessRoot() !== null) return unlessRoot();
  if (hierarchy === null) return "no control groups of version 2 are mounted";
  try {
    const path = `${hierarchy}/copyd-test-${process.pid}-probe`;
    mkdirSync(path);
    rmdirSync(path);
    return null;
  } catch (error) {
    return `no control group can be made here: ${(error as NodeJS.ErrnoException).code}`;
  }
}

/** Why groups of tests cannot be limited in this, or null. Groups have it only where the root gives it to its children. */
export function whyNotLimited(controller: "memory" | "pids"): string | null {
  const reason = whyNoCgroup();
  if (reason !== null) return reason;
  const control = `${hierarchy}/cgroup.subtree_control`;
  if (!readFileSync(`${hierarchy}/cgroup.controllers`, "utf8").split(/\s+/).includes(controller))
    return `the controller ${controller} is not with the control groups of version 2 here`;
  return readFileSync(control, "utf8").split(/\s+/).includes(controller)
    ? null
    : `the root of the control groups does not give ${controller} to its children`;
}

export interface TestCgroup extends AsyncDisposable {
  readonly path: string;
  /** A command that begins in it. */
  inside(command: readonly string[]): string[];
}

/** An empty group, removed at the end with all below it, whose processes are killed. */
export function makeCgroup(name: string): TestCgroup {
  removeLeftOvers();
  const path = `${hierarchy}/copyd-test-${process.pid}-${name}`;
  mkdirSync(path);
  return {
    path,
    inside: (command) => ["/bin/sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', path, ...command],
    async [Symbol.asyncDispose]() {
      if (existsSync(`${path}/cgroup.kill`)) writeFileSync(`${path}/cgroup.kill`, "1");
      for (let tries = 0; tries < 100 && isPopulated(path); tries++) await Bun.sleep(20);
      removeEmpty(path);
    },
  };
}

/** Of runs that were killed. */
function removeLeftOvers(): void {
  for (const name of groupsIn(hierarchy ?? "")) {
    const pid = /^copyd-test-(\d+)-/.exec(name)?.[1];
    const path = `${hierarchy}/${name}`;
    if (pid !== undefined && !existsSync(`/proc/${pid}`) && !isPopulated(path)) removeEmpty(path);
  }
}

function removeEmpty(path: string): void {
  for (const group of groupsIn(path)) rmdirSync(`${path}/${group}`);
  rmdirSync(path);
}

/** Names of the groups in one. */
export function groupsIn(path: string): string[] {
  return readdirSync(path, { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
}

export function membersOf(group: string): number[] {
  return readFileSync(`${group}/cgroup.procs`, "utf8").split("\n").filter(Boolean).map(Number);
}

export function isPopulated(group: string): boolean {
  return readFileSync(`${group}/cgroup.events`, "utf8").includes("populated 1");
}
