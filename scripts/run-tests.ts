// Runs every test, part by part and two parts at a time, says what bun test says, repeats what it said of tests that failed, and ends with
// one line: N passed, N failed, N skipped.

import { readdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join, relative } from "node:path";

const root = join(import.meta.dir, "..");
/** The whole run, milliseconds; what is still running then is ended and counts as failed. */
const runTimeoutMs = 45 * 60_000;
/** Most tests wait for something, so two parts together take little more than half the time. */
const parallelParts = Math.min(2, availableParallelism());
/** The longest first, so that no part is left to run alone at the end. */
const longParts = ["tests/recovery", "tests/conformance", "tests/service", "tests/jobs"];
/** One test, milliseconds, where it does not say otherwise: generous, because machines are busy. */
const testTimeoutMs = 60_000;

interface Count {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/** What is repeated of a test that failed, lines, and of how many tests: a log's end is what people are shown. */
const maxRepeatedLines = 60;
const maxRepeatedTests = 20;

const noTests: Count = { passed: 0, failed: 0, skipped: 0 };

/** Folders and files of tests/ are the parts: a crash in one is one failure and does not hide the others' results. */
function partsOf(patterns: readonly string[]): string[] {
  const tests = join(root, "tests");
  const parts = readdirSync(tests, { withFileTypes: true })
    .filter((entry) => (entry.isDirectory() ? hasTests(join(tests, entry.name)) : entry.name.endsWith(".test.ts")))
    .map((entry) => relative(root, join(tests, entry.name)))
    .sort((one, other) => rankOf(one) - rankOf(other) || (one < other ? -1 : 1));
  return patterns.length === 0 ? parts : parts.filter((part) => patterns.some((pattern) => part.includes(pattern)));
}

function rankOf(part: string): number {
  const index = longParts.indexOf(part);
  return index < 0 ? longParts.length : index;
}

function hasTests(directory: string): boolean {
  return readdirSync(directory, { recursive: true }).some((name) => String(name).endsWith(".test.ts"));
}

async function runPart(part: string, deadlineMs: number): Promise<Count> {
  const startedMs = performance.now();
  const leftMs = deadlineMs - performance.now();
  if (leftMs <= 0) return { ...noTests, failed: failure(part, "not run: the whole run took too long") };
  const child = Bun.spawn([process.execPath, "test", `--timeout=${testTimeoutMs}`, `./${part}`], {
    cwd: root,
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    timeout: Math.ceil(leftMs),
    killSignal: "SIGKILL",
    env: { ...process.env, NO_COLOR: "1", FORCE_COLOR: "0" },
  });
  // The summary is on standard error; standard output is whatever the tests print.
  const output: Output = { chunks: [], summary: "" };
  const streams = Promise.all([collect(child.stderr, output, "summary"), collect(child.stdout, output, "other")]);
  // A process that a test left behind may hold the streams open: it does not hold up the run.
  await child.exited;
  await Promise.race([streams, Bun.sleep(5_000)]);
  // Together, when it is over: two parts at a time would be read like one.
  const text = output.chunks.join("");
  process.stdout.write(`\n== ${part}\n${text}`);
  failures.push(...failuresIn(text));
  const count = countOf(part, output.summary, child.exitCode, child.signalCode === null ? null : String(child.signalCode));
  console.log(`== ${part}: ${Math.round((performance.now() - startedMs) / 1000)} s`);
  return count;
}

interface Output {
  /** As they came, of both streams. */
  readonly chunks: string[];
  /** The end of standard error. */
  summary: string;
}

async function collect(stream: ReadableStream<Uint8Array>, output: Output, kind: "summary" | "other"): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) {
    const text = decoder.decode(chunk, { stream: true });
    output.chunks.push(text);
    if (kind === "summary") output.summary = (output.summary + text).slice(-4096);
  }
}

function countOf(part: string, output: string, exitCode: number | null, signal: string | null): Count {
  const number = (word: string): number => Number([...output.matchAll(new RegExp(`^ *(\\d+) ${word}$`, "gm"))].at(-1)?.[1] ?? 0);
  const count: Count = { passed: number("pass"), failed: number("fail"), skipped: number("skip") + number("todo") };
  if (signal !== null) return { ...count, failed: count.failed + failure(part, `bun test was ended by ${signal}`) };
  if (!/^Ran \d+ tests?/m.test(output)) return { ...count, failed: count.failed + failure(part, "bun test ended without a summary") };
  if (exitCode !== 0 && count.failed === 0) return { ...count, failed: failure(part, `bun test ended with ${exitCode}`) };
  return count;
}

/** What was said of each test that failed, up to the line that says so. */
function failuresIn(output: string): string[] {
  const found: string[] = [];
  let lines: string[] = [];
  // At its end bun names those that failed once more.
  const [said = ""] = output.split(/\n\d+ tests? failed:\n/);
  for (const line of said.split("\n")) {
    lines.push(line);
    if (line.startsWith("(fail) ")) found.push(lines.slice(-maxRepeatedLines).join("\n"));
    if (/^\((fail|pass|skip|todo)\) /.test(line)) lines = [];
  }
  return found;
}

/** Says why something besides a test failed; one failure. */
function failure(part: string, why: string): number {
  console.log(`(fail) ${part}: ${why}`);
  return 1;
}

const startMs = performance.now();
const total = { passed: 0, failed: 0, skipped: 0 };
const failedParts: string[] = [];
const failures: string[] = [];
const waiting = partsOf(process.argv.slice(2));

async function runParts(): Promise<void> {
  for (let part = waiting.shift(); part !== undefined; part = waiting.shift()) {
    console.log(`-- ${part} begins`);
    const count = await runPart(part, startMs + runTimeoutMs);
    total.passed += count.passed;
    total.failed += count.failed;
    total.skipped += count.skipped;
    if (count.failed > 0) failedParts.push(part);
  }
}

await Promise.all(Array.from({ length: parallelParts }, runParts));
if (total.passed + total.failed === 0) total.failed += failure("tests", "no test ran");
for (const failure of failures.slice(0, maxRepeatedTests)) console.log(`\n${failure}`);
if (failedParts.length > 0) console.log(`\nFailed: ${failedParts.join(", ")}`);
console.log(`\n${Math.round((performance.now() - startMs) / 1000)} s`);
console.log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed === 0 ? 0 : 1;
// A stream that a left-over process holds open would keep this one alive too.
process.stdout.end(() => process.exit());
