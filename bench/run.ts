// The benchmarks: copyd beside cp and whoever else there is, cell by cell of the matrix, on fresh filesystems.
//
//   make bench [QUICK=1] [ARGS='--only ext4/small,tmpfs/flat --runs 3 --rival "cpz=cpz -r {src} {dst}"']
//
// Needs root, for the filesystems, and a machine with nothing else to do. bench/README.md says how to read it.

import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { compiledProgram } from "../tests/support/compiled.ts";
import { unlessRoot } from "../tests/support/skip.ts";
import { temporaryDirectory } from "../tests/support/temporary.ts";
import { runCell } from "./cell-run.ts";
import { type Cell, type Programs, type Tool, toolsOf } from "./cells.ts";
import { checkResult, doubtsAbout, quietLoad } from "./check.ts";
import { holdMemory } from "./held-memory.ts";
import { loadNow, machineFacts, versionFacts } from "./machine.ts";
import { type BenchOptions, parseOptions, usage } from "./options.ts";
import { type Ground, imageBytesFor, memoryBytesFor, openPlace, whyNotHere } from "./places.ts";
import { floorLines, markdownReport, textTable } from "./report.ts";
import { type BenchResult, newestResult, writeResult } from "./result-file.ts";
import { type BenchService, startBenchService } from "./service.ts";
import { whyNotBuilt } from "./unbuilt.ts";

async function main(argv: readonly string[]): Promise<number> {
  let options: BenchOptions;
  try {
    options = parseOptions(argv);
  } catch (error) {
    process.stderr.write(`bench: ${error instanceof Error ? error.message : error}\n${usage}`);
    return 2;
  }
  if (options.help) process.stdout.write(usage);
  else if (options.list) for (const { id, workload } of options.cells) console.log(`${id.padEnd(18)} ${workload.title}`);
  else if (options.check) return check(options.results);
  else if (unlessRoot() === null && process.env[namespaceVariable] === undefined) return await inOwnNamespace(argv);
  else return await bench({ ...options, copyd: resolve(options.copyd) });
  return 0;
}

const namespaceVariable = "COPYD_BENCH_NAMESPACE";

/**
 * Runs us again where nobody sees our mounts: a container that somebody starts meanwhile would take a copy of each along and keep
 * the filesystem in use that is to be made anew. They also go when we do, whatever ends us.
 */
async function inOwnNamespace(argv: readonly string[]): Promise<number> {
  const command = ["unshare", "--mount", "--propagation", "private", process.execPath, import.meta.filename, ...argv];
  const child = Bun.spawn(command, { stdio: ["inherit", "inherit", "inherit"], env: { ...process.env, [namespaceVariable]: "1" } });
  const pass = (signal: NodeJS.Signals): void => void process.on(signal, () => child.kill(signal));
  pass("SIGINT");
  pass("SIGTERM");
  return await child.exited;
}

async function bench(options: BenchOptions): Promise<number> {
  const reason = unlessRoot() ?? (existsSync(options.copyd) ? null : `${options.copyd} is not there: make build`);
  if (reason !== null) {
    process.stderr.write(`bench: ${reason}\n`);
    return 2;
  }
  const tools = options.cells.flatMap((cell) => toolsOf(cell, options));
  const absent = missingPrograms(tools);
  if (absent.length > 0) {
    process.stderr.write(`bench: not installed: ${absent.join(", ")}\n`);
    return 2;
  }
  const programs: Record<string, string> = { "{copyd}": options.copyd };
  if (options.native) programs["{native}"] = await compiledProgram(join(import.meta.dir, "native.c"), ["-std=c11"], ["-lpthread"]);
  const start = performance.now();
  const before = loadNow();
  if (before > quietLoad) console.log(`The load is ${before.toFixed(1)}: somebody else is at work here, and the numbers will show it.`);
  await using directory = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  await using service = options.service ? await startBenchService(options.copyd) : null;
  const ground: Ground = { directory: directory.path, disk: options.disk, imageBytes: imageBytesFor(options.cells) };
  const result: BenchResult = {
    format: 1,
    date: new Date().toISOString(),
    label: options.label,
    ...machineFacts(),
    versions: await versionFacts(options.copyd, tools),
    runs: options.runs,
    load: { before, after: before },
    cells: [],
    skipped: [],
  };
  using _held = holdMemory(memoryBytesFor(options.cells) + ground.imageBytes);
  // After every cell: hours of measuring are not lost with the last of them.
  const save = (): string => {
    result.load.after = loadNow();
    return writeResult(options.results, result, markdownReport(result));
  };
  const grounded = await runCells({ programs, options, ground, service, startMs: start, result, save });
  const path = save();
  console.log(`\n${textTable(result)}\n\n${floorLines(result).join("\n")}`);
  for (const { cell, reason: why } of result.skipped) console.log(`not measured: ${cell}: ${why}`);
  console.log(`\n${Math.round((performance.now() - start) / 1000)} s; written to ${path}.md and .json`);
  return grounded && result.cells.every(({ failures }) => failures.length === 0) ? 0 : 1;
}

/** Programs of named rivals that are not there: better known now than in the last cell. */
function missingPrograms(tools: readonly Tool[]): string[] {
  const programs = tools.flatMap(({ steps }) => steps.flatMap((step) => (step.kind === "run" ? [step.command[0] ?? ""] : [])));
  return [...new Set(programs)].filter((program) => !program.startsWith("{") && Bun.which(program) === null);
}

interface CellsRun {
  readonly programs: Programs;
  readonly options: BenchOptions;
  readonly ground: Ground;
  readonly service: BenchService | null;
  readonly startMs: number;
  readonly result: BenchResult;
  readonly save: () => string;
}

/** Measures cell after cell into the result. False where the ground of one failed, which is no fault of copyd's but no result either. */
async function runCells({ programs, options, ground, service, startMs, result, save }: CellsRun): Promise<boolean> {
  const endMs = options.deadlineSeconds === null ? Number.POSITIVE_INFINITY : startMs + options.deadlineSeconds * 1000;
  let grounded = true;
  const leaveOut = (cell: string, reason: string): void => {
    console.log(`${cell}: left out: ${reason}`);
    result.skipped.push({ cell, reason });
  };
  for (const [index, cell] of options.cells.entries()) {
    const reason = performance.now() > endMs ? "no time was left" : (whyNotHere(cell, ground) ?? (await whyNotBuilt(cell, options.copyd)));
    if (reason !== null) {
      leaveOut(cell.id, reason);
      continue;
    }
    // What time is left is shared out evenly; a cell that needs less leaves it to the rest.
    const deadlineMs = performance.now() + (endMs - performance.now()) / (options.cells.length - index);
    try {
      result.cells.push(await measureCell({ options, programs, ground, service }, cell, deadlineMs));
    } catch (error) {
      grounded = false;
      leaveOut(cell.id, `it could not be carried through: ${(error instanceof Error ? error.message : String(error)).split("\n")[0]}`);
    }
    save();
  }
  return grounded;
}

async function measureCell(
  { options, programs, ground, service }: Pick<CellsRun, "options" | "programs" | "ground" | "service">,
  cell: Cell,
  deadlineMs: number,
): Promise<BenchResult["cells"][number]> {
  const { runs } = options;
  await using place = await openPlace(cell, ground);
  return await runCell({
    cell,
    place,
    tools: toolsOf(cell, options),
    runs,
    programs,
    service,
    deadlineMs,
    say: (line) => console.log(line),
  });
}

/** `make bench-check`: 0 where no floor is missed by more than the noise. */
function check(directory: string): number {
  const newest = newestResult(directory);
  if (newest === null) {
    process.stderr.write(`bench: there is no result in ${directory}: make bench\n`);
    return 1;
  }
  const { name, result } = newest;
  const checks = checkResult(result);
  console.log(`${name}, commit ${result.versions.commit ?? "unknown"}:`);
  for (const doubt of doubtsAbout(result)) console.log(`  careful: ${doubt}`);
  for (const line of floorLines(result)) console.log(`  ${line}`);
  const absent = checks.filter(({ verdict }) => verdict === "not-measured");
  for (const { cell, words } of absent) console.log(`  not measured: ${cell}: ${words}`);
  const missed = checks.filter(({ verdict }) => verdict === "missed").length;
  const measured = checks.length - absent.length - missed;
  console.log(`${measured} reached, ${missed} missed, ${absent.length} not measured`);
  return missed > 0 || measured === 0 ? 1 : 0;
}

process.exitCode = await main(process.argv.slice(2));
