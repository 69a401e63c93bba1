// A disk that is full in the middle of a job: the job asks, and goes on by itself or as it is told, to a whole copy.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import type { JobView } from "../../src/jobs/api.ts";
import { expectSameTree } from "../support/compare.ts";
import { type RunningTestJob, startJob } from "../support/embedded-job.ts";
import { type FilesystemKind, mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { untilAsked, untilView } from "../support/jobs.ts";
import { runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;

/** A tree of 12 MiB: what a filesystem of 20 MiB holds, though not beside a ballast of 12. */
function makeSource(path: string): void {
  for (let directory = 0; directory < 4; directory++) {
    mkdirSync(`${path}/tree/${directory}`, { recursive: true });
    for (let file = 0; file < 8; file++) writeFileSync(`${path}/tree/${directory}/${file}`, randomBytes(mebibyte * 0.375 + file));
  }
}

/** A small file and two of which a filesystem of 20 MiB, with the ballast that is put there, holds none. */
function makeTooLarge(source: string, destination: string): void {
  mkdirSync(`${source}/tree`);
  writeFileSync(`${source}/tree/small`, "x");
  for (const name of ["b", "c"]) writeFileSync(`${source}/tree/${name}`, randomBytes(16 * mebibyte));
  writeFileSync(`${destination}/ballast`, randomBytes(8 * mebibyte));
}

/** No name of an unfinished file anywhere. */
function expectNothingUnfinished(path: string): void {
  const names = readdirSync(path, { recursive: true, encoding: "utf8" });
  expect(names.filter((name) => name.includes(".copyd-"))).toEqual([]);
}

function endsCompleted(view: JobView): void {
  expect([view.state, view.errorCount, view.result?.message]).toEqual(["completed", 0, "32 files copied."]);
}

for (const kind of ["ext4", "tmpfs"] as const satisfies readonly FilesystemKind[]) {
  testUnless(whyNoFilesystem(kind), `${kind}: a full disk asks, and the job goes on by itself when there is room`, async () => {
    await using source = await temporaryDirectory();
    await using destination = await mountFilesystem(kind, { sizeBytes: tinySizeBytes });
    makeSource(source.path);
    writeFileSync(`${destination.path}/ballast`, randomBytes(12 * mebibyte));
    const job = startJob([`${source.path}/tree`], destination.path);
    const question = await untilAsked(job);
    expect(question.kind).toBe("space");
    expect(question.filesystem as string).toBe(destination.path);
    expect(question.neededBytes).toBeGreaterThan(0);
    expect(question.freeBytes).toBeGreaterThanOrEqual(0);
    expectNothingUnfinished(destination.path);
    rmSync(`${destination.path}/ballast`);
    endsCompleted(await job.ended);
    await expectSameTree(`${source.path}/tree`, `${destination.path}/tree`);
  });
}

testUnless(whyNoFilesystem("tmpfs"), "a full disk: skip leaves one file out and says so, retry asks again, abort cancels", async () => {
  await using source = await temporaryDirectory();
  await using destination = await mountFilesystem("tmpfs", { sizeBytes: tinySizeBytes });
  makeTooLarge(source.path, destination.path);
  const job = startJob([`${source.path}/tree`], destination.path);
  const first = await untilAsked(job);
  job.jobs.answer(job.submitted, first.id, "retry", false);
  const second = await untilView(job.jobs, job.submitted, ({ question }) => question !== null && question.id > first.id);
  job.jobs.answer(job.submitted, second.question?.id ?? 0, "skip", false);
  const third = await untilView(job.jobs, job.submitted, ({ question }) => question !== null && question.id > first.id + 1);
  expect(() => job.jobs.answer(job.submitted, third.question?.id ?? 0, "overwrite", false)).toThrow("takes retry, skip, abort");
  job.jobs.answer(job.submitted, third.question?.id ?? 0, "abort", false);
  const ended = await job.ended;
  expect(job.errors.map(({ code }) => code)).toEqual(["no-space"]);
  expect(ended.state).toBe("cancelled");
  expect(readdirSync(`${destination.path}/tree`).length).toBe(ended.filesDone);
  expectNothingUnfinished(destination.path);
});

testUnless(whyNoFilesystem("tmpfs"), "a full disk: on-full=fail fails file by file, as cp does, and skip for all asks once", async () => {
  await using source = await temporaryDirectory();
  await using destination = await mountFilesystem("tmpfs", { sizeBytes: tinySizeBytes });
  makeTooLarge(source.path, destination.path);
  const failing = await startJob([`${source.path}/tree`], `${destination.path}/one`, { onFull: "fail" }).ended;
  expect([failing.state, failing.errorCount, failing.filesDone]).toEqual(["failed", 2, 1]);
  rmSync(`${destination.path}/one`, { recursive: true });
  const job = startJob([`${source.path}/tree`], `${destination.path}/two`);
  const { id } = await untilAsked(job);
  job.jobs.answer(job.submitted, id, "skip", true);
  const ended = await job.ended;
  expect([ended.state, ended.errorCount, ended.filesDone]).toEqual(["failed", 2, 1]);
  expect(job.errors.map(({ code }) => code)).toEqual(["no-space", "no-space"]);
});

testUnless(
  whyNoFilesystem("tmpfs"),
  "a full disk: a job asks once, for as long as there is no room, and can be cancelled meanwhile",
  async () => {
    await using source = await temporaryDirectory();
    await using destination = await mountFilesystem("tmpfs", { sizeBytes: tinySizeBytes });
    writeFileSync(`${source.path}/large`, randomBytes(24 * mebibyte));
    const job = startJob([`${source.path}/large`], destination.path);
    const { id } = await untilAsked(job);
    // It looks about once a second whether it may go on.
    await Bun.sleep(2500);
    expect(job.jobs.get(job.submitted.owner.uid, job.submitted.token)?.question?.id).toBe(id);
    job.jobs.cancel(job.submitted);
    expect((await job.ended).state).toBe("cancelled");
    expect(readdirSync(destination.path)).toEqual([]);
  },
);

testUnless(whyNoFilesystem("ext4"), "inodes that are used up are asked about like bytes", async () => {
  await using source = await temporaryDirectory();
  await using destination = await mountFilesystem("ext4", { sizeBytes: tinySizeBytes, mkfsOptions: ["-N", "64"] });
  mkdirSync(`${source.path}/tree/below`, { recursive: true });
  for (let file = 0; file < 40; file++) writeFileSync(`${source.path}/tree/below/${file}`, "x");
  mkdirSync(`${destination.path}/ballast`);
  for (let file = 0; file < 30; file++) writeFileSync(`${destination.path}/ballast/${file}`, "x");
  const job = startJob([`${source.path}/tree`], destination.path);
  expect((await untilAsked(job)).kind).toBe("space");
  await runChecked(["rm", "-r", `${destination.path}/ballast`]);
  expect((await job.ended).state).toBe("completed");
  await expectSameTree(`${source.path}/tree`, `${destination.path}/tree`);
});

/** Until there is a word of it, so that the disk is not full before it is foretold, however slowly the sources are counted. */
const slow = { bandwidthLimit: 2 * mebibyte };

function hurry({ jobs, submitted }: RunningTestJob): void {
  jobs.setOptions(submitted, { bandwidthLimit: 0 });
}

testUnless(
  whyNoFilesystem("tmpfs"),
  "too little space is foretold with figures while the copy goes on, and over when there is room",
  async () => {
    await using source = await temporaryDirectory();
    await using destination = await mountFilesystem("tmpfs", { sizeBytes: tinySizeBytes });
    makeSource(source.path);
    writeFileSync(`${destination.path}/ballast`, randomBytes(12 * mebibyte));
    const job = startJob([`${source.path}/tree`], destination.path, slow);
    const question = await untilAsked(job);
    expect([question.kind, question.filesystem as string]).toEqual(["space-low", destination.path]);
    expect(question.neededBytes).toBeGreaterThan(question.freeBytes);
    await untilView(job.jobs, job.submitted, ({ bytesDone }) => bytesDone + question.neededBytes > 12.5 * mebibyte);
    hurry(job);
    rmSync(`${destination.path}/ballast`);
    endsCompleted(await job.ended);
    await expectSameTree(`${source.path}/tree`, `${destination.path}/tree`);
  },
  30_000,
);

testUnless(
  whyNoFilesystem("tmpfs"),
  "too little space: with on-full=fail a warning; continue goes as far as it goes; no word where files are replaced",
  async () => {
    await using source = await temporaryDirectory();
    await using destination = await mountFilesystem("tmpfs", { sizeBytes: tinySizeBytes });
    makeSource(source.path);
    const ballast = `${destination.path}/ballast`;
    writeFileSync(ballast, randomBytes(12 * mebibyte));
    const warned = startJob([`${source.path}/tree`], `${destination.path}/one`, { ...slow, onFull: "fail" });
    await untilView(warned.jobs, warned.submitted, ({ warningCount }) => warningCount > 0);
    hurry(warned);
    expect((await warned.ended).state).toBe("failed");
    expect(warned.errors.filter(({ severity }) => severity === "warning").map(({ code }) => code)).toEqual(["space-low"]);
    rmSync(`${destination.path}/one`, { recursive: true });
    const job = startJob([`${source.path}/tree`], `${destination.path}/two`, slow);
    const { id } = await untilAsked(job);
    job.jobs.answer(job.submitted, id, "continue", false);
    hurry(job);
    const full = await untilView(job.jobs, job.submitted, ({ question }) => question !== null && question.id > id);
    expect(full.question?.kind).toBe("space");
    rmSync(ballast);
    expect((await job.ended).state).toBe("completed");
    const again = startJob([`${source.path}/tree`], `${destination.path}/two`, { ...slow, target: "exact", onConflict: "overwrite" });
    // Counting begins a second after the start.
    await Bun.sleep(2_500);
    hurry(again);
    const ended = await again.ended;
    expect([ended.state, again.errors]).toEqual(["completed", []]);
  },
  30_000,
);

test("an answer to a question that is over does nothing", async () => {
  await using source = await temporaryDirectory();
  writeFileSync(`${source.path}/a`, "x");
  const job = startJob([`${source.path}/a`], `${source.path}/b`);
  expect(() => job.jobs.answer(job.submitted, 1, "retry", false)).toThrow("asks nothing");
  expect((await job.ended).state).toBe("completed");
});
