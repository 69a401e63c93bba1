// Workers that their users have replaced: the jobs room stays within its memory, answers others, and says what was wrong.

import { expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Jobs, JobView, Preview } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { JobLimits } from "../../src/jobs/limits.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import { inFlightBytes, type PlannedOperation } from "../../src/worker/protocol.ts";
import { testCaller, testRequest, untilEnded, untilView } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const lyingWorker = [process.execPath, join(import.meta.dir, "../support/lying-worker.ts")];

function jobsOf(limits: Partial<JobLimits> = {}): Jobs {
  return createJobs({ mode: "session", self: lyingWorker, sandbox: "off", limits: { cancelTimeoutMs: 500, ...limits } });
}

async function ends(mode: string): Promise<JobView> {
  const jobs = jobsOf();
  return await untilEnded(jobs, jobs.submit(testCaller, null, testRequest(mode)));
}

test("questions as fast as they can be asked end the job, and name the reason", async () => {
  const { result } = await ends("asks-fast");
  expect(result).toMatchObject({ state: "failed", code: "worker-protocol" });
  expect(result?.message).toContain("more messages than allowed");
});

for (const mode of ["asks-nonsense", "asks-inherited", "asks-with-choices", "asks-minus-one", "asks-half", "asks-nowhere"]) {
  test(`a question that there is none of (${mode}) ends the job, and nobody is asked`, async () => {
    const jobs = jobsOf();
    const questions: unknown[] = [];
    jobs.on("changed", ({ question }) => void (question !== null && questions.push(question)));
    const { result } = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest(mode)));
    expect(result).toMatchObject({ state: "failed", code: "worker-protocol" });
    expect(questions).toEqual([]);
  });
}

test("an answer fits the kind that is asked now, whatever the worker asked before under the same number", async () => {
  const jobs = jobsOf();
  const job = jobs.submit(testCaller, null, testRequest("asks-twice"));
  const first = await untilView(jobs, job, ({ question }) => question?.kind === "conflict");
  expect(() => jobs.answer(job, first.question?.id ?? 0, "retry", true)).toThrow("takes overwrite, skip, rename, newer, abort");
  const second = await untilView(jobs, job, ({ question }) => question?.kind === "space");
  expect(() => jobs.answer(job, second.question?.id ?? 0, "overwrite", true)).toThrow("takes retry, skip, abort");
  jobs.cancel(job);
  expect((await untilEnded(jobs, job)).result?.state).not.toBe("completed");
});

test("one that asks on and takes no answer can still be cancelled", async () => {
  const jobs = jobsOf();
  const job = jobs.submit(testCaller, null, testRequest("asks-on"));
  const asked = new Set<number>();
  jobs.on("changed", ({ question }) => {
    if (question === null || asked.has(question.id)) return;
    asked.add(question.id);
    if (asked.size < 5) jobs.answer(job, question.id, "skip", true);
    if (asked.size === 20) jobs.cancel(job);
  });
  const { state } = await untilEnded(jobs, job);
  expect(["cancelled", "failed"]).toContain(state);
  expect(asked.size).toBeGreaterThanOrEqual(20);
});

test("counts that run backwards are not shown to run backwards", async () => {
  const jobs = jobsOf();
  const job = jobs.submit(testCaller, null, testRequest("backwards"));
  const shown: number[] = [];
  jobs.on("changed", ({ state, bytesDone }) => {
    if (state === "running") shown.push(bytesDone);
  });
  // The last word is what the result says.
  expect((await untilEnded(jobs, job)).bytesDone).toBe(3);
  expect(shown.length).toBeGreaterThan(1);
  expect(shown).toEqual([...shown].sort((one, other) => one - other));
});

/** The longest time that the event loop was held by this process's own work: what somebody else's call would have waited. */
async function held(during: () => Promise<unknown>): Promise<number> {
  let slowest = 0;
  let last = performance.now();
  let cpu = process.cpuUsage();
  const heart = setInterval(() => {
    const { user, system } = process.cpuUsage(cpu);
    // Other processes may keep this one from running: that is not held by us.
    slowest = Math.max(slowest, Math.min(performance.now() - last - 2, (user + system) / 1000));
    last = performance.now();
    cpu = process.cpuUsage();
  }, 2);
  await during();
  clearInterval(heart);
  return slowest;
}

for (const mode of ["large-errors", "large-lines", "large-paths", "small-errors"]) {
  test(`frames as large as may be, of ${mode} from four workers, cost bounded memory and nobody else's time`, async () => {
    await using directory = await temporaryDirectory();
    const store = await openStore({ path: join(directory.path, "jobs.db"), log: noLog });
    const jobs = createJobs({ mode: "session", self: lyingWorker, sandbox: "off", store, limits: { cancelTimeoutMs: 500 } });
    // Whatever is compiled or loaded at the first time.
    await untilEnded(jobs, jobs.submit(testCaller, null, testRequest("backwards")));
    const before = process.memoryUsage().rss;
    let all: JobView[] = [];
    const slowest = await held(async () => {
      all = Array.from({ length: 4 }, () => jobs.submit(testCaller, null, testRequest(mode)));
      await Bun.sleep(2_000);
      for (const { owner, token } of all) {
        const job = jobs.get(owner.uid, token);
        if (job?.cancelable === true) jobs.cancel(job);
      }
      for (const job of all) expect(["cancelled", "failed"]).toContain((await untilEnded(jobs, job)).state);
    });
    const grown = (process.memoryUsage().rss - before) / 1024 / 1024;
    console.log(`${mode}: ${grown.toFixed(0)} MiB more, the loop was held up for ${slowest.toFixed(0)} ms at most`);
    expect(grown).toBeLessThan(300);
    expect(slowest).toBeLessThan(100);
    // The longest errors are kept up to a limit, and counted beyond it.
    for (const job of all) expect(JSON.stringify(jobs.errors(job, 0, 100_000)).length).toBeLessThan(8 * 1024 * 1024);
    await jobs.shutdown();
    store.close();
  }, 30_000);
}

for (const mode of ["many-objects", "many-levels", "many-fields"]) {
  test(`a frame of ${mode} is refused before it is understood`, async () => {
    const jobs = jobsOf();
    let end: JobView | undefined;
    const slowest = await held(async () => {
      end = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest(mode)));
    });
    expect(end?.result).toMatchObject({ state: "failed", code: "worker-protocol" });
    expect(end?.result?.message).toContain("holds more values than a message");
    console.log(`${mode}: the loop was held up for ${slowest.toFixed(0)} ms at most`);
    expect(slowest).toBeLessThan(100);
  }, 30_000);
}

for (const file of ["record", "checkpoint"]) {
  test(`one that fills the service's disk through its ${file} is ended`, async () => {
    await using directory = await temporaryDirectory();
    const store = await openStore({ path: join(directory.path, "jobs.db"), log: noLog });
    const jobs = createJobs({ mode: "session", self: lyingWorker, sandbox: "off", store, stateDirectory: directory.path });
    const said: string[] = [];
    jobs.on("lines", (_, lines) => said.push(...lines));
    const { result } = await untilEnded(jobs, jobs.submit(testCaller, null, testRequest(`fills-${file}`)));
    expect(result).toMatchObject({ state: "failed", code: "worker-protocol" });
    expect([said, result?.message]).toEqual([["one more"], "The copying process wrote more to its job's own files than any needs."]);
    await jobs.shutdown();
    store.close();
    // The record stays for whoever removes what was in flight, which this worker does not; what was too much of it does not.
    const left = readdirSync(directory.path).filter((name) => !name.startsWith("jobs.db"));
    expect(left.every((name) => name.startsWith("in-flight-") && statSync(join(directory.path, name)).size <= inFlightBytes)).toBe(true);
  });
}

function preview(mode: string, operations: PlannedOperation[], limits: Partial<JobLimits> = {}): Promise<Preview> {
  const { signal } = new AbortController();
  const options = {
    maxOperations: 300,
    maxBytes: 1_000_000,
    signal,
    onOperations: (more: readonly PlannedOperation[]) => operations.push(...more),
  };
  return jobsOf(limits).preview(testCaller, testRequest(mode), options);
}

test("a dry run that lists without end is stopped, and no more is kept of it than was asked for", async () => {
  const operations: PlannedOperation[] = [];
  const failure = await preview("operations-on", operations, { previewTimeoutMs: 1_000 }).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: expect.stringMatching(/^worker-(silent|protocol)$/) });
  expect(operations.length).toBe(300);
}, 30_000);

test("a dry run's lies stay its owner's: the summary is what it says, and nothing is listed that was not told", async () => {
  const operations: PlannedOperation[] = [];
  const { summary } = await preview("summary-lies", operations);
  expect(summary.files).toBe(Number.MAX_SAFE_INTEGER);
  expect(operations).toEqual([]);
});

test("a dry run that talks as a copy would ends without a summary", async () => {
  const failure = await preview("wrong-words", []).catch((error: unknown) => error);
  expect(failure).toMatchObject({ code: "worker-protocol", message: expect.stringContaining("without a summary") });
});
