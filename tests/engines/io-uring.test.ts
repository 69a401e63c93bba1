// The ring engine by itself: each way to read and each kind of buffer copies right, and no ring is a value.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { stopped } from "../../src/engines/engine.ts";
import { IoUring } from "../../src/engines/io-uring.ts";
import { Errno } from "../../src/errno.ts";
import { libc, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { Ring } from "../../src/ffi/ring.ts";
import { SubmissionQueue } from "../../src/ffi/submission.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { opened } from "./copying.ts";

const bytes = randomBytes(9 * 1024 * 1024 + 4321);

function copyRange(engine: IoUring, directory: string, start: number, end: number, mayGoOn = (): boolean => true) {
  using arena = new Arena(16384);
  const sourceFd = opened(arena, `${directory}/source`, Open.O_RDONLY);
  const destinationFd = opened(arena, `${directory}/copy`, Open.O_WRONLY | Open.O_CREAT | Open.O_TRUNC);
  const copy = { sourceFd, destinationFd, offset: start, end, sourceEnded: false, failedSide: "source" as const, failedSyscall: "" };
  const result = engine.copy(copy, { advanced: mayGoOn });
  libc.close(sourceFd);
  libc.close(destinationFd);
  return { ...copy, result };
}

for (const buffers of ["plain", "registered"] as const) {
  for (const reads of ["inline", "async", "mixed", "adaptive"] as const) {
    test(`${buffers} buffers and ${reads} reads copy a range and what a file has of one beyond its end`, async () => {
      await using directory = await temporaryDirectory();
      writeFileSync(`${directory.path}/source`, bytes);
      using engine = new IoUring({ buffers, reads, blockBytes: 64 * 1024, depth: 5 });
      const part = copyRange(engine, directory.path, 70_001, 5_000_003);
      expect([part.result, part.offset, part.sourceEnded]).toEqual([0, 5_000_003, false]);
      expect(readFileSync(`${directory.path}/copy`).subarray(70_001).equals(bytes.subarray(70_001, 5_000_003))).toBe(true);
      const all = copyRange(engine, directory.path, 0, 2 * bytes.length);
      expect([all.result, all.offset, all.sourceEnded]).toEqual([0, bytes.length, true]);
      expect(readFileSync(`${directory.path}/copy`).equals(bytes)).toBe(true);
    });
  }
}

test("registered buffers that read and write in part go on where they stopped", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, bytes);
  const { prepareReadFixed, prepareWriteFixed } = SubmissionQueue.prototype;
  let count = 0;
  SubmissionQueue.prototype.prepareReadFixed = function (fd, address, length, ...rest) {
    return prepareReadFixed.call(this, fd, address, Math.min(length, 1 + ((++count * 7919) % 300_000)), ...rest);
  };
  SubmissionQueue.prototype.prepareWriteFixed = function (fd, address, length, ...rest) {
    return prepareWriteFixed.call(this, fd, address, Math.min(length, 1 + ((++count * 6007) % 200_000)), ...rest);
  };
  using engine = new IoUring({ buffers: "registered" });
  const outcome = copyRange(engine, directory.path, 0, bytes.length);
  Object.assign(SubmissionQueue.prototype, { prepareReadFixed, prepareWriteFixed });
  expect(outcome.result).toBe(0);
  expect(readFileSync(`${directory.path}/copy`).equals(bytes)).toBe(true);
});

test("after a cancel nothing is in flight, and the engine serves the next file", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, bytes);
  using engine = new IoUring();
  const cancelled = copyRange(engine, directory.path, 0, bytes.length, () => false);
  expect([cancelled.result, cancelled.offset]).toEqual([stopped, 512 * 1024]);
  expect(copyRange(engine, directory.path, 0, bytes.length).result).toBe(0);
  expect(readFileSync(`${directory.path}/copy`).equals(bytes)).toBe(true);
});

test("a ring that cannot be made is unsupported, asked for once, and says why", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, bytes);
  const { create } = Ring;
  let asked = 0;
  Ring.create = () => {
    asked += 1;
    return { available: false, reason: "memory", errno: Errno.ENOMEM, message: "no memory for a ring", remedy: "" };
  };
  using engine = new IoUring();
  const outcome = copyRange(engine, directory.path, 0, bytes.length);
  copyRange(engine, directory.path, 0, bytes.length);
  Ring.create = create;
  expect([outcome.result, outcome.offset, asked]).toEqual([-Errno.ENOMEM, 0, 1]);
  expect(engine.isUnsupported(Errno.ENOMEM)).toBe(true);
  expect(engine.unavailable).toBe("no memory for a ring");
});
