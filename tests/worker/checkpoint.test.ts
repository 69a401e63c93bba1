// A worker that is killed and started again with its checkpoint: what was finished is not made again, and the tree is the same.

import { expect, test } from "bun:test";
import { chmodSync, linkSync, lstatSync, mkdirSync, readdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectSameTree } from "../support/compare.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { countBelow, ResumableJob, type RunOptions } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { readTrace } from "../support/trace.ts";

const directory = directoryOfEachTest();

/** Directories of small files, hard links, symlinks, a FIFO, and directories that their owner may not write to. */
function makeTree(source: string, files: number): void {
  const random = new Random(7);
  for (let index = 0; index < files; index++) {
    const below = join(source, `d${index % 7}`, `e${index % 3}`);
    mkdirSync(below, { recursive: true });
    writeFileSync(join(below, `f${index}`), Buffer.alloc(random.below(20_000), `copyd ${index}`));
    if (index % 10 === 0) linkSync(join(below, `f${index}`), join(source, `d${index % 7}`, `link${index}`));
    if (index % 15 === 0) symlinkSync(`../f${index}`, join(below, `symlink${index}`));
  }
  Bun.spawnSync(["mkfifo", join(source, "fifo")]);
  utimesSync(join(source, "d0"), 1_000_000_000, 1_000_000_000);
  chmodSync(join(source, "d1", "e1"), 0o555);
}

/** Each inode once. */
function bytesBelow(at: string): number {
  const inodes = new Map<number, number>();
  for (const name of readdirSync(at, { recursive: true })) {
    const stat = lstatSync(join(at, String(name)));
    if (stat.isFile()) inodes.set(stat.ino, stat.size);
  }
  return [...inodes.values()].reduce((sum, size) => sum + size, 0);
}

function copyOf(source: string, destination: string, options: Record<string, unknown> = {}): unknown {
  return { operation: "copy", sources: [source], destination, options: { durability: "none", engine: "read-write", ...options } };
}

test("after kills a job goes on where it was: the same tree, and little copied twice", async () => {
  const source = join(directory.path, "source");
  makeTree(source, 2000);
  const destination = join(directory.path, "destination");
  const random = Random.announced();
  using job = new ResumableJob(directory.path, copyOf(source, destination));
  for (let round = 0; round < 5; round++) {
    const until = countBelow(destination) + 1 + random.below(600);
    await job.run({ killWhen: () => countBelow(destination) >= until, lanes: 1 + random.below(4) });
  }
  const { end, errors } = await job.run();
  expect(errors).toEqual([]);
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed", snapshot: { filesDone: countBelow(source) - 7 * 4 } } });
  await expectSameTree(source, destination);
  // What talk and log take is little: a megabyte is less than a tenth of the tree.
  expect(job.writtenBytes - bytesBelow(source)).toBeLessThan(1_000_000);
  expect(readdirSync(destination, { recursive: true }).filter((name) => String(name).includes(".copyd-"))).toEqual([]);
}, 120_000);

/** Eight files in each of two directories; a time has nanoseconds in every file but the first of each. */
function makeTimedTree(source: string): void {
  for (const below of ["a", "b"].map((name) => join(source, name))) {
    mkdirSync(below, { recursive: true });
    for (let index = 0; index < 8; index++) {
      writeFileSync(join(below, `f${index}`), "copyd");
      const time = `2020-01-01 00:00:0${index}.${index === 0 ? "0" : `12345678${index}`} UTC`;
      Bun.spawnSync(["touch", "-d", time, join(below, `f${index}`)]);
    }
  }
}

/** Lines of strace in which a call meets an open file below `at`. */
function callsOn(trace: string, at: string, call: string): string[] {
  return readTrace(trace).filter((line) => line.includes(` ${call}(`) && new RegExp(`<${at}/.*/f\\d>`).test(line));
}

const exact = {
  kind: "tmpfs",
  what: "times to the nanosecond: a copy is looked at when it is made, and one of them again",
  looks: [16, 20],
} as const;
const coarse = { kind: "ext4", what: "times in whole seconds: each copy is looked at when it is done, too", looks: [32, 32] } as const;
for (const { kind, what, looks } of [exact, coarse]) {
  const lacking = firstReason(whyNoFilesystem(kind), havePrograms("strace") ? null : "strace is not installed");
  testUnless(
    lacking,
    `${what}; a resumed job knows all of them by that`,
    async () => {
      await using filesystem = await mountFilesystem(kind, kind === "ext4" ? { mkfsOptions: ["-I", "128"] } : {});
      const [source, copy] = [join(directory.path, "source"), join(filesystem.path, "copy")];
      makeTimedTree(source);
      using job = new ResumableJob(directory.path, copyOf(source, copy, { target: "exact" }));
      const traced = (name: string): Required<Pick<RunOptions, "under" | "lanes">> => ({
        under: ["strace", "-f", "-qq", "-y", "-e", "trace=statx,pread64", "-o", join(directory.path, name)],
        lanes: 1,
      });
      await job.run(traced("first"));
      const count = callsOn(join(directory.path, "first"), copy, "statx").length;
      expect(count).toBeGreaterThanOrEqual(looks[0]);
      expect(count).toBeLessThanOrEqual(looks[1]);
      const { end } = await job.run(traced("second"));
      expect(end).toMatchObject({ kind: "result", result: { outcome: "completed", snapshot: { filesDone: 16 } } });
      expect(callsOn(join(directory.path, "second"), copy, "pread64")).toEqual([]);
    },
    60_000,
  );
}
