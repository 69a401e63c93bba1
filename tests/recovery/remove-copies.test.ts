// What a cancel that takes back copies knows of them: by the checkpoint of killed workers, over filesystems, and by no name alone.

import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { directoryOfEachTest } from "../support/each-test.ts";
import { mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { ResumableJob, type RunOptions } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const directory = directoryOfEachTest();
const options = { durability: "none", reflink: "never", recursive: true };
const noStrace = havePrograms("strace") ? null : "strace is not installed";
/** Births are told apart by a tenth of a second. */
const beforeTheJobMs = 300;

function makeSource(): string {
  const source = join(directory.path, "source");
  mkdirSync(join(source, "sub"), { recursive: true });
  for (const name of ["one", "two", "sub/three"]) writeFileSync(join(source, name), `content of ${name}`);
  return source;
}

function jobTo(destination: string, { sources = [makeSource()], ...more }: Record<string, unknown> & { sources?: string[] } = {}) {
  return new ResumableJob(directory.path, { operation: "copy", sources, destination, options: { ...options, ...more } });
}

/** Takes back what the job has made; how many entries stayed in what is its own. */
async function takeBack(job: ResumableJob): Promise<number> {
  const end = await job.recover({ keepsPartial: false, removesCopies: { isSameBoot: true } });
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  return end.kind === "result" ? end.result.snapshot.filesSkipped : -1;
}

async function runToEnd(job: ResumableJob, how: RunOptions = {}): Promise<void> {
  const { end, errors } = await job.run(how);
  expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed" } }]);
}

function below(path: string): string[] {
  return readdirSync(path, { recursive: true }).map(String).sort();
}

testUnless(noStrace, "what no flush says to be there is taken back as well", async () => {
  const destination = join(directory.path, "destination");
  using job = jobTo(destination, { target: "exact", durability: "job" });
  const under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=syncfs", "-e", "inject=syncfs:signal=KILL:when=1"];
  expect((await job.run({ under, lanes: 1 })).end.kind).toBe("failed");
  expect(below(destination)).toEqual(["one", "sub", "sub/three", "two"]);
  expect(await takeBack(job)).toBe(0);
  expect(existsSync(destination)).toBe(false);
});

/** As cp: what stands there is written into. */
const inPlace = { inPlace: true };

test("a file that was there and was written into stays, with its name", async () => {
  const destination = join(directory.path, "destination");
  mkdirSync(join(destination, "source"), { recursive: true });
  writeFileSync(join(destination, "source/one"), "old");
  await Bun.sleep(beforeTheJobMs);
  using job = jobTo(destination, { onConflict: "overwrite", gnu: inPlace });
  await runToEnd(job);
  expect(readFileSync(join(destination, "source/one"), "utf8")).toBe("content of one");
  await takeBack(job);
  expect(below(destination)).toEqual(["source", "source/one"]);
});

testUnless(
  whyNoFaultyFilesystem(),
  "where births are not known, files that were made go, directories and what was written into stay",
  async () => {
    const backing = join(directory.path, "backing");
    mkdirSync(join(backing, "source"), { recursive: true });
    writeFileSync(join(backing, "source/one"), "old");
    await using filesystem = await mountFaultyFilesystem({ directory: backing });
    using written = jobTo(filesystem.path, { onConflict: "overwrite", gnu: inPlace });
    await runToEnd(written);
    await takeBack(written);
    expect(below(backing)).toEqual(["source", "source/one", "source/sub", "source/sub/three", "source/two"]);
    written.close();
    using made = jobTo(filesystem.path, { onConflict: "overwrite" });
    await runToEnd(made);
    await takeBack(made);
    expect(below(backing)).toEqual(["source", "source/sub"]);
  },
);

testUnless(
  firstReason(whyNoFilesystem("btrfs"), havePrograms("btrfs") ? null : "btrfs is not installed"),
  "a snapshot among the copies, whose inodes are theirs, stays, and is told of",
  async () => {
    await using filesystem = await mountFilesystem("btrfs");
    const destination = join(filesystem.path, "destination");
    using job = jobTo(destination, { target: "exact" });
    await runToEnd(job);
    const snapshot = join(destination, "snapshot");
    await runChecked(["btrfs", "subvolume", "snapshot", filesystem.path, snapshot]);
    expect(await takeBack(job)).toBe(1);
    expect(below(destination)).toEqual(["snapshot", ...below(snapshot).map((name) => `snapshot/${name}`)]);
    expect(readFileSync(join(snapshot, "destination/one"), "utf8")).toBe("content of one");
  },
);

for (const onConflict of ["rename", "ask"] as const) {
  test(`copies beside what was there go, other names with a number stay, with ${onConflict}`, async () => {
    const destination = join(directory.path, "destination");
    mkdirSync(destination);
    writeFileSync(join(destination, "one"), "theirs");
    const source = makeSource();
    await Bun.sleep(beforeTheJobMs);
    using job = jobTo(destination, { sources: [join(source, "one")], onConflict });
    await runToEnd(job, { standingAnswers: [{ kind: "conflict", choice: "rename" }] });
    expect(below(destination)).toEqual(["one", "one (2)"]);
    for (const name of ["one (1)", "other (2)", "one (2) (2)"]) mkdirSync(join(destination, name));
    expect(await takeBack(job)).toBe(0);
    expect(below(destination)).toEqual(["one", "one (1)", "one (2) (2)", "other (2)"]);
  });
}

test("directories of --parents go where the job has made them, and no others", async () => {
  const destination = join(directory.path, "destination");
  mkdirSync(join(destination, "old"), { recursive: true });
  await Bun.sleep(beforeTheJobMs);
  const here = join(directory.path, "here");
  for (const name of ["old/new", "fresh/deep"]) {
    mkdirSync(join(here, name), { recursive: true });
    writeFileSync(join(here, name, "file"), name);
  }
  const typed = ["old/new/file", "fresh/deep/file"];
  const gnu = { parents: true, names: { program: "cp", charset: "utf-8", sources: typed, destination } };
  using job = jobTo(destination, { sources: typed.map((name) => join(here, name)), target: "directory", gnu });
  await runToEnd(job);
  expect(below(destination)).toEqual(["fresh", "fresh/deep", "fresh/deep/file", "old", "old/new", "old/new/file"]);
  await takeBack(job);
  expect(below(destination)).toEqual(["old"]);
});
