// When a job's threads are done: those that have begun, and not those that are still starting.

import { expect, test } from "bun:test";
import { requestSchema } from "../../src/request-schema.ts";
import { Lanes } from "../../src/worker/lanes.ts";
import { Word } from "../../src/worker/shared.ts";

function lanesOf(count: number, begun: number): Lanes {
  const request = requestSchema.parse({ operation: "copy", sources: ["/a"], destination: "/b" });
  const onCrash = (message: string): never => {
    throw new Error(message);
  };
  const lanes = new Lanes({
    request,
    token: "t",
    guardedSources: null,
    inFlightFd: -1,
    sharesFiles: false,
    onMessage: () => undefined,
    onCrash,
  });
  lanes.count = count;
  Atomics.store(lanes.shared.words, Word.begun, begun);
  return lanes;
}

test("a thread that is still starting when the leader is done is not waited for", () => {
  const lanes = lanesOf(2, 1);
  Atomics.store(lanes.shared.words, Word.done, 1);
  expect(lanes.areDone(1)).toBe(true);
});

test("one that has begun is waited for: it may hold copies that are to be verified", () => {
  const lanes = lanesOf(3, 2);
  Atomics.store(lanes.shared.words, Word.done, 1);
  expect(lanes.areDone(1)).toBe(false);
  expect(lanes.areDone(2)).toBe(true);
});

test("nothing is over before the leader says so", () => {
  expect(lanesOf(2, 1).areDone(1)).toBe(false);
});
