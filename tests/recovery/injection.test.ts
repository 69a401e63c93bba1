// Every system call of a small copy fails once: a true message and status, no half file under a final name, nothing left over, no hang.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const root = join(import.meta.dir, "../..");
const timeoutMs = 30_000;

/** What each call is made to answer; the others EIO. Of ioctl and copy_file_range these are errors and no refusals. */
const errnos: Readonly<Record<string, readonly string[]>> = {
  openat: ["EACCES", "EMFILE"],
  openat2: ["ENFILE"],
  mkdirat: ["ENOSPC"],
  pwrite64: ["ENOSPC", "EIO"],
  linkat: ["EPERM"],
  symlinkat: ["EDQUOT"],
  mknodat: ["EPERM"],
  renameat2: ["EXDEV"],
  unlinkat: ["EBUSY"],
  fchmod: ["EPERM"],
  fchownat: ["EPERM"],
  close: ["EIO"],
};
const texts: Readonly<Record<string, string>> = {
  EACCES: "Permission denied",
  EMFILE: "Too many open files",
  ENFILE: "Too many open files in system",
  ENOSPC: "No space left on device",
  EIO: "Input/output error",
  EPERM: "Operation not permitted",
  EDQUOT: "Disk quota exceeded",
  EXDEV: "Invalid cross-device link",
  EBUSY: "Device or resource busy",
};
/** Calls that only inform: their failure costs speed or a check, and the copy goes on. */
const advisory = new Set(["fstatfs", "fallocate", "lseek", "fadvise64", "readlink"]);

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
      const calls = await callsOf(scenario);
      expect(calls.length).toBeGreaterThan(40);
      const complaints: string[] = [];
      for (const { syscall, ordinal } of calls) {
        for (const errno of errnos[syscall] ?? ["EIO"]) {
          const problems = await disturbed(scenario, syscall, ordinal, errno);
          complaints.push(...problems.map((problem) => `${syscall} number ${ordinal} with ${errno}: ${problem}`));
        }
      }
      expect(complaints).toEqual([]);
    }, 600_000);
  }
});

interface Call {
  readonly syscall: string;
  /** The how-manieth of its kind. */
  readonly ordinal: number;
}

/** The calls that an undisturbed copy makes on its files, in order: strace counts them by path and thread, and one lane makes them all. */
async function callsOf(scenario: Scenario): Promise<Call[]> {
  const { trace } = await copyUnder(scenario, []);
  const counts = new Map<string, number>();
  const calls: Call[] = [];
  for (const line of trace.split("\n")) {
    const syscall = /^\d+ +(\w+)\(/.exec(line)?.[1];
    if (syscall === undefined) continue;
    const ordinal = (counts.get(syscall) ?? 0) + 1;
    counts.set(syscall, ordinal);
    calls.push({ syscall, ordinal });
  }
  return calls;
}

async function copyUnder(scenario: Scenario, inject: readonly string[]) {
  const { path } = directory;
  const destination = `${path}/destination`;
  rmSync(destination, { recursive: true, force: true });
  scenario.before(destination);
  const entries = ["", "/file", "/link", "/fifo", "/sub", "/sub/other", "/sub/empty", "/sub/hard"];
  const watched = [path, ...entries.flatMap((name) => [`${path}/source${name}`, `${destination}${name}`])];
  const paths = watched.flatMap((each) => ["-P", each]);
  const command = ["strace", "-f", "-qq", "-o", `${path}/trace`, ...paths, ...inject, copyd, "cp", "--local", "--lanes=1"];
  const env = { PATH: "/usr/bin:/bin", LC_ALL: "C", HOME: "/" };
  const result = await run([...command, ...scenario.options, `${path}/source`, destination], { cwd: "/", env, timeoutMs });
  return { ...result, destination, trace: readFileSync(`${path}/trace`, "latin1") };
}

async function disturbed(scenario: Scenario, syscall: string, ordinal: number, errno: string): Promise<string[]> {
  const { status, stderr, destination, trace, timedOut } = await copyUnder(scenario, [
    "-e",
    `inject=${syscall}:error=${errno}:when=${ordinal}`,
  ]);
  if (timedOut) return ["it hangs"];
  if (!trace.includes("(INJECTED)")) return [];
  const problems = leftOver(scenario, destination);
  if (status !== 0 && status !== 1) problems.push(`it ended with ${status}: ${stderr}`);
  const text = texts[errno] ?? errno;
  if (status === 1 && !stderr.includes(text)) problems.push(`it does not say "${text}": ${stderr.trim()}`);
  if (status === 0 && !advisory.has(syscall))
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
