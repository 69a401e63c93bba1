// What of a checkpoint file counts: after a kill all of it, after a power cut what a mark covers, of a damaged one nothing that harms.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { closeSync, fstatSync, ftruncateSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { layout } from "../../src/ffi/layout.ts";
import { At } from "../../src/ffi/libc.ts";
import { Arena, viewOf } from "../../src/ffi/memory.ts";
import { Stat } from "../../src/ffi/stat.ts";
import { type CheckpointMemory, openCheckpoint } from "../../src/worker/checkpoint-file.ts";
import { HeadWord, logStart, markStarts, maxLogPages, maxPartials, pageBytes, recordsPerPage } from "../../src/worker/checkpoint-layout.ts";
import { CheckpointLog, copyKeyOf, removeKey, sourceKeyOf } from "../../src/worker/checkpoint-log.ts";
import { CheckpointMarker } from "../../src/worker/checkpoint-marker.ts";
import { endFlushes, flushErrorOf } from "../../src/worker/flush.ts";
import { KnownCopies, KnownCopiesBuilder } from "../../src/worker/known-copies.ts";
import { linkKey, readLinkPaths } from "../../src/worker/link-paths.ts";
import { PartialFiles, PartialSlot } from "../../src/worker/partial-files.ts";
import { maxCheckpointBytes } from "../../src/worker/protocol.ts";
import { Float, maxLanes, Shared, Word } from "../../src/worker/shared.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

let directory: TemporaryDirectory;
let fd = -1;

beforeEach(async () => {
  directory = await temporaryDirectory();
  fd = openSync(`${directory.path}/checkpoint`, "w+");
});
afterEach(async () => {
  closeSync(fd);
  await directory[Symbol.asyncDispose]();
});

function open(
  how: "first" | "killed" | "rebooted",
  unmarked: "believed" | "in doubt" = "believed",
): { checkpoint: CheckpointMemory; shared: Shared } {
  const checkpoint = openCheckpoint({ fd, isResumed: how !== "first", isSameBoot: how !== "rebooted", startedTimeUs: 0 }, { unmarked });
  if (checkpoint === null) throw new Error("no checkpoint");
  const shared = new Shared({ ...memory, buffer: Shared.allocate(), checkpoint });
  shared.words[Word.checkpointPages] = checkpoint.pages;
  return { checkpoint, shared };
}

/** Whether a copy is among those that may be lost. */
function isDoubtful({ doubtful, ...checkpoint }: CheckpointMemory, number: number): string {
  return isKnown({ ...checkpoint, doubtful: null, known: doubtful }, number);
}

const memory = { slots: 0, inFlight: 0, ranges: null };
const arena = new Arena(4096);

/** A file's state that is told from others by a number. */
function state(number: number): Stat {
  const bytes = new Uint8Array(layout.statx.size);
  new DataView(bytes.buffer).setUint32(layout.statx.stx_ino, number, true);
  return Stat.owned(bytes);
}

function isKnown({ known }: CheckpointMemory, number: number): string {
  if (known === null) return "nothing is known";
  return new KnownCopies(known).find(...copyKeyOf(state(number)), ...sourceKeyOf(state(number + 1_000_000)));
}

function headOf({ head }: CheckpointMemory): Uint32Array {
  return new Uint32Array(viewOf(head, pageBytes));
}

function note(log: CheckpointLog, from: number, count: number): void {
  for (let number = from; number < from + count; number++) log.done(state(number + 1_000_000), state(number));
}

test("after a kill every record is known, those of full pages and those of tails, of every lane", () => {
  const first = open("first");
  expect(first.checkpoint.known).toBeNull();
  for (const lane of [0, 1, 31]) note(new CheckpointLog(first.shared, lane, first.checkpoint), 1 + lane * 10_000, 2 * recordsPerPage + 7);
  const second = open("killed");
  for (const lane of [0, 1, 31]) {
    for (const number of [1, 2, recordsPerPage, 2 * recordsPerPage + 7])
      expect(isKnown(second.checkpoint, lane * 10_000 + number)).toBe("same");
    expect(isKnown(second.checkpoint, lane * 10_000 + 2 * recordsPerPage + 8)).toBe("none");
  }
  // Another kill at once loses nothing.
  expect(isKnown(open("killed").checkpoint, 31 * 10_000 + 2 * recordsPerPage + 7)).toBe("same");
});

test("a copy of another state of the source is told from a copy of this one", () => {
  const first = open("first");
  new CheckpointLog(first.shared, 0, first.checkpoint).done(state(5), state(1));
  const { known } = open("killed").checkpoint;
  if (known === null) throw new Error("nothing is known");
  const copies = new KnownCopies(known);
  expect(copies.find(...copyKeyOf(state(1)), ...sourceKeyOf(state(5)))).toBe("same");
  expect(copies.find(...copyKeyOf(state(1)), ...sourceKeyOf(state(6)))).toBe("other");
  expect(copies.find(...copyKeyOf(state(2)), ...sourceKeyOf(state(5)))).toBe("none");
});

test("after a power cut what came after the latest mark is not known", () => {
  const first = open("first");
  const log = new CheckpointLog(first.shared, 0, first.checkpoint);
  const marker = new CheckpointMarker(first.shared);
  note(log, 1, recordsPerPage + 10);
  expect(marker.mark("log")).toBe(true);
  note(log, 1000, 5);
  const { checkpoint } = open("rebooted");
  expect(isKnown(checkpoint, 1)).toBe("same");
  expect(isKnown(checkpoint, recordsPerPage + 10)).toBe("same");
  expect(isKnown(checkpoint, 1000)).toBe("none");
  // What was not durable does not become so by the next mark.
  const shared = new Shared({ ...memory, buffer: Shared.allocate(), checkpoint });
  shared.words[Word.checkpointPages] = checkpoint.pages;
  expect(new CheckpointMarker(shared).mark("log")).toBe(true);
  const third = open("rebooted").checkpoint;
  expect([isKnown(third, 1), isKnown(third, recordsPerPage + 10), isKnown(third, 1000)]).toEqual(["same", "same", "none"]);
});

test("a tail that went to the log after the mark is not taken for the one that the mark covers", () => {
  const first = open("first");
  const log = new CheckpointLog(first.shared, 0, first.checkpoint);
  note(log, 1, 10);
  new CheckpointMarker(first.shared).mark("log");
  note(log, 1000, recordsPerPage);
  const { checkpoint } = open("rebooted");
  for (const number of [1000, 1000 + recordsPerPage - 1]) expect(isKnown(checkpoint, number)).toBe("none");
});

test("what a power cut took the truth of does not come back with a later kill", () => {
  const first = open("first");
  const log = new CheckpointLog(first.shared, 0, first.checkpoint);
  new CheckpointMarker(first.shared).mark("log");
  note(log, 1, 3 * recordsPerPage);
  for (const how of ["rebooted", "killed"] as const) {
    const { checkpoint } = open(how);
    expect([1, 2 * recordsPerPage].map((number) => isKnown(checkpoint, number))).toEqual(["none", "none"]);
    // What it does not name may be the job's all the same, for good.
    expect(checkpoint.isLogWhole).toBe(false);
  }
});

test("what a later worker notes is not taken for what the mark covers of the tail that it took over", () => {
  const first = open("first");
  note(new CheckpointLog(first.shared, 0, first.checkpoint), 1, 10);
  new CheckpointMarker(first.shared).mark("log");
  const second = open("killed");
  note(new CheckpointLog(second.shared, 0, second.checkpoint), 1000, 10);
  const { checkpoint } = open("rebooted");
  for (const number of [1000, 1009]) expect(isKnown(checkpoint, number)).toBe("none");
});

test("of two marks a torn one is passed over, and without any nothing counts", () => {
  const first = open("first");
  const log = new CheckpointLog(first.shared, 0, first.checkpoint);
  const marker = new CheckpointMarker(first.shared);
  note(log, 1, 3);
  marker.mark("log");
  note(log, 10, 3);
  marker.mark("log");
  const words = new Uint32Array(viewOf(first.checkpoint.head, logStart));
  const latest = (words[markStarts[0] / 4] ?? 0) > (words[markStarts[1] / 4] ?? 0) ? markStarts[0] : markStarts[1];
  const saved = readFileSync(`${directory.path}/checkpoint`);
  words[latest / 4 + 1] = 77;
  const torn = open("rebooted").checkpoint;
  expect([isKnown(torn, 1), isKnown(torn, 10)]).toEqual(["same", "none"]);
  writeSync(fd, saved, 0, saved.length, 0);
  for (const start of markStarts) words[start / 4 + 1] = 77;
  expect(isKnown(open("rebooted").checkpoint, 1)).toBe("none");
});

test("copies on a device that cannot be flushed make no mark, and the error is told to the job", () => {
  const { shared } = open("first");
  const marker = new CheckpointMarker(shared);
  // No device was noted: nothing says where the copies lie.
  expect(marker.mark("copies")).toBe(false);
  endFlushes(shared);
  expect(marker.mark("log")).toBe(false);
  expect(marker.mark("log", { isLast: true })).toBe(true);
});

test("after a failed flush no mark says that copies are durable, and the error is there for the next worker, also after a power cut", () => {
  const { shared, checkpoint } = open("first");
  shared.floats[Float.syncDevices + 1] = openSync(directory.path, "r");
  shared.words[Word.syncDevices] = 1;
  const marker = new CheckpointMarker(shared);
  expect([marker.mark("copies"), flushErrorOf(shared)]).toEqual([true, 0]);
  const words = headOf(checkpoint);
  words[HeadWord.flushError] = 28;
  expect([marker.mark("copies"), marker.mark("log")]).toEqual([false, true]);
  for (const how of ["killed", "rebooted"] as const) expect(flushErrorOf(open(how).shared)).toBe(28);
  words[HeadWord.flushError] = 0xffff_ffff;
  expect(flushErrorOf(open("killed").shared)).toBe(5);
  closeSync(shared.floats[Float.syncDevices + 1] ?? -1);
});

test("of a job that relies on its flush, what the latest mark does not cover is in doubt, and notes of other things are not", () => {
  const first = open("first");
  const log = new CheckpointLog(first.shared, 0, first.checkpoint);
  note(log, 1, recordsPerPage + 3);
  new CheckpointMarker(first.shared).mark("log");
  note(log, 10_000, recordsPerPage);
  log.willRemove(5);
  const noted = ({ known }: CheckpointMemory): string => (known === null ? "" : new KnownCopies(known).find(...removeKey(5), 1, 0));
  for (const { checkpoint } of [open("killed", "in doubt"), open("killed", "in doubt")]) {
    expect([isKnown(checkpoint, 1), isDoubtful(checkpoint, 1)]).toEqual(["same", "none"]);
    expect([isKnown(checkpoint, 10_200), isDoubtful(checkpoint, 10_200)]).toEqual(["none", "same"]);
    expect([noted(checkpoint), checkpoint.isLogWhole]).toEqual(["same", true]);
  }
  // What a later worker looked at is noted anew, and stays known when a mark covers that.
  const third = open("killed", "in doubt");
  note(new CheckpointLog(third.shared, 3, third.checkpoint), 10_200, 1);
  new CheckpointMarker(third.shared).mark("log");
  const { checkpoint } = open("killed", "in doubt");
  expect([isKnown(checkpoint, 10_200), isKnown(checkpoint, 10_201), isDoubtful(checkpoint, 10_201)]).toEqual(["same", "none", "same"]);
  // A power cut leaves what the marks cover, and the doubt in it.
  const rebooted = open("rebooted", "in doubt").checkpoint;
  expect([isKnown(rebooted, 1), isKnown(rebooted, 10_201), isDoubtful(rebooted, 10_201)]).toEqual(["same", "none", "same"]);
});

test("a job that relies on its flush doubts all that no mark covers, to the record, also when it removes its sources", () => {
  const first = open("first");
  const log = new CheckpointLog(first.shared, 0, first.checkpoint);
  note(log, 1, 10);
  new CheckpointMarker(first.shared).mark("log");
  note(log, 11, 2);
  const { checkpoint } = open("killed", "in doubt");
  const found = [10, 11, 12].map((number) => [isKnown(checkpoint, number), isDoubtful(checkpoint, number)]);
  expect(found).toEqual([
    ["same", "none"],
    ["none", "same"],
    ["none", "same"],
  ]);
  const shared = new Shared({ ...memory, buffer: Shared.allocate(), checkpoint });
  shared.words[Word.checkpointPages] = checkpoint.pages;
  const later = new CheckpointLog(shared, 1, checkpoint);
  note(later, 11, 1);
  later.isRemoving = true;
  new CheckpointMarker(shared).mark("log", { isLast: true });
  note(later, 13, 1);
  const removing = open("killed", "in doubt").checkpoint;
  expect([11, 12, 13].map((number) => isKnown(removing, number))).toEqual(["same", "none", "none"]);
  expect([removing.wasRemoving, isDoubtful(removing, 13)]).toEqual([true, "same"]);
});

test("paths of first copies are found again, and damaged ones are passed over", () => {
  const first = open("first");
  const log = new CheckpointLog(first.shared, 0, first.checkpoint);
  for (let number = 1; number <= 500; number++) log.linked(state(number), `/destination/${"x".repeat(number % 90)}${number}`);
  log.linked(state(501), `/destination/${"long".repeat(1000)}`);
  const { checkpoint } = open("killed");
  const paths = readLinkPaths(checkpoint);
  expect(paths.size).toBe(500);
  for (const number of [1, 250, 500]) {
    expect(paths.get(linkKey(...sourceKeyOf(state(number))))).toBe(`/destination/${"x".repeat(number % 90)}${number}`);
  }
  const noise = crypto.getRandomValues(new Uint8Array(pageBytes - 16));
  for (let page = 0; page < checkpoint.pages; page++) writeSync(fd, noise, 0, noise.length, logStart + page * pageBytes + 16);
  expect(readLinkPaths(checkpoint).size).toBeLessThan(600);
});

test("a partial file goes on at what was written, after a power cut at what is on the device, and from a torn slot at nothing", () => {
  const { checkpoint, shared } = open("first");
  const partials = new PartialFiles(shared, checkpoint);
  const place = { name: ".copyd-x-1", directory: "/destination", directoryInodeLow: 1, directoryInodeHigh: 0 };
  const slot = partials.take(state(1), state(2), place);
  if (slot === null) throw new Error("no slot");
  slot.written = 100.5 * 1024 * 1024;
  expect(slot.usable("written")).toBe(100 * 1024 * 1024);
  expect(slot.usable("durable")).toBe(0);
  slot.durable = 70 * 1024 * 1024;
  expect(slot.usable("durable")).toBe(70 * 1024 * 1024);
  expect(slot.read()).toEqual(place);
  slot.fd = 7;
  // The same worker does not take it for another's.
  expect(partials.claim(state(1))).toBeNull();
  const next = open("killed");
  const later = new PartialFiles(next.shared, next.checkpoint);
  expect(later.claim(state(3))).toBeNull();
  const claimed = later.claim(state(1));
  // A descriptor of the former worker's: by its number this one's thread that flushes would flush another file, and call this one durable.
  expect([claimed?.isFile(state(2)), claimed?.fd]).toEqual([true, -1]);
  expect(later.claim(state(1))).toBeNull();
  const words = new Uint32Array(viewOf(next.checkpoint.head, logStart));
  const at = new PartialSlot(next.checkpoint.head, 0);
  const word = words.indexOf(words[(logStart - maxPartials * pageBytes) / 4 + 4] ?? 0, (logStart - maxPartials * pageBytes) / 4);
  words[word] = 12345;
  expect([at.usable("written"), at.usable("durable")]).toEqual([0, 0]);
});

test("of a partial file whose flush failed nothing is believed, by no later worker either, until it is begun anew", () => {
  const { checkpoint, shared } = open("first");
  const place = { name: ".copyd-x-1", directory: "/destination", directoryInodeLow: 1, directoryInodeHigh: 0 };
  const slot = new PartialFiles(shared, checkpoint).take(state(1), state(2), place);
  if (slot === null) throw new Error("no slot");
  slot.written = 100 * 1024 * 1024;
  slot.durable = 70 * 1024 * 1024;
  slot.syncError = 5;
  for (let run = 0; run < 2; run++) {
    const next = open("killed");
    const claimed = new PartialFiles(next.shared, next.checkpoint).claim(state(1));
    expect([claimed?.usable("written"), claimed?.usable("durable")]).toEqual([0, 0]);
  }
});

test("all slots in use, or a path that is too long: the file is copied without one", () => {
  const { checkpoint, shared } = open("first");
  const partials = new PartialFiles(shared, checkpoint);
  const place = { name: "x", directory: "/destination", directoryInodeLow: 1, directoryInodeHigh: 0 };
  expect(partials.take(state(1), state(2), { ...place, directory: "/".padEnd(4000, "x") })).toBeNull();
  for (let index = 0; index < maxPartials; index++) expect(partials.take(state(index), state(index), place)).not.toBeNull();
  expect(partials.take(state(1), state(2), place)).toBeNull();
});

test("a file that is short, or not a checkpoint, is begun anew", () => {
  for (const content of ["", "x", "x".repeat(logStart + 5000)]) {
    writeFileSync(`${directory.path}/checkpoint`, content);
    const { checkpoint } = open("killed");
    expect([checkpoint.wasRemoving, isKnown(checkpoint, 1)]).toEqual([false, "none"]);
    ftruncateSync(fd, 0);
  }
  // What another version has noted may mean anything.
  const other = open("first");
  note(new CheckpointLog(other.shared, 0, other.checkpoint), 1, 3);
  const words = headOf(other.checkpoint);
  words[HeadWord.version] = (words[HeadWord.version] ?? 0) + 1;
  words[HeadWord.removing] = 1;
  const { checkpoint } = open("killed");
  expect([checkpoint.wasRemoving, checkpoint.isLogWhole, isKnown(checkpoint, 1)]).toEqual([false, false, "none"]);
  ftruncateSync(fd, 0);
  expect(openCheckpoint({ fd: -1, isResumed: false, isSameBoot: true, startedTimeUs: 0 }, { unmarked: "believed" })).toBeNull();
  const proofOnly = openCheckpoint({ fd: -1, isResumed: true, isSameBoot: true, startedTimeUs: 0 }, { unmarked: "believed" });
  expect(proofOnly === null ? "" : isKnown(proofOnly, 1)).toBe("none");
  expect(fstatSync(fd).size).toBe(0);
});

test("a worker waits for one of another service that still has the checkpoint, and gives up in the end", () => {
  open("first");
  const other = openSync(`${directory.path}/checkpoint`, "r+");
  const start = { fd: other, isResumed: true, isSameBoot: true, startedTimeUs: 0 };
  expect(() => openCheckpoint(start, { unmarked: "believed", waitMs: 60 })).toThrow("a former worker of this job has not ended");
  closeSync(other);
  // Its own service's next worker is not kept waiting.
  expect(open("killed").checkpoint.run).toBe(2);
});

test("a table of known copies takes what it was made for, and forgets the rest", () => {
  const builder = new KnownCopiesBuilder(100_000);
  for (let number = 0; number < 100_000; number++) builder.add(Math.imul(number, 0x9e3779b1) >>> 0, number, number, 0);
  const known = new KnownCopies(builder.table);
  for (let number = 0; number < 100_000; number += 777)
    expect(known.find(Math.imul(number, 0x9e3779b1) >>> 0, number, number, 0)).toBe("same");
  const small = new KnownCopiesBuilder(1);
  for (let number = 0; number < 5000; number++) small.add(number * 2, number, 0, 0);
  expect(new KnownCopies(small.table).find(4999 * 2, 4999, 0, 0)).toBe("none");
});

test("the time of birth is asked for, and told from ctime where there is none", () => {
  const stat = new Stat(arena.allocate(layout.statx.size)).withBirth();
  expect(stat.ofName(At.AT_FDCWD, arena.cstring(directory.path))).toBe(0);
  expect(Math.abs(stat.birthTimeUs - Date.now() * 1000)).toBeLessThan(60e6);
});

test("one that is as large as it gets is within what the service lets a worker write", () => {
  // Each lane may write a page at once where it found room for one.
  expect(logStart + (maxLogPages + maxLanes) * pageBytes).toBeLessThan(maxCheckpointBytes);
});
