// A user's workers beside the first leave the processors to others, from outside: the kernel says so of them from their first moment.

import { afterAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import os from "node:os";
import { createUnnamedInFlightFile } from "../../src/jobs/in-flight-file.ts";
import { WorkerPlaces } from "../../src/jobs/worker-places.ts";
import { startWorker } from "../../src/worker/pool.ts";
import { testRequest, testWorker } from "../support/jobs.ts";

const inFlight = createUnnamedInFlightFile("places-test");
afterAll(() => inFlight.discard());

const ownNiceness = os.getPriority();

test("of each user one worker is everybody's equal, and the place of one that has left is the next one's", () => {
  const places = new WorkerPlaces(null, "many");
  const [first, second, other] = [places.enter(1001), places.enter(1001), places.enter(1002)];
  expect([first, second, other].map(({ niceness }) => niceness)).toEqual([0, 12, 0]);
  first.left(0);
  first.left(0);
  const third = places.enter(1001);
  expect(third.niceness).toBe(12);
  second.left(0);
  third.left(0);
  expect(places.enter(1001).niceness).toBe(0);
});

test("a user whose workers took much waits before the next, while others are there, two seconds at most; who is alone never does", () => {
  let nowMs = 0;
  const places = new WorkerPlaces(null, "many", () => nowMs, 2);
  const run = (uid: number, takenMs: number): void => places.enter(uid).left(takenMs);
  for (let index = 0; index < 10; index++) run(1001, 10_000);
  expect(places.restMs(1001)).toBe(0);
  run(1002, 100);
  // A handful of ordinary ones is free.
  for (let index = 0; index < 5; index++) run(1001, 100);
  expect(places.restMs(1001)).toBe(0);
  run(1001, 100);
  expect(places.restMs(1001)).toBe(400);
  run(1001, 10_000);
  expect([places.restMs(1001), places.restMs(1002)]).toEqual([2_000, 0]);
  nowMs += 1_500;
  expect(places.restMs(1001)).toBe(500);
  // Whose job still runs is there; who was not seen for a while is not.
  places.see(1002);
  nowMs += 400;
  expect(places.restMs(1001)).toBe(100);
  run(1001, 10_000);
  nowMs += 1_700;
  expect(places.restMs(1001)).toBe(0);
});

test("where there are more processors, more may be taken of them", () => {
  const places = new WorkerPlaces(null, "many", () => 0, 16);
  places.see(1002);
  places.enter(1001).left(2_500);
  expect(places.restMs(1001)).toBe(1_000);
});

test("workers that run are charged in advance: of those that take long, few start at once", () => {
  const places = new WorkerPlaces(null, "many", () => 0, 2);
  places.see(1002);
  const first = places.enter(1001);
  expect(places.restMs(1001)).toBe(0);
  const second = places.enter(1001);
  expect(places.restMs(1001)).toBe(2_000);
  first.left(100);
  expect(places.restMs(1001)).toBe(400);
  second.left(100);
  expect(places.restMs(1001)).toBe(0);
});

test("a process that only waits is charged when it begins, and not before", () => {
  const places = new WorkerPlaces(null, "many", () => 0, 2);
  places.enter(1002);
  const first = places.reserve(1001);
  const second = places.reserve(1001);
  expect(places.restMs(1001)).toBe(0);
  first.begin();
  second.begin();
  expect(places.restMs(1001)).toBeGreaterThan(0);
  second.left(0);
  first.left(0);
  expect(places.restMs(1001)).toBe(0);
});

test("whoever is alone, and where control groups share the processors, all are equal", () => {
  const alone = new WorkerPlaces(null, "one");
  expect([alone.enter(1001), alone.enter(1001)].map(({ niceness }) => niceness)).toEqual([0, 0]);
});

test("a worker that is to give way has its niceness, and so has its session where the kernel shares among sessions", async () => {
  const left = Promise.withResolvers<number>();
  const ended = Promise.withResolvers<void>();
  const begun = Promise.withResolvers<void>();
  const worker = startWorker({
    task: { type: "start", request: testRequest("hangs"), sandbox: "off", token: "test", lanes: 0, totals: true },
    credentials: null,
    place: { group: null, niceness: 5, left: left.resolve },
    inFlightFd: inFlight.fd,
    self: testWorker,
    onMessage: () => begun.resolve(),
    onEnd: () => ended.resolve(),
    onStderr: () => undefined,
  });
  const autogroup = `/proc/${worker.pid}/autogroup`;
  // The kernel takes so many of these a second, also from others.
  const deadlineMs = performance.now() + 5_000;
  const isLow = (): boolean => !existsSync(autogroup) || / nice 5$/m.test(readFileSync(autogroup, "latin1"));
  while (!(isLow() && os.getPriority(worker.pid) > ownNiceness) && performance.now() < deadlineMs) await Bun.sleep(10);
  expect(os.getPriority(worker.pid)).toBe(Math.min(19, ownNiceness + 5));
  expect(isLow()).toBe(true);
  await begun.promise;
  worker.kill("cancelled", "the test has seen it");
  await ended.promise;
  // What it took to start.
  expect(await left.promise).toBeGreaterThan(5);
});
