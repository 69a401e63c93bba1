// A large file that several threads copy: whatever a helper meets, the file ends as if its owner had been alone.
//
// The helper is a second copier on the same board. It works in the owner's first call of `advanced`, so who copies what is certain.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { appendFileSync, closeSync, fsyncSync, openSync, readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { type CopyControl, stopped } from "../../src/engines/engine.ts";
import { FileCopier } from "../../src/engines/file-copier.ts";
import { RangeBoard, rangeBytes } from "../../src/engines/range-board.ts";
import { sharedFromBytes } from "../../src/engines/shared-copy.ts";
import { Fadvise, libc, Mmap } from "../../src/ffi/libc.ts";
import { NativeMemory } from "../../src/ffi/memory.ts";
import { runCopyd } from "../support/cli.ts";
import { mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { copyWith, defaultOptions } from "./copying.ts";

const pageBytes = 4096;
const bytes = randomBytes(sharedFromBytes + 3 * rangeBytes + 4321);

interface Scene {
  /** Before the helper begins, when the owner has copied its first block. */
  readonly before?: (source: string) => void;
  /** The helper is stopped at this block of its own, counted from 1. */
  readonly helperStopsAt?: number;
}

interface Shared {
  readonly outcome: ReturnType<typeof copyWith>;
  readonly copy: Buffer;
  readonly source: Buffer;
  /** What both have counted in all, less what they took back. */
  readonly counted: number;
  readonly helped: number;
}

async function copyTogether(scene: Scene): Promise<Shared> {
  await using directory = await temporaryDirectory();
  const source = `${directory.path}/source`;
  writeFileSync(source, bytes);
  const memory = RangeBoard.allocate(4);
  let counted = 0;
  let helped = 0;
  let blocks = 0;
  let hasHelped = false;
  const helping: CopyControl = {
    advanced: (count) => {
      counted += count;
      helped += count;
      return ++blocks !== scene.helperStopsAt;
    },
    takeBack: (count) => {
      counted -= count;
      helped -= count;
    },
  };
  using helper = new FileCopier(options, helping, null, new RangeBoard(memory, 2, () => undefined));
  const owning: CopyControl = {
    advanced: (count) => {
      counted += count;
      if (!hasHelped) {
        hasHelped = true;
        scene.before?.(source);
        expect(helper.help()).toBe(true);
      }
      return true;
    },
  };
  using owner = new FileCopier(options, owning, null, new RangeBoard(memory, 0, () => undefined));
  const outcome = copyWith(owner, source, `${directory.path}/copy`);
  expect(helper.help()).toBe(false);
  return { outcome, copy: readFileSync(`${directory.path}/copy`), source: readFileSync(source), counted, helped };
}

const options = { ...defaultOptions, reflink: "never" } as const;

test("a helper takes the ranges that the owner has not taken yet", async () => {
  const { outcome, copy, counted, helped } = await copyTogether({});
  expect(outcome.result).toBe(0);
  expect(copy.equals(bytes)).toBe(true);
  expect(helped).toBe(bytes.length - rangeBytes);
  expect([outcome.copied, outcome.length, counted]).toEqual([bytes.length, bytes.length, bytes.length]);
});

test("a range that a helper leaves unfinished is copied by the owner, and counted once", async () => {
  for (const helperStopsAt of [1, 7, 40]) {
    const { outcome, copy, counted } = await copyTogether({ helperStopsAt });
    expect(outcome.result).toBe(0);
    expect(copy.equals(bytes)).toBe(true);
    expect([outcome.copied, counted]).toEqual([bytes.length, bytes.length]);
  }
});

test("a source that shrinks ends where it ends, whoever meets that", async () => {
  for (const length of [rangeBytes / 2, rangeBytes, rangeBytes + 1, sharedFromBytes - 5]) {
    const { outcome, copy, source } = await copyTogether({ before: (path) => truncateSync(path, length) });
    expect(outcome.result).toBe(0);
    expect(source.length).toBe(length);
    expect(outcome.length).toBe(length);
    expect(copy.equals(source)).toBe(true);
  }
});

test("a source that grows is read to its end", async () => {
  const { outcome, copy, source } = await copyTogether({ before: (path) => appendFileSync(path, "more of it") });
  expect(outcome.result).toBe(0);
  expect(copy.equals(source)).toBe(true);
  expect(copy.length).toBe(bytes.length + 10);
});

test("an owner that is cancelled leaves a board that serves the next file", async () => {
  await using directory = await temporaryDirectory();
  writeFileSync(`${directory.path}/source`, bytes);
  const memory = RangeBoard.allocate(2);
  let mayGoOn = false;
  using copier = new FileCopier(options, { advanced: () => mayGoOn }, null, new RangeBoard(memory, 0, () => undefined));
  expect(copyWith(copier, `${directory.path}/source`, `${directory.path}/one`).result).toBe(stopped);
  expect(RangeBoard.isOpen(memory)).toBe(false);
  mayGoOn = true;
  expect(copyWith(copier, `${directory.path}/source`, `${directory.path}/two`).result).toBe(0);
  expect(readFileSync(`${directory.path}/two`).equals(bytes)).toBe(true);
});

testUnless(whyNoFilesystem("ext4"), "a file is its owner's alone for as long as it comes from a medium", async () => {
  await using fs = await mountFilesystem("ext4", { sizeBytes: 512 * 1024 ** 2 });
  const coldBytes = 16 * rangeBytes;
  const content = randomBytes(2 * coldBytes);
  writeFileSync(`${fs.path}/source`, content);
  const memory = RangeBoard.allocate(2);
  let helpFrom = 0;
  using helper = new FileCopier(options, { advanced: () => true }, null, new RangeBoard(memory, 1, () => undefined));
  const helpedAt: number[] = [];
  const owning: CopyControl = {
    advanced: (count) => {
      helpFrom += count;
      // The first range is what tells.
      if (helpFrom > rangeBytes && helpedAt.length === 0 && (RangeBoard.isOpen(memory) || helper.help())) helpedAt.push(helpFrom);
      return true;
    },
  };
  evictUpTo(`${fs.path}/source`, coldBytes);
  using owner = new FileCopier(options, owning, null, new RangeBoard(memory, 0, () => undefined));
  expect(copyWith(owner, `${fs.path}/source`, `${fs.path}/copy`).result).toBe(0);
  // Some ranges of the warm half have to pass before it counts as warm.
  expect(helpedAt[0]).toBeGreaterThan(coldBytes);
  expect(helpedAt[0]).toBeLessThan(2 * coldBytes);
  expect(readFileSync(`${fs.path}/copy`).equals(content)).toBe(true);
});

testUnless(whyNoFilesystem("ext4"), "of a cold file twice as much is read ahead as the kernel would by itself", async () => {
  await using fs = await mountFilesystem("ext4", { sizeBytes: 512 * 1024 ** 2 });
  const path = `${fs.path}/source`;
  writeFileSync(path, randomBytes(sharedFromBytes));
  evictUpTo(path, 0);
  const fd = openSync(path, "r");
  using residency = new NativeMemory(sharedFromBytes / pageBytes);
  const address = libc.mmap(0, sharedFromBytes, Mmap.PROT_READ, Mmap.MAP_SHARED, fd, 0);
  let offset = 0;
  let mostAhead = 0;
  const looking: CopyControl = {
    advanced: (count) => {
      offset += count;
      libc.mincore(address, sharedFromBytes, residency.address);
      let page = offset / pageBytes;
      while (((residency.bytes[page] ?? 0) & 1) === 1) page++;
      mostAhead = Math.max(mostAhead, page * pageBytes - offset);
      return true;
    },
  };
  using copier = new FileCopier(options, looking);
  expect(copyWith(copier, path, `${fs.path}/copy`).result).toBe(0);
  libc.munmap(address, sharedFromBytes);
  closeSync(fd);
  const { dev } = statSync(path);
  const atOnce = Number(readFileSync(`/sys/class/bdi/${dev >> 8}:${dev & 0xff}/read_ahead_kb`, "utf8")) * 1024;
  expect(mostAhead).toBeGreaterThan(2.5 * atOnce);
});

function evictUpTo(path: string, length: number): void {
  const fd = openSync(path, "r");
  fsyncSync(fd);
  libc.posixFadvise(fd, 0, length, Fadvise.DONTNEED);
  closeSync(fd);
}

testUnless(whyNoFilesystem("ext4"), "two lanes that fill the disk leave no file, and say so once", async () => {
  await using source = await temporaryDirectory();
  await using full = await mountFilesystem("ext4", { sizeBytes: tinySizeBytes });
  writeFileSync(`${source.path}/large`, randomBytes(2 * tinySizeBytes));
  const { status, stderr } = await runCopyd(["cp", "--local", `${source.path}/large`, `${full.path}/large`]);
  expect(status).toBe(1);
  expect(stderr).toBe(`cp: error writing '${full.path}/large': No space left on device\n`);
  expect((await Array.fromAsync(new Bun.Glob("*").scan({ cwd: full.path, dot: true }))).filter((name) => name !== "lost+found")).toEqual(
    [],
  );
});
