// Paths and URIs from callers: every byte that a file name may have gets through, and what is no path is refused by name.

import { describe, expect, test } from "bun:test";
import type { ByteString } from "../../src/bytes.ts";
import { parseBusAddress } from "../../src/dbus/address.ts";
import { jobPath, parseJobPath } from "../../src/dbus/object-path.ts";
import { pathFromBytes, pathFromUri, uriFromPath } from "../../src/dbus/paths.ts";

const bytes = (text: string): Buffer => Buffer.from(text, "latin1");

describe("byte paths", () => {
  test("every byte but NUL gets through, with a trailing NUL or without", () => {
    const all = `/${String.fromCharCode(...Array.from({ length: 255 }, (_, index) => index + 1))}`;
    expect(pathFromBytes(bytes(all), "source")).toBe(all as ByteString);
    expect(pathFromBytes(bytes(`${all}\0`), "source")).toBe(all as ByteString);
  });

  const refused: [string, string, RegExp][] = [
    ["an empty path", "", /the source is empty/],
    ["only a NUL", "\0", /is empty/],
    ["a relative path", "home/x", /is not absolute: 'home\/x'/],
    ["an embedded NUL", "/a\0b", /NUL/],
    ["two trailing NULs", "/a\0\0", /NUL/],
    ["too long a path", `/${"x".repeat(4095)}`, /4096 bytes long/],
  ];
  for (const [what, path, message] of refused) {
    test(`${what} is refused`, () => expect(() => pathFromBytes(bytes(path), "the source")).toThrow(message));
  }

  test("the longest path is taken", () => {
    expect(pathFromBytes(bytes(`/${"x".repeat(4094)}\0`), "source")).toHaveLength(4095);
  });

  test("what a message quotes has no control characters and an end", () => {
    expect(() => pathFromBytes(bytes(`x\x1b[31m${"y".repeat(3000)}`), "source")).toThrow(/'x\?\[31my{80,99}\.\.\.'$/);
  });
});

describe("URIs", () => {
  const taken: [string, string][] = [
    ["/home/me/größe", "/home/me/gr\xc3\xb6\xc3\x9fe"],
    ["/a b%20c", "/a b%20c"],
    ["file:///a%20b", "/a b"],
    ["file:///a%FF%0a", "/a\xff\n"],
    ["file:///gr%C3%B6%c3%9fe", "/gr\xc3\xb6\xc3\x9fe"],
    ["file:///größe", "/gr\xc3\xb6\xc3\x9fe"],
    ["file://localhost/a", "/a"],
    ["FILE://LOCALHOST/a", "/a"],
    ["file:///a%3Fb%23c", "/a?b#c"],
  ];
  for (const [uri, path] of taken) {
    test(`${uri} is understood`, () => expect(pathFromUri(uri, "source")).toBe(path as ByteString));
  }

  for (const uri of [
    "",
    "a",
    "file:a",
    "file:/a",
    "file://otherhost/a",
    "http://localhost/a",
    "file://",
    "file:///a%",
    "file:///a%0",
    "file:///a%zz",
    "file:///a%00b",
    "file:///a?b",
    "file:///a#b",
    "/a\0b",
  ]) {
    // biome-ignore format: a table
    test(`'${uri.replace("\0", "NUL")}' is refused`, () => expect(() => pathFromUri(uri, "source")).toThrow(/^source /));
  }

  test("a URI made from any path gives that path", () => {
    const all = `/${String.fromCharCode(...Array.from({ length: 255 }, (_, index) => index + 1))}` as ByteString;
    expect(pathFromUri(uriFromPath(all), "source")).toBe(all);
  });
});

describe("object paths", () => {
  test("a job's path says whose it is", () => {
    expect(jobPath(1000, "abc_1")).toBe("/org/copyd/Copyd1/jobs/u1000/abc_1");
    expect(parseJobPath("/org/copyd/Copyd1/jobs/u1000/abc_1")).toEqual({ uid: 1000, token: "abc_1" });
    expect(parseJobPath(jobPath(0, "x"))).toEqual({ uid: 0, token: "x" });
  });

  test("other paths are no jobs", () => {
    for (const path of [
      "/",
      "/org/copyd/Copyd1",
      "/org/copyd/Copyd1/jobs/u01/x",
      "/org/copyd/Copyd1/jobs/1/x",
      "/org/copyd/Copyd1/jobs/u1",
      "/org/copyd/Copyd1/jobs/u1/x/y",
      `/org/copyd/Copyd1/jobs/u1/${"x".repeat(49)}`,
    ]) {
      // biome-ignore format: a table
      expect(parseJobPath(path), path).toBeUndefined();
    }
  });
});

test("bus addresses are read as the specification writes them", () => {
  expect(parseBusAddress("unix:path=/run/dbus/a%20b,guid=12")).toEqual([{ socket: "/run/dbus/a b" }]);
  expect(parseBusAddress("tcp:host=x,port=1;unix:abstract=/tmp/x;unix:path=/y")).toEqual([{ socket: "\0/tmp/x" }, { socket: "/y" }]);
  expect(parseBusAddress("nonsense")).toEqual([]);
});
