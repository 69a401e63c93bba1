// Killed and resumed under every conflict policy: the tree is the one that an undisturbed run gives, and other people's files are conflicts.

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectSameTree } from "../support/compare.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { Random } from "../support/random.ts";
import { countBelow, killedAfter, ResumableJob } from "../support/resumable-job.ts";
import { testUnless } from "../support/skip.ts";

const files = 400;
const rounds = process.env.COPYD_TORTURE === "1" ? 20 : 1;

const directory = directoryOfEachTest();

/** Every third name is taken at the destination: by something older, newer, or alike. */
function makeTrees(source: string, destination: string): void {
  for (let index = 0; index < files; index++) {
    const name = join(`d${index % 4}`, `f${index}`);
    mkdirSync(join(source, `d${index % 4}`), { recursive: true });
    mkdirSync(join(destination, `d${index % 4}`), { recursive: true });
    writeFileSync(join(source, name), `new ${index} ${"x".repeat(index * 10)}`);
    utimesSync(join(source, name), 1_000_000_000, 1_600_000_000);
    if (index % 3 !== 0) continue;
    writeFileSync(join(destination, name), index % 2 === 0 ? `old ${index}` : `new ${index} ${"x".repeat(index * 10)}`);
    const age = index % 9 === 0 ? 1_700_000_000 : index % 2 === 0 ? 1_500_000_000 : 1_600_000_000;
    utimesSync(join(destination, name), 1_000_000_000, age);
  }
}

const kinds: readonly (readonly [string, Record<string, unknown>])[] = [
  ...["fail", "skip", "overwrite", "newer", "differs", "rename"].map((onConflict) => [onConflict, { onConflict }] as const),
  ["simple backups", { onConflict: "overwrite", gnu: { backup: "simple" } }],
  ["numbered backups", { onConflict: "overwrite", gnu: { backup: "numbered" } }],
  ["writing in place", { onConflict: "overwrite", gnu: { inPlace: true } }],
  ["writing in place what is older", { onConflict: "overwrite", gnu: { inPlace: true, onlyOlder: true } }],
  ["no times", { onConflict: "rename", preserve: ["mode"] }],
  ["verification", { onConflict: "overwrite", verify: "sha256" }],
];

for (const [name, options] of kinds) {
  test(`${name}: kills change nothing of the outcome`, async () => {
    const [source, before, calm, rough] = ["source", "before", "calm", "rough"].map((at) => join(directory.path, at)) as [
      string,
      string,
      string,
      string,
    ];
    makeTrees(source, before);
    for (const at of [calm, rough]) {
      Bun.spawnSync(["cp", "-a", before, at]);
      mkdirSync(`${at}-records`);
    }
    const request = (destination: string) => ({
      operation: "copy",
      sources: [source],
      destination,
      // Slow enough for a kill to come in the midst of it.
      options: { durability: "none", target: "exact", bandwidthLimit: 4_000_000, ...options },
    });
    using undisturbed = new ResumableJob(`${calm}-records`, request(calm));
    const wanted = await undisturbed.run();
    const random = Random.announced();
    using disturbed = new ResumableJob(`${rough}-records`, request(rough));
    for (let round = 0; round < rounds; round++) {
      await disturbed.run({ ...killedAfter(30 + random.below(200)), lanes: 1 + random.below(3) });
    }
    const last = await disturbed.run();
    expect(last.errors.toSorted()).toEqual(wanted.errors.map((error) => error.replaceAll(calm, rough)).toSorted());
    expect(last.end).toMatchObject({ kind: wanted.end.kind, result: { outcome: outcomeOf(wanted) } });
    // What keeps no times has others each time.
    if (name === "no times") expect(listOf(rough)).toEqual(listOf(calm));
    else await expectSameTree(calm, rough);
  }, 60_000);
}

function outcomeOf({ end }: { readonly end: { readonly kind: string; readonly result?: { readonly outcome: string } } }): string {
  return end.kind === "result" ? (end.result?.outcome ?? "") : end.kind;
}

function listOf(at: string): string[] {
  return readdirSync(at, { recursive: true })
    .map(
      (name) => `${name} ${statSync(join(at, String(name))).isFile() ? readFileSync(join(at, String(name)), "utf8").length : "directory"}`,
    )
    .sort();
}

/** 300 files in one directory, and where they are to go. */
function flatSource(): { readonly source: string; readonly destination: string } {
  const source = join(directory.path, "source");
  mkdirSync(source);
  for (let index = 0; index < 300; index++) writeFileSync(join(source, `f${index}`), `content ${index}`);
  return { source, destination: join(directory.path, "destination") };
}

test("what somebody else put there meanwhile is a conflict", async () => {
  const { source, destination } = flatSource();
  using job = new ResumableJob(directory.path, { operation: "copy", sources: [source], destination, options: { durability: "none" } });
  await job.run({ killWhen: () => countBelow(destination) > 20, lanes: 1 });
  const finished = new Set(readdirSync(destination));
  const foreign = Array.from({ length: 300 }, (_, index) => `f${index}`)
    .filter((name) => !finished.has(name))
    .slice(0, 3);
  expect(foreign).toHaveLength(3);
  const [shorter = "", other = "", alike = ""] = foreign;
  const [edited = ""] = [...finished].filter((name) => /^f\d+$/.test(name));
  // A beginning of the source's content is no progress of ours, without a reboot.
  writeFileSync(join(destination, shorter), readFileSync(join(source, shorter)).subarray(0, 4));
  writeFileSync(join(destination, other), "something else");
  // To the nanosecond.
  Bun.spawnSync(["cp", "-a", join(source, alike), join(destination, alike)]);
  writeFileSync(join(destination, edited), "edited since");
  const { errors, end } = await job.run();
  expect(end).toMatchObject({ kind: "result", result: { outcome: "failed" } });
  for (const name of [shorter, other, alike, edited]) expect(errors.filter((error) => error.includes(`/${name}'`))).toHaveLength(1);
  expect(readFileSync(join(destination, shorter), "utf8")).toBe("cont");
  expect(readFileSync(join(destination, other), "utf8")).toBe("something else");
  expect(readFileSync(join(destination, edited), "utf8")).toBe("edited since");
  expect(readdirSync(destination)).toHaveLength(300);
}, 60_000);

test("a checkpoint of garbage harms nothing: the job goes on by what it finds", async () => {
  const { source, destination } = flatSource();
  const random = Random.announced();
  using job = new ResumableJob(directory.path, { operation: "copy", sources: [source], destination, options: { durability: "none" } });
  await job.run({ killWhen: () => countBelow(destination) > 100 });
  const checkpoint = readFileSync(job.checkpointPath);
  for (let round = 0; round < 3; round++) {
    const damaged = Buffer.from(checkpoint);
    if (round === 0) crypto.getRandomValues(damaged.subarray(0, 65_536));
    // Behind a good head.
    for (let at = 4096; at < damaged.length; at += 64) damaged.writeUInt32LE(random.below(2 ** 32), at + (round === 2 ? 0 : 8));
    writeFileSync(job.checkpointPath, round === 1 ? damaged.subarray(0, random.below(damaged.length)) : damaged);
    const { end } = await job.run({ killWhen: round < 2 ? () => countBelow(destination) > 150 + round * 50 : () => false });
    expect(end.kind === "failed" ? end.code : "result").toMatch(/^(worker-died|worker-start|result)$/);
  }
  await expectSameTree(source, destination);
}, 60_000);

testUnless(
  whyNoFilesystem("tmpfs"),
  "where the checkpoint has no room, a job goes on by proof",
  async () => {
    await using tiny = await mountFilesystem("tmpfs", { sizeBytes: 256 * 1024 });
    const [source, destination] = [join(directory.path, "source"), join(directory.path, "destination")];
    mkdirSync(source);
    for (let index = 0; index < 300; index++) writeFileSync(join(source, `f${index}`), `content ${index}`);
    using job = new ResumableJob(tiny.path, { operation: "copy", sources: [source], destination, options: { durability: "none" } });
    const { end } = await job.run({ killWhen: () => countBelow(destination) > 20, lanes: 1 });
    expect(end.kind).toBe("failed");
    expect((await job.run()).errors).toEqual([]);
    await expectSameTree(source, destination);
  },
  60_000,
);

test("a file that was being written in place is written again, though -u would find it new enough", async () => {
  const [source, destination] = [join(directory.path, "source"), join(directory.path, "destination")];
  const content = Buffer.alloc(20_000_000, "content ");
  writeFileSync(source, content);
  writeFileSync(destination, "old");
  utimesSync(destination, 1_000_000_000, 1_000_000_000);
  const { ino } = statSync(destination);
  const options = { onConflict: "overwrite", reflink: "never", bandwidthLimit: 20_000_000, gnu: { inPlace: true, onlyOlder: true } };
  using job = new ResumableJob(directory.path, { operation: "copy", sources: [source], destination, options });
  const { end } = await job.run({ killWhen: () => statSync(destination).size > 3_000_000 });
  expect(end.kind).toBe("failed");
  expect(statSync(destination).size).toBeLessThan(content.length);
  expect((await job.run()).errors).toEqual([]);
  expect(readFileSync(destination).equals(content)).toBe(true);
  expect(statSync(destination).ino).toBe(ino);
}, 60_000);
