// What the chooser and the file copier promise beyond the conformance list: learning, forcing, contradictions, cancelling.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { release } from "node:os";
import { stopped } from "../../src/engines/engine.ts";
import { FileCopier } from "../../src/engines/file-copier.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { copyOne, copyWith, defaultOptions } from "./copying.ts";

const mebibyte = 1024 * 1024;

test("a cancelled copy stops after the block", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, randomBytes(4 * mebibyte));
  for (const engine of ["read-write", "splice", "copy-file-range"] as const) {
    let blocks = 0;
    const control = { advanced: () => ++blocks < 2 };
    const outcome = copyOne(`${directory.path}/source`, `${directory.path}/copy-${engine}`, { engine }, control);
    expect(outcome.result).toBe(stopped);
    expect(blocks).toBe(2);
    expect(outcome.copied).toBeLessThanOrEqual(2 * mebibyte);
  }
});

test("the bytes told to the lane add up to the file", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, randomBytes(3 * mebibyte + 17));
  let sum = 0;
  let largest = 0;
  const control = {
    advanced: (bytes: number) => {
      sum += bytes;
      largest = Math.max(largest, bytes);
      return true;
    },
  };
  for (const engine of ["auto", "read-write", "splice", "copy-file-range"] as const) {
    sum = 0;
    const outcome = copyOne(
      `${directory.path}/source`,
      `${directory.path}/copy`,
      { engine, reflink: engine === "copy-file-range" ? "auto" : "never" },
      control,
    );
    expect(outcome.result).toBe(0);
    expect(sum).toBe(3 * mebibyte + 17);
    expect(outcome.copied + outcome.cloned).toBe(sum);
  }
  expect(largest).toBeLessThanOrEqual(mebibyte);
});

test("one copier serves file after file, in any order of sizes", async () => {
  await using directory = await temporaryDirectory();
  using copier = new FileCopier(defaultOptions, { advanced: () => true });
  for (const size of [0, 1, 5 * mebibyte, 0, 300_000, 2 * mebibyte, 17]) {
    const bytes = randomBytes(size);
    writeFileSync(`${directory.path}/source`, bytes);
    const outcome = copyWith(copier, `${directory.path}/source`, `${directory.path}/copy`);
    expect(outcome.result).toBe(0);
    expect(outcome.length).toBe(size);
    expect(readFileSync(`${directory.path}/copy`).equals(bytes)).toBe(true);
  }
});

testUnless(whyNoFilesystem("tmpfs"), "reflink=always fails where nothing can be cloned, and reads nothing", async () => {
  await using filesystem = await mountFilesystem("tmpfs");
  writeFileSync(`${filesystem.path}/source`, "data");
  const outcome = copyOne(`${filesystem.path}/source`, `${filesystem.path}/copy`, { reflink: "always" });
  expect(outcome.result).toBeLessThan(0);
  expect([outcome.isEngineUnavailable, outcome.engine]).toEqual([true, "reflink"]);
  expect(statSync(`${filesystem.path}/copy`).size).toBe(0);
});

testUnless(whyNoFilesystem("xfs"), "reflink=never shares nothing where everything could be shared", async () => {
  await using filesystem = await mountFilesystem("xfs");
  writeFileSync(`${filesystem.path}/source`, randomBytes(2 * mebibyte));
  const never = copyOne(`${filesystem.path}/source`, `${filesystem.path}/never`, { reflink: "never" });
  expect([never.result, never.cloned, never.copied]).toEqual([0, 0, 2 * mebibyte]);
  expect(never.reasons[0]).toContain("copy-file-range: reflink=never");
  const auto = copyOne(`${filesystem.path}/source`, `${filesystem.path}/auto`);
  expect([auto.result, auto.cloned, auto.copied]).toEqual([0, 2 * mebibyte, 0]);
  expect(auto.engine).toBe("reflink");
});

for (const kind of ["xfs", "btrfs"] as const) {
  testUnless(whyNoFilesystem(kind), `a forced copy_file_range that clones on ${kind} is reported as cloned`, async () => {
    await using filesystem = await mountFilesystem(kind);
    writeFileSync(`${filesystem.path}/source`, randomBytes(2 * mebibyte));
    const outcome = copyOne(`${filesystem.path}/source`, `${filesystem.path}/copy`, { engine: "copy-file-range" });
    expect([outcome.result, outcome.cloned, outcome.copied]).toEqual([0, 2 * mebibyte, 0]);
  });
}

test("options that contradict the forced engine make it unavailable", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, "data");
  for (const options of [
    { engine: "copy-file-range", reflink: "never" },
    { engine: "splice", sparse: "always" },
    { engine: "reflink", sparse: "never" },
  ] as const) {
    const outcome = copyOne(`${directory.path}/source`, `${directory.path}/copy`, options);
    expect(outcome.result).toBeLessThan(0);
    expect(outcome.isEngineUnavailable).toBe(true);
  }
});

test("a pipe is read to its end although it has no offsets", async () => {
  await using directory = await temporaryDirectory();
  const bytes = randomBytes(700_000);
  writeFileSync(`${directory.path}/data`, bytes);
  const fifo = `${directory.path}/fifo`;
  Bun.spawnSync(["mkfifo", fifo]);
  const writer = Bun.spawn(["sh", "-c", `cat ${directory.path}/data > ${fifo}`]);
  const outcome = copyOne(fifo, `${directory.path}/copy`);
  expect(await writer.exited).toBe(0);
  expect(outcome.result).toBe(0);
  expect(readFileSync(`${directory.path}/copy`).equals(bytes)).toBe(true);
});

test("cache=drop copies the same bytes", async () => {
  await using directory = await temporaryDirectory();
  const bytes = randomBytes(20 * mebibyte + 5);
  writeFileSync(`${directory.path}/source`, bytes);
  for (const engine of ["auto", "splice"] as const) {
    expect(copyOne(`${directory.path}/source`, `${directory.path}/copy`, { cache: "drop", engine }).result).toBe(0);
    expect(readFileSync(`${directory.path}/copy`).equals(bytes)).toBe(true);
  }
});

/** Bytes of a file in the page cache, asked again while writing back may still be going on. */
async function resident(path: string, enough: number): Promise<number> {
  let bytes = Number.NaN;
  for (let attempt = 0; attempt < 50; attempt++) {
    bytes = Number((await runChecked(["fincore", "-b", "-n", "-o", "RES", path])).stdout.trim());
    if (bytes <= enough) return bytes;
    await Bun.sleep(100);
  }
  return bytes;
}

for (const kind of ["ext4", "xfs", "btrfs"] as const) {
  const reason = firstReason(whyNoFilesystem(kind), havePrograms("fincore") ? null : "fincore is not installed");
  testUnless(reason, `cache=drop leaves neither a cold source nor the copy in the page cache of ${kind}`, async () => {
    await using filesystem = await mountFilesystem(kind);
    writeFileSync(`${filesystem.path}/source`, randomBytes(40 * mebibyte));
    await filesystem.remount();
    const outcome = copyOne(`${filesystem.path}/source`, `${filesystem.path}/copy`, { cache: "drop", reflink: "never" });
    expect(outcome.result).toBe(0);
    expect(await resident(`${filesystem.path}/copy`, 4 * mebibyte)).toBeLessThanOrEqual(4 * mebibyte);
    expect(await resident(`${filesystem.path}/source`, 4 * mebibyte)).toBeLessThanOrEqual(4 * mebibyte);
  });
}

testUnless(whyNoFilesystem("xfs"), "cache=drop spares a source that was in the page cache before, where the kernel can tell", async () => {
  await using filesystem = await mountFilesystem("xfs");
  writeFileSync(`${filesystem.path}/source`, randomBytes(20 * mebibyte));
  await runChecked(["sync", "-f", filesystem.path]);
  expect(copyOne(`${filesystem.path}/source`, `${filesystem.path}/copy`, { cache: "drop", reflink: "never" }).result).toBe(0);
  const kernel = release().split(".").map(Number);
  // RWF_DONTCACHE came with Linux 6.14.
  const spares = (kernel[0] ?? 0) * 100 + (kernel[1] ?? 0) >= 614;
  expect(await resident(`${filesystem.path}/source`, spares ? Number.POSITIVE_INFINITY : 0)).toBe(spares ? 20 * mebibyte : 0);
});
