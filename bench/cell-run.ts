// All runs of one cell: a rehearsal of every tool, then rounds in rotating order, each run on fresh ground and its copy compared.

import { compareTrees } from "../tests/support/compare.ts";
import { run as runCommand } from "../tests/support/process.ts";
import { type Cell, type Programs, shownCommand, type Tool } from "./cells.ts";
import { measureRun, type Run, type RunOutcome } from "./measure.ts";
import { type Place, prepareCache } from "./places.ts";
import type { MemoryPeak } from "./process-memory.ts";
import type { CellResult, ToolResult } from "./result-file.ts";
import type { BenchService } from "./service.ts";
import { median, present, ratioSummary, spread } from "./statistics.ts";

export interface CellRunOptions {
  readonly cell: Cell;
  readonly place: Place;
  readonly tools: readonly Tool[];
  readonly runs: number;
  readonly programs: Programs;
  readonly service: BenchService | null;
  /** On the clock of performance.now(): no round begins that would end later; the first always does. */
  readonly deadlineMs: number;
  readonly say: (line: string) => void;
}

interface Record {
  readonly tool: Tool;
  readonly runs: (Run | null)[];
  memory: MemoryPeak | null;
  differences: readonly string[];
}

/** Measures a cell. Failures are in the result; this throws only where the ground itself fails. */
export async function runCell(options: CellRunOptions): Promise<CellResult> {
  const { cell, place, tools } = options;
  const records = tools.map((tool): Record => ({ tool, runs: [], memory: null, differences: [] }));
  const failures: string[] = [];
  let bytes = 0;
  for (const record of records) bytes = Math.max(bytes, await oneRun(options, record, "rehearsal", failures));
  const rounds = Math.max(options.runs, cell.minRuns);
  let longestMs = 0;
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    if (round > 0 && start + longestMs > options.deadlineMs) {
      options.say(`${cell.id}: ${round} of ${rounds} rounds: no time for more`);
      break;
    }
    // Who runs first, and after whom, changes: neither is an advantage.
    for (let turn = 0; turn < records.length; turn++) {
      const record = records[(turn + round) % records.length];
      if (record !== undefined) await oneRun(options, record, round, failures);
    }
    longestMs = Math.max(longestMs, performance.now() - start);
  }
  return {
    id: cell.id,
    title: cell.workload.title,
    place: place.description,
    cache: cell.cache,
    bytes,
    tools: toolResults(records, bytes),
    failures,
  };
}

/** One run on fresh ground: prepared, measured, compared. The source's size in bytes. */
async function oneRun(options: CellRunOptions, record: Record, round: number | "rehearsal", failures: string[]): Promise<number> {
  const { cell, place, service, programs, say } = options;
  const { tool } = record;
  const isOurs = tool.role === "copyd" || tool.role === "service";
  await using site = await place.fresh(cell.workload);
  await prepareCache(cell.cache, site.source, programsOf(tool, programs));
  const outcome = await measureRun({
    tool,
    site,
    programs,
    repeat: cell.repeat,
    memory: round === "rehearsal" ? "watch" : "ignore",
    service: tool.role === "service" ? service : null,
  });
  const where = `${cell.id}, ${tool.name}, ${round === "rehearsal" ? "rehearsal" : `run ${round + 1}`}`;
  if (outcome.ok) say(`${where}: ${outcome.run.seconds.toFixed(3)} s`);
  const problems: string[] = [];
  if (!outcome.ok) problems.push(outcome.reason);
  else if (isOurs || round === "rehearsal") {
    const found = await comparison(cell, site.source, site.destination(0));
    if (round === "rehearsal") record.differences = found;
    // What cp and the rivals leave out is told, not judged.
    if (isOurs) problems.push(...found);
  }
  if (outcome.ok && tool.role === "service" && !(await service?.completed(site.destination(0)))) {
    problems.push("the service does not know of this copy: it was made without it");
  }
  if (outcome.ok) record.memory ??= outcome.memory;
  if (round !== "rehearsal") record.runs[round] = problems.length === 0 && outcome.ok ? outcome.run : null;
  if (problems.length > 0) report(tool, where, problems, { failures, say, outcome });
  return site.sourceBytes;
}

interface ReportContext {
  readonly failures: string[];
  readonly say: (line: string) => void;
  readonly outcome: RunOutcome;
}

function report(tool: Tool, where: string, problems: readonly string[], { failures, say }: ReportContext): void {
  const line = `${where}: ${problems.slice(0, 5).join("; ")}${problems.length > 5 ? ` and ${problems.length - 5} more` : ""}`;
  say(`FAILED: ${line}`);
  // A rival that fails loses; it does not fail us.
  if (tool.role !== "rival") failures.push(line);
}

/** What is not the same in the copy, as rsync -aHAXnic --delete and our own look say. */
async function comparison(cell: Cell, source: string, destination: string): Promise<string[]> {
  const withoutPlace = (line: string): string => line.replaceAll(source, "{src}").replaceAll(destination, "{dst}");
  if (cell.workload.kind === "tree") {
    return (await compareTrees(source, destination, { holes: "any", timeoutMs: 600_000 })).map(withoutPlace);
  }
  const { stdout, stderr, status } = await runCommand(["rsync", "-aHAXnic", source, destination], { timeoutMs: 600_000 });
  const lines = `${stdout}${stderr}`.split("\n").filter((line) => line !== "");
  if (status !== 0) lines.unshift(`rsync ended with ${status}`);
  return lines.map((line) => withoutPlace(`rsync: ${line}`));
}

/** The files of the programs that a tool starts. */
function programsOf(tool: Tool, programs: Programs): string[] {
  const names = tool.steps.flatMap((step) => (step.kind === "run" ? [step.command[0] ?? ""] : []));
  return names.flatMap((name) => programs[name] ?? Bun.which(name) ?? []);
}

function toolResults(records: readonly Record[], bytes: number): ToolResult[] {
  const secondsOf = ({ runs }: Record): (number | null)[] => Array.from(runs, (run) => run?.seconds ?? null);
  const baseline = records.find(({ tool }) => tool.role === "baseline");
  return records.map((record) => {
    const seconds = present(secondsOf(record));
    const hasRuns = seconds.length > 0;
    const cpu = median(record.runs.flatMap((run) => (run === null ? [] : [run.userSeconds + run.systemSeconds])));
    const ratio = baseline === undefined || baseline === record ? null : ratioSummary(secondsOf(baseline), secondsOf(record));
    return {
      name: record.tool.name,
      role: record.tool.role,
      command: shownCommand(record.tool),
      runs: Array.from(record.runs, (run) => run ?? null),
      seconds: hasRuns ? median(seconds) : null,
      secondsSpread: hasRuns ? spread(seconds) : null,
      cpuSeconds: hasRuns ? cpu : null,
      cpuSecondsPerGigabyte: hasRuns && bytes > 0 ? cpu / (bytes / 1e9) : null,
      ratio: ratio === null || Number.isNaN(ratio.ofMedians) || Number.isNaN(ratio.ofPairs) ? null : ratio,
      peakPssBytes: record.memory?.pssBytes ?? null,
      peakRssBytes: record.memory?.rssBytes ?? null,
      differences: record.differences.slice(0, 3),
    };
  });
}
