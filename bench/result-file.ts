// The result files: bench/results/DATE-TIME-LABEL.json, and which of them is the newest.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { z } from "zod";

const runSchema = z.object({
  seconds: z.number(),
  userSeconds: z.number(),
  systemSeconds: z.number(),
  stealSeconds: z.number(),
  othersSeconds: z.number(),
});

const toolSchema = z.object({
  name: z.string(),
  role: z.enum(["baseline", "copyd", "service", "rival"]),
  /** As typed, with {src} and {dst}. */
  command: z.string(),
  /** By round; null: failed, or not run. */
  runs: z.array(runSchema.nullable()),
  /** Medians, and their spread: half the distance of the quartiles. Null without a run. */
  seconds: z.number().nullable(),
  secondsSpread: z.number().nullable(),
  cpuSeconds: z.number().nullable(),
  cpuSecondsPerGigabyte: z.number().nullable(),
  /** Baseline's over this tool's. */
  ratio: z.object({ ofMedians: z.number(), ofPairs: z.number(), spread: z.number() }).nullable(),
  /** From the rehearsal, all processes together. */
  peakPssBytes: z.number().nullable(),
  peakRssBytes: z.number().nullable(),
  /** What was not true of the rehearsal's copy: a rival may keep less and be faster for it. */
  differences: z.array(z.string()),
});

const cellSchema = z.object({
  id: z.string(),
  title: z.string(),
  place: z.string(),
  cache: z.enum(["warm", "cold"]),
  bytes: z.number(),
  tools: z.array(toolSchema),
  /** Runs that failed and copies of copyd's that were not true: any makes the bench fail. */
  failures: z.array(z.string()),
});

const resultSchema = z.object({
  format: z.literal(1),
  date: z.string(),
  label: z.string(),
  machine: z.object({ processors: z.number(), model: z.string(), memoryBytes: z.number() }),
  kernel: z.string(),
  versions: z.record(z.string(), z.string()),
  runs: z.number(),
  /** Load averages of a minute, before and after: above a tenth of a processor, somebody else was at work before. */
  load: z.object({ before: z.number(), after: z.number() }),
  cells: z.array(cellSchema),
  skipped: z.array(z.object({ cell: z.string(), reason: z.string() })),
});

export type ToolResult = z.infer<typeof toolSchema>;
export type CellResult = z.infer<typeof cellSchema>;
export type BenchResult = z.infer<typeof resultSchema>;

/** Writes DATE-TIME-LABEL.json and .md; their path without the ending. */
export function writeResult(directory: string, result: BenchResult, markdown: string): string {
  mkdirSync(directory, { recursive: true });
  const time = result.date.slice(0, 16).replace("T", "-").replace(":", "");
  const path = join(directory, `${time}-${result.label}`);
  writeFileSync(`${path}.json`, `${JSON.stringify(result, null, 1)}\n`);
  writeFileSync(`${path}.md`, markdown);
  return path;
}

export interface StoredResult {
  readonly name: string;
  readonly result: BenchResult;
}

/** The newest result by its name's date, or null. Throws where the file is not one of ours. */
export function newestResult(directory: string): StoredResult | null {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
  const name = names
    .filter((candidate) => /^\d{4}-\d\d-\d\d-\d{4}-\w+\.json$/.test(candidate))
    .sort()
    .at(-1);
  if (name === undefined) return null;
  const parsed = resultSchema.safeParse(JSON.parse(readFileSync(join(directory, name), "utf8")));
  if (!parsed.success) throw new Error(`${name} is not a result of these benchmarks: ${z.prettifyError(parsed.error)}`);
  return { name, result: parsed.data };
}
