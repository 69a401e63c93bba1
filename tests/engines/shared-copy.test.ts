// A large file that several threads copy: whatever a helper meets, the file ends as if its owner had been alone.
//
// The helper is a second copier on the same board. It works in the owner's first call of `advanced`, so who copies what is certain.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { appendFileSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { type CopyControl, stopped } from "../../src/engines/engine.ts";
import { FileCopier } from "../../src/engines/file-copier.ts";
import { RangeBoard, rangeBytes } from "../../src/engines/range-board.ts";
import { sharedFromBytes } from "../../src/engines/shared-copy.ts";
import { runCopyd } from "../support/cli.ts";
import { mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { copyWith, defaultOptions } from "./copying.ts";

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
