// A pause stops the input and output of a job within 100 ms (rule 25), by each engine, with small files, and on a slow device.

import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import type { JobView } from "../../src/jobs/api.ts";
import { type RunningTestJob, startJob } from "../support/embedded-job.ts";
import { untilView } from "../support/jobs.ts";
import { testUnless } from "../support/skip.ts";
import { mountSlowMedium, whyNoSlowMedium } from "../support/slow-medium.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
const pauses = 8;
const wantedMs = 100;
/** What a paused worker still tells its parent is input and output, too. */
const talkBytes = 64 * 1024;

/** Bytes that a process has written, by whatever calls. What it reads is also its own code, of each thread that begins. */
function movedBy(pid: number): number {
  const io = readFileSync(`/proc/${pid}/io`, "latin1");
  return ["wchar", "write_bytes"].reduce((sum, name) => sum + Number(new RegExp(`^${name}: (\\d+)$`, "m").exec(io)?.[1] ?? 0), 0);
}

/** From the call until the last byte was moved, of one pause after the other; milliseconds. */
async function latencies(job: RunningTestJob): Promise<number[]> {
  const pid = await job.worker();
  const found: number[] = [];
  const current = (): JobView => job.jobs.get(job.submitted.owner.uid, job.submitted.token) ?? job.submitted;
  let bytesBefore = 0;
  while (found.length < pauses) {
    await untilView(job.jobs, job.submitted, ({ bytesDone }) => bytesDone > bytesBefore);
    await Bun.sleep(20 + 13 * found.length);
    const samples: { readonly atMs: number; readonly bytes: number }[] = [];
    const startMs = performance.now();
    job.jobs.pause(current());
    while (performance.now() - startMs < 500) {
      samples.push({ atMs: performance.now() - startMs, bytes: movedBy(pid) });
      await Bun.sleep(1);
    }
    await untilView(job.jobs, job.submitted, ({ state }) => state === "paused");
    const last = samples.at(-1)?.bytes ?? 0;
    found.push(samples.findLast(({ bytes }) => last - bytes > talkBytes)?.atMs ?? 0);
    bytesBefore = current().bytesDone;
    job.jobs.resume(current());
  }
  job.jobs.cancel(current());
  await job.ended;
  return found;
}

/**
 * The machine may be busy, which delays the message, the worker or the device as anything else: what most pauses of a job took counts,
 * and that of the best of three jobs. What is slow by itself is slow in each.
 */
async function expectQuick(what: string, start: () => RunningTestJob): Promise<void> {
  const medians: number[] = [];
  while (medians.length < 3 && !medians.some((median) => median < wantedMs)) {
    const found = await latencies(start());
    console.log(`pause, ${what}: ${found.map((ms) => ms.toFixed(0)).join(" ")} ms`);
    medians.push(found.toSorted((one, other) => one - other)[Math.floor(found.length / 2)] ?? 0);
  }
  expect(Math.min(...medians)).toBeLessThan(wantedMs);
}

/** Some seconds of copying, so that it is still going on at the last pause. */
function makeLarge(path: string): void {
  // Blocks that were never written are read as zeros, and are no holes.
  Bun.spawnSync(["fallocate", "-l", "3G", path]);
}

for (const engine of ["auto", "copy-file-range", "read-write", "splice", "io-uring"] as const) {
  test(`a large file by ${engine}`, async () => {
    await using directory = await temporaryDirectory();
    makeLarge(`${directory.path}/file`);
    const options = { engine, target: "exact", bandwidthLimit: 600 * mebibyte };
    await expectQuick(`a large file by ${engine}`, () => startJob([`${directory.path}/file`], `${directory.path}/copy`, options));
  }, 120_000);
}

test("small files", async () => {
  await using directory = await temporaryDirectory();
  for (let index = 0; index < 20_000; index++) {
    if (index % 500 === 0) mkdirSync(`${directory.path}/source/${index / 500}`, { recursive: true });
    writeFileSync(`${directory.path}/source/${Math.floor(index / 500)}/${index}`, Buffer.alloc(8192, index));
  }
  const options = { recursive: true, reflink: "never", target: "exact", bandwidthLimit: 30 * mebibyte };
  let copies = 0;
  await expectQuick("small files", () => startJob([`${directory.path}/source`], `${directory.path}/copy${copies++}`, options));
}, 120_000);

test("a paused job counts no totals either, and goes on counting", async () => {
  await using directory = await temporaryDirectory();
  mkdirSync(`${directory.path}/source`);
  for (let index = 0; index < 3000; index++) writeFileSync(`${directory.path}/source/${index}`, Buffer.alloc(4096, index));
  const job = startJob([`${directory.path}/source`], `${directory.path}/copy`, { recursive: true, bandwidthLimit: 2 * mebibyte });
  const current = (): JobView => job.jobs.get(job.submitted.owner.uid, job.submitted.token) ?? job.submitted;
  await untilView(job.jobs, job.submitted, ({ bytesDone }) => bytesDone > 0);
  job.jobs.pause(current());
  await untilView(job.jobs, job.submitted, ({ state }) => state === "paused");
  // Counting would have begun a second after the start, and takes some milliseconds.
  await Bun.sleep(2500);
  expect(current()).toMatchObject({ state: "paused", totalsValid: false });
  job.jobs.resume(current());
  await untilView(job.jobs, job.submitted, ({ totalsValid }) => totalsValid);
  job.jobs.cancel(current());
  await job.ended;
}, 30_000);

testUnless(
  whyNoSlowMedium(),
  "a slow device",
  async () => {
    await using source = await temporaryDirectory("/dev/shm");
    await using medium = await mountSlowMedium();
    writeFileSync(`${source.path}/file`, Buffer.alloc(200 * mebibyte, 1));
    await medium.setRules([{ operations: ["write"], delayMs: 30 }]);
    const options = { target: "exact", durability: "job" };
    await expectQuick("a slow device", () => startJob([`${source.path}/file`], `${medium.path}/copy`, options));
  },
  120_000,
);
