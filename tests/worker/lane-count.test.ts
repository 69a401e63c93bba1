// How the number of lanes follows what they do.

import { expect, test } from "bun:test";
import { LaneCount, type LaneMeasurement } from "../../src/worker/lane-count.ts";

/** The lanes' number after so many tenths of a second that all went alike. */
function after(count: LaneCount, lanes: number, ticks: number, measured: Partial<LaneMeasurement>): number {
  let now = lanes;
  const nothing: LaneMeasurement = {
    seconds: 0.1,
    busySeconds: 0,
    preemptions: 0,
    entries: 0,
    bytes: 0,
    mediumBytes: 0,
    readsAhead: false,
    opensAhead: false,
    limit: 0,
  };
  for (let tick = 0; tick < ticks; tick++) now = count.next(now, { ...nothing, ...measured });
  return now;
}

/** Likewise after a second. */
function second(count: LaneCount, lanes: number, busyShare: number, entries: number): number {
  return after(count, lanes, 10, { busySeconds: 0.1 * busyShare * lanes, entries: entries / 10 });
}

test("lanes that work all the time stay as many as they are", () => {
  const count = new LaneCount(0, null, 2);
  expect(count.first()).toBe(2);
  expect(second(count, 2, 0.95, 30_000)).toBe(2);
});

test("lanes that wait for a slow source become more, while that helps", () => {
  const count = new LaneCount(0, null, 2);
  const lanes = after(count, count.first(), 3, { busySeconds: 0.06, entries: 20 });
  expect(lanes).toBe(4);
  expect(after(count, lanes, 3, { busySeconds: 0.12, entries: 45 })).toBe(7);
  expect(count.reason).toContain("7 lanes");
  expect(second(count, 7, 0.1, 900)).toBe(7);
});

test("lanes that hardly do anything but wait become as many as there may be at once", () => {
  const count = new LaneCount(0, null, 2);
  const lanes = after(count, count.first(), 3, { busySeconds: 0.01, entries: 20 });
  expect(lanes).toBe(7);
});

test("lanes that wake for each answer of a slow source, and make way for who gives it, are not taken for crowded", () => {
  const count = new LaneCount(0, null, 2);
  // As measured before a FUSE filesystem with 2 ms a call: 4 % busy, 50 to 85 involuntary switches a second and lane.
  const lanes = after(count, count.first(), 3, { busySeconds: 0.008, preemptions: 17, entries: 20 });
  expect(lanes).toBe(4);
});

/** A tenth of a second before a cold disk, as measured on one: 41 % busy, with hundreds of involuntary switches, by who reads for them. */
const cold = { busySeconds: 0.083, preemptions: 90, entries: 950, bytes: 28e6, mediumBytes: 30e6 } as const;

test("lanes that wait for a medium once for each small file become five at once", () => {
  const count = new LaneCount(0, null, 2);
  expect(after(count, count.first(), 1, cold)).toBe(5);
  expect(count.reason).toContain("come from the medium");
  expect(after(count, 5, 20, { ...cold, busySeconds: 0.14 })).toBe(5);
});

test("they stay two where they ask for files ahead, where they are busy all the same, where the files are large, and where what is read is another's", () => {
  for (const change of [{ readsAhead: true }, { busySeconds: 0.16 }, { entries: 20 }, { mediumBytes: 12e6 }, { limit: 2e8 }]) {
    const count = new LaneCount(0, null, 2);
    expect(after(count, count.first(), 20, { ...cold, ...change })).toBe(2);
  }
});

/** A tenth of a second before a FUSE filesystem with 2 ms a call, as measured: the kernel's threads that open are made to leave all the time. */
const opening = { busySeconds: 0.03, preemptions: 160, entries: 75, opensAhead: true } as const;

test("lanes that have files opened ahead become four at once, and no more", () => {
  const count = new LaneCount(0, null, 2);
  expect(after(count, count.first(), 1, opening)).toBe(4);
  expect(count.reason).toContain("answers slowly");
  expect(after(count, 4, 20, { ...opening, preemptions: 0, entries: 150 })).toBe(4);
});

test("they stay as many as they are where they are busy, and where they are more", () => {
  expect(after(new LaneCount(0, null, 2), 2, 20, { ...opening, busySeconds: 0.12 })).toBe(2);
  expect(after(new LaneCount(0, null, 2), 7, 20, opening)).toBe(7);
});

test("a doubling that brings nothing is the last", () => {
  const count = new LaneCount(0, null, 2);
  const lanes = after(count, count.first(), 3, { busySeconds: 0.06, entries: 20 });
  expect(lanes).toBe(4);
  expect(second(count, lanes, 0.1, 200)).toBe(4);
});

test("lanes that wait for a processor that others use stay as many as they are", () => {
  const count = new LaneCount(0, null, 2);
  const lanes = after(count, count.first(), 20, { busySeconds: 0.05, preemptions: 30, entries: 500 });
  expect(lanes).toBe(2);
});

test("lanes that sleep for the limit's sake stay as many as they are, also where a step comes in every third measurement only", () => {
  const count = new LaneCount(0, null, 2);
  let lanes = count.first();
  const limit = 4 * 1024 * 1024;
  for (let tick = 0; tick < 30; tick++) {
    const bytes = tick % 3 === 2 ? limit * 0.25 : 0;
    lanes = count.next(lanes, {
      seconds: 0.1,
      busySeconds: 0.001,
      preemptions: 0,
      entries: 0,
      bytes,
      mediumBytes: 0,
      readsAhead: false,
      opensAhead: false,
      limit,
    });
  }
  expect(lanes).toBe(2);
});

test("nothing done is no reason for more lanes: a paused job, a dead device", () => {
  const count = new LaneCount(0, null, 2);
  expect(second(count, 2, 0, 0)).toBe(2);
});

test("a number that was asked for, and messages in order, are kept", () => {
  expect(new LaneCount(5, null, 2).first()).toBe(5);
  expect(second(new LaneCount(5, null, 2), 5, 0.01, 500)).toBe(5);
  expect(new LaneCount(0, "in order", 8).first()).toBe(1);
});
