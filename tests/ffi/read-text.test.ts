// A file's text by libc: all of it, whatever its size says, and null for what cannot be read.

import { expect, test } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readText } from "../../src/ffi/read-text.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("each byte is a character, in files of one read and of many, and in those of /proc", async () => {
  await using here = await temporaryDirectory();
  const path = join(here.path, "file");
  for (const length of [0, 1, 16 * 1024, 16 * 1024 + 1, 100_000]) {
    const bytes = Buffer.from(Array.from({ length }, (_, index) => (index * 7) % 256));
    writeFileSync(path, bytes);
    expect(readText(path) === bytes.toString("latin1")).toBe(true);
  }
  expect(readText("/proc/self/cmdline")).toBe(readFileSync("/proc/self/cmdline", "latin1"));
});

test("what is not there, is no file or has no such name is null", async () => {
  await using here = await temporaryDirectory();
  expect(readText(join(here.path, "missing"))).toBeNull();
  expect(readText(here.path)).toBeNull();
  expect(readText(`/${"x".repeat(5000)}`)).toBeNull();
});
