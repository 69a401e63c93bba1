// Jobs on one slow device run one after the other, those on different ones side by side, and each that waits says why.

import { expect, test } from "bun:test";
import type { Caller, Jobs, JobView } from "../../src/jobs/api.ts";
import { type Job, newJob } from "../../src/jobs/job.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { JobsDependencies } from "../../src/jobs/jobs-dependencies.ts";
import { defaultJobLimits } from "../../src/jobs/limits.ts";
import type { SlowDevices } from "../../src/jobs/slow-devices.ts";
import { type TurnLimits, Turns } from "../../src/jobs/turns.ts";
import type { JobRequest } from "../../src/request.ts";
import { testCaller, testRequest, testWorker, untilView } from "../support/jobs.ts";

/** The devices of "/sda+sdb/x" are sda and sdb. */
const named = {
  look: () => undefined,
  forget: () => undefined,
  of: ({ destination }: JobRequest) => (destination.split("/")[1] ?? "").split("+").filter((name) => name.startsWith("sd")),
} as unknown as SlowDevices;

const wide: TurnLimits = { ...defaultJobLimits, maxRunning: 10, maxRunningPerUser: 10, maxWorkersPerUser: 20 };
let lastId = 0;

function job(token: string, place: string, priority = "normal", uid = 1): Job {
  const request = testRequest("run", { destination: `/${place}/x`, priority });
  return newJob({ id: ++lastId, token, workToken: token, owner: { uid, gid: uid, groups: [] }, asAdmin: false, request }, 1);
}

class Round {
  readonly turns: Turns;
  readonly started: Job[] = [];
  private readonly known = new Map<string, Job>();

  constructor(limits: Partial<TurnLimits> = {}) {
    this.turns = new Turns({ ...wide, ...limits }, named, { restMs: () => 0 });
  }

  add(...jobs: readonly Job[]): this {
    for (const each of jobs) {
      this.known.set(each.token, each);
      this.turns.add(each);
    }
    return this;
  }

  /** The tokens of what may start now, started. */
  start(): string {
    const tokens: string[] = [];
    for (let next = this.turns.next(this.started); next !== null; next = this.turns.next(this.started)) {
      tokens.push(next.token);
      const found = this.known.get(next.token);
      if (found !== undefined) this.started.push({ ...found, state: "running", activity: "working", startedTimeUs: 1 });
    }
    return tokens.join(" ");
  }

  end(token: string): this {
    this.started.splice(
      this.started.findIndex((each) => each.token === token),
      1,
    );
    return this;
  }

  reasons(): Record<string, string> {
    const reasons: Record<string, string> = {};
    this.turns.waits(this.started, ({ token }, reason) => {
      reasons[token] = reason;
    });
    return reasons;
  }
}

test("one after the other on one device, side by side on others, and fast places do not wait", () => {
  const round = new Round().add(job("a", "sda"), job("b", "sda"), job("c", "sdb"), job("d", "fast"), job("e", "sda+sdc"));
  expect(round.start()).toBe("a c d");
  expect(round.reasons()).toEqual({
    b: "another job uses sda; one job works on a rotating or USB device at a time",
    e: "another job uses sda; one job works on a rotating or USB device at a time",
  });
  expect(round.end("a").start()).toBe("b");
  expect(round.end("b").start()).toBe("e");
});

test("another user's job on the device is waited for as well, and now waits for none", () => {
  const round = new Round().add(job("a", "sda", "normal", 1), job("b", "sda", "normal", 2));
  expect(round.start()).toBe("a");
  expect(round.add(job("n", "sda", "now", 2)).start()).toBe("n");
  expect(round.end("a").start()).toBe("");
  expect(round.end("n").start()).toBe("b");
});

test("a paused or asking job gives its device free", () => {
  for (const state of ["paused", "question"] as const) {
    const round = new Round().add(job("a", "sda"), job("b", "sda"));
    expect(round.start()).toBe("a");
    const [first] = round.started;
    if (first === undefined) throw new Error("unreachable");
    round.started[0] = { ...first, state };
    expect(round.start()).toBe("b");
  }
});

test("the rule can be widened and switched off", () => {
  const jobs = ["a", "b", "c"].map((token) => job(token, "sda"));
  const two = new Round({ maxRunningPerSlowDevice: 2 }).add(...jobs);
  expect(two.start()).toBe("a b");
  expect(two.reasons()).toEqual({ c: "another job uses sda; 2 jobs work on a rotating or USB device at a time" });
  expect(new Round({ maxRunningPerSlowDevice: 0 }).add(...jobs).start()).toBe("a b c");
});

test("a job for two devices that are busy in turn gets them after a few others", () => {
  const round = new Round().add(job("a0", "sda"), job("b0", "sdb"));
  expect(round.start()).toBe("a0 b0");
  round.add(job("both", "sda+sdb", "normal", 2));
  const order: string[] = [];
  for (let turn = 1; turn < 20 && !order.includes("both"); turn++) {
    const device = turn % 2 === 0 ? "sda" : "sdb";
    const last = round.started.findLast(({ request }) => request.destination.startsWith(`/${device}/`));
    round.add(job(`t${turn}`, device, "high"));
    if (last !== undefined) round.end(last.token);
    order.push(round.start());
  }
  expect(order.indexOf("both")).toBeGreaterThan(1);
  expect(order.indexOf("both")).toBeLessThan(10);
});

test("what waits for a place says for which", () => {
  const round = new Round({ maxRunning: 2, maxRunningPerUser: 1, maxWorkersPerUser: 3 });
  round.add(job("a", "fast", "normal", 1), job("b", "fast", "normal", 1), job("c", "fast", "normal", 2), job("d", "fast", "normal", 3));
  expect(round.start()).toBe("a c");
  expect(round.reasons()).toEqual({
    b: "as many of your jobs are running as may at once",
    d: "as many jobs are running as may at once",
  });
});

function room(changes: Partial<JobsDependencies> = {}): Jobs {
  return createJobs({ mode: "session", self: testWorker, slowDevices: named, ...changes });
}

function submit(jobs: Jobs, token: string, place: string, priority = "normal", caller: Caller = testCaller): JobView {
  return jobs.submit(caller, token, testRequest("run", { destination: `/${place}/x`, priority }));
}

test("with real workers: the second job on a stick is queued and says why, is started by a pause of the first, and cancels meanwhile", async () => {
  const jobs = room();
  const heard: string[] = [];
  jobs.on("changed", ({ token, waitReason }) => {
    if (token === "second" && heard.at(-1) !== waitReason) heard.push(waitReason);
  });
  const first = submit(jobs, "first", "sda");
  const second = submit(jobs, "second", "sda");
  const third = submit(jobs, "third", "sda");
  await untilView(jobs, first, ({ state }) => state === "running");
  await untilView(jobs, submit(jobs, "other", "sdb"), ({ state }) => state === "running");
  await untilView(jobs, submit(jobs, "urgent", "sda", "now"), ({ state }) => state === "running");
  expect(jobs.get(second.owner.uid, "second")).toMatchObject({
    state: "queued",
    waitReason: expect.stringContaining("another job uses sda"),
  });
  jobs.cancel(third);
  expect(jobs.get(third.owner.uid, "third")).toMatchObject({ state: "cancelled", waitReason: "" });
  const urgent = jobs.get(testCaller.uid, "urgent");
  if (urgent === undefined) throw new Error("unreachable");
  jobs.cancel(urgent);
  jobs.pause(first);
  await untilView(jobs, second, ({ state }) => state === "running");
  expect(jobs.get(second.owner.uid, "second")?.waitReason).toBe("");
  expect(heard).toEqual(["another job uses sda; one job works on a rotating or USB device at a time", ""]);
  await jobs.shutdown();
});

test("whether a job would start at once is foretold as it then turns out", () => {
  let seed = 1;
  const below = (most: number): number => {
    seed = (seed * 48271) % 2147483647;
    return seed % most;
  };
  const outcomes = { yes: 0, no: 0 };
  for (let round = 0; round < 2000; round++) {
    const resting = below(2) === 0;
    const limits = { maxRunning: 1 + below(3), maxRunningPerUser: 1 + below(3), maxWorkersPerUser: 1 + below(3) };
    const turns = new Turns({ ...wide, ...limits }, named, { restMs: (uid) => (resting && uid === 1 ? 100 : 0) });
    const some = (): Job =>
      job(`j${round}-${lastId}`, ["sda", "sdb", "sda+sdb", "ssd"][below(4)] ?? "", ["low", "normal", "now"][below(3)], 1 + below(2));
    const started = Array.from({ length: below(4) }, (): Job => ({ ...some(), state: "running", activity: "working", startedTimeUs: 1 }));
    const waiting = below(3) === 0;
    if (waiting) turns.add(some());
    const next = some();
    const foretold = turns.wouldStart(next, started);
    turns.add(next);
    const found = turns.next(started);
    if (!waiting) expect(foretold).toBe(found?.token === next.token);
    else expect(foretold).toBe(false);
    outcomes[foretold ? "yes" : "no"]++;
  }
  expect(Math.min(outcomes.yes, outcomes.no)).toBeGreaterThan(200);
});
