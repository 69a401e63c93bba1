// The set behind "what a move copied" and "which inodes were counted".

import { expect, test } from "bun:test";
import { KeySet } from "../../src/worker/key-set.ts";

test("a key is found after it was added, through every growth", () => {
  using set = new KeySet(4);
  for (let key = 0; key < 20_000; key++) expect(set.add(key, key * 7)).toBe(true);
  for (let key = 0; key < 20_000; key++) expect(set.has(key, key * 7)).toBe(true);
  expect(set.add(5, 35)).toBe(false);
});

test("keys that were not added are not found, even with equal halves", () => {
  using set = new KeySet(4);
  set.add(1, 2);
  expect(set.has(2, 1)).toBe(false);
  expect(set.has(1, 4)).toBe(false);
  expect(set.has(0xffffffff, 2)).toBe(false);
  expect(set.add(0xffffffff, 0xffffffff)).toBe(true);
  expect(set.has(-1, -1)).toBe(true);
});
