// What a power cut leaves of the records of unfinished files: an old state of them, or nothing, while the names that they were of are there.

import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { directoryOfEachTest } from "../support/each-test.ts";
import { ResumableJob } from "../support/resumable-job.ts";

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
