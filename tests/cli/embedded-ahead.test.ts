// When a worker may be started, or the service called, before the arguments are parsed.

import { expect, test } from "bun:test";
import { isSurelyEmbedded, isSurelyTheServices } from "../../src/cli/embedded-ahead.ts";

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
