// A slow device shows its own speed: a filesystem on an image behind a FUSE filesystem that takes its time for each write.

import { expect } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { startJob } from "../support/embedded-job.ts";
import { mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { whyNoFilesystem } from "../support/filesystems.ts";
import { run, runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
/** What may be in the page cache: the bound of a slow device, what is measured first, and the device's own queue. */
const maxAheadBytes = 80 * mebibyte;

/** Bytes that a block device was given to write since it is there. */
function writtenTo(device: string): number {
  return Number(readFileSync(`/sys/block/${device}/stat`, "latin1").trim().split(/\s+/)[6]) * 512;
}

for (const [shape, files, bytes] of [
  ["one large file", 1, 128 * mebibyte],
  ["files of a camera", 32, 4 * mebibyte],
] as const) {
  testUnless(
    firstReason(whyNoFaultyFilesystem(), whyNoFilesystem("ext4")),
    `${shape}: the bar is the device's, not the page cache's`,
    async () => {
      await using source = await temporaryDirectory("/dev/shm");
      await using below = await temporaryDirectory("/dev/shm");
      await using mount = await temporaryDirectory();
      mkdirSync(`${source.path}/tree`);
      const block = randomBytes(bytes);
      for (let file = 0; file < files; file++) writeFileSync(`${source.path}/tree/${file}`, block);
      writeFileSync(`${below.path}/image`, "");
      truncateSync(`${below.path}/image`, 512 * mebibyte);
      await runChecked(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0", `${below.path}/image`]);
      await using fuse = await mountFaultyFilesystem({ directory: below.path, directIo: true });
      await runChecked(["mount", "-o", "loop", `${fuse.path}/image`, mount.path]);
      try {
        const loop = (await runChecked(["findmnt", "-no", "SOURCE", mount.path])).stdout.trim().replace("/dev/", "");
        await fuse.setRules([{ operations: ["write"], delayMs: 30 }]);
        const before = writtenTo(loop);
        let aheadBytes = 0;
        const job = startJob([`${source.path}/tree`], mount.path, { durability: "job" });
        job.jobs.on("changed", ({ bytesDone }) => {
          aheadBytes = Math.max(aheadBytes, bytesDone - (writtenTo(loop) - before));
        });
        const ended = await job.ended;
        expect([ended.state, ended.bytesDone]).toEqual(["completed", files * bytes]);
        expect(aheadBytes).toBeLessThan(maxAheadBytes);
        await fuse.setRules([]);
      } finally {
        await run(["umount", mount.path]);
      }
    },
  );
}
