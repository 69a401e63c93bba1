// Every system call of a small copy fails once: a true message and status, no half file under a final name, nothing left over, no hang.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { advisory, type Call, callsIn, errnos, runTraced, untruths } from "./one-failed-call.ts";

const root = join(import.meta.dir, "../..");
const timeoutMs = 30_000;

interface Scenario {
  readonly name: string;
  readonly options: readonly string[];
  /** Makes what stands at the destination beforehand. */
  readonly before: (destination: string) => void;
}

const old = "old contents\n".repeat(50);
const scenarios: readonly Scenario[] = [
  { name: "a new tree", options: ["-a"], before: () => undefined },
  { name: "a tree into directories that exist", options: ["-a", "-T"], before: (path) => mkdirSync(`${path}/sub`, { recursive: true }) },
  {
    name: "over old files, with backups and every file flushed",
    options: ["-a", "-T", "-b", "--durability=file"],
    before: (path) => {
      mkdirSync(`${path}/sub`, { recursive: true });
      for (const name of ["file", "sub/other", "link"]) writeFileSync(`${path}/${name}`, old);
    },
  },
];

const sources: Readonly<Record<string, string>> = { file: "hello\n".repeat(1000), "sub/other": "other\n", "sub/empty": "" };

let directory: TemporaryDirectory;
let copyd = "";

beforeAll(async () => {
  await runChecked(["make", "build"], { cwd: root, timeoutMs: 200_000 });
  copyd = process.env.COPYD_BINARY ?? join(root, "dist/copyd");
  directory = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  const source = `${directory.path}/source`;
  mkdirSync(`${source}/sub`, { recursive: true });
  for (const [name, content] of Object.entries(sources)) writeFileSync(`${source}/${name}`, content);
  await runChecked(["sh", "-c", "ln file sub/hard; ln -s file link; mkfifo fifo; chown 1:1 sub/other; chmod 640 file"], { cwd: source });
}, 240_000);
afterAll(async () => {
  await directory[Symbol.asyncDispose]();
});

describeUnless(firstReason(unlessRoot(), havePrograms("strace") ? null : "strace is not installed"), "one call fails", () => {
  for (const scenario of scenarios) {
    test(scenario.name, async () => {
      const calls = callsIn((await copyUnder(scenario)).traced.trace);
      expect(calls.length).toBeGreaterThan(40);
      const complaints: string[] = [];
      for (const call of calls) {
        for (const errno of errnos[call.syscall] ?? ["EIO"]) {
          const problems = await disturbed(scenario, call, errno);
          complaints.push(...problems.map((problem) => `${call.syscall} number ${call.ordinal} with ${errno}: ${problem}`));
        }
      }
      expect(complaints).toEqual([]);
    }, 600_000);
  }
});

async function copyUnder(scenario: Scenario, failing?: Call & { readonly errno: string }) {
  const { path } = directory;
  const destination = `${path}/destination`;
  rmSync(destination, { recursive: true, force: true });
  scenario.before(destination);
  const entries = ["", "/file", "/link", "/fifo", "/sub", "/sub/other", "/sub/empty", "/sub/hard"];
  const watched = [path, ...entries.flatMap((name) => [`${path}/source${name}`, `${destination}${name}`])];
  const command = [copyd, "cp", "--local", "--lanes=1", ...scenario.options, `${path}/source`, destination];
  const traced = await runTraced(command, { watched, tracePath: `${path}/trace`, ...(failing === undefined ? {} : { failing }) });
  return { traced, destination };
}

async function disturbed(scenario: Scenario, call: Call, errno: string): Promise<string[]> {
  const { traced, destination } = await copyUnder(scenario, { ...call, errno });
  if (traced.timedOut) return ["it hangs"];
  if (!traced.trace.includes("(INJECTED)")) return [];
  const problems = [...leftOver(scenario, destination), ...untruths(traced, errno)];
  if (traced.status === 0 && !advisory.has(call.syscall))
    problems.push(...(await incomplete(destination)).map((what) => `it says all is well, but ${what}`));
  return problems;
}

/** Half files under final names, and temporary names. */
function leftOver(scenario: Scenario, destination: string): string[] {
  const problems: string[] = [];
  if (!existsSync(destination)) return problems;
  for (const name of readdirSync(destination, { recursive: true }).map(String)) {
    if (name.includes(".copyd-")) problems.push(`${name} is left over`);
    const content = sources[name.replace("hard", "../file").replace("sub/../", "").replace(/~$/, "")];
    if (content === undefined || !lstatSync(`${destination}/${name}`).isFile()) continue;
    const found = readFileSync(`${destination}/${name}`, "utf8");
    if (found !== content && !(scenario.options.includes("-b") && found === old))
      problems.push(`${name} is a half file of ${found.length}`);
  }
  return problems;
}

/** In what the copy is not the source. */
async function incomplete(destination: string): Promise<string[]> {
  const exclude = ["--exclude=*~"];
  const result = await run(["rsync", "-aHAXnic", "--delete", ...exclude, `${directory.path}/source/`, `${destination}/`], { timeoutMs });
  return `${result.stdout}${result.stderr}`.split("\n").filter((line) => line !== "");
}
