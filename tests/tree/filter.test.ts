// Include and exclude patterns.

import { expect, test } from "bun:test";
import { EntryFilter } from "../../src/tree/filter.ts";

const filter = (include: string[], exclude: string[]): EntryFilter => new EntryFilter({ include, exclude });

test("without patterns everything is copied, and the filter says that it need not be asked", () => {
  expect(filter([], []).isOpen).toBe(true);
  expect(filter([], []).accepts("a/b", "other")).toBe(true);
});

test("a pattern without a slash looks at the name, wherever it is", () => {
  const some = filter([], ["*.tmp", "node_modules"]);
  expect(some.accepts("src/a/x.tmp", "other")).toBe(false);
  expect(some.accepts("src/node_modules", "directory")).toBe(false);
  expect(some.accepts("src/x.tmpl", "other")).toBe(true);
});

test("a pattern with a slash looks at the whole path", () => {
  const some = filter([], ["src/build/**"]);
  expect(some.accepts("src/build/x", "other")).toBe(false);
  expect(some.accepts("lib/build/x", "other")).toBe(true);
});

test("include patterns are for files: directories are entered all the same", () => {
  const some = filter(["*.jpg"], []);
  expect(some.accepts("p/2024", "directory")).toBe(true);
  expect(some.accepts("p/2024/a.jpg", "other")).toBe(true);
  expect(some.accepts("p/2024/a.txt", "other")).toBe(false);
});

test("exclude wins over include", () => {
  expect(filter(["*.jpg"], ["secret*"]).accepts("p/secret.jpg", "other")).toBe(false);
});

test("names that are not UTF-8 and names in UTF-8 are met byte by byte", () => {
  const latin = "r\xe9sum\xe9.txt";
  const utf8 = Buffer.from("résumé.txt").toString("latin1");
  expect(filter([], ["r*.txt"]).accepts(latin, "other")).toBe(false);
  expect(filter([], ["résumé.txt"]).accepts(utf8, "other")).toBe(false);
  expect(filter([], ["résumé.txt"]).accepts(latin, "other")).toBe(true);
});
