// Moves and hard links, killed and resumed: nothing is lost, nothing is moved twice, and links stay links.

import { expect, test } from "bun:test";
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectSameTree } from "../support/compare.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { countBelow, killedAfter, killedAt, ResumableJob } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const directory = directoryOfEachTest();
const noStrace = havePrograms("strace") ? null : "strace is not installed";

function makeTree(source: string, files: number): void {
  for (let index = 0; index < files; index++) {
    const below = join(source, `d${index % 5}`, `e${index % 2}`);
    mkdirSync(below, { recursive: true });
    writeFileSync(join(below, `f${index}`), `content ${index} `.repeat(200 + (index % 50)));
    mkdirSync(join(source, `d${(index + 1) % 5}`), { recursive: true });
    if (index % 4 === 0) linkSync(join(below, `f${index}`), join(source, `d${(index + 1) % 5}`, `link${index}`));
  }
}

testUnless(
  whyNoFilesystem("tmpfs"),
  "a move across filesystems, killed while it copies and while it removes, loses nothing",
  async () => {
    await using other: TestFilesystem = await mountFilesystem("tmpfs");
    const random = Random.announced();
    let killedInRemoval = 0;
    for (let attempt = 0; attempt < (process.env.COPYD_TORTURE === "1" ? 30 : 2); attempt++) {
      const [source, whole, records] = [`source${attempt}`, `whole${attempt}`, `records${attempt}`].map((name) =>
        join(directory.path, name),
      ) as [string, string, string];
      const destination = join(other.path, `destination${attempt}`);
      makeTree(source, 800);
      for (let index = 0; index < 5; index++) mkdirSync(join(source, `d${index}`, "empty"), { recursive: true });
      Bun.spawnSync(["cp", "-a", source, whole]);
      mkdirSync(records);
      using job = new ResumableJob(records, { operation: "move", sources: [source], destination, options: { target: "exact" } });
      await job.run(killedAfter(random.below(100)));
      // Somewhere on the way through the removal.
      const entries = countBelow(source);
      const left = random.below(entries);
      const second = await job.run({ killWhen: () => countBelow(source) < Math.max(left, 1) });
      if (second.end.kind === "failed" && countBelow(source) < entries) killedInRemoval++;
      let last = await job.run();
      if (last.end.kind === "failed") last = await job.run();
      expect(last.errors).toEqual([]);
      expect(last.end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
      await expectSameTree(whole, destination);
      expect(existsSync(source)).toBe(false);
      for (const done of [whole, destination]) rmSync(done, { recursive: true });
    }
    expect(killedInRemoval).toBeGreaterThan(0);
  },
  600_000,
);

testUnless(
  firstReason(whyNoFilesystem("tmpfs"), noStrace),
  "the manifest of a move that is killed in its removal keeps the lines of what is gone",
  async () => {
    await using other: TestFilesystem = await mountFilesystem("tmpfs");
    const [source, manifest] = [join(directory.path, "source"), join(directory.path, "sums")];
    mkdirSync(source);
    for (let index = 0; index < 40; index++) writeFileSync(join(source, `f${index}`), `content ${index}`);
    const destination = join(other.path, "destination");
    using job = new ResumableJob(directory.path, {
      operation: "move",
      sources: [source],
      destination,
      options: { target: "exact", manifest },
    });
    expect((await job.run(killedAt("unlinkat", 12))).end.kind).toBe("failed");
    expect(readdirSync(source).length).toBeLessThan(40);
    const { errors, end } = await job.run();
    expect(errors).toEqual([]);
    expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
    expect(readFileSync(manifest, "utf8").trimEnd().split("\n")).toHaveLength(40);
    expect(Bun.spawnSync(["sha256sum", "--quiet", "-c", manifest], { cwd: destination }).exitCode).toBe(0);
  },
  60_000,
);

for (const durability of ["job", "none"]) {
  for (const isSameBoot of [true, false]) {
    const name = `arguments that are moved and gone already are not missed${isSameBoot ? "" : " after a power cut"}, durability ${durability}`;
    testUnless(firstReason(whyNoFilesystem("tmpfs"), noStrace), name, async () => {
      await using other: TestFilesystem = await mountFilesystem("tmpfs");
      const from = join(directory.path, "from");
      mkdirSync(from);
      const names = Array.from({ length: 30 }, (_, index) => `f${index}`);
      for (const name of names) writeFileSync(join(from, name), `content of ${name}`);
      using job = new ResumableJob(directory.path, {
        operation: "move",
        sources: names.map((name) => join(from, name)),
        destination: other.path,
        options: { durability },
      });
      expect((await job.run(killedAt("unlinkat", 12))).end.kind).toBe("failed");
      expect(readdirSync(from)).toHaveLength(19);
      if (!isSameBoot) job.boot++;
      const { errors, end } = await job.run({ isSameBoot });
      expect([errors, end]).toEqual([[], expect.objectContaining({ result: expect.objectContaining({ outcome: "completed" }) })]);
      expect([readdirSync(from), readdirSync(other.path).length]).toEqual([[], 30]);
    });
  }
}

/** What a job's one lane flushes, and the calls of this name beside, in order. */
async function flushesBeside(call: string, job: ResumableJob, options: Parameters<ResumableJob["run"]>[0] = {}): Promise<string[]> {
  const trace = join(directory.path, "trace");
  await job.run({ ...options, lanes: 1, under: ["strace", "-f", "-qq", "-o", trace, "-e", `trace=fdatasync,syncfs,${call}`] });
  const calls = [...readFileSync(trace, "latin1").matchAll(/^(\d+) +(\w+)\(/gm)].map(([, thread, name = ""]) => ({ thread, name }));
  const lane = calls.find(({ name }) => name === call)?.thread;
  return calls.filter(({ thread }) => thread === lane).map(({ name }) => name);
}

testUnless(noStrace, "what is to be renamed is on the medium before it is", async () => {
  const [one, two] = [join(directory.path, "one"), join(directory.path, "two")];
  writeFileSync(one, "x");
  using job = new ResumableJob(directory.path, { operation: "move", sources: [one], destination: two });
  const calls = await flushesBeside("renameat2", job);
  expect(calls.slice(0, calls.indexOf("renameat2") + 1)).toEqual(["fdatasync", "fdatasync", "renameat2"]);
});

testUnless(noStrace, "what a worker has done that is told to stop is on the medium before it ends", async () => {
  const [source, destination] = [join(directory.path, "source"), join(directory.path, "copy")];
  mkdirSync(source);
  for (let index = 0; index < 60; index++) writeFileSync(join(source, `f${index}`), Buffer.alloc(65_536, index));
  const options = { target: "exact", bandwidthLimit: 2_000_000 };
  using job = new ResumableJob(directory.path, { operation: "copy", sources: [source], destination, options });
  const calls = await flushesBeside("utimensat", job, { stopWhen: () => countBelow(destination) > 5 });
  expect(countBelow(destination)).toBeLessThan(60);
  expect(calls.slice(calls.lastIndexOf("utimensat") + 1)).toEqual(["syncfs", "fdatasync", "fdatasync", "fdatasync"]);
});

for (const onConflict of ["overwrite", "rename"]) {
  test(`renames that were done are done, with ${onConflict}`, async () => {
    const random = Random.announced();
    const [from, to] = [join(directory.path, "from"), join(directory.path, "to")];
    mkdirSync(from);
    mkdirSync(to);
    const names = Array.from({ length: 600 }, (_, index) => `f${index}.txt`);
    for (const name of names) writeFileSync(join(from, name), `content of ${name}`);
    for (const name of names.slice(0, 100)) writeFileSync(join(to, name), "somebody else's");
    const sources = names.map((name) => join(from, name));
    using job = new ResumableJob(directory.path, {
      operation: "move",
      sources,
      destination: to,
      options: { onConflict, durability: "none" },
    });
    let killed = 0;
    for (let round = 0; round < 4; round++) {
      const left = random.below(Math.max(1, readdirSync(from).length));
      const { end } = await job.run({ killWhen: () => readdirSync(from).length < Math.max(1, left) });
      if (end.kind === "failed") killed++;
    }
    const { end, errors } = await job.run();
    expect(errors).toEqual([]);
    expect(end).toMatchObject({ kind: "result", result: { outcome: "completed", snapshot: { filesDone: 600 } } });
    expect(readdirSync(from)).toEqual([]);
    expect(readdirSync(to)).toHaveLength(onConflict === "rename" ? 700 : 600);
    const copyName = (name: string, index: number): string => (onConflict === "rename" && index < 100 ? name.replace(".", " (2).") : name);
    names.forEach((name, index) => {
      expect(readFileSync(join(to, copyName(name, index)), "utf8")).toBe(`content of ${name}`);
    });
    expect(killed).toBeGreaterThan(0);
  }, 60_000);
}

test("a source that never was is still missing in a resumed move", async () => {
  const [from, to] = [join(directory.path, "from"), join(directory.path, "to")];
  mkdirSync(from);
  mkdirSync(to);
  writeFileSync(join(from, "there"), "x");
  writeFileSync(join(to, "gone"), "somebody else's");
  const sources = [join(from, "gone"), join(from, "there")];
  using job = new ResumableJob(directory.path, { operation: "move", sources, destination: to });
  await job.run(killedAfter(0));
  const { errors } = await job.run();
  expect(errors.length).toBe(1);
  expect(errors[0]).toContain("from/gone");
});

test("an inode with many names is copied once, whichever of them is met first", async () => {
  const [source, destination] = [join(directory.path, "source"), join(directory.path, "destination")];
  makeTree(source, 400);
  writeFileSync(join(source, "d0", "big"), Buffer.alloc(30_000_000, "big"));
  for (let index = 0; index < 40; index++) linkSync(join(source, "d0", "big"), join(source, `d${index % 5}`, `big${index}`));
  const random = Random.announced();
  using job = new ResumableJob(directory.path, {
    operation: "copy",
    sources: [source],
    destination,
    options: { durability: "none", engine: "read-write" },
  });
  for (let round = 0; round < 4; round++) {
    const until = countBelow(destination) + 20 + random.below(80);
    await job.run({ killWhen: () => countBelow(destination) > until, lanes: 1 + random.below(3) });
  }
  const { errors, end } = await job.run();
  expect(errors).toEqual([]);
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  await expectSameTree(source, destination);
  expect(statSync(join(destination, "d0", "big")).nlink).toBe(41);
  // Each kill may come in the midst of the big one, and costs no more.
  expect(job.writtenBytes).toBeLessThan(30_000_000 * 5);
}, 60_000);
