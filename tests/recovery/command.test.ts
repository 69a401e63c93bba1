// copyd cp interrupted, orphaned, out of space, or with its destination gone read-only: true statuses, no half file, nothing left over.

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JobView } from "../../src/jobs/api.ts";
import { childrenOf, startJob } from "../support/embedded-job.ts";
import { mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, isRunning, run } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { contentOf } from "../support/tree.ts";
import { entriesBelow, inspect, prepare, type Workload, workloads } from "./workload.ts";

const random = new Random();
const rounds = process.env.COPYD_TORTURE === undefined ? 4 : 40;
const copyd = [process.execPath, join(import.meta.dir, "../../src/main.ts")];
const mebibyte = 1024 * 1024;

const found = workloads.find(({ destination }) => destination === "directories");
if (found === undefined) throw new Error("no workload with directories");
const workload: Workload = found;

let directory: TemporaryDirectory;
let source = "";
let destination = "";
beforeAll(async () => {
  directory = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  source = `${directory.path}/source`;
  destination = `${directory.path}/destination`;
  mkdirSync(source);
  workload.make(source);
});
afterAll(() => directory[Symbol.asyncDispose]());

interface Command {
  readonly pid: number;
  readonly exited: Promise<number>;
  readonly stderr: Promise<string>;
}

function startCommand(...args: readonly string[]): Command {
  // A test run in the background has SIGINT (under nohup SIGHUP) ignored, and what a parent ignores stays ignored.
  const child = Bun.spawn(["/usr/bin/env", "--default-signal=INT,HUP,TERM", ...copyd, "cp", "--local", ...args], {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "pipe",
    env: { LC_ALL: "C" },
  });
  return { pid: child.pid, exited: child.exited, stderr: new Response(child.stderr).text() };
}

/** The command's worker, once it has one. */
async function workerOf(command: Command): Promise<number> {
  for (let wait = 0; wait < 10_000 && isRunning(command.pid); wait++) {
    try {
      const [worker] = childrenOf(command.pid);
      if (worker !== undefined) return worker;
    } catch {
      // It ended just now.
      return 0;
    }
    await Bun.sleep(1);
  }
  return 0;
}

async function untilGone(pid: number): Promise<void> {
  for (let wait = 0; wait < 1000 && isAtWork(pid); wait++) await Bun.sleep(10);
  expect(isAtWork(pid)).toBe(false);
}

/** An orphan that has ended stays as a zombie until init looks. */
function isAtWork(pid: number): boolean {
  try {
    return pid !== 0 && !/^State:\tZ/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  test(`${signal} ends it in good order with the signal's status (COPYD_TEST_SEED=${random.seed})`, async () => {
    const number = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 }[signal];
    for (let round = 0; round < rounds; round++) {
      prepare(workload, source, destination);
      const command = startCommand("-a", "-T", source, destination);
      const worker = await workerOf(command);
      await Bun.sleep(random.below(150));
      // It may have ended before: then it has copied everything.
      if (isRunning(command.pid)) process.kill(command.pid, signal);
      const status = await command.exited;
      expect([0, 128 + number]).toContain(status);
      await untilGone(worker);
      expect(inspect(workload, source, destination, status === 0).problems).toEqual([]);
    }
  });
}

function stateOf(pid: number): string {
  return /^State:\t(\w)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? "";
}

test("Ctrl-Z and fg, however soon one follows the other, let it go on to its end", async () => {
  rmSync(destination, { recursive: true, force: true });
  const file = join(directory.path, "stopped-and-continued");
  writeFileSync(file, Buffer.alloc(40 * mebibyte, 1));
  const command = startCommand("--limit-rate=10M", "--reflink=never", file, `${file}-copy`);
  const worker = await workerOf(command);
  for (const waitMs of [0, 20, 60, 120, 200, 300]) {
    await Bun.sleep(200);
    process.kill(command.pid, "SIGTSTP");
    for (let wait = 0; wait < 1000 && stateOf(command.pid) !== "T"; wait++) await Bun.sleep(1);
    await Bun.sleep(waitMs);
    process.kill(command.pid, "SIGCONT");
  }
  // Before it has stopped itself.
  process.kill(command.pid, "SIGTSTP");
  await Bun.sleep(5);
  process.kill(command.pid, "SIGCONT");
  const outcome = await Promise.race([command.exited, Bun.sleep(20_000).then(() => "hangs")]);
  if (outcome === "hangs") process.kill(command.pid, "SIGKILL");
  expect(outcome).toBe(0);
  await untilGone(worker);
  expect(statSync(`${file}-copy`).size).toBe(40 * mebibyte);
}, 60_000);

test(`kill -9 of its worker is an error with status 1 (COPYD_TEST_SEED=${random.seed})`, async () => {
  for (let round = 0; round < rounds; round++) {
    prepare(workload, source, destination);
    const command = startCommand("-a", "-T", source, destination);
    const worker = await workerOf(command);
    await Bun.sleep(random.below(80));
    if (worker !== 0 && isRunning(worker)) process.kill(worker, "SIGKILL");
    const status = await command.exited;
    const problems = inspect(workload, source, destination, status === 0).problems;
    expect(problems).toEqual([]);
    if (status === 0) continue;
    expect(status).toBe(1);
    expect(await command.stderr).toMatch(/^cp: The copying process ended/m);
  }
});

test(`kill -9 of the command itself: the worker stops by itself and clears up (COPYD_TEST_SEED=${random.seed})`, async () => {
  for (let round = 0; round < rounds; round++) {
    prepare(workload, source, destination);
    const command = startCommand("-a", "-T", source, destination);
    const worker = await workerOf(command);
    await Bun.sleep(random.below(80));
    process.kill(command.pid, "SIGKILL");
    await command.exited;
    await untilGone(worker);
    expect(inspect(workload, source, destination, false).problems).toEqual([]);
  }
});

for (const kind of ["ext4", "tmpfs", "xfs", "btrfs"] as const) {
  describeUnless(whyNoFilesystem(kind), `a full ${kind}`, () => {
    let filesystem: TestFilesystem;
    beforeAll(async () => {
      const sizeBytes = { ext4: 20, tmpfs: 20, xfs: 300, btrfs: 120 }[kind] * mebibyte;
      filesystem = await mountFilesystem(kind, { sizeBytes, ...(kind === "ext4" ? { mountOptions: ["nodelalloc"] } : {}) });
    });
    afterAll(() => filesystem[Symbol.asyncDispose]());

    afterEach(() => {
      for (const name of readdirSync(filesystem.path)) rmSync(`${filesystem.path}/${name}`, { recursive: true });
    });

    test("stops no entry that still fits, names those that do not, and keeps no half file", async () => {
      const big = `${directory.path}/big-${kind}`;
      mkdirSync(big);
      const free = await freeBytes(filesystem);
      const size = Math.floor(free / 5);
      for (let file = 0; file < 7; file++) writeFileSync(`${big}/file-${file}`, contentOf(file, size + file));
      const job = startJob([big], `${filesystem.path}/copy`, { target: "exact", durability: "job", onFull: "fail" });
      const end = await job.ended;
      const whole = inspect({ ...workload, destination: "absent" }, big, `${filesystem.path}/copy`, false);
      expect(whole.problems).toEqual([]);
      expect(end.state).toBe("failed");
      expect(whole.whole).toBeGreaterThan(1);
      expect(end.filesDone).toBe(whole.whole);
      expect(job.errors.length).toBeGreaterThan(0);
      expect(new Set(job.errors.map(({ code }) => code))).toEqual(new Set(["no-space"]));
      expect(job.errors.length + whole.whole).toBe(7);
      expect(end.result?.bytesDone).toBe(
        entriesBelow(`${filesystem.path}/copy`).files.reduce((sum, name) => sum + statSync(`${filesystem.path}/copy/${name}`).size, 0),
      );
    });

    test("an old file is kept whole where the new one does not fit", async () => {
      const old = `${filesystem.path}/old`;
      const free = await freeBytes(filesystem);
      writeFileSync(old, contentOf(1, Math.floor(free * 0.6)));
      const newer = `${directory.path}/newer-${kind}`;
      writeFileSync(newer, contentOf(2, Math.floor(free * 0.7)));
      const job = startJob([newer], old, { target: "exact", onConflict: "overwrite", onFull: "fail" });
      const end = await job.ended;
      expect([end.state, job.errors[0]?.code]).toEqual(["failed", "no-space"]);
      expect(await Bun.file(old).bytes()).toEqual(new Uint8Array(contentOf(1, Math.floor(free * 0.6))));
      expect(readdirSync(filesystem.path)).toEqual(["old"]);
    });
  });
}

describeUnless(whyNoFilesystem("ext4"), "a destination", () => {
  test("that becomes read-only in the middle fails the rest and keeps what was whole", async () => {
    await using filesystem = await mountFilesystem("ext4", { sizeBytes: 100 * mebibyte });
    const target = `${filesystem.path}/copy`;
    mkdirSync(target);
    const job = startJob([source], target, { target: "exact", onLost: "fail" });
    await job.worker();
    const view = (): JobView => job.jobs.get(job.submitted.owner.uid, job.submitted.token) ?? job.submitted;
    // Refused as long as a file is open for writing: a pause between two files has to be met.
    for (;;) {
      await Bun.sleep(3);
      if (!view().pausable) break;
      job.jobs.pause(view());
      await Bun.sleep(30);
      const isReadOnly = (await run(["mount", "-o", "remount,ro", filesystem.path])).status === 0;
      if (view().pausable) job.jobs.resume(view());
      if (isReadOnly) break;
    }
    const end = await job.ended;
    const isDone = end.state === "completed";
    const { problems, whole } = inspect({ ...workload, destination: "absent" }, source, target, isDone);
    expect(problems).toEqual([]);
    expect(end.filesDone).toBe(whole);
    if (!isDone) expect(job.errors.map(({ code }) => code)).toContain("read-only-filesystem");
  });

  test("that is unmounted lazily in the middle is written to the end, and nothing goes where it was", async () => {
    await using filesystem = await mountFilesystem("ext4", { sizeBytes: 100 * mebibyte });
    const target = `${filesystem.path}/copy`;
    mkdirSync(target);
    const job = startJob([source], target, { target: "exact", bandwidthLimit: 6_000_000 });
    await job.worker();
    while (entriesBelow(target).files.length < 20) await Bun.sleep(5);
    await run(["umount", "--lazy", filesystem.path]);
    const end = await job.ended;
    expect(end.state).toBe("completed");
    expect(readdirSync(filesystem.path)).toEqual([]);
  });
});

describeUnless(firstReason(whyNoFilesystem("xfs"), havePrograms("xfs_io") ? null : "xfs_io is not installed"), "a dying disk", () => {
  test("makes every entry after it an error, and no copy of half a file is claimed", async () => {
    await using filesystem = await mountFilesystem("xfs", { sizeBytes: 320 * mebibyte });
    const target = `${filesystem.path}/copy`;
    mkdirSync(target);
    const job = startJob([source], target, { target: "exact", bandwidthLimit: 6_000_000, durability: "job", onLost: "fail" });
    await job.worker();
    while (entriesBelow(target).files.length < 20) await Bun.sleep(5);
    expect((await run(["xfs_io", "-x", "-c", "shutdown", filesystem.path])).status).toBe(0);
    const end = await job.ended;
    expect([end.state, end.errorCount > 0]).toEqual(["failed", true]);
    expect(new Set(job.errors.map(({ code }) => code)).has("internal")).toBe(false);
    // What is on the medium is only what was flushed, which is nothing: the job had not promised more.
    await filesystem.remount();
    expect(existsSync(target) ? inspect({ ...workload, destination: "absent" }, source, target, false).problems : []).toEqual([]);
  });
});

async function freeBytes(filesystem: TestFilesystem): Promise<number> {
  // What was removed is given back in the background: mounted anew, all of it is there.
  if (filesystem.kind !== "tmpfs") await filesystem.remount();
  return Number((await run(["df", "--output=avail", "-B1", filesystem.path])).stdout.split("\n")[1]);
}
