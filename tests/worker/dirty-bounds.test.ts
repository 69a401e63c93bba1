// The bound on what a job leaves in the page cache: none on a fast device, and one for large and small files together on a slow one.

import { expect, test } from "bun:test";
import { SharedDirtyBounds } from "../../src/worker/dirty-bounds.ts";
import { flushCopies } from "../../src/worker/flush.ts";
import { Command, Counter, Float, Shared, Word } from "../../src/worker/shared.ts";
import { inThread, laneMemory } from "./threads.ts";

const mebibyte = 1024 * 1024;
const fileBytes = 100 * 1024;

function lane(): { readonly shared: Shared; readonly bounds: SharedDirtyBounds } {
  const shared = new Shared({ buffer: Shared.allocate(), slots: 0, inFlight: 0, checkpoint: null, ranges: null });
  shared.words[Word.lanes] = 1;
  return { shared, bounds: new SharedDirtyBounds(shared) };
}

/** Copies small files; `sampleMs`: what a device takes for one that is measured. Returns how many were. */
function copySmall({ shared, bounds }: ReturnType<typeof lane>, bytes: number, sampleMs: number): number {
  let sampled = 0;
  for (let done = 0; done < bytes; done += fileBytes) {
    shared.floats[shared.counters(0) + Counter.bytesDone] = (shared.floats[shared.counters(0) + Counter.bytesDone] ?? 0) + fileBytes;
    if (!bounds.left(fileBytes)) continue;
    bounds.sampled(fileBytes, sampleMs);
    sampled++;
  }
  return sampled;
}

test("small files on a fast device: some of each 512 MiB are measured, and nothing is flushed or waited for", () => {
  const job = lane();
  expect(copySmall(job, 3 * mebibyte, 0.1)).toBe(0);
  expect(copySmall(job, 500 * mebibyte, 0.1)).toBe(32);
  expect(copySmall(job, 512 * mebibyte, 0.1)).toBe(32);
  expect([job.shared.words[Word.flushWanted], job.bounds.windowBytes]).toEqual([0, 0]);
});

test("a large file's device is measured again after what it writes in a second, and only the first time do the other lanes wait for that", () => {
  const { shared, bounds } = lane();
  const other = new SharedDirtyBounds(shared);
  const done = (bytes: number): void => {
    shared.floats[shared.counters(0) + Counter.bytesDone] = bytes;
  };
  done(15 * mebibyte);
  expect(bounds.isProbeDue()).toBe(false);
  done(16 * mebibyte);
  expect([bounds.isProbeDue(), other.isProbeDue(), other.windowBytes]).toEqual([true, false, 16 * mebibyte]);
  // 4 MiB in 4 ms.
  bounds.measured(4 * mebibyte, 4, false);
  expect(bounds.windowBytes).toBe(0);
  done(1015 * mebibyte);
  expect(bounds.isProbeDue()).toBe(false);
  done(1016 * mebibyte);
  expect([bounds.isProbeDue(), other.windowBytes]).toEqual([true, 0]);
  bounds.measured(4 * mebibyte, 400, false);
  expect(bounds.windowBytes).toBe(16 * mebibyte);
});

test("a lane that waited for its bound while the device was found fast does not bind it anew", () => {
  const { shared, bounds } = lane();
  const other = new SharedDirtyBounds(shared);
  shared.floats[shared.counters(0) + Counter.bytesDone] = 16 * mebibyte;
  expect(bounds.isProbeDue()).toBe(true);
  expect(other.windowBytes).toBeGreaterThan(0);
  bounds.measured(4 * mebibyte, 2, false);
  other.measured(5 * mebibyte, 3, true);
  expect([bounds.windowBytes, other.windowBytes]).toEqual([0, 0]);
});

test("small files that wait now and then, for a processor, are no slow device's", () => {
  const { shared, bounds } = lane();
  shared.floats[shared.counters(0) + Counter.bytesDone] = 8 * mebibyte;
  let file = 0;
  for (; !bounds.left(fileBytes); file++) expect(file).toBeLessThan(20);
  do bounds.sampled(fileBytes, file++ % 3 === 0 ? 0.2 : 40);
  while (bounds.left(fileBytes));
  expect(shared.floats[Float.deviceRate]).toBe(0);
});

test("small files on a slow device: half of the bound asks for a flush", () => {
  const job = lane();
  const { shared, bounds } = job;
  // Nobody flushes here, and a lane that is to pause does not wait for it.
  shared.words[Word.command] = Command.pause;
  expect(copySmall(job, 6 * mebibyte, 30)).toBe(3);
  expect([shared.words[Word.flushWanted], bounds.windowBytes > 0]).toEqual([0, true]);
  copySmall(job, 4 * mebibyte, 30);
  expect(shared.words[Word.flushWanted]).toBe(1);
  // Large files have what small ones leave of the bound.
  expect(bounds.windowBytes).toBe(8 * mebibyte);
});

test("a lane that is a whole bound ahead waits for the end of a flush", async () => {
  using lanes = laneMemory();
  const { shared, memory } = lanes;
  shared.floats[Float.deviceRate] = mebibyte;
  const task = inThread({ kind: "leave", lane: 0, memory, files: 300, bytes: fileBytes });
  while (Atomics.load(shared.words, Word.flushWanted) === 0) await Bun.sleep(1);
  await Bun.sleep(200);
  const written = Atomics.load(shared.words, Word.smallWritten);
  expect(written).toBeGreaterThanOrEqual(16 * 1024);
  expect(written).toBeLessThan(16 * 1024 + 128);
  new SharedDirtyBounds(shared).flushed(written, 16_000);
  await task;
  expect(shared.words[Word.smallWritten]).toBe(300 * 101);
});

test("a flush makes room, and tells how fast the device is", () => {
  const job = lane();
  const { shared, bounds } = job;
  shared.words[Word.command] = Command.pause;
  copySmall(job, 12 * mebibyte, 30);
  bounds.flushed(shared.words[Word.smallWritten] ?? 0, 2000);
  const rate = shared.floats[Float.deviceRate] ?? 0;
  expect(rate).toBeGreaterThan(3 * mebibyte);
  expect(rate).toBeLessThan(7 * mebibyte);
  expect(bounds.windowBytes).toBe(16 * mebibyte);
  copySmall(job, 12 * mebibyte, 30);
  // Fast after all.
  bounds.flushed(shared.words[Word.smallWritten] ?? 0, 20);
  expect(bounds.windowBytes).toBe(0);
});

test("what small files have left is counted beyond what a word holds", () => {
  const { shared, bounds } = lane();
  shared.floats[Float.deviceRate] = mebibyte;
  for (const word of [Word.smallWritten, Word.smallFlushed]) shared.words[word] = 0x7fff_ffff - 512;
  for (let file = 0; file < 20; file++) bounds.left(fileBytes);
  expect(shared.words[Word.smallWritten]).toBeLessThan(0);
  expect(bounds.windowBytes).toBe(16 * mebibyte - 20 * 101 * 1024);
});

test("a job whose copies lie nowhere yet does not wait for a flush of them", () => {
  const { shared, bounds } = lane();
  shared.floats[Float.deviceRate] = mebibyte;
  shared.words[Word.command] = Command.pause;
  for (let file = 0; file < 400; file++) bounds.left(fileBytes);
  expect(flushCopies(shared, "unasked")).toBe(false);
  expect([shared.words[Word.smallFlushed], shared.words[Word.flushes]]).toEqual([shared.words[Word.smallWritten] ?? 0, 1]);
});
