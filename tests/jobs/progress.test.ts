// Rate and expected end: what is shown is near the truth, settles quickly, and never is nonsense.

import { expect, test } from "bun:test";
import { advanceProgress, type Progress, startProgress } from "../../src/jobs/progress.ts";
import { emptySnapshot, type Snapshot } from "../../src/worker/protocol.ts";

const total = 100_000_000_000;

/** Snapshots every 100 ms at a steady rate, for so many seconds. */
function steady(from: Progress, bytesPerSecond: number, seconds: number, changes: Partial<Snapshot> = {}): Progress {
  let progress = from;
  for (let step = 0; step < seconds * 10; step++) {
    const bytesDone = progress.snapshot.bytesDone + bytesPerSecond / 10;
    const snapshot = {
      ...emptySnapshot,
      phase: "copying" as const,
      totalsValid: true,
      bytesTotal: total,
      filesTotal: 1,
      bytesDone,
      ...changes,
    };
    progress = advanceProgress(progress, snapshot, progress.sampledTimeUs + 100_000);
  }
  return progress;
}

function near(value: number, expected: number, tolerance: number): void {
  expect(Math.abs(value - expected) / expected).toBeLessThan(tolerance);
}

test("a steady rate is shown from the first second, and the end follows from it", () => {
  const progress = steady(startProgress(1e15), 100e6, 1);
  near(progress.rate, 100e6, 0.01);
  near(progress.expectedEndTimeUs - progress.sampledTimeUs, ((total - 100e6) / 100e6) * 1e6, 0.02);
});

test("a new rate is shown within ten seconds", () => {
  const progress = steady(steady(startProgress(1e15), 500e6, 30), 50e6, 10);
  near(progress.rate, 50e6, 0.4);
});

test("a pause shows no rate, and does not spoil the one after it", () => {
  const running = steady(startProgress(1e15), 100e6, 10);
  const paused = steady(running, 0, 60, { paused: true, bytesDone: running.snapshot.bytesDone });
  expect(paused.rate).toBe(0);
  expect(paused.expectedEndTimeUs).toBe(0);
  near(steady(paused, 100e6, 1).rate, 100e6, 0.05);
});

test("nothing is foretold without totals, while flushing, or while nothing moves", () => {
  expect(steady(startProgress(1e15), 100e6, 5, { totalsValid: false }).expectedEndTimeUs).toBe(0);
  expect(steady(startProgress(1e15), 100e6, 5, { phase: "flushing" }).expectedEndTimeUs).toBe(0);
  expect(steady(startProgress(1e15), 0, 5).expectedEndTimeUs).toBe(0);
});

test("many small files make an end although their bytes are few", () => {
  let progress = startProgress(1e15);
  for (let step = 1; step <= 50; step++) {
    const snapshot = { ...emptySnapshot, phase: "copying" as const, totalsValid: true, filesTotal: 10_000, filesDone: step * 100 };
    progress = advanceProgress(progress, snapshot, progress.sampledTimeUs + 100_000);
  }
  near(progress.expectedEndTimeUs - progress.sampledTimeUs, 5e6, 0.05);
});

test("a clock that is set back or stands still gives no nonsense", () => {
  const running = steady(startProgress(1e15), 100e6, 5);
  const back = advanceProgress(running, { ...running.snapshot, bytesDone: running.snapshot.bytesDone + 1 }, 5);
  expect(back.rate).toBe(running.rate);
  const still = advanceProgress(back, { ...back.snapshot, bytesDone: back.snapshot.bytesDone + 1 }, 5);
  expect(Number.isFinite(still.rate)).toBe(true);
});

test("reading back is half of the way: the end is foretold with it, and goes on being foretold while it lasts", () => {
  const toVerify = { bytesToVerify: total };
  const copying = steady(startProgress(1e15), 100e6, 10, toVerify);
  near(copying.expectedEndTimeUs - copying.sampledTimeUs, ((2 * total - 1e9) / 100e6) * 1e6, 0.02);
  let progress = copying;
  for (let step = 1; step <= 100; step++) {
    const snapshot = { ...copying.snapshot, phase: "verifying" as const, bytesDone: total, bytesVerified: step * 20e6 };
    progress = advanceProgress(progress, snapshot, progress.sampledTimeUs + 100_000);
  }
  expect(progress.snapshot.bytesVerified).toBe(2e9);
  expect(progress.rate).toBeGreaterThan(100e6);
  expect(progress.expectedEndTimeUs).toBeGreaterThan(progress.sampledTimeUs);
});

/** A copy at one speed into the page cache, which a device empties at another; snapshots every 100 ms, each looked at. */
function* cached(total: number, copyRate: number, deviceRate: number, changes: Partial<Snapshot> = {}) {
  let progress = startProgress(1e15);
  const all = { ...emptySnapshot, totalsValid: true, bytesTotal: total, filesTotal: 1, ...changes };
  let [bytesDone, bytesUnflushed, seconds, bytesVerified] = [0, 0, 0, 0];
  const step = (phase: Snapshot["phase"]): { progress: Progress; phase: Snapshot["phase"]; seconds: number } => {
    seconds += 0.1;
    const snapshot = { ...all, phase, bytesDone, bytesUnflushed, bytesVerified };
    progress = advanceProgress(progress, snapshot, progress.sampledTimeUs + 100_000);
    return { progress, phase, seconds };
  };
  while (bytesDone < total) {
    const more = Math.min(copyRate / 10, total - bytesDone);
    bytesDone += more;
    bytesUnflushed = Math.max(0, bytesUnflushed + more - deviceRate / 10);
    yield step("copying");
  }
  while (bytesUnflushed > 0 && deviceRate > 0) {
    bytesUnflushed = Math.max(0, bytesUnflushed - deviceRate / 10);
    yield step("flushing");
  }
  while (bytesVerified < all.bytesToVerify) {
    bytesVerified = Math.min(all.bytesToVerify, bytesVerified + deviceRate / 10);
    yield step("verifying");
  }
}

for (const [what, verify] of [
  ["a flush", 0],
  ["a flush and reading back", 1],
] as const) {
  test(`${what} behind a fast copy is foretold while copying, and the time left never is nonsense`, () => {
    const bytes = 4e9;
    const steps = [...cached(bytes, 800e6, 50e6, { bytesToVerify: bytes * verify })];
    const end = steps.at(-1)?.seconds ?? 0;
    expect(end).toBeGreaterThan(79);
    for (const { progress, seconds, phase } of steps) {
      const left = end - seconds;
      if (seconds < 1 || left < 1) continue;
      const told = (progress.expectedEndTimeUs - progress.sampledTimeUs) / 1e6;
      if (Math.abs(told - left) > 2 + left * 0.1) throw new Error(`${seconds} s, ${phase}: ${told} s are told, ${left} s are left`);
    }
    const flushing = steps.filter(({ phase }) => phase === "flushing");
    near(flushing.at(50)?.progress.rate ?? 0, 50e6, 0.1);
  });
}

test("while the kernel writes nothing back, what it holds is reckoned at the speed of the copy, and not at none", () => {
  const [last] = [...cached(4e9, 100e6, 0, {})].filter(({ seconds }) => seconds > 9.95 && seconds < 10.05);
  const told = ((last?.progress.expectedEndTimeUs ?? 0) - (last?.progress.sampledTimeUs ?? 0)) / 1e6;
  near(told, 30 + 10, 0.05);
});
