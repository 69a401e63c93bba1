// A moment as people type it: a day, a day and a time, or how long ago.

import { CopyError } from "../errors.ts";

const unitsMs: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };

/** Milliseconds since the epoch; days and times without a zone are local. Throws usage, naming the option. */
export function timeOf(option: string, typed: string, nowMs: number): number {
  const text = typed.trim();
  const ago = /^(\d{1,6}) ?([smhdw])( ago)?$/.exec(text);
  if (ago !== null) return nowMs - Number(ago[1]) * (unitsMs[ago[2] ?? ""] ?? 0);
  if (text === "now") return nowMs;
  if (text === "today" || text === "yesterday") {
    const day = new Date(nowMs);
    day.setHours(0, 0, 0, 0);
    if (text === "yesterday") day.setDate(day.getDate() - 1);
    return day.getTime();
  }
  const parts = /^(\d{4}-\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)(Z|[+-]\d\d:?\d\d)?)?$/.exec(text);
  const time = parts === null ? Number.NaN : Date.parse(`${parts[1]}T${parts[2] ?? "00:00"}${parts[3] ?? ""}`);
  if (!Number.isNaN(time)) return time;
  throw new CopyError(
    "usage",
    `${option} takes a time such as 2026-11-22, "2026-11-22 14:30", today, or 2h for two hours ago, not '${typed}'`,
  );
}
