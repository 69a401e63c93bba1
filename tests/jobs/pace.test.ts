// Who of a fan-out is held so that the others can follow: by how far they are, and whether they get on.

import { expect, test } from "bun:test";
import { type Job, newJob } from "../../src/jobs/job.ts";
import { Pace } from "../../src/jobs/pace.ts";
import { testCaller, testRequest } from "../support/jobs.ts";

const memory = 8000;
const limits = { fanOutWindow: 100, fanOutPatienceMs: 1000 };

function member(id: number, bytesDone: number, changes: Partial<Job> = {}): Job {
  const job = newJob({ id, token: `t${id}`, workToken: `t${id}`, owner: testCaller, asAdmin: false, request: testRequest("run") }, 1);
  const snapshot = { ...job.progress.snapshot, phase: "copying", bytesDone } as const;
  return { ...job, activity: "working", state: "running", progress: { ...job.progress, snapshot }, ...changes };
}

function heldOf(pace: Pace, members: readonly Job[], nowUs = 1): number[] {
  return [...pace.held(members, nowUs)];
}

test("who is ahead of the last by more than the window is held, until the last is within half of it", () => {
  const pace = new Pace(limits, memory);
  expect(heldOf(pace, [member(1, 100), member(2, 0), member(3, 50)])).toEqual([]);
  expect(heldOf(pace, [member(1, 101), member(2, 0), member(3, 50)])).toEqual([1]);
  expect(heldOf(pace, [member(1, 101, { hold: "held" }), member(2, 50), member(3, 50)])).toEqual([1]);
  expect(heldOf(pace, [member(1, 101, { hold: "held" }), member(2, 51), member(3, 51)])).toEqual([]);
});

test("the window is an eighth of the memory at most, and 0 is none", () => {
  expect(heldOf(new Pace(limits, 80), [member(1, 11), member(2, 0)])).toEqual([1]);
  expect(heldOf(new Pace({ ...limits, fanOutWindow: 0 }, memory), [member(1, 1e9), member(2, 0)])).toEqual([]);
});

test("one that makes no progress for a while is not waited for, and is again once it gets on", () => {
  const pace = new Pace(limits, memory);
  const ahead = (bytes: number): Job => member(1, bytes, { hold: "held" });
  expect(heldOf(pace, [member(1, 200), member(2, 10)], 0)).toEqual([1]);
  expect(heldOf(pace, [ahead(200), member(2, 10)], 999_000)).toEqual([1]);
  expect(heldOf(pace, [ahead(200), member(2, 10)], 1_000_000)).toEqual([]);
  expect(heldOf(pace, [member(1, 300), member(2, 11)], 1_100_000)).toEqual([1]);
});

test("one that is paused, asks, waits, is cancelled or has copied everything is neither held nor waited for", () => {
  const flushing = member(2, 0).progress;
  for (const changes of [
    { state: "paused" },
    { pauseRequested: true },
    { state: "question" },
    { activity: "none", state: "queued" },
    { cancelRequested: true },
    { progress: { ...flushing, snapshot: { ...flushing.snapshot, phase: "flushing" } } },
  ] as const) {
    const pace = new Pace(limits, memory);
    expect(heldOf(pace, [member(1, 1000), member(2, 0, changes)])).toEqual([]);
    expect(heldOf(pace, [member(1, 0), member(2, 1000, { ...changes, hold: "held" })])).not.toContain(2);
  }
});
