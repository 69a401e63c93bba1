// A ring does what it was told, loses no completion, and leaves nothing in flight behind.

import { expect } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { type ByteString, byteStringFromText } from "../../src/bytes.ts";
import { Errno } from "../../src/errno.ts";
import { constants } from "../../src/ffi/layout.ts";
import { At, libc, Mode, Open } from "../../src/ffi/libc.ts";
import { Arena, NativeMemory } from "../../src/ffi/memory.ts";
import { Ring, type RingOptions } from "../../src/ffi/ring.ts";
import { Stat } from "../../src/ffi/stat.ts";
import { Submit } from "../../src/ffi/submission.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const setup = constants.setup;
const block = 64 * 1024;

function whyNoRing(): string | null {
  const ring = Ring.create(4);
  if (!ring.available) return ring.message;
  ring[Symbol.dispose]();
  return null;
}
const noRing = whyNoRing();

function makeRing(entries: number, options: RingOptions = {}): Ring {
  const ring = Ring.create(entries, options);
  if (!ring.available) throw new Error(ring.message);
  return ring;
}

function openFd(arena: Arena, path: string, flags: number): number {
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(byteStringFromText(path)), flags | Open.O_CLOEXEC, 0o600);
  if (fd < 0) throw new Error(`openat ${path}: ${fd}`);
  return fd;
}

function pipeEnds(arena: Arena): [readEnd: number, writeEnd: number] {
  const pipe = arena.allocate(8);
  expect(libc.pipe2(pipe, Open.O_CLOEXEC)).toBe(0);
  const [readEnd = -1, writeEnd = -1] = new Int32Array(arena.memory.u32.buffer, pipe - arena.memory.address, 2);
  return [readEnd, writeEnd];
}

/** Bytes that differ everywhere. */
function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let index = 0; index + 4 <= length; index += 4) bytes.writeUInt32LE(Math.imul(index + seed, 2654435761) >>> 0, index);
  return bytes;
}

/** Waits for one completion and returns its result. */
function one(ring: Ring): number {
  expect(ring.submitAndWait(1)).toBe(0);
  expect(ring.next()).toBe(true);
  return ring.result;
}

const flagSets: readonly [string, readonly number[] | undefined][] = [
  ["the best flags", undefined],
  ["cooperative task work", [setup.IORING_SETUP_SUBMIT_ALL | setup.IORING_SETUP_COOP_TASKRUN | setup.IORING_SETUP_TASKRUN_FLAG]],
  ["no flags", [0]],
];

for (const [name, setupFlags] of flagSets) {
  const options: RingOptions = setupFlags === undefined ? {} : { setupFlags };
  testUnless(noRing, `a file is copied by reads and writes in flight together (${name})`, async () => {
    await using directory = await temporaryDirectory();
    const content = pattern(9 * block + 1234, 5);
    writeFileSync(`${directory.path}/source`, content);
    using arena = new Arena(4096);
    using buffers = new NativeMemory(4 * block);
    using ring = makeRing(8, options);
    const source = openFd(arena, `${directory.path}/source`, Open.O_RDONLY);
    const destination = openFd(arena, `${directory.path}/destination`, Open.O_RDWR | Open.O_CREAT);
    for (let round = 0; round * 4 * block < content.length; round++) {
      for (let lane = 0; lane < 4; lane++) {
        const offset = (round * 4 + lane) * block;
        expect(ring.prepareRead(source, buffers.address + lane * block, block, offset, lane)).toBe(0);
      }
      const lengths = [0, 0, 0, 0];
      for (let taken = 0; taken < 4; taken++) {
        expect(ring.submitAndWait(1)).toBe(0);
        expect(ring.next()).toBe(true);
        lengths[ring.tag] = ring.result;
      }
      for (const [lane, length] of lengths.entries()) {
        const offset = (round * 4 + lane) * block;
        if (length > 0) ring.prepareWrite(destination, buffers.address + lane * block, length, offset, 0xffff_fff0 + lane);
      }
      const writes = ring.outstanding;
      expect(ring.submitAndWait(writes)).toBe(0);
      for (let taken = 0; taken < writes; taken++) {
        expect(ring.next()).toBe(true);
        expect(ring.result).toBe(lengths[ring.tag - 0xffff_fff0] ?? -1);
      }
    }
    expect(ring.next()).toBe(false);
    expect(ring.outstanding).toBe(0);
    libc.close(source);
    libc.close(destination);
    expect(readFileSync(`${directory.path}/destination`).equals(content)).toBe(true);
  });
}

testUnless(noRing, "the first set of flags that the kernel knows is taken", () => {
  using ring = makeRing(4, { setupFlags: [1 << 31, setup.IORING_SETUP_SUBMIT_ALL] });
  expect(ring.setupFlags & setup.IORING_SETUP_SUBMIT_ALL).not.toBe(0);
  expect(ring.setupFlags & setup.IORING_SETUP_DEFER_TASKRUN).toBe(0);
});

testUnless(noRing, "errors come back as -errno in the completion", () => {
  using memory = new NativeMemory(4096);
  using ring = makeRing(4);
  ring.prepareRead(9999, memory.address, 100, 0, 1);
  expect(one(ring)).toBe(-Errno.EBADF);
  ring.prepareOpenat(At.AT_FDCWD, memory.address, Open.O_RDONLY, 0, 2);
  expect(one(ring)).toBe(-Errno.ENOENT);
  ring.prepareRead(0, 8, 100, 0, 3, 0, 0x8000_0000);
  expect(one(ring)).toBeLessThan(0);
});

testUnless(noRing, "every operation on files does what its system call does", async () => {
  await using directory = await temporaryDirectory();
  using arena = new Arena(64 * 1024);
  using ring = makeRing(8);
  const name = (text: string): number => arena.cstring(text as ByteString);
  const dir = openFd(arena, directory.path, Open.O_RDONLY | Open.O_DIRECTORY);
  const stat = new Stat(arena.allocate(256));

  ring.prepareNop(7);
  expect(one(ring)).toBe(0);
  expect(ring.tag).toBe(7);
  ring.prepareOpenat(dir, name("file"), Open.O_RDWR | Open.O_CREAT | Open.O_EXCL | Open.O_CLOEXEC, 0o640, 1);
  const fd = one(ring);
  expect(fd).toBeGreaterThan(2);
  // Beyond 4 GiB, where an offset has two words.
  ring.prepareFallocate(fd, 0, 0x1_4000_0000, 8192, 1);
  expect(one(ring)).toBe(0);
  ring.prepareWrite(fd, name("hello"), 5, 0x1_4000_0000, 1);
  expect(one(ring)).toBe(5);
  ring.prepareStatx(dir, name("file"), At.AT_SYMLINK_NOFOLLOW, stat.address, 1);
  expect(one(ring)).toBe(0);
  expect(stat.size).toBe(0x1_4000_2000);
  expect(stat.blocks * 512).toBeLessThan(1024 * 1024);
  ring.prepareFadvise(fd, 0, 4096, 3, 1);
  expect(one(ring)).toBe(0);
  ring.prepareSyncFileRange(fd, 0x1_4000_0000, 8192, 2, 1);
  expect(one(ring)).toBe(0);
  ring.prepareFsync(fd, "all", 1);
  expect(one(ring)).toBe(0);
  ring.prepareFsync(fd, "data", 1);
  expect(one(ring)).toBe(0);
  ring.prepareMkdirat(dir, name("sub"), 0o750, 1);
  expect(one(ring)).toBe(0);
  ring.prepareSymlinkat(name("target"), dir, name("symlink"), 1);
  expect(one(ring)).toBe(0);
  ring.prepareLinkat(dir, name("file"), dir, name("sub/link"), 0, 1);
  expect(one(ring)).toBe(0);
  ring.prepareRenameat(dir, name("file"), dir, name("sub/link"), 1, 1);
  expect(one(ring)).toBe(-Errno.EEXIST);
  ring.prepareRenameat(dir, name("file"), dir, name("renamed"), 1, 1);
  expect(one(ring)).toBe(0);
  ring.prepareUnlinkat(dir, name("renamed"), 0, 1);
  expect(one(ring)).toBe(0);
  ring.prepareStatx(dir, name("symlink"), At.AT_SYMLINK_NOFOLLOW, stat.address, 1);
  expect(one(ring)).toBe(0);
  expect(stat.type).toBe(Mode.S_IFLNK);
  const how = arena.allocate(24);
  arena.memory.bytes.fill(0, how - arena.memory.address, how - arena.memory.address + 24);
  arena.memory.u32[(how - arena.memory.address) / 4 + 4] = 8 | 4;
  ring.prepareOpenat2(dir, name("../escape"), how, 1);
  expect(one(ring)).toBe(-Errno.EXDEV);
  ring.prepareOpenat2(dir, name("sub/link"), how, 1);
  const second = one(ring);
  expect(second).toBeGreaterThan(2);
  for (const open of [fd, second]) {
    ring.prepareClose(open, 1);
    expect(one(ring)).toBe(0);
  }
  expect(readdirSync(directory.path).sort()).toEqual(["sub", "symlink"]);
  libc.close(dir);
});

testUnless(noRing, "splice moves a file through a pipe", async () => {
  await using directory = await temporaryDirectory();
  const content = pattern(10_000, 3);
  writeFileSync(`${directory.path}/source`, content);
  using arena = new Arena(4096);
  using ring = makeRing(4);
  const source = openFd(arena, `${directory.path}/source`, Open.O_RDONLY);
  const destination = openFd(arena, `${directory.path}/destination`, Open.O_RDWR | Open.O_CREAT);
  const [readEnd, writeEnd] = pipeEnds(arena);
  ring.prepareSplice(source, 1000, writeEnd, -1, 5000, 0, 1);
  expect(one(ring)).toBe(5000);
  ring.prepareSplice(readEnd, -1, destination, 7, 5000, 0, 1);
  expect(one(ring)).toBe(5000);
  for (const fd of [source, destination, readEnd, writeEnd]) libc.close(fd);
  expect(readFileSync(`${directory.path}/destination`).subarray(7).equals(content.subarray(1000, 6000))).toBe(true);
});

testUnless(noRing, "registered buffers and descriptors serve reads and writes", async () => {
  await using directory = await temporaryDirectory();
  const content = pattern(2 * block, 9);
  writeFileSync(`${directory.path}/source`, content);
  using arena = new Arena(4096);
  using buffers = new NativeMemory(2 * block);
  using ring = makeRing(4);
  expect(ring.registerBuffers(buffers.address, block, 2)).toBe(0);
  const fds = [
    openFd(arena, `${directory.path}/source`, Open.O_RDONLY),
    openFd(arena, `${directory.path}/destination`, Open.O_RDWR | Open.O_CREAT),
  ];
  expect(ring.registerFiles(fds)).toBe(0);
  for (let index = 0; index < 2; index++) {
    const address = buffers.address + index * block;
    expect(ring.reserve(2)).toBe(0);
    ring.prepareReadFixed(0, address, block, index * block, index, 1, Submit.fixedFile | Submit.link);
    ring.prepareWriteFixed(1, address, block, index * block, index, 2, Submit.fixedFile);
  }
  expect(ring.submitAndWait(4)).toBe(0);
  for (let taken = 0; taken < 4; taken++) {
    expect(ring.next()).toBe(true);
    expect(ring.result).toBe(block);
  }
  expect(ring.unregisterFiles()).toBe(0);
  expect(ring.unregisterBuffers()).toBe(0);
  for (const fd of fds) libc.close(fd);
  expect(readFileSync(`${directory.path}/destination`).equals(content)).toBe(true);
});

testUnless(noRing, "a short read cancels the write linked to it", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, "short");
  using arena = new Arena(4096);
  using buffer = new NativeMemory(4096);
  using ring = makeRing(4);
  const source = openFd(arena, `${directory.path}/source`, Open.O_RDONLY);
  ring.reserve(2);
  ring.prepareRead(source, buffer.address, 4096, 0, 1, Submit.link);
  ring.prepareWrite(source, buffer.address, 4096, 0, 2);
  expect(ring.submitAndWait(2)).toBe(0);
  const results = new Map<number, number>();
  while (ring.next()) results.set(ring.tag, ring.result);
  expect(results).toEqual(
    new Map([
      [1, 5],
      [2, -Errno.ECANCELED],
    ]),
  );
  libc.close(source);
});

testUnless(noRing, "a full submission queue submits itself, and a full completion queue says EBUSY and loses nothing", () => {
  using ring = makeRing(4, { completionEntries: 16 });
  for (let tag = 0; tag < 16; tag++) expect(ring.prepareNop(tag)).toBe(0);
  expect(ring.prepareNop(16)).toBe(-Errno.EBUSY);
  expect(ring.reserve(1)).toBe(-Errno.EBUSY);
  expect(ring.submit()).toBe(0);
  const tags: number[] = [];
  while (ring.next()) tags.push(ring.tag);
  expect(tags).toEqual(Array.from({ length: 16 }, (_, tag) => tag));
  expect(ring.prepareNop(1)).toBe(0);
});

testUnless(noRing, "a chain does not break where the submission queue ends", () => {
  using ring = makeRing(4);
  for (let tag = 0; tag < 3; tag++) ring.prepareNop(tag);
  expect(ring.reserve(2)).toBe(0);
  expect(ring.unsubmitted).toBe(0);
  ring.prepareNop(3, Submit.link);
  ring.prepareNop(4);
  expect(() => {
    for (let tag = 0; tag < 4; tag++) ring.prepareNop(tag, Submit.link);
  }).toThrow("reserve");
});

testUnless(noRing, "waiting ends with ETIME when the time is over, and what is in flight comes later", () => {
  using arena = new Arena(4096);
  const [readEnd, writeEnd] = pipeEnds(arena);
  const buffer = arena.allocate(64);
  using ring = makeRing(4);
  ring.prepareRead(readEnd, buffer, 64, -1, 42);
  const start = performance.now();
  expect(ring.submitAndWait(1, 50)).toBe(-Errno.ETIME);
  expect(performance.now() - start).toBeGreaterThan(45);
  expect(ring.next()).toBe(false);
  libc.write(writeEnd, arena.cstring("later" as ByteString), 5);
  expect(ring.submitAndWait(1, 10_000)).toBe(0);
  expect(ring.next()).toBe(true);
  expect([ring.tag, ring.result]).toEqual([42, 5]);
  libc.close(readEnd);
  libc.close(writeEnd);
});

testUnless(noRing, "dispose cancels what would wait for ever and drops what was not submitted", () => {
  using arena = new Arena(4096);
  const [readEnd, writeEnd] = pipeEnds(arena);
  const buffer = arena.allocate(64);
  {
    using ring = makeRing(8);
    for (let tag = 0; tag < 3; tag++) ring.prepareRead(readEnd, buffer, 64, -1, tag, tag === 1 ? Submit.async : 0);
    ring.submit();
    ring.prepareWrite(writeEnd, buffer, 64, -1, 9);
    ring.prepareWrite(writeEnd, buffer, 64, -1, 9);
  }
  expect(libc.fcntl(readEnd, 4, Open.O_NONBLOCK)).toBe(0);
  expect(libc.read(readEnd, buffer, 64)).toBe(-Errno.EAGAIN);
  libc.write(writeEnd, arena.cstring("untouched" as ByteString), 9);
  expect(libc.read(readEnd, buffer, 64)).toBe(9);
  libc.close(readEnd);
  libc.close(writeEnd);
});

testUnless(noRing, "dispose ends what a worker takes up in the very moment of its cancellation", () => {
  using arena = new Arena(4096);
  const [readEnd, writeEnd] = pipeEnds(arena);
  const buffer = arena.allocate(64);
  for (let round = 0; round < 500; round++) {
    using ring = makeRing(8);
    for (let tag = 0; tag < 3; tag++) ring.prepareRead(readEnd, buffer, 64, -1, tag, tag === 1 ? Submit.async : 0);
    ring.submit();
    for (const start = performance.now(); performance.now() - start < (round % 50) * 0.002; );
  }
  expect(libc.close(readEnd)).toBe(0);
  expect(libc.close(writeEnd)).toBe(0);
});

testUnless(noRing, "the kernel's list of operations is read", () => {
  using ring = makeRing(4, { maxWorkers: { bounded: 2, unbounded: 2 } });
  expect(ring.supports(constants.operations.IORING_OP_STATX)).toBe(true);
  expect(ring.supports(255)).toBe(false);
});
