// bench-check: a floor is missed only beyond the noise, and what was not measured is not called reached.

import { expect, test } from "bun:test";
import { cells } from "../../bench/cells.ts";
import { checkResult, doubtsAbout } from "../../bench/check.ts";
import { floors } from "../../bench/floors.ts";
import { markdownReport, textTable } from "../../bench/report.ts";
import { type BenchResult, type CellResult, newestResult, type ToolResult, writeResult } from "../../bench/result-file.ts";
import { median, ratioSummary, spread } from "../../bench/statistics.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const run = { seconds: 1, userSeconds: 0.5, systemSeconds: 0.5, stealSeconds: 0, othersSeconds: 0.1 };

function tool(name: string, role: ToolResult["role"], seconds: number, ratio: ToolResult["ratio"], peakPssBytes = 50e6): ToolResult {
  const runs = [{ ...run, seconds }];
  const rest = { secondsSpread: 0.001, cpuSeconds: 1, cpuSecondsPerGigabyte: 1, peakRssBytes: 60e6, differences: [] };
  return { name, role, command: `${name} {src} {dst}`, runs, seconds, ratio, peakPssBytes, ...rest };
}

function cell(id: string, tools: ToolResult[], failures: string[] = []): CellResult {
  return { id, title: "t", place: "p", cache: "warm", bytes: 1e9, tools, failures };
}

function result(list: CellResult[]): BenchResult {
  return {
    format: 1,
    date: "2026-11-22T14:05:00.000Z",
    label: "some",
    machine: { processors: 2, model: "m", memoryBytes: 8e9 },
    kernel: "6.1.0",
    versions: { copyd: "0.1.0" },
    runs: 7,
    load: { before: 0, after: 1 },
    cells: list,
    skipped: [{ cell: "ext4/verify", reason: "not built" }],
  };
}

const baseline = tool("cp -a", "baseline", 2, null, 3e6);
const ratio = (ofMedians: number, spreadOf: number) => ({ ofMedians, ofPairs: ofMedians, spread: spreadOf });

function verdictOf(checked: CellResult, name = "copyd"): string | undefined {
  return checkResult(result([checked])).find((check) => check.cell === checked.id && check.tool === name)?.verdict;
}

test("a ratio at its floor is reached, below it by less than the spread is noise, by more is missed", () => {
  const verdict = (value: number) => verdictOf(cell("ext4/small", [baseline, tool("copyd", "copyd", 1, ratio(value, 0.1))]));
  expect([2.0, 1.95, 1.85].map(verdict)).toEqual(["reached", "within-noise", "missed"]);
});

test("the service is held to the same floors", () => {
  const both = [baseline, tool("copyd", "copyd", 1, ratio(2.5, 0)), tool("copyd (service)", "service", 1.5, ratio(1.3, 0))];
  expect(verdictOf(cell("ext4/small", both))).toBe("reached");
  expect(verdictOf(cell("ext4/small", both), "copyd (service)")).toBe("missed");
});

test("floors in milliseconds are held alone and beyond the baseline", () => {
  const clone = (seconds: number) => verdictOf(cell("xfs/clone", [baseline, tool("copyd", "copyd", seconds, ratio(1, 0))]));
  expect([0.059, 0.0605, 0.07].map(clone)).toEqual(["reached", "within-noise", "missed"]);
  const cp = tool("cp -a", "baseline", 0.002, null);
  const tiny = (seconds: number) => verdictOf(cell("ext4/tiny", [cp, tool("copyd", "copyd", seconds, ratio(1, 0))]));
  expect([0.041, 0.05].map(tiny)).toEqual(["reached", "missed"]);
});

test("too much memory and an untrue copy are misses, however fast", () => {
  const fat = cell("ext4/small", [baseline, tool("copyd", "copyd", 1, ratio(3, 0), 101e6)]);
  expect(
    checkResult(result([fat]))
      .filter(({ verdict }) => verdict === "missed")
      .map(({ words }) => words),
  ).toEqual(["101 MB of memory, of at most 100"]);
  const untrue = cell("ext4/small", [baseline, tool("copyd", "copyd", 1, ratio(3, 0))], ["a file differs"]);
  expect(
    checkResult(result([untrue]))
      .filter(({ verdict }) => verdict === "missed")
      .map(({ words }) => words),
  ).toEqual(["a file differs"]);
});

test("what was not measured is named with its reason", () => {
  const checks = checkResult(result([]));
  expect(checks.length).toBe(floors.length);
  expect(checks.every(({ verdict }) => verdict === "not-measured")).toBe(true);
  expect(checks.find(({ cell: id }) => id === "ext4/verify")?.words).toBe("not built");
  const failed = { ...tool("copyd", "copyd", 1, null), seconds: null };
  expect(verdictOf(cell("ext4/small", [baseline, failed]))).toBe("not-measured");
});

test("a result of few runs beside other work is doubted", () => {
  const ours = tool("copyd", "copyd", 1, ratio(3, 0));
  const good = cell("xfs/small", [baseline, { ...ours, runs: Array.from({ length: 7 }, () => run) }]);
  expect(doubtsAbout(result([good]))).toEqual([]);
  const doubts = doubtsAbout({ ...result([good, cell("ext4/small", [baseline, ours])]), load: { before: 3, after: 3 } });
  expect(doubts).toEqual(["the machine was at work before (load 3.0)", "fewer than 5 runs: the noise is not known in ext4/small"]);
});

test("every floor is of a cell that there is", () => {
  const ids = cells.map(({ id }) => id);
  expect(floors.filter(({ cell: id }) => !ids.includes(id))).toEqual([]);
  expect(ids.filter((id) => !floors.some(({ cell: wanted }) => wanted === id))).toEqual([]);
});

test("the newest result is found again as it was written, and its tables tell of every tool", async () => {
  await using directory = await temporaryDirectory();
  expect(newestResult(directory.path)).toBeNull();
  const older = result([]);
  const newer = { ...result([cell("ext4/small", [baseline, tool("copyd", "copyd", 1, ratio(2.5, 0))])]), date: "2026-11-22T15:00:00.000Z" };
  writeResult(directory.path, newer, markdownReport(newer));
  writeResult(directory.path, older, markdownReport(older));
  expect(newestResult(directory.path)).toEqual({ name: "2026-11-22-1500-some.json", result: newer });
  for (const text of [textTable(newer), markdownReport(newer)]) expect(text).toMatch(/ext4\/small.*cp -a[\s\S]*copyd.*2\.50/);
});

test("medians, spreads and ratios", () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 2, 3])).toBe(2.5);
  expect(median([])).toBeNaN();
  expect(spread([1, 2, 3, 4, 5])).toBe(1);
  expect(spread([7])).toBe(0);
  // A round that failed on one side is no pair.
  expect(ratioSummary([2, 4, null, 6], [1, 4, 1, null])).toEqual({ ofMedians: 4, ofPairs: 1.5, spread: 0.25 });
});
