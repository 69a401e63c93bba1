// Moments as people type them (a day, a day and a time, or how long ago) and as they are shown to people.

import type { ArgsDef } from "citty";
import { CopyError } from "../errors.ts";

const unitsMs: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 };

const examples = '2026-11-22, "2026-11-22 14:30", today, yesterday, or 90s, 15m, 2h, 7d ago';

/** The options --since and --until, by what they say of what they choose. */
export function periodArgs({ since, until }: Readonly<Record<"since" | "until", string>>) {
  return {
    since: { type: "string", valueHint: "TIME", description: `${since}: ${examples}` },
    until: { type: "string", valueHint: "TIME", description: until },
  } as const satisfies ArgsDef;
}

export interface Period {
  readonly since?: number;
  readonly until?: number;
}

/** What --since and --until say, microseconds of CLOCK_REALTIME; what was not given is left out. Throws usage. */
export function periodOf({ since, until }: { readonly [Option in keyof Period]?: string | undefined }, nowMs: number): Period {
  return {
    ...(since !== undefined && { since: timeOf("--since", since, nowMs) * 1000 }),
    ...(until !== undefined && { until: timeOf("--until", until, nowMs) * 1000 }),
  };
}

/** "2026-11-22 14:30:05", local time. `timeUs` is microseconds of CLOCK_REALTIME. */
export function localTime(timeUs: number): string {
  const time = new Date(timeUs / 1000);
  const two = (value: number): string => String(value).padStart(2, "0");
  const day = `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())}`;
  return `${day} ${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

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
