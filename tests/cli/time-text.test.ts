// Moments as people type them.

import { expect, test } from "bun:test";
import { timeOf } from "../../src/cli/time-text.ts";

const nowMs = new Date(2026, 10, 22, 14, 30).getTime();

test.each([
  ["2026-11-22", new Date(2026, 10, 22).getTime()],
  ["2026-11-22 14:30", nowMs],
  ["2026-11-22T14:30:05", nowMs + 5000],
  ["2026-11-22T14:30:00Z", Date.UTC(2026, 10, 22, 14, 30)],
  ["today", new Date(2026, 10, 22).getTime()],
  ["yesterday", new Date(2026, 10, 21).getTime()],
  ["now", nowMs],
  ["15m", nowMs - 900_000],
  ["2h ago", nowMs - 7_200_000],
  ["7d", nowMs - 7 * 86_400_000],
])("%s", (typed, expected) => {
  expect(timeOf("--since", typed, nowMs)).toBe(expected);
});

test.each(["", "tomorrow-ish", "2026-13-45", "5", "2026-11-22 25:00"])("'%s' is refused with what would do", (typed) => {
  expect(() => timeOf("--since", typed, nowMs)).toThrow("--since takes a time such as");
});
