// What a killed worker left in the page cache could not be written, and another program was told of it: the next worker hears of nothing.

import { afterEach, beforeEach, expect } from "bun:test";
import { randomBytes } from "node:crypto";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { layout } from "../../src/ffi/layout.ts";
import { libc } from "../../src/ffi/libc.ts";
import { Stat } from "../../src/ffi/stat.ts";
import { openCheckpoint } from "../../src/worker/checkpoint-file.ts";
import { partialsStart } from "../../src/worker/checkpoint-layout.ts";
import { PartialFiles } from "../../src/worker/partial-files.ts";
import { Shared } from "../../src/worker/shared.ts";
import { run, runChecked } from "../support/process.ts";
import { killedAfter, ResumableJob } from "../support/resumable-job.ts";
import { testUnless } from "../support/skip.ts";
import { dataFromBytes, mountSlowMedium, type SlowMedium, whyNoSlowMedium } from "../support/slow-medium.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
const mediumBytes = 512 * mebibyte;
const bigBytes = 160 * mebibyte + 12_345;

let directory: TemporaryDirectory;
let medium: SlowMedium;
let [source, destination] = ["", ""];

beforeEach(async () => {
  directory = await temporaryDirectory("/dev/shm");
  medium = await mountSlowMedium(mediumBytes);
  source = join(directory.path, "source");
  destination = join(medium.path, "destination");
  for (const path of [source, destination]) mkdirSync(path);
  // Its block is one of the first, where nothing fails.
  await runChecked(["sync", "-f", destination]);
});
afterEach(async () => {
  await medium[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

/** The job copies into the destination whatever the source directory holds. */
function startJob(operation: "copy" | "move", options: Record<string, unknown>): ResumableJob {
  const sources = readdirSync(source).map((name) => join(source, name));
  const request = { operation, sources, destination, options: { engine: "read-write", reflink: "never", target: "directory", ...options } };
  return new ResumableJob(directory.path, request);
}

/** All data that is only in the page cache and has its place behind `from` is lost, and "sync -f" of somebody else takes the error. */
async function loseUnwritten(from = dataFromBytes): Promise<void> {
  // The kernel may have been so quick that nothing is left to lose: then it is as if it had not been.
  if (!(await isLostNow(from))) {
    await unwriteEnds();
    expect(await isLostNow(from)).toBe(true);
  }
  expect((await run(["sync", "-f", destination])).status).toBe(0);
}

async function isLostNow(from: number): Promise<boolean> {
  await medium.setRules([{ operations: ["write"], errno: "EIO", from, to: mediumBytes }]);
  const { status } = await run(["sync", "-f", destination]);
  await medium.setRules([]);
  return status !== 0;
}

/** The medium gets something else for the end of each file, while the page cache has what was copied, not written yet. */
async function unwriteEnds(): Promise<void> {
  const ends = readdirSync(destination).map((name) => {
    const path = join(destination, name);
    const { size, mtimeNs } = statSync(path, { bigint: true });
    const at = Math.max(0, Number(size) - mebibyte);
    return {
      path,
      at,
      content: readFileSync(path).subarray(at),
      time: `@${mtimeNs / 10n ** 9n}.${`${mtimeNs % 10n ** 9n}`.padStart(9, "0")}`,
    };
  });
  const write = (path: string, content: Buffer, at: number): void => {
    const fd = openSync(path, "r+");
    writeSync(fd, content, 0, content.length, at);
    closeSync(fd);
  };
  for (const { path, at, content } of ends) write(path, Buffer.alloc(content.length, "lost"), at);
  await runChecked(["sync", "-f", destination]);
  for (const { path, at, content } of ends) write(path, content, at);
  for (const { path, time } of ends) await runChecked(["touch", "-m", "-d", time, path]);
}

/** Whether the big file has more than its checkpoint says to be on the medium: only that can be lost and in doubt. */
function isBehind(job: ResumableJob): boolean {
  const checkpoint = readFileSync(job.checkpointPath);
  const [written, durable] = [checkpoint.readDoubleLE(partialsStart + 64), checkpoint.readDoubleLE(partialsStart + 72)];
  return written - durable > 4 * mebibyte;
}

function temporaryBytes(): number {
  const name = readdirSync(destination).find((each) => each.includes(".copyd-"));
  return name === undefined ? 0 : statSync(join(destination, name)).size;
}

for (const [operation, durability, toldOf] of [
  ["copy", "job", "the filesystem"],
  ["move", "none", "the filesystem"],
  ["move", "none", "each file"],
] as const) {
  testUnless(
    whyNoSlowMedium(),
    `finished files, ${operation}, durability ${durability}, somebody else is told of ${toldOf}: what was lost is copied again`,
    async () => {
      const contents = new Map(Array.from({ length: 40 }, (_, file) => [`f${file}`, randomBytes(100_000)]));
      for (const [name, content] of contents) writeFileSync(join(source, name), content);
      using job = startJob(operation, { bandwidthLimit: 10_000_000, durability });
      expect((await job.run({ killWhen: () => readdirSync(destination).length > 15, lanes: 1 })).end.kind).toBe("failed");
      expect(readdirSync(source)).toHaveLength(40);
      await loseUnwritten();
      const copies = readdirSync(destination).map((name) => join(destination, name));
      if (toldOf === "each file") expect((await run(["sync", ...copies])).status).toBe(1);
      const { end, errors } = await job.run();
      expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed" } }]);
      if (operation === "move") expect(readdirSync(source)).toEqual([]);
      await medium.remount();
      for (const [name, content] of contents) expect(readFileSync(join(destination, name)).equals(content)).toBe(true);
    },
    60_000,
  );
}

for (const [operation, durability, memory] of [
  ["copy", "job", "still has"],
  ["copy", "file", "still has"],
  ["move", "none", "still has"],
  ["copy", "file", "no longer has"],
] as const) {
  testUnless(
    whyNoSlowMedium(),
    `a big file's beginning, ${operation}, durability ${durability}, the kernel ${memory} its inode: it goes on before what was lost`,
    async () => {
      const content = randomBytes(bigBytes);
      writeFileSync(join(source, "big"), content);
      using job = startJob(operation, { durability });
      expect((await job.run({ killWhen: () => temporaryBytes() > 90 * mebibyte && isBehind(job), lanes: 1 })).end.kind).toBe("failed");
      expect(existsSync(join(destination, "big"))).toBe(false);
      await loseUnwritten();
      if (memory === "no longer has") await medium.remount();
      const { end, errors } = await job.run();
      expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed", snapshot: { bytesDone: bigBytes } } }]);
      await medium.remount();
      expect(readFileSync(join(destination, "big")).equals(content)).toBe(true);
    },
    60_000,
  );
}

testUnless(
  whyNoSlowMedium(),
  "a big file, stopped while its beginning is looked at: the file stays, and what was lost is no less in doubt",
  async () => {
    const content = randomBytes(bigBytes);
    writeFileSync(join(source, "big"), content);
    using job = startJob("move", { durability: "none", bandwidthLimit: 60 * mebibyte });
    expect((await job.run({ killWhen: () => temporaryBytes() > 90 * mebibyte && isBehind(job), lanes: 1 })).end.kind).toBe("failed");
    await loseUnwritten(190 * mebibyte);
    await medium.remount();
    const { onMessage, killWhen: stopWhen } = killedAfter(300);
    expect((await job.run({ onMessage, stopWhen })).end).toMatchObject({ kind: "result", result: { outcome: "interrupted" } });
    expect(temporaryBytes()).toBeGreaterThan(90 * mebibyte);
    const { end, errors } = await job.run();
    expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed" } }]);
    await medium.remount();
    expect(readFileSync(join(destination, "big")).equals(content)).toBe(true);
  },
  60_000,
);

testUnless(whyNoSlowMedium(), "what a flush of a big file's beginning was told, the flush at its end is told as well", async () => {
  const checkpointFd = openSync(join(directory.path, "checkpoint"), "w+");
  const checkpoint = openCheckpoint({ fd: checkpointFd, isResumed: false, isSameBoot: true, startedTimeUs: 0 }, { unmarked: "believed" });
  if (checkpoint === null) throw new Error("no checkpoint");
  const partials = new PartialFiles(new Shared({ buffer: Shared.allocate(), slots: 0, inFlight: 0, ranges: null, checkpoint }), checkpoint);
  const place = { name: ".copyd-x-1", directory: destination, directoryInodeLow: 1, directoryInodeHigh: 0 };
  const anyState = Stat.owned(new Uint8Array(layout.statx.size));
  const slot = partials.take(anyState, anyState, place);
  if (slot === null) throw new Error("no slot");
  const fd = openSync(join(destination, "big"), "w");
  partials.enter(slot, fd);
  writeSync(fd, randomBytes(mebibyte));
  slot.written = mebibyte;
  await medium.setRules([{ operations: ["write"], errno: "EIO", from: dataFromBytes, to: mediumBytes }]);
  expect([partials.makeDurable(), slot.syncError, slot.durable]).toEqual([true, 5, 0]);
  await medium.setRules([]);
  partials.leave(slot, "forget");
  expect([libc.fsync(fd), libc.fsync(fd)]).toEqual([-5, 0]);
  closeSync(fd);
  closeSync(checkpointFd);
});
