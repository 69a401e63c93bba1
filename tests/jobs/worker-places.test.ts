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
  first.left();
  first.left();
  const third = places.enter(1001);
  expect(third.niceness).toBe(12);
  second.left();
  third.left();
  expect(places.enter(1001).niceness).toBe(0);
});

test("whoever is alone, and where control groups share the processors, all are equal", () => {
  const alone = new WorkerPlaces(null, "one");
  expect([alone.enter(1001), alone.enter(1001)].map(({ niceness }) => niceness)).toEqual([0, 0]);
});

test("a worker that is to give way has its niceness, and so has its session where the kernel shares among sessions", async () => {
  const left = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<void>();
  const worker = startWorker({
    task: { type: "start", request: testRequest("hangs"), sandbox: "off", token: "test", lanes: 0, totals: true },
    credentials: null,
    place: { group: null, niceness: 5, left: left.resolve },
    inFlightFd: inFlight.fd,
    self: testWorker,
    onMessage: () => undefined,
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
  worker.kill("cancelled", "the test has seen it");
  await Promise.all([left.promise, ended.promise]);
});
