// Side by side with cp and rsync on fresh filesystems: copyd's time against theirs, as medians of ratios within each round.
//
//   bun bench/run.ts [--filesystems=ext4,xfs,btrfs,tmpfs] [--files=20000] [--megabytes=512] [--rounds=3] [--save] [--check]
//
// Needs root, for the filesystems, and dist/copyd (make bench builds it). --save writes bench/results/DATE.json and makes it the
// baseline; --check fails where copyd's ratio to cp fell below 0.85 of the baseline's.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { type FilesystemKind, filesystemKinds, mountFilesystem, whyNoFilesystem } from "../tests/support/filesystems.ts";
import { havePrograms, runChecked } from "../tests/support/process.ts";
import { contentOf } from "../tests/support/tree.ts";

const root = join(import.meta.dir, "..");
const copyd = join(root, "dist/copyd");
const baselinePath = join(import.meta.dir, "baseline.json");
/** A ratio this much below the baseline's is a regression; less is the machine's noise. */
const tolerance = 0.85;

const { values } = parseArgs({
  options: {
    filesystems: { type: "string", default: filesystemKinds.join(",") },
    files: { type: "string", default: "20000" },
    megabytes: { type: "string", default: "512" },
    rounds: { type: "string", default: "3" },
    save: { type: "boolean", default: false },
    check: { type: "boolean", default: false },
  },
});

interface Tool {
  readonly name: string;
  readonly command: (source: string, destination: string) => readonly string[];
}

const tools: readonly Tool[] = [
  { name: "copyd", command: (source, destination) => [copyd, "cp", "-a", "--local", source, destination] },
  { name: "cp", command: (source, destination) => ["cp", "-a", source, destination] },
  ...(havePrograms("rsync") ? [{ name: "rsync", command: (from: string, to: string) => ["rsync", "-aHAX", `${from}/`, to] }] : []),
];

interface Workload {
  readonly name: string;
  readonly make: (path: string) => void;
}

const fileCount = Number(values.files);
const bigBytes = Number(values.megabytes) * 1024 * 1024;
const workloads: readonly Workload[] = [
  { name: `${fileCount} files of 0.5 to 60 kB`, make: makeTree },
  { name: `one file of ${values.megabytes} MiB`, make: (path) => writeFileSync(`${path}/big`, contentOf(1, bigBytes)) },
];

function makeTree(path: string): void {
  for (let index = 0; index < fileCount; index++) {
    const directory = `${path}/${index % 10}/${Math.floor(index / 10) % 20}`;
    if (index < 200) mkdirSync(directory, { recursive: true });
    // Sizes as in source trees: most small, the mean about 12 kB.
    const sizeBytes = 500 + Math.floor(59_500 * ((index * 7919) % 1000) ** 3 * 1e-9);
    writeFileSync(`${directory}/file-${index}`, contentOf(index, sizeBytes));
  }
}

interface Result {
  readonly filesystem: FilesystemKind;
  readonly workload: string;
  /** Median seconds by tool. */
  readonly seconds: Readonly<Record<string, number>>;
  /** Median over the rounds of (that tool's seconds / copyd's): above 1, copyd is faster. */
  readonly ratios: Readonly<Record<string, number>>;
}

async function measure(kind: FilesystemKind, workload: Workload, rounds: number): Promise<Result> {
  const times = new Map(tools.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    // Fresh each round, and the order rotates: ext4 searches for inodes freed a moment ago, and the first to run warms the memory.
    await using filesystem = await mountFilesystem(kind, { sizeBytes: Math.max(4 * 1024 ** 3, 6 * bigBytes) });
    const source = `${filesystem.path}/source`;
    mkdirSync(source);
    workload.make(source);
    await runChecked(["sync", "-f", filesystem.path]);
    await runChecked(["sh", "-c", `find ${source} -type f -exec cat {} + | wc -c`]);
    for (let turn = 0; turn < tools.length; turn++) {
      const tool = tools[(turn + round) % tools.length];
      if (tool === undefined) continue;
      const start = performance.now();
      await runChecked(tool.command(source, `${filesystem.path}/${tool.name}`), { timeoutMs: 600_000 });
      times.get(tool.name)?.push((performance.now() - start) / 1000);
      await runChecked(["sync", "-f", filesystem.path]);
    }
  }
  const own = times.get("copyd") ?? [];
  const seconds: Record<string, number> = {};
  const ratios: Record<string, number> = {};
  for (const [name, list] of times) {
    seconds[name] = rounded(median(list));
    if (name !== "copyd") ratios[name] = rounded(median(list.map((time, round) => time / (own[round] ?? Number.NaN))));
  }
  return { filesystem: kind, workload: workload.name, seconds, ratios };
}

function median(list: readonly number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** The results that fell behind the baseline, as sentences. */
function regressions(results: readonly Result[]): string[] {
  if (!existsSync(baselinePath)) return [`there is no baseline: run \`bun bench/run.ts --save\` first (${baselinePath})`];
  const baseline: readonly Result[] = JSON.parse(readFileSync(baselinePath, "utf8")).results;
  return results.flatMap(({ filesystem, workload, ratios }) => {
    const before = baseline.find((result) => result.filesystem === filesystem && result.workload === workload)?.ratios.cp;
    const now = ratios.cp ?? 0;
    if (before === undefined || now >= before * tolerance) return [];
    return [`${filesystem}, ${workload}: ${now} times cp, it was ${before}`];
  });
}

function save(results: readonly Result[]): void {
  const date = new Date().toISOString().slice(0, 10);
  const machine = { processors: cpus().length, model: cpus()[0]?.model ?? "", memoryBytes: totalmem() };
  const report = {
    date,
    machine,
    kernel: readFileSync("/proc/version", "utf8").split(" ")[2] ?? "",
    rounds: Number(values.rounds),
    results,
  };
  const text = `${JSON.stringify(report, null, 2)}\n`;
  mkdirSync(join(import.meta.dir, "results"), { recursive: true });
  writeFileSync(join(import.meta.dir, "results", `${date}.json`), text);
  writeFileSync(baselinePath, text);
}

const results: Result[] = [];
for (const name of values.filesystems.split(",")) {
  const kind = filesystemKinds.find((known) => known === name);
  const reason = kind === undefined ? `there is no filesystem ${name} here: ${filesystemKinds.join(", ")}` : whyNoFilesystem(kind);
  if (kind === undefined || reason !== null) {
    console.log(`${name}: left out: ${reason}`);
    continue;
  }
  for (const workload of workloads) {
    const result = await measure(kind, workload, Number(values.rounds));
    results.push(result);
    const others = Object.entries(result.ratios).map(([tool, ratio]) => `${ratio.toFixed(2)} times ${tool} (${result.seconds[tool]} s)`);
    console.log(`${kind}, ${workload.name}: copyd ${result.seconds.copyd} s, ${others.join(", ")}`);
  }
}
if (values.save) save(results);
if (values.check) {
  const problems = regressions(results);
  for (const problem of problems) console.error(`slower: ${problem}`);
  if (problems.length > 0) process.exitCode = 1;
}
