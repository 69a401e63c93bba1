// When a job's threads are done: those that have begun, and not those that are still starting. And which of them does what.

import { expect, spyOn, test } from "bun:test";
import { closeSync, openSync } from "node:fs";
import { byteStringFromText } from "../../src/bytes.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { openCheckpoint } from "../../src/worker/checkpoint-file.ts";
import { Lanes } from "../../src/worker/lanes.ts";
import { Counter, Word } from "../../src/worker/shared.ts";
import { temporaryDirectory } from "../support/temporary.ts";

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

test("the thread that has counted makes the marks, and no other one is begun for them", async () => {
  await using directory = await temporaryDirectory();
  await Bun.write(`${directory.path}/source/file`, "content");
  const fd = openSync(`${directory.path}/checkpoint`, "w+");
  const errors: string[] = [];
  const lanes = new Lanes({
    request: requestSchema.parse({
      operation: "copy",
      sources: [byteStringFromText(`${directory.path}/source`)],
      destination: byteStringFromText(`${directory.path}/copy`),
      options: { recursive: true, durability: "job" },
    }),
    token: "t",
    guardedSources: null,
    inFlightFd: -1,
    checkpoint: openCheckpoint({ fd, isResumed: false, isSameBoot: true, startedTimeUs: 0 }, { unmarked: "believed" }),
    sharesFiles: false,
    onMessage: () => undefined,
    onCrash: (message) => errors.push(message),
  });
  const { words } = lanes.shared;
  lanes.addScanner(null);
  for (let tries = 0; tries < 500 && Atomics.load(words, Word.flusher) === 0; tries++) await Bun.sleep(10);
  expect([Atomics.load(words, Word.flusher), Atomics.load(words, Word.totalsKnown), lanes.shared.total(Counter.filesTotal)]).toEqual([
    1, 1, 1,
  ]);
  const starting = spyOn(globalThis, "Worker");
  lanes.addFlusher();
  expect(starting).not.toHaveBeenCalled();
  starting.mockRestore();
  Atomics.store(words, Word.done, 1);
  Atomics.notify(words, Word.flushWanted);
  closeSync(fd);
  expect(errors).toEqual([]);
});
