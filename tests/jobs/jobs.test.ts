// The jobs room with real worker processes: what callers ask, what becomes of jobs, and what is told of it.

import { expect, test } from "bun:test";
import { readdirSync } from "node:fs";
import type { Jobs, JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { JobsDependencies } from "../../src/jobs/jobs-dependencies.ts";
import { noLog } from "../../src/jobs/log.ts";
import { codeOf, testCaller, testRequest, testWorker, untilEnded, untilView } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

function room(changes: Partial<JobsDependencies> = {}): Jobs {
  return createJobs({ mode: "session", self: testWorker, ...changes });
}

test("a job is queued, runs and is completed, and listeners hear of each step in order", async () => {
  const jobs = room();
  const heard: string[] = [];
  jobs.on("added", (job) => heard.push(`added ${job.state}`));
  jobs.on("changed", (job, urgent) => urgent && heard.push(`changed ${job.state}`));
  jobs.on("ended", (job) => heard.push(`ended ${job.state}`));
  const job = jobs.submit(testCaller, null, testRequest("well"));
  expect(job.state).toBe("queued");
  expect(job.token).toMatch(/^[a-z0-9]{10}$/);
  const end = await untilEnded(jobs, job);
  expect(end.result).toMatchObject({ state: "completed", filesDone: 10, bytesDone: 1000, errorCount: 0, message: "10 files copied." });
  expect(end.finishedTimeUs).toBeGreaterThanOrEqual(end.startedTimeUs);
  expect(heard).toEqual([
    "added queued",
    "changed scanning",
    "changed running",
    "changed finishing",
    "changed completed",
    "ended completed",
  ]);
});

test("one entry that failed makes the job failed, and its errors can be read in pages", async () => {
  const jobs = room();
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("errors?count=3")));
  expect(end.result).toMatchObject({ state: "failed", code: "source-unreadable", errorCount: 3 });
  expect(end.result?.message).toBe("3 entries could not be processed; the first: cannot open '/some/file' for reading: Permission denied");
  expect(jobs.errors(end, 0, 2)).toHaveLength(2);
  expect(jobs.errors(end, 2, 2)).toHaveLength(1);
  expect(jobs.errors(end, 3, 2)).toHaveLength(0);
});

test("a worker that counted errors and claims success is not believed", async () => {
  const jobs = room();
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("errors?outcome=completed")));
  expect(end.result).toMatchObject({ state: "failed", errorCount: 1 });
});

test("errors beyond the limit are counted, not kept", async () => {
  const jobs = room({ limits: { maxErrorsPerJob: 2 } });
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("errors?count=5")));
  expect(end.errorCount).toBe(5);
  expect(jobs.errors(end, 0, 100)).toHaveLength(2);
});

test("a worker's lies never make progress run backwards; its last word on what it copied and the worse count of errors stand", async () => {
  const jobs = room();
  const seen: JobView[] = [];
  jobs.on("changed", (job) => seen.push(job));
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("lies-backwards")));
  const running = seen.filter(({ state }) => state !== "finishing" && state !== "failed");
  for (const [index, view] of running.entries()) {
    const before = running[index - 1] ?? view;
    expect(view.bytesDone).toBeGreaterThanOrEqual(before.bytesDone);
    expect(view.bytesTotal).toBeGreaterThanOrEqual(view.bytesDone);
  }
  expect(end.result).toMatchObject({ state: "failed", code: "worker-protocol", errorCount: 4, bytesDone: 2 });
});

test("pause is what the worker says, not what was asked; resume goes on; cancel ends it", async () => {
  const jobs = room();
  const job = jobs.submit(testCaller, null, testRequest("run"));
  await untilView(jobs, job, ({ state }) => state === "running");
  jobs.pause(job);
  expect(jobs.get(job.owner.uid, job.token)?.state).toBe("running");
  await untilView(jobs, job, ({ state }) => state === "paused");
  jobs.resume(job);
  await untilView(jobs, job, ({ state }) => state === "running");
  jobs.setOptions(job, { bandwidthLimit: 4096 });
  const limited = await untilView(jobs, job, ({ currentFile }) => currentFile === "/limit/4096");
  expect(limited.request.options.bandwidthLimit).toBe(4096);
  jobs.cancel(job);
  jobs.cancel(job);
  const end = await untilEnded(jobs, job);
  expect(end.result).toMatchObject({ state: "cancelled", code: "cancelled" });
  expect(codeOf(() => jobs.cancel(job))).toBe("invalid-state");
  expect(codeOf(() => jobs.pause(job))).toBe("invalid-state");
  expect(codeOf(() => jobs.resume(job))).toBe("invalid-state");
});

test("a question waits for its answer, and for that one only", async () => {
  const jobs = room();
  const job = jobs.submit(testCaller, null, testRequest("run?ask"));
  const asking = await untilView(jobs, job, ({ state }) => state === "question");
  expect(asking.question).toMatchObject({ id: 7, message: "overwrite '/some/file'? " });
  expect(codeOf(() => jobs.answer(job, 6, "skip", false))).toBe("invalid-state");
  jobs.answer(job, 7, "skip", false);
  const end = await untilEnded(jobs, job);
  expect(end.result?.state).toBe("completed");
});

test("a job cancelled while it waits never starts", async () => {
  const jobs = room({ limits: { maxRunning: 1 } });
  const first = jobs.submit(testCaller, null, testRequest("run"));
  await untilView(jobs, first, ({ state }) => state === "running");
  const second = jobs.submit(testCaller, null, testRequest("well"));
  jobs.cancel(second);
  expect(jobs.get(second.owner.uid, second.token)).toMatchObject({ state: "cancelled", startedTimeUs: 0 });
  jobs.cancel(first);
  await untilEnded(jobs, first);
});

test("paused and asking jobs hold up nobody", async () => {
  const jobs = room({ limits: { maxRunning: 1 } });
  const paused = jobs.submit(testCaller, null, testRequest("run"));
  await untilView(jobs, paused, ({ state }) => state === "running");
  jobs.pause(paused);
  const asking = jobs.submit(testCaller, null, testRequest("run?ask"));
  await untilView(jobs, asking, ({ state }) => state === "question");
  const held = jobs.submit(testCaller, null, testRequest("well"));
  jobs.pause(held);
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("well")));
  expect(end.state).toBe("completed");
  expect(jobs.get(held.owner.uid, held.token)?.state).toBe("paused");
  jobs.resume(held);
  expect((await untilEnded(jobs, held)).state).toBe("completed");
  for (const job of [paused, asking]) {
    jobs.cancel(job);
    await untilEnded(jobs, job);
  }
});

test("the same token and request give the same job, another request is refused, another user is somebody else", async () => {
  const jobs = room();
  const job = jobs.submit(testCaller, "mine_1", testRequest("well"));
  expect(jobs.submit(testCaller, "mine_1", testRequest("well"))).toMatchObject({ createdTimeUs: job.createdTimeUs });
  expect(codeOf(() => jobs.submit(testCaller, "mine_1", testRequest("run")))).toBe("job-exists");
  expect(codeOf(() => jobs.submit(testCaller, "mine_1", testRequest("well"), { asAdmin: true }))).toBe("job-exists");
  for (const bad of ["", "a/b", "a.b", "é", "a-b", "x".repeat(49)]) {
    expect(codeOf(() => jobs.submit(testCaller, bad, testRequest("well")))).toBe("bad-option");
  }
  const other = jobs.submit({ uid: 4242, gid: 4242, groups: [4242] }, "mine_1", testRequest("well"));
  expect(other.owner.uid).toBe(4242);
  expect(jobs.list(testCaller.uid)).toHaveLength(1);
  expect(jobs.list(null).map(({ owner }) => owner.uid)).toEqual([testCaller.uid, 4242]);
  await Promise.all([untilEnded(jobs, job), untilEnded(jobs, other)]);
  const again = jobs.submit(testCaller, "mine_1", testRequest("well"));
  expect(again.state).toBe("completed");
  jobs.forget(again);
  expect(jobs.get(testCaller.uid, "mine_1")).toBeUndefined();
  expect(codeOf(() => jobs.forget(again))).toBe("no-such-job");
});

test("what a dead worker had in flight is removed by a second one before the job ends, and no record stays", async () => {
  await using state = await temporaryDirectory();
  const jobs = room({ stateDirectory: state.path });
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("dies")));
  expect(end.result).toMatchObject({ state: "failed", code: "worker-died" });
  expect(end.result?.message).toBe("The copying process ended unexpectedly by SIGKILL. It was tried 4 times without getting any further.");
  expect(end.resumeCount).toBe(3);
  expect(readdirSync(state.path)).toEqual([]);
});

test("a job whose worker dies is gone on with by another one, once the remains are removed", async () => {
  await using state = await temporaryDirectory();
  const jobs = room({ stateDirectory: state.path });
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("dies?then=well")));
  expect(end.result).toMatchObject({ state: "completed", resumeCount: 1, filesDone: 10 });
  expect(readdirSync(state.path)).toEqual([]);
});

test("without a place for its checkpoint, a job ends with its worker", async () => {
  const jobs = room();
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("dies?then=well")));
  expect(end.result).toMatchObject({ state: "failed", code: "worker-died", resumeCount: 0 });
  expect(end.result?.message).toBe("The copying process ended unexpectedly by SIGKILL.");
});

test("where that removal fails, the record stays for a later one", async () => {
  await using state = await temporaryDirectory();
  const jobs = room({ stateDirectory: state.path });
  const request = testRequest("dies", { destination: "/test/unrecoverable" });
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, request));
  expect(end.result?.code).toBe("worker-died");
  expect(readdirSync(state.path).map((name) => name.replace(/-.*-.*/, ""))).toEqual(["in"]);
});

const failing: readonly (readonly [mode: string, code: string])[] = [
  ["exits-without-result", "worker-died"],
  ["cancelled-unasked", "worker-died"],
  ["fails-without-error", "worker-protocol"],
  ["not-json", "worker-protocol"],
  ["refuses", "worker-identity"],
];
for (const [mode, code] of failing) {
  test(`a worker that ${mode.replaceAll("-", " ")} makes the job failed: ${code}`, async () => {
    const jobs = room();
    const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest(mode)));
    expect(end.result).toMatchObject({ state: "failed", code });
  });
}

test("a worker that cannot be started makes the job failed, and the service goes on", async () => {
  await using state = await temporaryDirectory();
  const jobs = room({ self: ["/nonexistent"], stateDirectory: state.path });
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("well")));
  expect(end.result).toMatchObject({ state: "failed", code: "worker-start" });
  expect(jobs.counts()).toEqual({ active: 0, queued: 0 });
  expect(readdirSync(state.path)).toEqual([]);
});

test("a worker that does not stop when told to cancel is killed", async () => {
  const jobs = room({ limits: { cancelTimeoutMs: 300 } });
  const job = jobs.submit(testCaller, null, testRequest("ignores-cancel"));
  await untilView(jobs, job, ({ state }) => state === "running");
  jobs.cancel(job);
  expect((await untilEnded(jobs, job)).result).toMatchObject({ state: "failed", code: "worker-silent" });
});

test("limits of a user are named errors, and do not touch others", async () => {
  const jobs = room({ limits: { maxJobsPerUser: 1 } });
  const job = jobs.submit(testCaller, null, testRequest("run"));
  expect(codeOf(() => jobs.submit(testCaller, null, testRequest("well")))).toBe("limits-exceeded");
  const other = jobs.submit({ uid: 4242, gid: 4242, groups: [4242] }, null, testRequest("well"));
  await untilEnded(jobs, other);
  jobs.cancel(job);
  await untilEnded(jobs, job);
  await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("well")));
  const small = room({ limits: { maxArgumentBytesPerUser: 100 } });
  expect(codeOf(() => small.submit(testCaller, null, testRequest("x".repeat(100))))).toBe("limits-exceeded");
});

test("ended jobs linger, then are removed", async () => {
  const jobs = room({ limits: { lingerMs: 200 } });
  const { promise, resolve } = Promise.withResolvers<JobView>();
  jobs.on("removed", resolve);
  const job = jobs.submit(testCaller, null, testRequest("well"));
  await untilEnded(jobs, job);
  expect(jobs.get(job.owner.uid, job.token)?.state).toBe("completed");
  expect((await promise).token).toBe(job.token);
  expect(jobs.list(null)).toEqual([]);
});

test("shutdown refuses new jobs, stops the running and leaves nothing behind", async () => {
  await using state = await temporaryDirectory();
  const jobs = room({ limits: { maxRunning: 1 }, stateDirectory: state.path });
  const running = jobs.submit(testCaller, null, testRequest("run"));
  const waiting = jobs.submit(testCaller, null, testRequest("run"));
  await untilView(jobs, running, (view) => view.state === "running");
  const stopped = jobs.shutdown();
  expect(codeOf(() => jobs.submit(testCaller, null, testRequest("well")))).toBe("shutting-down");
  await stopped;
  expect(jobs.get(running.owner.uid, running.token)?.result).toMatchObject({ state: "failed", code: "shutting-down" });
  expect(jobs.get(waiting.owner.uid, waiting.token)?.state).toBe("cancelled");
  expect(readdirSync(state.path)).toEqual([]);
});

test("a listener that throws disturbs nobody", async () => {
  const faults: string[] = [];
  const jobs = room({ log: { ...noLog, error: (message) => void faults.push(message) } });
  jobs.on("changed", () => {
    throw new Error("a bug");
  });
  const end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("well")));
  expect(end.state).toBe("completed");
  expect(faults).toContain("a listener failed");
});

test("a raised limit lets a waiting job start at once, a lowered one refuses the next", async () => {
  const jobs = createJobs({ mode: "session", self: testWorker, limits: { maxRunning: 1 } });
  const first = jobs.submit(testCaller, null, testRequest("run"));
  await untilView(jobs, first, ({ state }) => state === "running");
  const second = jobs.submit(testCaller, null, testRequest("run"));
  await Bun.sleep(50);
  expect(jobs.get(second.owner.uid, second.token)?.state).toBe("queued");
  jobs.setLimits({ maxRunning: 2, maxJobsPerUser: 2 });
  await untilView(jobs, second, ({ state }) => state === "running");
  expect(codeOf(() => jobs.submit(testCaller, null, testRequest("well")))).toBe("limits-exceeded");
  for (const job of [first, second]) jobs.cancel(job);
  await jobs.shutdown();
});
