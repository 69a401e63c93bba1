// Tables for people: aligned, and on a terminal no wider than it is.

import { expect, test } from "bun:test";
import { aligned, tableLines } from "../../src/cli/table.ts";

const columns = [...aligned("left", "JOB"), ...aligned("right", "RATE", "FILES"), ...aligned("left", "WHAT")];
const rows = [
  ["a", "", "1", "copy /one -> /two"],
  ["bcd", "", "20", "copy /photos -> /disk"],
];

test("in a file every column stands, however wide", () => {
  expect(tableLines(columns, rows, null)).toEqual([
    "JOB  RATE  FILES  WHAT",
    "a              1  copy /one -> /two",
    "bcd           20  copy /photos -> /disk",
  ]);
});

test("a terminal that is too narrow gets no empty columns, the end of the last one, and titles from their beginning", () => {
  expect(tableLines(columns, rows, 80)).toEqual(tableLines(columns, rows, null));
  expect(tableLines(columns, rows, 30)).toEqual(["JOB  FILES  WHAT", "a        1  copy /one -> /two", "bcd     20  … /photos -> /disk"]);
  expect(tableLines(columns, rows, 15)).toEqual(["JOB  FILES  WHA", "a        1  …wo", "bcd     20  …sk"]);
});
