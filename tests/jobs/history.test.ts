// Jobs of the past: found, paged through, read and forgotten as long as the store has them, and summed up.

import { expect, test } from "bun:test";
import { join } from "node:path";
import type { Caller, JobQuery, Jobs, JobView, StatisticsQuery } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import { codeOf, testCaller, testRequest, testWorker, untilEnded } from "../support/jobs.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const { uid } = testCaller;
const other: Caller = { uid: uid + 1, gid: 1, groups: [1] };
const everything: JobQuery = { uid, history: true, states: null, token: null, sinceUs: null, beforeUs: null, limit: 1000 };
const byDay: StatisticsQuery = { by: "day", uid, sinceUs: null, untilUs: null, order: "latest", limit: 100 };

interface Room extends AsyncDisposable {
  readonly jobs: Jobs;
}

/** A room with a store; ended jobs are no objects any more at once. No worker: each job fails by itself, or is cancelled. */
async function room(state: TemporaryDirectory, self: readonly string[] = ["/nonexistent"], maxRunning = 4): Promise<Room> {
  const store = await openStore({ path: join(state.path, "jobs.db"), log: noLog });
  const limits = { lingerMs: 0, maxEndedPerUser: 0, maxRunning, maxRunningPerUser: maxRunning };
  const jobs = createJobs({ mode: "session", self, store, stateDirectory: state.path, limits });
  return {
    jobs,
    [Symbol.asyncDispose]: async () => {
      await jobs.shutdown();
      store.close();
    },
  };
}

async function endedJob(jobs: Jobs, token: string, mode: string, caller = testCaller, destination = "/to"): Promise<JobView> {
  return await untilEnded(jobs, jobs.submit(caller, token, testRequest(mode, { destination })));
}

const tokens = (views: readonly JobView[]): string => views.map(({ token }) => token).join(" ");

test("an ended job is found, read and forgotten long after it was an object, by its owner only", async () => {
  await using state = await temporaryDirectory();
  await using room1 = await room(state, testWorker);
  const { jobs } = room1;
  const ended = await endedJob(jobs, "mine", "errors");
  while (jobs.list(uid).length > 0) await Bun.sleep(5);
  const found = jobs.get(uid, "mine");
  if (found === undefined) throw new Error("the job is forgotten");
  expect(found.result).toEqual(ended.result);
  expect(jobs.errors(found, 0, 10)).toHaveLength(1);
  expect(jobs.get(other.uid, "mine")).toBeUndefined();
  for (const ask of [() => jobs.cancel(found), () => jobs.pause(found), () => jobs.setOptions(found, { priority: "low" })]) {
    expect(codeOf(ask)).toBe("invalid-state");
  }
  // The token is free again, and then means the new job.
  await endedJob(jobs, "mine", "well");
  expect(jobs.get(uid, "mine")?.state).toBe("completed");
  expect(tokens(jobs.search(everything))).toBe("mine mine");
  while (jobs.list(uid).length > 0) await Bun.sleep(5);
  jobs.forget(jobs.get(uid, "mine") ?? found);
  expect(jobs.get(uid, "mine")?.state).toBe("failed");
  jobs.forget(found);
  expect(jobs.get(uid, "mine")).toBeUndefined();
  expect(codeOf(() => jobs.forget(found))).toBe("no-such-job");
});

test("pages give each job once, oldest first within each, with those that go on among them", async () => {
  await using state = await temporaryDirectory();
  await using room1 = await room(state);
  const { jobs } = room1;
  for (let index = 10; index < 35; index++) {
    const job = jobs.submit(index % 5 === 0 ? other : testCaller, `t${index}`, testRequest("x"));
    if (index % 2 === 0) jobs.cancel(job);
  }
  while (jobs.counts().active + jobs.counts().queued > 0) await Bun.sleep(5);
  jobs.pause(jobs.submit(testCaller, "waits", testRequest("x")));
  const seen: JobView[] = [];
  for (let page = jobs.search({ ...everything, limit: 7 }); page.length > 0; ) {
    expect(page.length).toBeLessThanOrEqual(7);
    seen.unshift(...page);
    page = jobs.search({ ...everything, limit: 7, beforeUs: page[0]?.createdTimeUs ?? 0 });
  }
  expect(tokens(seen)).toBe(tokens(jobs.search(everything)));
  expect(seen).toHaveLength(21);
  expect(seen.at(-1)).toMatchObject({ token: "waits", state: "paused" });
  expect(new Set(seen.map(({ createdTimeUs }) => createdTimeUs)).size).toBe(21);
  expect(jobs.search({ ...everything, uid: null })).toHaveLength(26);
  expect(tokens(jobs.search({ ...everything, states: ["cancelled"], token: "t1" }))).toBe("t12 t14 t16 t18");
  expect(tokens(jobs.search({ ...everything, sinceUs: seen[19]?.createdTimeUs ?? 0 }))).toBe("t34 waits");
  expect(tokens(jobs.search({ ...everything, history: false }))).toBe("waits");
  expect(jobs.search({ ...everything, limit: 0 })).toEqual([]);
});

test("statistics add up jobs by day, user, source and destination, of the caller or of all", async () => {
  await using state = await temporaryDirectory();
  await using room1 = await room(state, testWorker);
  const { jobs } = room1;
  await endedJob(jobs, "a", "well", testCaller, "/to/one");
  await endedJob(jobs, "b", "well", testCaller, "/to/one");
  await endedJob(jobs, "c", "errors", testCaller, "/to/two\xe9");
  jobs.cancel(jobs.submit(testCaller, "d", testRequest("run", { destination: "/to/two\xe9" })));
  jobs.pause(jobs.submit(testCaller, "e", testRequest("run")));
  await endedJob(jobs, "f", "well", other, "/to/one");
  const today = new Date().toLocaleDateString("sv");
  expect(jobs.statistics(byDay)).toEqual([
    expect.objectContaining({ key: today, jobs: 4, completed: 2, failed: 1, cancelled: 1, files: 20, bytes: 2000, errors: 1 }),
  ]);
  const keys = (query: Partial<StatisticsQuery>): string =>
    jobs
      .statistics({ ...byDay, ...query })
      .map(({ key, jobs: count }) => `${key}:${count}`)
      .join(" ");
  expect(keys({ by: "user", uid: null, order: "busiest" })).toBe(`${uid}:4 ${other.uid}:1`);
  expect(keys({ by: "destination", order: "largest" })).toBe("/to/one:2 /to/two\xe9:2");
  expect(keys({ by: "destination", uid: null, order: "busiest", limit: 1 })).toBe("/to/one:3");
  expect(keys({ by: "source", order: "busiest" })).toBe("/test/well:2 /test/errors:1 /test/run:1");
  expect(keys({ by: "destination", order: "slowest" })).toContain("/to/one:2");
  expect(keys({ sinceUs: Date.now() * 1000 + 60e6 })).toBe("");
  expect(keys({ untilUs: Date.now() * 1000 - 3600e6 })).toBe("");
});

test("without a store there is no past, and what is there is found", async () => {
  const jobs = createJobs({ mode: "session", self: testWorker });
  await endedJob(jobs, "a", "well");
  expect(tokens(jobs.search(everything))).toBe("a");
  expect(jobs.statistics(byDay)).toEqual([]);
  expect(jobs.get(uid, "b")).toBeUndefined();
  await jobs.shutdown();
});

test("a waiting job is moved to the front, stays there over a restart, and one that runs is not moved", async () => {
  await using state = await temporaryDirectory();
  const places = (jobs: Jobs): string =>
    jobs
      .list(uid)
      .filter(({ state: now }) => now === "queued")
      .map(({ token, queuePosition }) => `${token}${queuePosition}`)
      .join(" ");
  {
    await using first = await room(state, testWorker, 1);
    const { jobs } = first;
    const running = jobs.submit(testCaller, "running", testRequest("run"));
    const [, , c] = ["a", "b", "c"].map((token) => jobs.submit(testCaller, token, testRequest("run")));
    while (jobs.get(uid, "running")?.state === "queued") await Bun.sleep(5);
    if (c === undefined) throw new Error("unreachable");
    jobs.setOptions(c, { position: "first" });
    expect(places(jobs)).toBe("a2 b3 c1");
    expect(codeOf(() => jobs.setOptions(running, { position: "first" }))).toBe("invalid-state");
    jobs.pause(c);
    expect(places(jobs)).toBe("a1 b2");
    jobs.resume(c);
    expect(places(jobs)).toBe("a2 b3 c1");
    jobs.cancel(running);
    while (jobs.get(uid, "c")?.state === "queued") await Bun.sleep(5);
    expect(places(jobs)).toBe("a1 b2");
    jobs.setOptions(jobs.get(uid, "a") ?? c, { position: "last" });
  }
  await using second = await room(state, testWorker, 1);
  while (second.jobs.counts().active === 0) await Bun.sleep(5);
  expect(places(second.jobs)).toMatch(/b\d.*|a\d b\d/);
  const order = second.jobs.list(uid).toSorted((one, another) => one.queuePosition - another.queuePosition);
  expect(order.map(({ token }) => token).indexOf("b")).toBeLessThan(order.map(({ token }) => token).indexOf("a"));
});
