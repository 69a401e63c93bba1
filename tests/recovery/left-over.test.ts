// A cp that was killed together with its worker: what it left half-made is removed by the next cp of the same user.

import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { childrenOf } from "../support/embedded-job.ts";
import { isRunning } from "../support/process.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const main = join(import.meta.dir, "../../src/main.ts");

test("the next cp removes a half file that cp and its worker, both killed, left under its final name", async () => {
  await using directory = await temporaryDirectory();
  const runtime = join(directory.path, "runtime");
  mkdirSync(runtime, { mode: 0o700 });
  const environment = { ...process.env, XDG_RUNTIME_DIR: runtime };
  const source = join(directory.path, "source");
  mkdirSync(source);
  // Sparse, and slowed down: the kill falls into the middle of it.
  writeFileSync(join(source, "big"), Buffer.alloc(64 * 1024 * 1024, 7));
  const destination = join(directory.path, "destination");
  const command = [process.execPath, main, "cp", "-r", "--local", "--engine=read-write", "--limit-rate=1M", source, destination];
  const cp = Bun.spawn({ cmd: command, env: environment, detached: true, stdout: "ignore", stderr: "ignore" });
  const half = join(destination, "big");
  while (!existsSync(half) || statSync(half).size === 0) await Bun.sleep(5);
  const worker = Number(
    Bun.spawnSync(["pgrep", "-P", String(cp.pid)])
      .stdout.toString()
      .trim(),
  );
  expect(worker).toBeGreaterThan(0);
  process.kill(cp.pid, "SIGSTOP");
  process.kill(worker, "SIGKILL");
  process.kill(cp.pid, "SIGKILL");
  await cp.exited;
  expect(statSync(half).size).toBeLessThan(64 * 1024 * 1024);
  expect(readdirSync(join(runtime, "copyd")).length).toBe(1);

  truncateSync(join(source, "big"), 1024);
  const other = join(directory.path, "other");
  const next = Bun.spawnSync({ cmd: [process.execPath, main, "cp", "-r", "--local", source, other], env: environment });
  expect(next.exitCode).toBe(0);
  expect(existsSync(half)).toBe(false);
  expect(statSync(join(other, "big")).size).toBe(1024);
  expect(readdirSync(join(runtime, "copyd"))).toEqual([]);
}, 60_000);

test("many that start at once sweep up after one dead process, and each copies", async () => {
  await using directory = await temporaryDirectory();
  const runtime = join(directory.path, "runtime");
  mkdirSync(join(runtime, "copyd"), { recursive: true, mode: 0o700 });
  writeFileSync(join(directory.path, "a"), "x");
  for (let record = 0; record < 20; record++) writeFileSync(join(runtime, "copyd", `in-flight-1-${record}-abc`), "");
  const copies = Array.from({ length: 6 }, (_, index) =>
    Bun.spawn({
      cmd: [process.execPath, main, "cp", "--local", join(directory.path, "a"), join(directory.path, `b${index}`)],
      env: { ...process.env, XDG_RUNTIME_DIR: runtime },
    }),
  );
  expect(await Promise.all(copies.map((copy) => copy.exited))).toEqual([0, 0, 0, 0, 0, 0]);
  expect(readdirSync(join(runtime, "copyd"))).toEqual([]);
}, 60_000);

test("a record of a process that is still there is left alone", async () => {
  await using directory = await temporaryDirectory();
  const runtime = join(directory.path, "runtime");
  mkdirSync(join(runtime, "copyd"), { recursive: true, mode: 0o700 });
  const started = Bun.spawnSync(["awk", "{ print $22 }", `/proc/${process.pid}/stat`])
    .stdout.toString()
    .trim();
  const record = join(runtime, "copyd", `in-flight-${process.pid}-${started}-abc`);
  writeFileSync(record, Buffer.alloc(8, 1));
  writeFileSync(join(directory.path, "a"), "x");
  const cp = Bun.spawnSync({
    cmd: [process.execPath, main, "cp", "--local", join(directory.path, "a"), join(directory.path, "b")],
    env: { ...process.env, XDG_RUNTIME_DIR: runtime },
  });
  expect(cp.exitCode).toBe(0);
  expect(existsSync(record)).toBe(true);
});

test("a worker that hangs in the kernel, and whose cp was killed, does not stay", async () => {
  await using directory = await temporaryDirectory();
  const path = directory.path;
  writeFileSync(join(path, "a"), "x");
  // Nobody reads the FIFO, so that opening it for writing never returns; cp's contract is to wait.
  Bun.spawnSync(["mkfifo", join(path, "pipe")]);
  const cp = Bun.spawn({ cmd: [process.execPath, main, "cp", "--local", join(path, "a"), join(path, "pipe")], stdin: "ignore" });
  let worker = 0;
  while (worker === 0 || !isWaitingForReader(worker)) {
    worker = childrenOf(cp.pid)[0] ?? 0;
    await Bun.sleep(10);
  }
  cp.kill("SIGKILL");
  await cp.exited;
  while (isRunning(worker) && !isEnded(worker)) await Bun.sleep(50);
}, 60_000);

function isWaitingForReader(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).some((thread) =>
    readFileSync(`/proc/${pid}/task/${thread}/wchan`, "latin1").startsWith("wait_for_partner"),
  );
}

/** Reaped or not: that is init's business. */
function isEnded(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, "latin1").includes(") Z ");
  } catch {
    return true;
  }
}

test("a cp that has ended but is not reaped is cleared up after", async () => {
  await using directory = await temporaryDirectory();
  const runtime = join(directory.path, "runtime");
  mkdirSync(join(runtime, "copyd"), { recursive: true, mode: 0o700 });
  writeFileSync(join(directory.path, "a"), "x");
  // A parent that never waits: the shell execs sleep, which knows of no child.
  const parent = Bun.spawn(["sh", "-c", "sleep 0.1 & echo $!; exec sleep 60"], { stdout: "pipe" });
  const zombie = Number(Buffer.from((await parent.stdout.getReader().read()).value ?? []).toString());
  while (!isEnded(zombie)) await Bun.sleep(10);
  const started = /^\d+ \(.*\) (.*)$/.exec(readFileSync(`/proc/${zombie}/stat`, "latin1").trim())?.[1]?.split(" ")[19] ?? "";
  writeFileSync(join(runtime, "copyd", `in-flight-${zombie}-${started}-abc`), "");
  const cp = Bun.spawnSync({
    cmd: [process.execPath, main, "cp", "--local", join(directory.path, "a"), join(directory.path, "b")],
    env: { ...process.env, XDG_RUNTIME_DIR: runtime },
  });
  parent.kill();
  expect(cp.exitCode).toBe(0);
  expect(readdirSync(join(runtime, "copyd"))).toEqual([]);
}, 60_000);
