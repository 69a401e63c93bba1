// Several destinations in one reading: a job for each, all or none, which start together and end each in its own way.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import type { ByteString } from "../../src/bytes.ts";
import type { AlsoTo, Jobs, JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { AdjustableJobs, JobsDependencies } from "../../src/jobs/jobs-dependencies.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { expectSameTree } from "../support/compare.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { codeOf, testCaller, testRequest, testWorker, untilEnded, untilView } from "../support/jobs.ts";
import { runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;

function bytes(path: string): ByteString {
  return Buffer.from(path, "utf8").toString("latin1") as ByteString;
}

function also(...paths: string[]): { readonly alsoTo: readonly AlsoTo[] } {
  return { alsoTo: paths.map((path) => ({ destination: bytes(path) })) };
}

function room(changes: Partial<JobsDependencies> = {}): AdjustableJobs {
  return createJobs({ mode: "session", self: testWorker, ...changes });
}

/** A copy of a tree to several places, by real workers. */
function copyRequest(source: string, destination: string, options: object = {}): JobRequest {
  const paths = { sources: [bytes(source)], destination: bytes(destination) };
  return requestSchema.parse({ operation: "copy", ...paths, options: { durability: "none", ...options } });
}

function allEnded(jobs: Jobs, first: JobView): Promise<JobView[]> {
  return Promise.all(jobs.group(first).map((job) => untilEnded(jobs, job)));
}

function makeTree(path: string, totalBytes: number): void {
  mkdirSync(join(path, "below"), { recursive: true });
  for (let file = 0; file < 16; file++) writeFileSync(join(path, "below", `small ${file}`), randomBytes(1000 + file));
  for (let file = 0; file < 4; file++) writeFileSync(join(path, `large ${file}`), randomBytes(totalBytes / 4));
}

test("each destination has a job of its own, under a token that is known before, and all know of each other", async () => {
  const jobs = room();
  const first = jobs.submit(testCaller, "mine", testRequest("well"), also("/test/second", "/test/third"));
  const group = { token: "mine", members: ["mine", "mine_2", "mine_3"] };
  expect(jobs.group(first).map(({ token }) => token)).toEqual(group.members);
  const ended = await allEnded(jobs, first);
  expect(ended.map((job) => job.request.destination as string)).toEqual(["/test/destination", "/test/second", "/test/third"]);
  for (const job of ended) expect(job).toMatchObject({ group, state: "completed", result: { filesDone: 10 } });
  expect(jobs.submit(testCaller, null, testRequest("well")).group).toBeNull();
});

test("the same call gives the first of the same jobs; all of them are made, or none", () => {
  const jobs = room({ limits: { maxJobsPerUser: 4 } });
  const submit = (token: string, ...paths: string[]): JobView => jobs.submit(testCaller, token, testRequest("run"), also(...paths));
  const first = submit("mine", "/test/second");
  expect(submit("mine", "/test/second")).toBe(first);
  for (const paths of [[], ["/test/other"], ["/test/second", "/test/third"]]) {
    expect(codeOf(() => submit("mine", ...paths))).toBe("job-exists");
  }
  expect(codeOf(() => submit("mine_2", "/test/third"))).toBe("job-exists");
  jobs.submit(testCaller, "other_3", testRequest("run"));
  expect(codeOf(() => submit("other", "/test/second", "/test/third"))).toBe("job-exists");
  expect(codeOf(() => submit("more", "/test/second"))).toBe("limits-exceeded");
  expect(jobs.list(null).map(({ token }) => token)).toEqual(["mine", "mine_2", "other_3"]);
  void jobs.shutdown();
});

test("what cannot be copied so is refused, and says why", () => {
  const jobs = room();
  const submit = (request: JobRequest, ...paths: string[]): string => codeOf(() => jobs.submit(testCaller, null, request, also(...paths)));
  const request = testRequest("run");
  const wanting = (options: object): JobRequest => requestSchema.parse({ ...request, options });
  expect(submit({ ...request, operation: "move" }, "/test/second")).toBe("not-supported");
  expect(submit(request, "/test/./destination/")).toBe("invalid-arguments");
  expect(submit(request, ..."abcdefgh")).toBe("invalid-arguments");
  expect(submit(wanting({ manifest: "/test/sums" }), "/test/second")).toBe("bad-option");
  expect(submit(wanting({ cache: "drop" }), "/test/second")).toBe("bad-option");
  expect(codeOf(() => jobs.submit(testCaller, "t".repeat(47), request, also("/test/second")))).toBe("invalid-arguments");
  expect(jobs.list(null)).toEqual([]);
});

test("the jobs of a fan-out start together and take one place; with few processes allowed they still do, and others wait", async () => {
  const jobs = room({ limits: { maxRunning: 2, maxRunningPerUser: 2, maxWorkersPerUser: 2 } });
  const first = jobs.submit(testCaller, "fan", testRequest("run"), also("/test/b", "/test/c"));
  for (const job of jobs.group(first)) await untilView(jobs, job, ({ state }) => state === "running");
  const next = jobs.submit(testCaller, "next", testRequest("run"));
  await untilView(jobs, next, ({ waitReason }) => waitReason.includes("as many processes as one user may have"));
  jobs.cancel(first, "group");
  await untilView(jobs, next, ({ state }) => state === "running");
  for (const job of jobs.group(first)) expect((await untilEnded(jobs, job)).state).toBe("cancelled");
  jobs.cancel(next);
  await untilEnded(jobs, next);
});

test("one is steered alone, or all of them are; what some cannot does not keep the others from it", async () => {
  const jobs = room();
  const first = jobs.submit(testCaller, "fan", testRequest("run"), also("/test/b"));
  const [one, other] = jobs.group(first) as [JobView, JobView];
  for (const job of [one, other]) await untilView(jobs, job, ({ state }) => state === "running");
  jobs.pause(other);
  await untilView(jobs, other, ({ state }) => state === "paused");
  expect(jobs.get(testCaller.uid, "fan")?.state).toBe("running");
  jobs.cancel(one);
  await untilEnded(jobs, one);
  jobs.resume(one, "group");
  await untilView(jobs, other, ({ state }) => state === "running");
  jobs.cancel(other, "group");
  await untilEnded(jobs, other);
  expect(codeOf(() => jobs.cancel(one, "group"))).toBe("invalid-state");
});

test("after a restart of the service the jobs are still one fan-out, and all go on", async () => {
  await using state = await temporaryDirectory();
  const open = async () => {
    const store = await openStore({ path: join(state.path, "jobs.db"), log: noLog });
    const jobs = room({ store, stateDirectory: state.path });
    return { jobs, end: () => jobs.shutdown().then(() => store.close()) };
  };
  const before = await open();
  const submitted = before.jobs.submit(testCaller, "fan", testRequest("run?then=well"), also("/test/b", "/test/c"));
  for (const job of before.jobs.group(submitted)) await untilView(before.jobs, job, ({ state: now }) => now === "running");
  await before.end();
  const after = await open();
  const first = after.jobs.submit(testCaller, "fan", testRequest("run?then=well"), also("/test/b", "/test/c"));
  expect(after.jobs.group(first).map(({ token }) => token)).toEqual(["fan", "fan_2", "fan_3"]);
  for (const job of await allEnded(after.jobs, first)) expect(job).toMatchObject({ state: "completed", resumeCount: 1 });
  await after.end();
});

testUnless(whyNoFilesystem("xfs"), "every destination gets the whole tree, verified: ext4, xfs and tmpfs", async () => {
  await using source = await temporaryDirectory();
  await using ext4 = await mountFilesystem("ext4");
  await using xfs = await mountFilesystem("xfs");
  await using tmpfs = await mountFilesystem("tmpfs");
  makeTree(join(source.path, "tree"), 16 * mebibyte);
  const jobs = createJobs({ mode: "embedded", limits: { fanOutWindow: mebibyte } });
  const request = copyRequest(join(source.path, "tree"), ext4.path, { verify: "xxh3" });
  const ended = await allEnded(jobs, jobs.submit(testCaller, null, request, also(xfs.path, tmpfs.path)));
  for (const { result } of ended) expect(result).toMatchObject({ state: "completed", errorCount: 0, filesDone: 20 });
  for (const job of ended) expect(job.bytesVerified).toBe(job.bytesTotal);
  for (const { path } of [ext4, xfs, tmpfs]) await expectSameTree(join(source.path, "tree"), join(path, "tree"));
  await jobs.shutdown();
});

testUnless(whyNoFilesystem("ext4"), "a full disk fails or asks for itself alone, and the others get everything", async () => {
  await using source = await temporaryDirectory();
  await using small = await mountFilesystem("ext4", { sizeBytes: tinySizeBytes });
  await using large = await mountFilesystem("ext4");
  makeTree(join(source.path, "tree"), 32 * mebibyte);
  for (const onFull of ["fail", "ask"] as const) {
    const target = join(large.path, onFull);
    mkdirSync(target);
    const jobs = createJobs({ mode: "embedded", limits: { fanOutWindow: mebibyte } });
    const first = jobs.submit(testCaller, null, copyRequest(join(source.path, "tree"), small.path, { onFull }), also(target));
    const [full, other] = jobs.group(first) as [JobView, JobView];
    if (onFull === "fail") expect((await untilEnded(jobs, full)).result).toMatchObject({ state: "failed", code: "no-space" });
    else expect((await untilView(jobs, full, ({ state }) => state === "question")).question?.kind).toBe("space");
    expect((await untilEnded(jobs, other)).result).toMatchObject({ state: "completed", errorCount: 0 });
    await expectSameTree(join(source.path, "tree"), join(target, "tree"));
    await jobs.shutdown();
    await runChecked(["rm", "-rf", join(small.path, "tree")]);
  }
});

test("a copying process that is killed fails its own destination only", async () => {
  await using place = await temporaryDirectory();
  const [source, one, other] = ["tree", "one", "other"].map((name) => join(place.path, name)) as [string, string, string];
  makeTree(source, 64 * mebibyte);
  for (const path of [one, other]) mkdirSync(path);
  const jobs = createJobs({ mode: "embedded", limits: { fanOutWindow: mebibyte } });
  const before = new Set(childrenOf(process.pid));
  const request = copyRequest(source, one, { bandwidthLimit: 32 * mebibyte, reflink: "never" });
  const first = jobs.submit(testCaller, null, request, also(other));
  for (const job of jobs.group(first)) await untilView(jobs, job, ({ bytesDone }) => bytesDone > 0);
  const workers = childrenOf(process.pid).filter((pid) => !before.has(pid));
  expect(workers).toHaveLength(2);
  process.kill(workers[0] ?? 0, "SIGKILL");
  const ended = await allEnded(jobs, first);
  expect(ended.map(({ state }) => state).sort()).toEqual(["completed", "failed"]);
  const whole = ended.find(({ state }) => state === "completed")?.request.destination;
  await expectSameTree(source, join(String(whole), "tree"));
  await jobs.shutdown();
});

/** Bytes that the device of a mounted image has read since it was set up. */
function readFromMedium(image: string): number {
  for (const device of readdirSync("/sys/block").filter((name) => name.startsWith("loop"))) {
    try {
      const file = readFileSync(`/sys/block/${device}/loop/backing_file`, "utf8").trim();
      if (basename(file) !== basename(image) || realpathSync(file) !== realpathSync(image)) continue;
      return Number(readFileSync(`/sys/block/${device}/stat`, "utf8").trim().split(/\s+/)[2]) * 512;
    } catch {
      // Not set up, or gone since.
    }
  }
  throw new Error(`no loop device of ${image}`);
}

testUnless(whyNoFilesystem("ext4"), "the source is read from its medium once, not once for each destination", async () => {
  await using medium = await mountFilesystem("ext4");
  await using places = await mountFilesystem("tmpfs");
  const total = 128 * mebibyte;
  makeTree(join(medium.path, "tree"), total);
  const destinations = ["a", "b", "c"].map((name) => join(places.path, name));
  for (const path of destinations) mkdirSync(path);
  // What is cached of the source may be thrown away by others on this machine: the window is what is to be relied on.
  await medium.remount();
  const jobs = createJobs({ mode: "embedded", limits: { fanOutWindow: 16 * mebibyte } });
  const before = readFromMedium(medium.image);
  const [first = "", ...others] = destinations;
  const ended = await allEnded(jobs, jobs.submit(testCaller, null, copyRequest(join(medium.path, "tree"), first), also(...others)));
  for (const { result } of ended) expect(result).toMatchObject({ state: "completed", errorCount: 0 });
  const read = readFromMedium(medium.image) - before;
  expect(read).toBeGreaterThan(total * 0.95);
  expect(read).toBeLessThan(total * 1.25);
  await jobs.shutdown();
});

testUnless(
  firstReason(whyNoFaultyFilesystem()),
  "a slow destination holds the fast one within the window, and a stuck one does not",
  async () => {
    await using place = await temporaryDirectory();
    const [source, fast, below] = ["tree", "fast", "below"].map((name) => join(place.path, name)) as [string, string, string];
    makeTree(source, 32 * mebibyte);
    for (const path of [fast, below]) mkdirSync(path);
    await using slow = await mountFaultyFilesystem({ directory: below, delayMs: 60, directIo: true });
    const window = 2 * mebibyte;
    const limits = { fanOutWindow: window, fanOutPatienceMs: 4000, cancelTimeoutMs: 500 };
    const jobs = createJobs({ mode: "embedded", limits, lanes: 1 });
    const request = copyRequest(source, fast, { reflink: "never", engine: "read-write", bandwidthLimit: 16 * mebibyte });
    const first = jobs.submit(testCaller, null, request, also(slow.path));
    const [ahead, behind] = jobs.group(first) as [JobView, JobView];
    const leads: number[] = [];
    const states = new Set<string>();
    jobs.on("changed", (job) => {
      if (job.token !== ahead.token || job.result !== null) return;
      states.add(job.state);
      const other = jobs.get(testCaller.uid, behind.token);
      if (other?.state === "running") leads.push(job.bytesDone - other.bytesDone);
    });
    await untilView(jobs, behind, ({ bytesDone }) => bytesDone > 8 * mebibyte);
    expect(Math.max(...leads)).toBeGreaterThan(window);
    // Beyond the window it gets as far as it does until it hears of it.
    expect(jobs.get(testCaller.uid, ahead.token)?.result).toBeNull();
    expect([...states]).not.toContain("paused");
    await slow.setRules([{ operations: ["write"], delayMs: 9000 }]);
    expect((await untilEnded(jobs, ahead)).state).toBe("completed");
    expect(jobs.get(testCaller.uid, behind.token)?.result).toBeNull();
    await expectSameTree(source, join(fast, "tree"));
    await slow.setRules([]);
    jobs.cancel(behind);
    await jobs.shutdown();
  },
  60_000,
);
