// A slow device shows its own speed, and the time left is the device's: a filesystem on an image that takes its time for each write.

import { expect } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import type { JobView } from "../../src/jobs/api.ts";
import { startJob } from "../support/embedded-job.ts";
import { testUnless } from "../support/skip.ts";
import { mountSlowMedium, whyNoSlowMedium } from "../support/slow-medium.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
/** The last: what may be in the page cache, the bound of a slow device, what is measured first, and the device's own queue. */
for (const [shape, files, bytes, maxAheadBytes] of [
  ["one large file", 1, 128 * mebibyte, 80 * mebibyte],
  ["files of a camera", 32, 4 * mebibyte, 80 * mebibyte],
  ["many small files", 2600, 31_000, 56 * mebibyte],
] as const) {
  testUnless(whyNoSlowMedium(), `${shape}: the bar is the device's, not the page cache's`, async () => {
    await using source = await temporaryDirectory("/dev/shm");
    await using medium = await mountSlowMedium();
    mkdirSync(`${source.path}/tree`);
    const block = randomBytes(bytes);
    for (let file = 0; file < files; file++) writeFileSync(`${source.path}/tree/${file}`, block);
    await medium.setRules([{ operations: ["write"], delayMs: 30 }]);
    const before = medium.writtenBytes();
    let aheadBytes = 0;
    const job = startJob([`${source.path}/tree`], medium.path, { durability: "job" });
    job.jobs.on("changed", ({ bytesDone }) => {
      aheadBytes = Math.max(aheadBytes, bytesDone - (medium.writtenBytes() - before));
    });
    const ended = await job.ended;
    expect([ended.state, ended.bytesDone]).toEqual(["completed", files * bytes]);
    expect(aheadBytes).toBeLessThan(maxAheadBytes);
  });
}

testUnless(
  whyNoSlowMedium(),
  "a device that becomes slow: the time left counts its flush and its reading back, until both are over",
  async () => {
    await using source = await temporaryDirectory("/dev/shm");
    await using medium = await mountSlowMedium();
    writeFileSync(`${source.path}/file`, randomBytes(48 * mebibyte));
    const told: { readonly view: JobView; readonly atUs: number }[] = [];
    const options = { durability: "job", verify: "xxh3", bandwidthLimit: 30 * mebibyte };
    const job = startJob([`${source.path}/file`], medium.path, options);
    const slowed: Promise<void>[] = [];
    job.jobs.on("changed", (view) => {
      told.push({ view, atUs: Date.now() * 1000 });
      // What was left to the page cache until then is flushed slowly.
      if (view.bytesDone < 44 * mebibyte || slowed.length > 0) return;
      slowed.push(
        medium.setRules([
          { operations: ["write"], delayMs: 300 },
          { operations: ["read"], delayMs: 60 },
        ]),
      );
    });
    const ended = await job.ended;
    await Promise.all(slowed);
    expect(ended.state).toBe("completed");
    for (const phase of ["flushing", "verifying"] as const) {
      const secondsLeft = (atUs: number): number => (ended.finishedTimeUs - atUs) / 1e6;
      const those = told.filter(({ view, atUs }) => view.phase === phase && view.result === null && secondsLeft(atUs) > 1);
      expect(those.length).toBeGreaterThan(10);
      // The device does not go evenly; that it reads four times as fast as it writes is not known before it does.
      const most = phase === "flushing" ? 8 : 3;
      const shares = those.map(({ view, atUs }) => (view.expectedEndTimeUs - atUs) / 1e6 / secondsLeft(atUs));
      const right = shares.filter((share) => share > 0.3 && share < most);
      if (right.length < shares.length * 0.75) {
        throw new Error(`${phase}: of the time left, ${shares.map((share) => share.toFixed(1)).join(" ")} were told`);
      }
      expect(those.filter(({ view }) => view.rate > 0).length).toBeGreaterThan(those.length * 0.75);
    }
  },
  120_000,
);
