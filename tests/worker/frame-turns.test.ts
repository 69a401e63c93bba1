// Turns at understanding what workers say: one at a time, who came first first, and everybody else of the process in between.

import { expect, test } from "bun:test";
import { FrameTurns } from "../../src/worker/frame-turns.ts";

function work(ms: number): void {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs);
}

test("who has much to say is heard no more often than who has little, each in the order in which it came", async () => {
  const turns = new FrameTurns();
  const heard: string[] = [];
  let most = 0;
  let under = 0;
  const say = async (name: string, frames: number, ms: number): Promise<void> => {
    for (let frame = 0; frame < frames; frame++) {
      await turns.take();
      most = Math.max(most, ++under);
      heard.push(name);
      work(ms);
      under--;
      turns.done();
    }
  };
  await Promise.all([say("long", 6, 10), say("short", 3, 0), say("other", 3, 0)]);
  expect(heard.slice(0, 9)).toEqual(["long", "short", "other", "long", "short", "other", "long", "short", "other"]);
  expect(heard).toHaveLength(12);
  expect(most).toBe(1);
});

test("after some milliseconds of frames the rest of the process has its turn, as long", async () => {
  const turns = new FrameTurns();
  let beats = 0;
  const heart = setInterval(() => beats++, 1);
  const beganMs = performance.now();
  const speak = async (): Promise<void> => {
    for (let frame = 0; frame < 100; frame++) {
      await turns.take();
      work(1);
      turns.done();
    }
  };
  await Promise.all([speak(), speak()]);
  clearInterval(heart);
  expect(performance.now() - beganMs).toBeGreaterThan(350);
  expect(beats).toBeGreaterThan(40);
});

test("who speaks now and then is heard at once, however long that goes on", async () => {
  const turns = new FrameTurns();
  for (let frame = 0; frame < 20; frame++) {
    expect(turns.take()).toBeNull();
    work(1);
    turns.done();
    await Bun.sleep(2);
  }
});
