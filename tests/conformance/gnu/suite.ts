// Defines a test for each case and kind of user; the cases run a few at a time from the first test on.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, chmodSync, copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { type FilesystemKind, mountFilesystem, type TestFilesystem } from "../../support/filesystems.ts";
import { run, runChecked } from "../../support/process.ts";
import { unlessRoot } from "../../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../../support/temporary.ts";
import { asUser } from "../../support/users.ts";
import { type Bench, differencesOf, makePlace, type Program, userId, type Who } from "./both.ts";
import type { Case } from "./case.ts";
import type { Differences } from "./differences.ts";

const root = join(import.meta.dir, "../../..");
const atOnce = 3;
/** COPYD_RECORD_DIFFERENCES=file appends what every case differs in, as JSON lines. COPYD_CASE=words runs the cases whose names hold them. */
const wanted = process.env.COPYD_CASE ?? "";

interface Planned {
  readonly test: Case;
  readonly who: Who;
  readonly number: number;
  readonly done: PromiseWithResolvers<string[]>;
}

/** Call once in a test file. */
export function defineCases(program: Program, cases: readonly Case[], differences: Differences): void {
  const asRoot = unlessRoot() === null;
  const plans: Planned[] = [];
  for (const one of cases) {
    if (!one.name.includes(wanted)) continue;
    for (const who of ["root", "user"] as const) {
      if (one.as !== undefined && one.as !== who) continue;
      if (asRoot) plans.push({ test: one, who, number: plans.length, done: Promise.withResolvers() });
    }
  }
  const held: (TestFilesystem | TemporaryDirectory)[] = [];
  beforeAll(async () => {
    const bench = await prepare(program, plans, held);
    const queue = [...plans];
    for (let worker = 0; worker < atOnce; worker++) void work(queue, bench);
  }, 240_000);
  afterAll(async () => {
    for (const one of held) await one[Symbol.asyncDispose]();
  }, 60_000);
  for (const plan of plans) {
    const name = `${plan.test.name} (${plan.who})`;
    test(name, async () => expect(await plan.done.promise).toEqual([...differences.of(plan.test.name, plan.who)]), 100_000);
  }
}

async function work(queue: Planned[], bench: Bench): Promise<void> {
  for (let plan = queue.shift(); plan !== undefined; plan = queue.shift()) {
    try {
      const lines = await differencesOf(plan.test, plan.who, bench, plan.number);
      const record = process.env.COPYD_RECORD_DIFFERENCES;
      if (record !== undefined) appendFileSync(record, `${JSON.stringify({ name: plan.test.name, who: plan.who, lines })}\n`);
      plan.done.resolve(lines);
    } catch (error) {
      plan.done.resolve([String(error)]);
    }
  }
}

async function prepare(program: Program, plans: readonly Planned[], held: (TestFilesystem | TemporaryDirectory)[]): Promise<Bench> {
  const home = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  held.push(home);
  chmodSync(home.path, 0o755);
  const places: Partial<Record<FilesystemKind, string>> = { tmpfs: makePlace(`${home.path}/trees`) };
  for (const kind of ["ext4", "xfs"] as const) {
    if (!plans.some(({ test: one }) => one.on === kind)) continue;
    const filesystem = await mountFilesystem(kind, { sizeBytes: 400 * 1024 * 1024 });
    held.push(filesystem);
    places[kind] = filesystem.path;
  }
  return { copyd: await binary(home.path), program, places };
}

/** The binary, built where it is older than its sources, at a place where an ordinary user may run it. */
async function binary(home: string): Promise<string> {
  const built = join(root, "dist/copyd");
  if (process.env.COPYD_BINARY === undefined) await runChecked(["make", "build"], { cwd: root, timeoutMs: 200_000 });
  const path = process.env.COPYD_BINARY ?? built;
  const reachable = await run(asUser({ uid: userId, gid: userId }, ["test", "-x", path]));
  if (reachable.status === 0) return path;
  copyFileSync(path, `${home}/copyd`);
  chmodSync(`${home}/copyd`, 0o755);
  return `${home}/copyd`;
}
