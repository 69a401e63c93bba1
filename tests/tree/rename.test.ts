// Renaming by regular expression.

import { expect, test } from "bun:test";
import { NameRewriter } from "../../src/tree/rename.ts";

const rewrite = (match: string, replace: string, name: string): unknown =>
  new NameRewriter({ renameMatch: match, renameReplace: replace }).rewrite(name);

test("groups are put where the replacement names them", () => {
  expect(rewrite("^IMG_(\\d+)\\.(jpe?g)$", "photo-$1.$2", "IMG_0042.jpeg")).toEqual({ kind: "name", name: "photo-0042.jpeg" });
});

test("a name that does not match stays", () => {
  expect(rewrite("^IMG_", "x", "notes.txt")).toEqual({ kind: "name", name: "notes.txt" });
});

test("UTF-8 names are matched by character, other names stay as they are", () => {
  const name = Buffer.from("añb").toString("latin1");
  expect(rewrite("^a.b$", "ñ", name)).toEqual({ kind: "name", name: Buffer.from("ñ").toString("latin1") });
  expect(rewrite(".", "x", "\xff\xfe")).toEqual({ kind: "name", name: "\xff\xfe" });
});

test.each([
  ["", "is empty"],
  [".", 'is "."'],
  ["..", 'is ".."'],
  ["a/b", "contains a slash"],
  ["\0", "contains a NUL byte"],
  ["x".repeat(256), "has 256 bytes, more than 255"],
])("the result %j is refused", (replacement, reason) => {
  expect(rewrite("^.*$", replacement, "name")).toEqual({ kind: "invalid", reason });
});

test("255 bytes are a name", () => {
  expect(rewrite("^.*$", "x".repeat(255), "name")).toEqual({ kind: "name", name: "x".repeat(255) });
});
