// What a power cut leaves of the records of unfinished files: an old state of them, or nothing, while the names that they were of are there.

import { expect, test } from "bun:test";
import {
  chownSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { inFlightBytes } from "../../src/engines/in-flight.ts";
import { At, libc, Open } from "../../src/ffi/libc.ts";
import { Arena, NativeMemory } from "../../src/ffi/memory.ts";
import { logStart, maxPartials, pageBytes, partialsStart } from "../../src/worker/checkpoint-layout.ts";
import { LostTemporaries } from "../../src/worker/lost-temporaries.ts";
import { PartialSlot } from "../../src/worker/partial-files.ts";
import { isOfThisWorker } from "../../src/worker/resumption.ts";
import { Word } from "../../src/worker/shared.ts";
import { expectSameTree } from "../support/compare.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { ResumableJob } from "../support/resumable-job.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";

const mebibyte = 1024 * 1024;
const directory = directoryOfEachTest();

/** A directory below the test's, with files in it. */
function makeFiles(name: string, files: Readonly<Record<string, Buffer | string>>): string {
  const path = join(directory.path, name);
  mkdirSync(path, { recursive: true });
  for (const [file, content] of Object.entries(files)) writeFileSync(join(path, file), content);
  return path;
}

test("a finished file that an old record calls unfinished stays: of a move, it would be all there is", async () => {
  const content = Buffer.alloc(mebibyte, "whole ");
  const source = makeFiles("source", Object.fromEntries(Array.from({ length: 6 }, (_, file) => [`f${file}`, content])));
  const [destination, records] = [makeFiles("destination", {}), makeFiles("records", {})];
  using job = new ResumableJob(records, { operation: "copy", sources: [source], destination, options: { bandwidthLimit: 8 * mebibyte } });
  let old = Buffer.alloc(0);
  let name = "";
  const { end } = await job.run({
    lanes: 1,
    killWhen: () => {
      const record = readFileSync(job.inFlightPath);
      const found = record.toString("latin1", 64, 64 + Math.min(255, record.readUInt32LE(8)));
      if (record.readUInt32LE(0) === 2 && /^f\d$/.test(found)) [old, name] = [record, found];
      return false;
    },
  });
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  const whole = join(destination, "source", name);
  expect(readFileSync(whole).equals(content)).toBe(true);
  // What the disk had of it when the machine went off.
  writeFileSync(job.inFlightPath, old, { flag: "r+" });
  job.boot = 2;
  expect(await job.recover({ keepsPartial: true })).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  expect(existsSync(whole)).toBe(true);
  // In the boot that wrote it, it is the truth.
  job.boot = 1;
  await job.recover({ keepsPartial: true });
  expect(readdirSync(join(destination, "source"))).toHaveLength(5);
});

const bigBytes = 130 * mebibyte;

function temporaries(path: string): string[] {
  const names = readdirSync(path, { recursive: true, encoding: "utf8" });
  return names.filter((name) => name.includes(".copyd-")).toSorted();
}

function temporaryBytes(path: string): number {
  if (!existsSync(path)) return 0;
  return temporaries(path).reduce((sum, name) => sum + (statSync(join(path, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

function zero(path: string, from: number, to?: number): void {
  const bytes = readFileSync(path);
  bytes.fill(0, from, to);
  writeFileSync(path, bytes, { flag: "r+" });
}

/** Of the checkpoint, these did not reach the disk before the machine was off; nor did the in-flight record. */
const losses = {
  "the slot of a big file": (checkpoint: string) => zero(checkpoint, partialsStart, partialsStart + maxPartials * pageBytes),
  "the whole head": (checkpoint: string) => zero(checkpoint, 0, logStart),
  everything: (checkpoint: string) => truncateSync(checkpoint, 0),
} as const;

function cutPower(job: ResumableJob, lost: keyof typeof losses): void {
  losses[lost](job.checkpointPath);
  zero(job.inFlightPath, 0, inFlightBytes);
  job.boot++;
}

/** What the first slot lets a later boot go on from: its length and the check of it are two stores, and a kill may come between them. */
function durableBytes(job: ResumableJob): number {
  const head = readFileSync(job.checkpointPath).subarray(0, logStart);
  if (head.length < logStart) return 0;
  using memory = new NativeMemory(logStart);
  memory.bytes.set(head);
  return new PartialSlot(memory.address, 0).usable("durable");
}

/** Killed with its big file under way; where it is flushed on the way, with some of it on the device and some not. */
async function interruptedJob(options: Record<string, unknown> = {}): Promise<{ job: ResumableJob; source: string; destination: string }> {
  const source = makeFiles("source/tree", { big: Buffer.alloc(bigBytes, "big "), small: "small" });
  const destination = join(makeFiles("destination", {}), "tree");
  const request = {
    operation: "copy",
    sources: [source],
    destination: join(directory.path, "destination"),
    options: {
      target: "directory",
      durability: "none",
      reflink: "never",
      engine: "read-write",
      bandwidthLimit: 100 * mebibyte,
      ...options,
    },
  };
  const job = new ResumableJob(makeFiles("records", {}), request);
  const killWhen = (): boolean => {
    const written = temporaryBytes(destination);
    if (options.durability === undefined) return written > 70 * mebibyte;
    const durable = durableBytes(job);
    return durable > 0 && written > durable + 4 * mebibyte;
  };
  expect((await job.run({ lanes: 1, killWhen })).end.kind).toBe("failed");
  expect(temporaries(destination)).toHaveLength(1);
  return { job, source, destination };
}

for (const lost of Object.keys(losses) as (keyof typeof losses)[]) {
  test(`a big file's temporary does not stay where ${lost} is lost with the power`, async () => {
    const { job, source, destination } = await interruptedJob();
    using _ = job;
    cutPower(job, lost);
    const { end, errors } = await job.run({ isSameBoot: false });
    expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed" } }]);
    expect(temporaries(destination)).toEqual([]);
    await expectSameTree(source, destination);
  }, 60_000);
}

test("what a slot still names is gone on with, from what was on the device", async () => {
  // Slow, so that the first flush is over long before the file is whole, whatever else the device has to do.
  const { job, source, destination } = await interruptedJob({ durability: "job", bandwidthLimit: 10 * mebibyte });
  using _ = job;
  const durable = durableBytes(job);
  const [temporary = ""] = temporaries(destination);
  zero(join(destination, temporary), durable);
  job.boot++;
  job.request.options.bandwidthLimit = 100 * mebibyte;
  const { end, writtenBytes } = await job.run({ isSameBoot: false });
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  expect(writtenBytes).toBeLessThan(bigBytes - durable + mebibyte / 2);
  await expectSameTree(source, destination);
}, 60_000);

test("a cancel that takes back the copies takes those as well", async () => {
  const { job, destination } = await interruptedJob();
  using _ = job;
  cutPower(job, "the slot of a big file");
  await job.recover({ keepsPartial: false, removesCopies: { isSameBoot: false } });
  expect(temporaries(destination)).toEqual([]);
}, 60_000);

test("small files' and links' temporaries go too, wherever the job works; what only looks like them stays", async () => {
  const source = makeFiles("source/tree", { one: "one" });
  makeFiles("source/tree/below", { two: "two" });
  const destination = makeFiles("destination", {});
  const before = makeFiles("destination/tree/below", { older: "the only one of its kind" });
  // Births are told apart by a tenth of a second.
  await Bun.sleep(300);
  const options = { target: "directory", bandwidthLimit: 1, durability: "none", onConflict: "overwrite" };
  using job = new ResumableJob(makeFiles("records", {}), { operation: "copy", sources: [source], destination, options });
  await job.run({ killWhen: () => readdirSync(destination).length > 0 });
  cutPower(job, "everything");
  for (const path of [destination, join(destination, "tree"), before]) {
    writeFileSync(join(path, ".copyd-resumable-65536"), "half");
    symlinkSync("nowhere", join(path, ".copyd-resumable-65537"));
    linkSync(join(source, "one"), join(path, ".copyd-resumable-65538"));
    mkdirSync(join(path, ".copyd-resumable-1"));
    for (const name of ["other-1", "resumable-", "resumable-x", "resumable-1-1", "resumable-manifest"])
      writeFileSync(join(path, `.copyd-${name}`), "");
  }
  renameSync(join(before, "older"), join(before, ".copyd-resumable-3"));
  const left = temporaries(destination).filter((name) => !/6553\d$/.test(name));
  expect(left).toHaveLength(3 * 6 + 1);
  job.request.options.bandwidthLimit = 0;
  const { end, errors } = await job.run({ isSameBoot: false });
  expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed" } }]);
  expect(temporaries(destination)).toEqual(left);
  expect(readFileSync(join(source, "one"), "utf8")).toBe("one");
  expect(readFileSync(join(before, "two"), "utf8")).toBe("two");
}, 60_000);

test("without any record, what differs from its source stays with its owner, and what is short of it is made whole", async () => {
  // Of three blocks, and some.
  const content = "content that is there in whole ".repeat(400);
  const zeros = "\0".repeat(4096);
  const names = ["first", "different", "longer", "shorter", "short", "torn"];
  const source = makeFiles("source/tree", Object.fromEntries([...names, "pipe"].map((name) => [name, content])));
  const destination = makeFiles("destination", {});
  const options = { target: "directory", bandwidthLimit: 1, durability: "none", onConflict: "skip" };
  using job = new ResumableJob(makeFiles("records", {}), { operation: "copy", sources: [source], destination, options });
  await job.run({ killWhen: () => existsSync(join(destination, "tree")) });
  cutPower(job, "everything");
  rmSync(join(destination, "tree"), { recursive: true });
  const theirs = { different: content.replace("whole", "other"), longer: `${content}and more`, shorter: "con-" };
  const copies = makeFiles("destination/tree", {
    ...theirs,
    short: content.slice(0, 5000),
    torn: content.slice(0, 4096) + zeros + content.slice(8192),
  });
  Bun.spawnSync(["mkfifo", join(copies, "pipe")]);
  for (const name of names.slice(1)) Bun.spawnSync(["touch", "-r", join(source, name), join(copies, name)]);
  job.request.options.bandwidthLimit = 0;
  const { end, errors } = await job.run({ isSameBoot: false });
  expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed", snapshot: { filesSkipped: 4 } } }]);
  const found = Object.fromEntries(names.map((name) => [name, readFileSync(join(copies, name), "utf8")]));
  expect(found).toEqual({ ...theirs, first: content, short: content, torn: content });
}, 60_000);

test("what this worker's lanes have in hand is told by its number", () => {
  const words = new Int32Array(64);
  words[Word.firstTemporary] = 100;
  words[Word.nextTemporary] = 103;
  const own = [99, 100, 102, 103, 65_536].filter((number) => isOfThisWorker(words, `.copyd-a-7-${number}`));
  expect(own).toEqual([100, 102]);
});

testUnless(unlessRoot(), "a user's worker takes its own user's only, root's whatever has got its owner already", () => {
  const path = makeFiles("files", { ".copyd-a-1": "", ".copyd-a-2": "", ".copyd-a-3": "" });
  chownSync(join(path, ".copyd-a-1"), 61_000, 61_000);
  chownSync(join(path, ".copyd-a-3"), 61_002, 61_002);
  using arena = new Arena(4096);
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(path), Open.O_PATH | Open.O_DIRECTORY, 0);
  const options = { isTemporary: () => true, isInUse: () => false, mayGoOn: () => true, bornSinceUs: 0 };
  for (const [uid, left] of [
    [61_001, [".copyd-a-1", ".copyd-a-2", ".copyd-a-3"]],
    [61_000, [".copyd-a-2", ".copyd-a-3"]],
    [0, []],
  ] as const) {
    using temporary = new LostTemporaries(options, uid);
    temporary.removeFrom(fd);
    expect(readdirSync(path).toSorted()).toEqual([...left]);
  }
  libc.close(fd);
});
