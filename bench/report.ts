// One table of a result: for the terminal, and with everything around it as Markdown.

import { checkResult, floorVerdict, type Verdict } from "./check.ts";
import { floorOf } from "./floors.ts";
import type { BenchResult, CellResult, ToolResult } from "./result-file.ts";
import { median } from "./statistics.ts";

const head = [
  "cell",
  "tool",
  "s",
  "±",
  "ratio",
  "pairs",
  "floor",
  "CPU s",
  "CPU s/GB",
  "PSS MB",
  "RSS MB",
  "others",
  "steal",
  "runs",
  "true",
];
/** Columns of words; the rest are numbers. */
const wordColumns = 2;

/** The table, aligned for a terminal. */
export function textTable(result: BenchResult): string {
  const rows = [head, ...tableRows(result)];
  const widths = head.map((_, column) => Math.max(...rows.map((row) => (row[column] ?? "").length)));
  const line = (row: readonly string[]): string =>
    row
      .map((text, column) => (column < wordColumns ? text.padEnd(widths[column] ?? 0) : text.padStart(widths[column] ?? 0)))
      .join("  ")
      .trimEnd();
  return rows.map(line).join("\n");
}

/** The whole result for readers. */
export function markdownReport(result: BenchResult): string {
  const table = [head, head.map((_, column) => (column < wordColumns ? "---" : "---:")), ...tableRows(result)];
  const { processors, model, memoryBytes } = result.machine;
  const commands = new Map(result.cells.flatMap(({ tools }) => tools.map(({ command, name }) => [command, name] as const)));
  const failures = result.cells.flatMap(({ failures: list }) => list);
  const versions = Object.entries(result.versions).map(([name, version]) => `${name} ${version}`);
  return [
    `# Benchmark of ${result.date.slice(0, 10)} (${result.label})`,
    `${processors} processors (${model}), ${(memoryBytes / 1e9).toFixed(0)} GB of memory, Linux ${result.kernel}. ${versions.join("; ")}. ` +
      `Load before ${result.load.before.toFixed(1)}, after ${result.load.after.toFixed(1)}.`,
    `Medians of up to ${result.runs} runs in rotating order, each on fresh ground after \`sync\`. *ratio*: the first tool's median over this ` +
      "one's; *pairs*: the median of the ratios within each round; *±*: half the distance of the quartiles. *floor*: what the ratio (or, in " +
      "milliseconds, the time) must reach. CPU is user and system of all the tool's processes; *others*: what the rest of the machine used " +
      "meanwhile, kernel threads included, and *steal*: what the hypervisor kept, both in processors. PSS and RSS are peaks over all " +
      "processes. *true*: whether `rsync -aHAXnic --delete` and a comparison of times to the nanosecond and of hard links found no difference.",
    table.map((row) => `| ${row.join(" | ")} |`).join("\n"),
    section(
      "Cells",
      result.cells.map((cell) => `${cell.id}: ${cell.title}; ${cell.cache}; ${cell.place}; ${(cell.bytes / 1e6).toFixed(0)} MB`),
    ),
    section(
      "Commands",
      [...commands].map(([command, name]) => `${name}: \`${command}\``),
    ),
    section("Floors", floorLines(result)),
    section(
      "Not measured",
      result.skipped.map(({ cell, reason }) => `${cell}: ${reason}`),
    ),
    section("Failed", failures),
  ]
    .filter((part) => part !== "")
    .join("\n\n")
    .concat("\n");
}

/** A line for each floor that was measured, the missed ones first; for memory and failures only where there is something. */
export function floorLines(result: BenchResult): string[] {
  const order: readonly Verdict[] = ["missed", "within-noise", "reached"];
  return order.flatMap((verdict) =>
    checkResult(result)
      .filter((check) => check.verdict === verdict)
      .map(({ cell, tool, words }) => `${verdict}: ${cell}, ${tool}: ${words}`),
  );
}

function section(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? "" : `## ${title}\n\n${lines.map((line) => `- ${line}`).join("\n")}`;
}

function tableRows(result: BenchResult): string[][] {
  return result.cells.flatMap((cell) => cell.tools.map((tool, index) => toolRow(cell, tool, { isFirst: index === 0 })));
}

function toolRow(cell: CellResult, tool: ToolResult, { isFirst }: { readonly isFirst: boolean }): string[] {
  const runs = tool.runs.filter((run) => run !== null);
  const processors = (of: (run: (typeof runs)[number]) => number): string =>
    runs.length === 0 ? "-" : median(runs.map((run) => of(run) / run.seconds)).toFixed(2);
  return [
    isFirst ? cell.id : "",
    tool.name,
    seconds(tool.seconds),
    seconds(tool.secondsSpread),
    number(tool.ratio?.ofMedians),
    number(tool.ratio?.ofPairs),
    floorText(cell, tool),
    seconds(tool.cpuSeconds),
    number(cell.bytes < 1e6 ? null : tool.cpuSecondsPerGigabyte),
    number(tool.peakPssBytes === null ? null : tool.peakPssBytes / 1e6, 0),
    number(tool.peakRssBytes === null ? null : tool.peakRssBytes / 1e6, 0),
    processors((run) => run.othersSeconds),
    processors((run) => run.stealSeconds),
    String(runs.length),
    tool.differences.length === 0 ? "yes" : "no",
  ];
}

const marks: Readonly<Record<Verdict, string>> = { reached: "ok", "within-noise": "~", missed: "MISSED", "not-measured": "?" };

function floorText(cell: CellResult, tool: ToolResult): string {
  const floor = floorOf(cell.id);
  if (floor === undefined || (tool.role !== "copyd" && tool.role !== "service")) return "";
  const limit = { ratio: `${floor.limit}`, milliseconds: `${floor.limit} ms`, "milliseconds-over": `+${floor.limit} ms` }[floor.measure];
  return `${limit} ${marks[floorVerdict(floor, cell, tool).verdict]}`;
}

function seconds(value: number | null): string {
  return number(value, value !== null && value < 1 ? 4 : 3);
}

function number(value: number | null | undefined, digits = 2): string {
  return value === null || value === undefined ? "-" : value.toFixed(digits);
}
