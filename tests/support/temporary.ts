// Temporary directories that say whose they are, so that what a killed test run left behind is found and removed by the next.

import { readdirSync, readFileSync, rmSync } from "node:fs";
import { mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./process.ts";

const prefix = "copyd-test";

export interface TemporaryDirectory extends AsyncDisposable {
  readonly path: string;
}

/** A fresh directory (mode 0700) that is removed on dispose, below the system's temporary directory or `parent`. */
export async function temporaryDirectory(parent: string = tmpdir()): Promise<TemporaryDirectory> {
  await sweepOnce(parent);
  const path = await mkdtemp(join(parent, `${prefix}-${process.pid}-${startOf(process.pid)}-`));
  return { path, [Symbol.asyncDispose]: () => remove(path) };
}

/** Unmounts whatever is mounted at or below a path, then removes it with everything inside. */
export async function remove(path: string): Promise<void> {
  for (const mountPoint of mountsBelow(path)) await run(["umount", "--lazy", mountPoint]);
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // Paths beyond 4096 bytes: rm works by directory descriptors where node:fs works by names.
    await run(["rm", "-rf", "--one-file-system", path]);
  }
}

/** Mount points at or below a path, deepest first. */
function mountsBelow(path: string): string[] {
  const points: string[] = [];
  for (const line of readFileSync("/proc/self/mounts", "utf8").split("\n")) {
    const point = (line.split(" ")[1] ?? "").replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));
    if (point === path || point.startsWith(`${path}/`)) points.push(point);
  }
  return points.sort((a, b) => b.length - a.length);
}

const swept = new Map<string, Promise<void>>();

function sweepOnce(parent: string): Promise<void> {
  let sweep = swept.get(parent);
  if (sweep === undefined) {
    sweep = sweepLeftovers(parent);
    swept.set(parent, sweep);
  }
  return sweep;
}

async function sweepLeftovers(parent: string): Promise<void> {
  for (const name of readdirSync(parent)) {
    const owner = /^copyd-test-(\d+)-(\d+)-/.exec(name);
    if (owner === null || startOf(Number(owner[1])) === owner[2]) continue;
    const path = join(parent, name);
    await endMachines(path);
    await remove(path);
  }
}

/** Kills what still runs in a machine (machine.ts) whose files lie in this directory: its systemd does not end with nspawn. */
async function endMachines(path: string): Promise<void> {
  const inside = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && hasRootIn(Number(name), path));
  for (const pid of inside) {
    try {
      process.kill(Number(pid), "SIGKILL");
    } catch {
      // Gone with the first of them.
    }
  }
  for (let tries = 0; tries < 100 && inside.some((pid) => hasRootIn(Number(pid), path)); tries++) await Bun.sleep(20);
}

/** Whether a process has for its root directory an overlay that keeps in this directory what is written. */
function hasRootIn(pid: number, path: string): boolean {
  try {
    const root = readFileSync(`/proc/${pid}/mountinfo`, "utf8")
      .split("\n")
      .findLast((line) => line.split(" ")[4] === "/");
    return root?.includes(` - overlay copyd-test `) === true && root.includes(`,upperdir=${path}/`);
  } catch {
    return false;
  }
}

/** A process's start time in clock ticks since boot: with the pid it names one process for ever. "" where there is none. */
function startOf(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
  } catch {
    return "";
  }
}
