// A big file whose copy is interrupted goes on where it was, and what nobody goes on with is removed.

import { beforeEach, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  openSync,
  readdirSync,
  statSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { expectSameTree } from "../support/compare.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { Random } from "../support/random.ts";
import { ResumableJob, writtenBy } from "../support/resumable-job.ts";

const mebibyte = 1024 * 1024;
/** Slow enough to be interrupted. */
const bandwidthLimit = 70 * mebibyte;
const fileBytes = 160 * mebibyte + 12_345;

const directory = directoryOfEachTest();
let source = "";
let destination = "";

beforeEach(() => {
  source = join(directory.path, "source");
  destination = join(directory.path, "destination");
  Bun.spawnSync(["mkdir", source, destination]);
});

function makeBig(name: string, { hole }: { readonly hole: "none" | "middle" } = { hole: "none" }): void {
  const fd = openSync(join(source, name), "w");
  const block = Buffer.alloc(mebibyte);
  for (let offset = 0; offset < fileBytes; offset += mebibyte) {
    block.fill(`${name} ${offset} `);
    if (hole === "middle" && offset > 40 * mebibyte && offset < 60 * mebibyte) continue;
    writeSync(fd, block, 0, Math.min(mebibyte, fileBytes - offset), offset);
  }
  ftruncateSync(fd, fileBytes);
  closeSync(fd);
  utimesSync(join(source, name), 1_000_000_000, 1_500_000_000);
}

function job(options: Record<string, unknown> = {}): ResumableJob {
  const request = { operation: "copy", sources: [source], destination, options: { reflink: "never", durability: "none", ...options } };
  return new ResumableJob(directory.path, request);
}

/** Bytes of what is under way or done. */
function bytesThere(): number {
  const below = join(destination, "source");
  if (!existsSync(below)) return 0;
  return readdirSync(below).reduce((sum, name) => sum + (statSync(join(below, name), { throwIfNoEntry: false })?.size ?? 0), 0);
}

function temporaries(): string[] {
  return readdirSync(destination, { recursive: true })
    .map(String)
    .filter((name) => name.includes(".copyd-"));
}

const isLong = process.env.COPYD_TORTURE === "1";
const engines = isLong ? ["read-write", "io-uring", "copy-file-range", "splice", "auto"] : ["read-write", "io-uring", "auto"];

for (const engine of engines) {
  for (const verify of ["none", "xxh3"]) {
    if ((verify !== "none") !== (engine === "auto") && !isLong) continue;
    test(`${engine}, verification ${verify}: at most a few blocks are copied twice`, async () => {
      for (const name of ["a", "b"]) makeBig(name);
      const random = Random.announced();
      // A forced copy_file_range and no clones exclude each other.
      using copy = job({ engine, verify, reflink: engine === "copy-file-range" ? "auto" : "never" });
      for (let round = 0; round < 4; round++) {
        const until = bytesThere() + random.below(90 * mebibyte);
        await copy.run({ killWhen: () => bytesThere() > until, lanes: 2 });
      }
      expect(temporaries().length).toBeLessThan(3);
      const { end, errors } = await copy.run({ lanes: 2 });
      expect(errors).toEqual([]);
      expect(end).toMatchObject({ kind: "result", result: { outcome: "completed", snapshot: { bytesDone: 2 * fileBytes } } });
      await expectSameTree(source, join(destination, "source"));
      // wchar counts only what goes through write(2): the other engines' calls are the kernel's own.
      if (engine === "read-write") expect(copy.writtenBytes - 2 * fileBytes).toBeLessThan(2 * 4 * 4 * mebibyte);
      expect(temporaries()).toEqual([]);
    }, 120_000);
  }
}

test("a sparse file goes on, its holes are kept", async () => {
  makeBig("sparse", { hole: "middle" });
  using copy = job({ engine: "read-write", bandwidthLimit });
  await copy.run({ killWhen: ({ pid }) => writtenBy(pid) > 70 * mebibyte });
  expect(temporaries()).toHaveLength(1);
  const { end } = await copy.run();
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed", snapshot: { bytesDone: fileBytes } } });
  expect(copy.writtenBytes).toBeLessThan(fileBytes);
  await expectSameTree(source, join(destination, "source"));
  expect(statSync(join(destination, "source", "sparse")).blocks * 512).toBeLessThan(fileBytes - 15 * mebibyte);
}, 60_000);

test("a source that has changed since is copied from its beginning", async () => {
  makeBig("a");
  using copy = job({ engine: "read-write", bandwidthLimit });
  await copy.run({ killWhen: () => bytesThere() > 20 * mebibyte });
  expect(temporaries()).toHaveLength(1);
  const fd = openSync(join(source, "a"), "r+");
  writeSync(fd, "changed", 0);
  closeSync(fd);
  const { end } = await copy.run();
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  await expectSameTree(source, join(destination, "source"));
  expect(temporaries()).toEqual([]);
}, 60_000);

test("a source that is gone leaves no temporary file", async () => {
  makeBig("a");
  writeFileSync(join(source, "small"), "small");
  using copy = job({ engine: "read-write", bandwidthLimit });
  await copy.run({ killWhen: () => bytesThere() > 20 * mebibyte });
  unlinkSync(join(source, "a"));
  await copy.run();
  expect(readdirSync(join(destination, "source"))).toEqual(["small"]);
}, 60_000);

test("a stop in order keeps the temporary file and says interrupted; a job that is given up removes it", async () => {
  makeBig("a");
  using copy = job({ engine: "read-write", durability: "job", bandwidthLimit });
  const { end } = await copy.run({ stopWhen: () => bytesThere() > 20 * mebibyte });
  expect(end).toMatchObject({ kind: "result", result: { outcome: "interrupted" } });
  expect(temporaries()).toHaveLength(1);
  // What an orderly stop has flushed is there after a power cut, too.
  const second = await copy.run({ isSameBoot: false, stopWhen: () => bytesThere() > 80 * mebibyte });
  expect(second.end).toMatchObject({ kind: "result", result: { outcome: "interrupted" } });
  // Each of two lanes may have been within a range of 4 MiB, and in a block.
  expect(copy.writtenBytes).toBeLessThan(bytesThere() + 9 * mebibyte);
  await copy.recover({ keepsPartial: true });
  expect(temporaries()).toHaveLength(1);
  await copy.recover({ keepsPartial: false });
  expect(temporaries()).toEqual([]);
}, 60_000);
