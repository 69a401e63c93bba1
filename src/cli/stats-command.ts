// `copyd stats`: what the ended jobs amount to, by day, user, source or destination.

import type { ArgsDef, ParsedArgs } from "citty";
import type { ServiceClient, Statistics, StatisticsOptions } from "../dbus/client.ts";
import { CopyError } from "../errors.ts";
import { type StatisticsQuery, statisticsKeys, statisticsOrders } from "../jobs/api.ts";
import { nameFields, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { commonArgs, linesOf, withService } from "./service-command.ts";
import { aligned, type Column, tableLines, tableWidth } from "./table.ts";
import { visibleText } from "./terminal-text.ts";
import { periodArgs, periodOf } from "./time-text.ts";
import { formatBytes, formatCount, formatDuration, formatRate } from "./units.ts";
import { userName } from "./user-names.ts";

const args = {
  by: { type: "string", valueHint: "KEY", description: `What to put together: ${statisticsKeys.join(", ")} (day)` },
  order: { type: "string", valueHint: "ORDER", description: `What comes first: ${statisticsOrders.join(", ")} (latest)` },
  ...periodArgs({ since: "Jobs that ended from this time on", until: "Jobs that ended before this time" }),
  "all-users": { type: "boolean", description: "Everybody's, which an administrator must allow" },
  lines: { type: "string", valueHint: "N", description: "At most so many (1000)" },
  ...commonArgs,
} as const satisfies ArgsDef;

export const statsCommand = named("stats", "What your jobs amount to, by day, user, source or destination", args, (given) =>
  withService(given, (client) => list(client, given), { needsLeave: given["all-users"] === true }),
);

async function list(client: ServiceClient, given: ParsedArgs<typeof args>): Promise<number> {
  const by = wordOf("--by", given.by ?? "day", statisticsKeys);
  const options: StatisticsOptions = {
    allUsers: given["all-users"] === true,
    order: wordOf("--order", given.order ?? "latest", statisticsOrders),
    limit: linesOf(given.lines),
    ...periodOf(given, Date.now()),
  };
  const rows = await client.statistics(by, options);
  if (given.json === true) for (const row of rows) writeJson(jsonOf(by, row));
  else if (rows.length === 0) writeText("stderr", "No job has ended in that time.\n");
  else
    writeText(
      "stdout",
      `${tableLines(
        columnsBy(by),
        rows.map((row) => cells(by, row)),
        tableWidth(),
      ).join("\n")}\n`,
    );
  return 0;
}

function columnsBy(by: StatisticsQuery["by"]): readonly Column[] {
  const numbers = aligned("right", "JOBS", "FAILED", "CANCELLED", "FILES", "BYTES", "TIME", "RATE");
  // Last, because a path may be long, and is cut there.
  return [...numbers, ...aligned("left", by.toUpperCase())];
}

function cells(by: StatisticsQuery["by"], row: Statistics): readonly string[] {
  return [
    formatCount(row.jobs),
    row.failed === 0 ? "" : formatCount(row.failed),
    row.cancelled === 0 ? "" : formatCount(row.cancelled),
    formatCount(row.files),
    formatBytes(row.bytes),
    formatDuration(row.elapsedUs / 1e6),
    row.rate === 0 ? "" : formatRate(row.rate),
    keyText(by, row.key),
  ];
}

function keyText(by: StatisticsQuery["by"], key: Statistics["key"]): string {
  if (by === "day") return key;
  return by === "user" ? userName(Number(key)) : visibleText(key);
}

function jsonOf(by: StatisticsQuery["by"], { key, ...numbers }: Statistics): Readonly<Record<string, unknown>> {
  return { type: "statistics", ...(by === "user" ? { user: Number(key) } : nameFields(by, key)), ...numbers };
}

function wordOf<Word extends string>(option: string, typed: string, words: readonly Word[]): Word {
  const word = words.find((known) => known === typed);
  if (word !== undefined) return word;
  throw new CopyError("usage", `${option} takes ${words.join(", ")}, not '${typed}'`);
}
