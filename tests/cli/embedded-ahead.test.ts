// When a worker may be started, or the service called, before the arguments are parsed.

import { expect, test } from "bun:test";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { isSurelyEmbedded, isSurelyTheServices, looksLikeOneNewFile } from "../../src/cli/embedded-ahead.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const named = { calledAsCp: false };

test("--local, and the name cp or mv, mean a worker of our own", () => {
  expect(isSurelyEmbedded(["-a", "--local", "a", "b"], named)).toBe(true);
  expect(isSurelyEmbedded(["a", "b"], { calledAsCp: true })).toBe(true);
});

test("what asks for a service, for words or for a look only starts none", () => {
  for (const word of ["--session", "--admin", "--dry-run", "--help", "--version"]) {
    expect(isSurelyEmbedded(["--local", word, "a", "b"], named)).toBe(false);
  }
  expect(isSurelyEmbedded(["--local"], named)).toBe(false);
});

function withBus(action: () => void): void {
  const former = process.env.DBUS_SYSTEM_BUS_ADDRESS;
  process.env.DBUS_SYSTEM_BUS_ADDRESS = "unix:path=/nowhere";
  try {
    action();
  } finally {
    if (former === undefined) delete process.env.DBUS_SYSTEM_BUS_ADDRESS;
    else process.env.DBUS_SYSTEM_BUS_ADDRESS = former;
  }
}

test("without a word, the system bus decides", () => {
  withBus(() => {
    expect(isSurelyEmbedded(["a", "b"], named)).toBe(false);
    expect(isSurelyTheServices(["a", "b"], named)).toBe(true);
  });
});

test("the service is not called for what it will not do", () => {
  withBus(() => {
    for (const word of ["--local", "--session", "--admin", "--dry-run", "--help", "--version"]) {
      expect(isSurelyTheServices([word, "a", "b"], named)).toBe(false);
    }
    expect(isSurelyTheServices(["a"], named)).toBe(false);
    expect(isSurelyTheServices(["a", "b"], { calledAsCp: true })).toBe(false);
  });
});

test("a small file to a free name is told from everything that takes a lane", async () => {
  await using here = await temporaryDirectory();
  const [file, free, directory] = ["file", "free", "directory"].map((name) => join(here.path, name)) as [string, string, string];
  writeFileSync(file, "content");
  mkdirSync(directory);
  expect(looksLikeOneNewFile(["-a", "--local", file, free])).toBe(true);
  expect(looksLikeOneNewFile([file, directory])).toBe(true);
  const others = [
    [free, file],
    [directory, free],
    [file, file],
    [file, file, directory],
    [file, free, "-v"],
    ["-t", directory, file],
    ["/dev/null", free],
  ];
  expect(others.filter(looksLikeOneNewFile)).toEqual([]);
  writeFileSync(join(directory, "file"), "older");
  expect(looksLikeOneNewFile([file, directory])).toBe(false);
  truncateSync(file, 64 * 1024 + 1);
  expect(looksLikeOneNewFile([file, free])).toBe(false);
  truncateSync(file, 0);
  expect(looksLikeOneNewFile([file, free])).toBe(false);
  truncateSync(file, 64 * 1024);
  expect(looksLikeOneNewFile([file, free])).toBe(true);
});
