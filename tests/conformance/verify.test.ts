// Verification off the medium (rule 27): what is copied well passes by every method; one flipped bit is found by each, file and byte.

import { afterAll, beforeAll, expect } from "bun:test";
import {
  closeSync,
  existsSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { FileHasher } from "../../src/engines/file-hasher.ts";
import { ReadBack } from "../../src/engines/read-back.ts";
import type { JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { JobsDependencies } from "../../src/jobs/jobs-dependencies.ts";
import type { JobRequest } from "../../src/request.ts";
import { verifyMethods } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import type { EntryError } from "../../src/worker/protocol.ts";
import { runCopyd } from "../support/cli.ts";
import { flipBit } from "../support/damage.ts";
import { type FaultRule, mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { type FilesystemKind, filesystemKinds, mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { testCaller } from "../support/jobs.ts";
import { runChecked } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;
const hashes = verifyMethods.filter((method) => method !== "none" && method !== "size");
const mounted = new Map<FilesystemKind, TestFilesystem>();
let source: TemporaryDirectory;

beforeAll(async () => {
  source = await temporaryDirectory("/dev/shm");
  makeTree(join(source.path, "tree"));
  for (const kind of filesystemKinds) if (whyNoFilesystem(kind) === null) mounted.set(kind, await mountFilesystem(kind));
});
afterAll(async () => {
  for (const filesystem of mounted.values()) await filesystem[Symbol.asyncDispose]();
  await source[Symbol.asyncDispose]();
});

function on(kind: FilesystemKind): TestFilesystem {
  const filesystem = mounted.get(kind);
  if (filesystem === undefined) throw new Error(`${kind} is not mounted`);
  return filesystem;
}

function makeTree(path: string): void {
  const random = new Random(11);
  mkdirSync(join(path, "deep/er"), { recursive: true });
  writeFileSync(join(path, "empty"), "");
  writeFileSync(join(path, "one"), "1");
  writeFileSync(join(path, "deep/odd\nname"), "a newline in its name");
  writeFileSync(join(path, "deep/er/block"), Buffer.alloc(mebibyte, random.bytes(4099)));
  writeFileSync(join(path, "several"), Buffer.alloc(5 * mebibyte + 4097, random.bytes(4099)));
  writeFileSync(join(path, "sparse"), "data");
  truncateSync(join(path, "sparse"), 9 * mebibyte + 5);
  writeFileSync(join(path, "sparse"), random.bytes(70_000), { flag: "r+" });
  writeFileSync(join(path, "hole"), "");
  truncateSync(join(path, "hole"), 3 * mebibyte + 1);
  linkSync(join(path, "several"), join(path, "second name"));
}

interface Outcome {
  readonly view: JobView;
  readonly errors: readonly EntryError[];
}

/** Runs a job to its end; `look` sees every view of it. */
async function runJob(
  request: JobRequest,
  look: (job: JobView, setLimit: (limit: number) => void) => void = () => undefined,
  how: Pick<JobsDependencies, "mode" | "sandbox"> = { mode: "embedded" },
): Promise<Outcome> {
  const jobs = createJobs({ ...how, lanes: 1 });
  const errors: EntryError[] = [];
  const { promise, resolve } = Promise.withResolvers<JobView>();
  jobs.on("errors", (_, told) => errors.push(...told));
  jobs.on("changed", (job) => look(job, (bandwidthLimit) => jobs.setOptions(job, { bandwidthLimit })));
  jobs.on("ended", resolve);
  jobs.submit(testCaller, null, request);
  const view = await promise;
  await jobs.shutdown();
  return { view, errors };
}

function requestFor(operation: "copy" | "move", sources: readonly string[], destination: string, options: object): JobRequest {
  return requestSchema.parse({ operation, sources, destination, options });
}

for (const kind of filesystemKinds) {
  testUnless(
    whyNoFilesystem(kind),
    `every method passes a tree with holes, empty files and hard links on ${kind}`,
    async () => {
      const tree = join(source.path, "tree");
      await Promise.all(
        verifyMethods.map(async (verify) => {
          const destination = join(on(kind).path, verify);
          const { view, errors } = await runJob(requestFor("copy", [tree], destination, { verify, durability: "none" }));
          expect([verify, errors, view.result?.state]).toEqual([verify, [], "completed"]);
          await runChecked(["diff", "-r", tree, destination]);
          expect(statSync(join(destination, "sparse")).blocks * 512).toBeLessThan(mebibyte);
          const how = kind === "tmpfs" ? "verified in memory: tmpfs has no medium" : "verified past the page cache";
          if (verify !== "none" && verify !== "size") expect(view.result?.reasons).toContain(how);
        }),
      );
    },
    60_000,
  );
}

/** A job whose second file gets a flipped bit after the flush, while the first one is read back at leisure. */
async function runDamaged(
  operation: "copy" | "move",
  kind: FilesystemKind,
  verify: string,
): Promise<Outcome & { readonly victim: string; readonly place: number }> {
  await using folder = await temporaryDirectory("/dev/shm");
  const random = new Random();
  const marker = random.bytes(64);
  // Not at a block's start, and in the second MiB.
  const place = mebibyte + 40_960 + random.below(40_000);
  const data = Buffer.alloc(mebibyte + 700_001, 0x61);
  marker.copy(data, place - marker.length);
  const sources = [join(folder.path, "decoy"), join(folder.path, "victim")];
  writeFileSync(sources[0] ?? "", Buffer.alloc(1.5 * mebibyte, 0x62));
  writeFileSync(sources[1] ?? "", data);
  const destination = join(on(kind).path, `damaged-${operation}-${verify}`);
  mkdirSync(destination);
  let damage: Promise<number> | null = null;
  const request = requestFor(operation, sources, destination, { verify, bandwidthLimit: 2 * mebibyte });
  const outcome = await runJob(request, (job, setLimit) => {
    if (job.phase !== "verifying" || damage !== null || job.result !== null) return;
    damage = flipBit(on(kind).image, marker, marker.length);
    void damage.then(() => setLimit(0));
  });
  expect(await damage).toBeGreaterThan(0);
  if (operation === "move") expect(readdirSync(folder.path)).toEqual(["victim"]);
  return { ...outcome, victim: join(destination, "victim"), place };
}

testUnless(
  whyNoFilesystem("ext4"),
  "a bit flipped on the medium after the flush is found by each hash, with its file and its byte",
  async () => {
    await Promise.all(
      hashes.map(async (verify) => {
        const { view, errors, victim, place } = await runDamaged("copy", "ext4", verify);
        expect(view.result).toMatchObject({ state: "failed", code: "verify-mismatch", errorCount: 1 });
        expect(errors).toMatchObject([{ code: "verify-mismatch", path: victim, side: "destination", offset: place }]);
        expect(errors[0]?.message).toContain(`the first difference is at byte ${place} (${verify})`);
      }),
    );
  },
  60_000,
);

for (const kind of ["xfs", "btrfs"] as const) {
  testUnless(whyNoFilesystem(kind), `a flipped bit is found on ${kind}`, async () => {
    const { view, errors, victim, place } = await runDamaged("copy", kind, "xxh3");
    expect(view.result?.state).toBe("failed");
    // Where the filesystem has checksums of its own, it refuses to give the page.
    const offset = kind === "btrfs" ? place - (place % 4096) : place;
    expect(errors).toMatchObject([{ code: "verify-mismatch", path: victim, offset }]);
  });
}

testUnless(whyNoFilesystem("ext4"), "a move keeps the source of the file whose copy is wrong, and only that", async () => {
  const { view, errors } = await runDamaged("move", "ext4", "sha256");
  expect(view.result?.state).toBe("failed");
  expect(errors.map(({ code }) => code)).toEqual(["verify-mismatch"]);
});

/** Of two such, XXH3 is the same: in each of two stripes the secret makes a factor 0, and what is added stays the same in sum. */
function contentWithTwin(one: number, other: number): Buffer {
  const content = Buffer.alloc(4096, "x");
  content.write("7c01812c", 64, "hex");
  content.write("ded46de9", 128, "hex");
  content[68] = one;
  content[132] = other;
  return content;
}

testUnless(
  whyNoFilesystem("tmpfs"),
  "a copy that was changed where XXH3 is blind, touched or replaced by its like is not believed",
  async () => {
    expect(Bun.hash.xxHash3(contentWithTwin(0, 1))).toBe(Bun.hash.xxHash3(contentWithTwin(1, 0)));
    await using folder = await temporaryDirectory("/dev/shm");
    const names = ["decoy", "changed", "touched", "grazed", "replaced", "untouched"];
    for (const name of names) {
      writeFileSync(join(folder.path, name), name === "decoy" ? Buffer.alloc(1.5 * mebibyte) : contentWithTwin(0, 1));
      utimesSync(join(folder.path, name), 1e9, 1e9);
    }
    const there = (name: string): string => join(on("tmpfs").path, "believed", name);
    mkdirSync(there(""));
    const sources = names.map((name) => join(folder.path, name));
    let isDone = false;
    const request = requestFor("move", sources, there(""), { verify: "sha256", bandwidthLimit: 2 * mebibyte, preserve: ["times"] });
    const { view, errors } = await runJob(request, (job) => {
      if (job.phase !== "verifying" || isDone) return;
      isDone = true;
      writeFileSync(there("changed"), contentWithTwin(1, 0), { flag: "r+" });
      utimesSync(there("changed"), 1e9, 1e9);
      utimesSync(there("touched"), 1e9, 1e9 + 1);
      utimesSync(there("grazed"), 1e9, 1e9 + 0.5);
      writeFileSync(there("like"), contentWithTwin(0, 1));
      utimesSync(there("like"), 1e9, 1e9);
      renameSync(there("like"), there("replaced"));
    });
    expect(view.result?.state).toBe("failed");
    expect(errors.map(({ path, code }) => [path, code])).toEqual([
      [there("changed"), "verify-mismatch"],
      [there("touched"), "destination-changed"],
      [there("grazed"), "destination-changed"],
      [there("replaced"), "destination-changed"],
    ]);
    expect(readdirSync(folder.path).sort()).toEqual(["changed", "grazed", "replaced", "touched"]);
  },
);

testUnless(
  whyNoFilesystem("xfs"),
  "ten thousand small files with long paths are verified in bounded memory, and a moved tree is gone",
  async () => {
    await using folder = await temporaryDirectory("/dev/shm");
    const deep = Array.from({ length: 8 }, (_, level) => `${level}`.repeat(200)).join("/");
    mkdirSync(join(folder.path, "tree", deep), { recursive: true });
    process.chdir(join(folder.path, "tree", deep));
    for (let file = 0; file < 10_000; file++) writeFileSync(`file ${file}`, `content ${file}`);
    process.chdir("/");
    const destination = join(on("xfs").path, "many");
    let peak = 0;
    const request = requestFor("move", [join(folder.path, "tree")], destination, { verify: "xxh3" });
    const { view, errors } = await runJob(request, () => {
      peak = Math.max(peak, peakMemory());
    });
    expect([errors, view.result?.state, view.result?.filesDone]).toEqual([[], "completed", 10_000]);
    expect(existsSync(join(folder.path, "tree"))).toBe(false);
    expect(peak).toBeLessThan(200 * mebibyte);
  },
  60_000,
);

/** Resident bytes of this process's children. */
function peakMemory(): number {
  const { stdout } = Bun.spawnSync(["ps", "--ppid", `${process.pid}`, "-o", "rss="]);
  return stdout
    .toString()
    .split("\n")
    .reduce((most, line) => Math.max(most, Number(line) * 1024), 0);
}

for (const size of ["+5", "-5"] as const) {
  testUnless(whyNoFaultyFilesystem(), `a copy whose size is ${size} bytes off is found by its size alone`, async () => {
    await using below = await temporaryDirectory();
    writeFileSync(join(below.path, "source"), "x".repeat(100));
    mkdirSync(join(below.path, "there"));
    const rules: readonly FaultRule[] = [{ operations: ["getattr"], path: "/copy", size }];
    await using there = await mountFaultyFilesystem({ directory: join(below.path, "there"), cacheMs: 0, rules });
    const command = ["cp", "--local", "--verify=size", join(below.path, "source"), join(there.path, "copy")];
    const { status, stderr } = await runCopyd(command);
    const at = size === "+5" ? 100 : 95;
    const message = `is not what was copied: the first difference is at byte ${at} (size)`;
    expect({ status, stderr }).toEqual({ status: 1, stderr: `cp: '${there.path}/copy' ${message}\n` });
  });
}

testUnless(whyNoFilesystem("btrfs"), "a forced clone is compared by reading both, and called a clone", async () => {
  const folder = join(on("btrfs").path, "clone");
  mkdirSync(folder);
  writeFileSync(join(folder, "file"), Buffer.alloc(3 * mebibyte, 7));
  const request = requestFor("copy", [join(folder, "file")], join(folder, "copy"), { verify: "sha256", reflink: "always" });
  const { view } = await runJob(request);
  expect(view.result).toMatchObject({ state: "completed", bytesCloned: 3 * mebibyte });
  expect(view.result?.reasons).toContain("clones were compared, but share the medium with their sources");
});

testUnless(whyNoFilesystem("ext4"), "an engine that never sees the data is verified all the same", async () => {
  const tree = join(on("ext4").path, "engines");
  await runChecked(["cp", "-a", join(source.path, "tree"), tree]);
  for (const engine of ["copy-file-range", "splice", "io-uring", "read-write"]) {
    const request = requestFor("copy", [tree], join(on("ext4").path, `by-${engine}`), { verify: "sha256", engine });
    const { view, errors } = await runJob(request);
    expect([engine, errors, view.result?.state]).toEqual([engine, [], "completed"]);
  }
});

testUnless(whyNoFilesystem("ext4"), "reading back does not touch a copy's access time", async () => {
  const file = join(source.path, "old");
  writeFileSync(file, "old");
  await runChecked(["touch", "-a", "-d", "2001-02-03", file]);
  const copy = join(on("ext4").path, "old");
  await runJob(requestFor("copy", [file], copy, { verify: "md5" }));
  expect(statSync(copy).atime.getFullYear()).toBe(2001);
});

for (const kind of ["ext4", "xfs", "btrfs"] as const) {
  testUnless(whyNoFilesystem(kind), `an old copy on ${kind} whose medium changed since is found by its manifest`, async () => {
    await using folder = await temporaryDirectory("/dev/shm");
    const random = new Random();
    const marker = random.bytes(64);
    const data = Buffer.alloc(2 * mebibyte, 0x63);
    marker.copy(data, 50_000);
    writeFileSync(join(folder.path, "good"), Buffer.alloc(mebibyte, 0x64));
    writeFileSync(join(folder.path, "bad"), data);
    const manifest = join(folder.path, "sums");
    const copy = join(on(kind).path, "old copy");
    const copied = await runCopyd(["cp", "-r", "--local", "--verify=blake3", `--manifest=${manifest}`, folder.path, copy]);
    expect(copied.stderr).toBe("");
    // The page cache is warm with what was right: reading it would find nothing.
    await runChecked(["cat", join(copy, "bad"), join(copy, "good")]);
    expect(await flipBit(on(kind).image, marker, 64)).toBeGreaterThan(0);
    const { status, stderr, stdout } = await runCopyd(["verify", "--method=blake3", manifest, copy]);
    expect([status, stdout.split(",").slice(0, 2).join()]).toEqual([1, "1 of 2 files right, 1 wrong"]);
    expect(stderr).toContain("'bad': ");
  });
}

testUnless(whyNoFilesystem("ext4"), "without O_DIRECT, pages are dropped and proved to be gone before they are read", async () => {
  const random = new Random();
  const marker = random.bytes(64);
  const path = join(on("ext4").path, "buffered");
  const data = Buffer.alloc(3 * mebibyte + 5, 0x65);
  marker.copy(data, 2 * mebibyte + 100);
  // Dirty pages first: they cannot be dropped before they are written.
  writeFileSync(path, data);
  using hasher = new FileHasher(null, () => true);
  using readBack = new ReadBack(() => true, { direct: "never" });
  const stretches = (): string => {
    const fd = openSync(path, "r");
    hasher.begin(data.length);
    expect(readBack.read(fd, data.length, hasher)).toBe(data.length);
    expect(readBack.way).toBe("dropped");
    closeSync(fd);
    return Array.from({ length: hasher.stretchCount }, (_, index) => hasher.stretches[index * 2]).join(" ");
  };
  const before = stretches();
  expect(await flipBit(on("ext4").image, marker, 64)).toBeGreaterThan(0);
  const after = stretches();
  expect(before.split(" ").map((stretch, index) => stretch === after.split(" ")[index])).toEqual([true, true, false, true]);
});

testUnless(whyNoFilesystem("ext4"), "a worker confined to its job verifies, and writes the manifest where it was asked to", async () => {
  await using folder = await temporaryDirectory("/dev/shm");
  const manifest = join(folder.path, "sums");
  const destination = join(on("ext4").path, "confined");
  const options = { verify: "blake3", manifest, onConflict: "overwrite" };
  for (const round of [1, 2]) {
    const request = requestFor("copy", [join(source.path, "tree")], destination, { ...options, target: "exact" });
    const { view, errors } = await runJob(request, undefined, { mode: "session", sandbox: "strict" });
    expect([round, errors, view.result?.state]).toEqual([round, [], "completed"]);
    expect((await runCopyd(["verify", "--method=blake3", manifest, destination])).stdout).toStartWith("8 of 8 files right");
    expect(readdirSync(folder.path)).toEqual(["sums"]);
  }
});
