// Trouble that passes, trouble that stays and trouble that is cleared up: flaky reads, used-up quotas, filesystems that go and come back.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { type ByteString, displayText } from "../../src/bytes.ts";
import { engineNames } from "../../src/request.ts";
import { runCopyd } from "../support/cli.ts";
import { expectSameTree } from "../support/compare.ts";
import { startJob } from "../support/embedded-job.ts";
import { mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { untilAsked, untilView } from "../support/jobs.ts";
import { run, runChecked } from "../support/process.ts";
import { describeUnless, testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;

function makeTree(path: string): void {
  mkdirSync(`${path}/tree/below`, { recursive: true });
  writeFileSync(`${path}/tree/large`, randomBytes(6 * mebibyte + 123));
  for (let file = 0; file < 12; file++) writeFileSync(`${path}/tree/below/${file}`, randomBytes(5000 * file + 1));
}

function unfinished(path: string): string[] {
  return readdirSync(path, { recursive: true, encoding: "utf8" }).filter((name) => name.includes(".copyd-"));
}

describeUnless(whyNoFaultyFilesystem(), "reads that fail", () => {
  for (const engine of ["auto", ...engineNames.filter((name) => name !== "reflink")] as const) {
    test(`${engine}: once in a while are tried again where they failed, and told as a warning a file`, async () => {
      await using below = await temporaryDirectory();
      await using destination = await temporaryDirectory();
      makeTree(below.path);
      const rules = [{ operations: ["read", "copy_file_range"], errno: "EIO", every: engine === "io-uring" ? 9 : 4 }] as const;
      await using source = await mountFaultyFilesystem({ directory: below.path, directIo: true, rules });
      const forced = engine === "copy-file-range" ? "auto" : engine;
      const job = startJob([`${source.path}/tree`], destination.path, { engine: forced, verify: "none" });
      const ended = await job.ended;
      expect([ended.state, ended.errorCount]).toEqual(["completed", 0]);
      await source.setRules([]);
      await expectSameTree(`${below.path}/tree`, `${destination.path}/tree`);
      expect((await source.injected()).length).toBeGreaterThan(0);
      expect(job.errors.length).toBeGreaterThan(0);
      expect(new Set(job.errors.map(({ severity, code, errno }) => `${severity} ${code} ${errno}`))).toEqual(
        new Set(["warning read-error 5"]),
      );
      expect(new Set(job.errors.map(({ path }) => path)).size).toBe(job.errors.length);
      expect(job.errors.every(({ offset }) => offset >= 0)).toBe(true);
    });
  }

  test("with hashes taken on the way are hashed once, and prove true", async () => {
    await using below = await temporaryDirectory();
    await using destination = await temporaryDirectory();
    makeTree(below.path);
    const rules = [{ operations: ["read"], errno: "EIO", every: 3 }] as const;
    await using source = await mountFaultyFilesystem({ directory: below.path, directIo: true, rules });
    const ended = await startJob([`${source.path}/tree`], destination.path, { verify: "sha256" }).ended;
    expect([ended.state, ended.errorCount, ended.bytesVerified]).toEqual(["completed", 0, ended.bytesDone]);
    await source.setRules([]);
    await expectSameTree(`${below.path}/tree`, `${destination.path}/tree`);
  });

  test("for good fail that file with its offset and no other; cp says it in its words, and soon", async () => {
    await using below = await temporaryDirectory();
    await using destination = await temporaryDirectory();
    makeTree(below.path);
    const rules = [{ operations: ["read"], errno: "EIO", path: "/tree/large", from: 4 * mebibyte }] as const;
    await using source = await mountFaultyFilesystem({ directory: below.path, directIo: true, rules });
    const job = startJob([`${source.path}/tree`], destination.path, { engine: "read-write" });
    const ended = await job.ended;
    expect([ended.state, ended.filesDone]).toEqual(["failed", 12]);
    const message = `error reading '${source.path}/tree/large': Input/output error`;
    expect(job.errors.map(({ code, offset, message }) => ({ code, offset, message }))).toEqual([
      { code: "read-error", offset: 4 * mebibyte, message },
    ]);
    expect(unfinished(destination.path)).toEqual([]);
    const told = await runCopyd(["cp", "--local", "--engine=read-write", `${source.path}/tree/large`, `${destination.path}/again`]);
    expect([told.status, told.stderr]).toEqual([1, `cp: ${message}\n`]);
  });

  test("can be cancelled while they are tried again", async () => {
    await using below = await temporaryDirectory();
    await using destination = await temporaryDirectory();
    makeTree(below.path);
    const rules = [{ operations: ["read"], errno: "EIO" }] as const;
    await using source = await mountFaultyFilesystem({ directory: below.path, directIo: true, rules });
    const job = startJob([`${source.path}/tree`], destination.path, { engine: "read-write" });
    while ((await source.injected()).length === 0) await Bun.sleep(5);
    job.jobs.cancel(job.submitted);
    expect((await job.ended).result?.code).not.toBe("worker-silent");
    expect(unfinished(destination.path)).toEqual([]);
  });
});

describeUnless(whyNoFaultyFilesystem(), "a filesystem that goes away", () => {
  for (const errno of ["ENOTCONN", "ESTALE", "ETIMEDOUT"] as const) {
    test(`as the source (${errno}): the job asks, and goes on by itself when it is back`, async () => {
      await using below = await temporaryDirectory();
      await using destination = await temporaryDirectory();
      makeTree(below.path);
      const rules = [{ operations: "all", errno, path: "/tree*", after: 30 }] as const;
      await using source = await mountFaultyFilesystem({ directory: below.path, directIo: true, cacheMs: 0, rules });
      const job = startJob([`${source.path}/tree`], destination.path);
      const question = await untilAsked(job);
      expect([question.kind, question.neededBytes]).toEqual(["device", -1]);
      expect(unfinished(destination.path)).toEqual([]);
      await source.setRules([]);
      const ended = await job.ended;
      expect(job.errors.filter(({ severity }) => severity === "error")).toEqual([]);
      expect([ended.state, ended.errorCount]).toEqual(["completed", 0]);
      await expectSameTree(`${below.path}/tree`, `${destination.path}/tree`);
    });
  }

  test("as the source, and is mounted again by somebody: the job finds its way by the paths", async () => {
    await using below = await temporaryDirectory();
    await using destination = await temporaryDirectory();
    makeTree(below.path);
    for (let file = 0; file < 60; file++) writeFileSync(`${below.path}/tree/below/more${file}`, randomBytes(30_000));
    await using source = await mountFaultyFilesystem({ directory: below.path, directIo: true, cacheMs: 0 });
    const job = startJob([`${source.path}/tree`], destination.path, { bandwidthLimit: 2 * mebibyte });
    await untilView(job.jobs, job.submitted, ({ filesDone }) => filesDone > 10);
    // The server's connection is cut, as when it died; whoever has a file open there gets ENOTCONN from then on.
    await run(["umount", "--force", source.path]);
    const question = await untilAsked(job);
    expect(question.kind).toBe("device");
    await run(["umount", "--lazy", source.path]);
    await using again = await mountFaultyFilesystem({ directory: below.path, directIo: true, cacheMs: 0 });
    await runChecked(["mount", "--bind", again.path, source.path]);
    const ended = await job.ended;
    await run(["umount", source.path]);
    expect(job.errors.filter(({ severity }) => severity === "error")).toEqual([]);
    expect([ended.state, ended.filesDone]).toEqual(["completed", 73]);
    await expectSameTree(`${below.path}/tree`, `${destination.path}/tree`);
  });

  test("as the source: skip for all counts what was left out, and on-lost=fail asks nothing", async () => {
    await using below = await temporaryDirectory();
    await using destination = await temporaryDirectory();
    makeTree(below.path);
    const rules = [{ operations: "all", errno: "ENOTCONN", path: "/tree*", after: 30 }] as const;
    await using source = await mountFaultyFilesystem({ directory: below.path, directIo: true, cacheMs: 0, rules });
    const job = startJob([`${source.path}/tree`], `${destination.path}/one`);
    const question = await untilAsked(job);
    job.jobs.answer(job.submitted, question.id, "skip", true);
    const ended = await job.ended;
    expect([ended.state, ended.result?.code]).toEqual(["failed", "device-gone"]);
    await source.setRules(rules);
    const failed = await startJob([`${source.path}/tree`], `${destination.path}/two`, { onLost: "fail" }).ended;
    expect([failed.state, failed.result?.code]).toEqual(["failed", "device-gone"]);
  });

  test("as the destination: the job asks, leaves nothing, and goes on by itself", async () => {
    await using source = await temporaryDirectory();
    await using below = await temporaryDirectory();
    makeTree(source.path);
    const rules = [{ operations: ["write", "create", "mkdir", "mknod", "open", "opendir"], errno: "ENOTCONN", after: 12 }] as const;
    await using destination = await mountFaultyFilesystem({ directory: below.path, directIo: true, cacheMs: 0, rules });
    const job = startJob([`${source.path}/tree`], destination.path);
    const question = await untilAsked(job);
    expect([question.kind, question.filesystem as string | undefined]).toEqual(["device", destination.path]);
    expect(readdirSync(below.path, { recursive: true, encoding: "utf8" }).filter((name) => name.includes(".copyd-"))).toEqual([]);
    await destination.setRules([]);
    const ended = await job.ended;
    expect(job.errors.filter(({ severity }) => severity === "error")).toEqual([]);
    expect(ended.state).toBe("completed");
    await expectSameTree(`${source.path}/tree`, `${below.path}/tree`);
  });

  test("as the destination, with on-lost=fail, fails what it fails", async () => {
    await using source = await temporaryDirectory();
    await using below = await temporaryDirectory();
    makeTree(source.path);
    const rules = [{ operations: ["write"], errno: "EIO" }] as const;
    await using destination = await mountFaultyFilesystem({ directory: below.path, directIo: true, cacheMs: 0, rules });
    const ended = await startJob([`${source.path}/tree`], destination.path, { onLost: "fail" }).ended;
    expect([ended.state, ended.result?.code, ended.errorCount]).toEqual(["failed", "write-error", 13]);
    expect(unfinished(below.path)).toEqual([]);
  });
});

testUnless(
  whyNoFilesystem("ext4"),
  "a destination that becomes read-only in the middle is asked about, and was there from the start is told",
  async () => {
    await using source = await temporaryDirectory();
    await using destination = await mountFilesystem("ext4");
    makeTree(source.path);
    const job = startJob([`${source.path}/tree`], destination.path, { bandwidthLimit: 4 * mebibyte });
    await untilView(job.jobs, job.submitted, ({ bytesDone }) => bytesDone > 0);
    job.jobs.pause(job.submitted);
    await untilView(job.jobs, job.submitted, ({ state }) => state === "paused");
    // A filesystem with a file open for writing cannot be remounted read-only; one that has met an error becomes so by itself.
    await runChecked(["mount", "-o", "remount,abort", destination.path]);
    job.jobs.resume(job.submitted);
    const question = await untilAsked(job);
    expect([question.kind, question.filesystem as string | undefined]).toEqual(["device", destination.path]);
    job.jobs.answer(job.submitted, question.id, "abort", false);
    expect((await job.ended).state).toBe("cancelled");
    const again = await startJob([`${source.path}/tree`], `${destination.path}/other`).ended;
    expect(again.result?.code).toBe("read-only-filesystem");
  },
);

testUnless(whyNoFilesystem("btrfs"), "a quota that is used up is asked about, and the job goes on when it is raised", async () => {
  await using source = await temporaryDirectory();
  await using destination = await mountFilesystem("btrfs");
  makeTree(source.path);
  const limited = `${destination.path}/limited`;
  await runChecked(["btrfs", "subvolume", "create", limited]);
  await runChecked(["btrfs", "quota", "enable", destination.path]);
  await runChecked(["btrfs", "qgroup", "limit", "3m", limited]);
  const job = startJob([`${source.path}/tree`], limited);
  const question = await untilAsked(job);
  expect(question.kind).toBe("space");
  expect(displayText(question.message as ByteString)).toContain("Disk quota exceeded");
  expect(unfinished(destination.path)).toEqual([]);
  await runChecked(["btrfs", "qgroup", "limit", "none", limited]);
  const ended = await job.ended;
  expect([ended.state, ended.errorCount]).toEqual(["completed", 0]);
  await expectSameTree(`${source.path}/tree`, `${limited}/tree`);
});
