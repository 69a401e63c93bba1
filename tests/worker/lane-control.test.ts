// Pause, cancel and the bandwidth limit, as lanes obey them between two blocks.

import { expect, test } from "bun:test";
import { LaneControl } from "../../src/worker/lane-control.ts";
import { Command, Counter, Float, LaneWord, Word } from "../../src/worker/shared.ts";
import { inThread, type LaneMemory, laneMemory } from "./threads.ts";

function command(lanes: LaneMemory, value: number): void {
  Atomics.store(lanes.shared.words, Word.command, value);
  Atomics.notify(lanes.shared.words, Word.command);
}

test("bytes are counted, clones apart, and what a failed file had counted is taken back", () => {
  using lanes = laneMemory();
  const control = new LaneControl(lanes.shared, 3, () => undefined);
  expect(control.advanced(1000, "copied")).toBe(true);
  expect(control.advanced(500, "cloned")).toBe(true);
  expect([lanes.shared.total(Counter.bytesDone), lanes.shared.total(Counter.bytesCloned)]).toEqual([1500, 500]);
  control.takeBack(700, 500);
  expect([lanes.shared.total(Counter.bytesDone), lanes.shared.total(Counter.bytesCloned)]).toEqual([800, 0]);
});

test("a cancelled job goes no further", () => {
  using lanes = laneMemory();
  const control = new LaneControl(lanes.shared, 0, () => undefined);
  command(lanes, Command.cancel);
  expect(control.advanced(1, "copied")).toBe(false);
  expect(control.mayGoOn()).toBe(false);
  expect(control.isCancelled).toBe(true);
});

test("whoever asks for the current file is answered at the next step, once", () => {
  using lanes = laneMemory();
  let told = 0;
  const control = new LaneControl(lanes.shared, 1, () => told++);
  lanes.shared.words[lanes.shared.laneWords(1) + LaneWord.wantCurrent] = 1;
  control.mayGoOn();
  control.mayGoOn();
  expect(told).toBe(1);
});

test("a paused lane moves nothing until it is resumed, and a cancel ends the pause", async () => {
  using lanes = laneMemory();
  const moved = (): number => lanes.shared.total(Counter.bytesDone);
  const task = { kind: "advance", memory: lanes.memory, blockBytes: 1, forMs: 20_000 } as const;
  const threads = [inThread({ ...task, lane: 0 }), inThread({ ...task, lane: 1 })];
  while (moved() === 0) await Bun.sleep(5);
  command(lanes, Command.pause);
  await Bun.sleep(100);
  const atPause = moved();
  await Bun.sleep(200);
  expect(moved()).toBe(atPause);
  command(lanes, Command.run);
  while (moved() === atPause) await Bun.sleep(5);
  command(lanes, Command.pause);
  await Bun.sleep(50);
  command(lanes, Command.cancel);
  for (const answer of await Promise.all(threads)) expect(answer.wasCancelled).toBe(true);
});

for (const threads of [1, 4]) {
  test(`${threads === 1 ? "one lane keeps" : "four lanes together keep"} to the limit`, async () => {
    using lanes = laneMemory();
    const limit = 20_000_000;
    lanes.shared.floats[Float.bandwidthLimit] = limit;
    const task = { kind: "advance", memory: lanes.memory, blockBytes: 64 * 1024, forMs: 60_000 } as const;
    const answers = Array.from({ length: threads }, (_, lane) => inThread({ ...task, lane }));
    const moved = (): number => lanes.shared.total(Counter.bytesDone);
    for (let lane = 0; lane < threads; lane++) {
      while ((lanes.shared.floats[lanes.shared.counters(lane) + Counter.bytesDone] ?? 0) === 0) await Bun.sleep(5);
    }
    const [startMs, startBytes] = [performance.now(), moved()];
    await Bun.sleep(2500);
    const rate = (moved() - startBytes) / ((performance.now() - startMs) / 1000);
    command(lanes, Command.cancel);
    await Promise.all(answers);
    expect(rate).toBeLessThan(limit * 1.05);
    // Below it by more only because a busy machine wakes sleepers late.
    expect(rate).toBeGreaterThan(limit * 0.85);
  });
}

test("a limit that is changed holds from the next block on, and lifting it frees a sleeping lane soon", async () => {
  using lanes = laneMemory();
  lanes.shared.floats[Float.bandwidthLimit] = 1000;
  const task = { kind: "advance", lane: 0, memory: lanes.memory, blockBytes: 1_000_000, forMs: 100 } as const;
  const start = performance.now();
  // One block at this limit would take a thousand seconds.
  const thread = inThread(task);
  while (lanes.shared.total(Counter.bytesDone) === 0) await Bun.sleep(5);
  lanes.shared.floats[Float.bandwidthLimit] = 0;
  await thread;
  expect(performance.now() - start).toBeLessThan(10_000);
});

test("under a low limit a block is small, and without one, or under a high one, as large as it can be", () => {
  using lanes = laneMemory();
  const control = new LaneControl(lanes.shared, 0, () => undefined);
  const steps = [0, 1, 1_000_000, 4 * 2 ** 20, 1e9].map((limit) => {
    lanes.shared.floats[Float.bandwidthLimit] = limit;
    return control.stepBytes(2 ** 20) / 1024;
  });
  expect(steps).toEqual([1024, 64, 64, 512, 1024]);
});

test("a limit that changes all the while, as a share of a common one does, holds as if it stood still", async () => {
  using lanes = laneMemory();
  const limit = 10_000_000;
  lanes.shared.floats[Float.bandwidthLimit] = limit;
  // A block takes a tenth of a second, and the limit changes in the middle of each.
  const thread = inThread({ kind: "advance", lane: 0, memory: lanes.memory, blockBytes: 1_000_000, forMs: 60_000 });
  const moved = (): number => lanes.shared.total(Counter.bytesDone);
  while (moved() === 0) await Bun.sleep(5);
  const [startMs, startBytes] = [performance.now(), moved()];
  for (let change = 0; change < 80; change++) {
    lanes.shared.floats[Float.bandwidthLimit] = change % 2 === 0 ? limit * 1.1 : limit;
    await Bun.sleep(25);
  }
  const rate = (moved() - startBytes) / ((performance.now() - startMs) / 1000);
  command(lanes, Command.cancel);
  await thread;
  expect(rate).toBeLessThan(limit * 1.2);
  expect(rate).toBeGreaterThan(limit * 0.8);
});

test("a cancel wakes a lane that sleeps for the limit", async () => {
  using lanes = laneMemory();
  lanes.shared.floats[Float.bandwidthLimit] = 1000;
  const thread = inThread({ kind: "advance", lane: 0, memory: lanes.memory, blockBytes: 1_000_000, forMs: 60_000 });
  while (lanes.shared.total(Counter.bytesDone) === 0) await Bun.sleep(5);
  const start = performance.now();
  command(lanes, Command.cancel);
  expect((await thread).wasCancelled).toBe(true);
  expect(performance.now() - start).toBeLessThan(1000);
});
