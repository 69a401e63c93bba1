// Every system call of a small move fails once: nothing is lost, no half file has a final name, and message and status are true.
//
// A part of the failures by turns of the day; COPYD_TORTURE=1 tries all of them.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { mountFilesystem, type TestFilesystem } from "../support/filesystems.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { advisory, type Call, callsIn, errnos, runTraced, texts, untruths } from "./one-failed-call.ts";

const root = join(import.meta.dir, "../..");
/** Of each so many failures one is tried. */
const stride = process.env.COPYD_TORTURE === undefined ? 12 : 1;
const today = Math.floor(Date.now() / 86_400_000);

interface Scenario {
  readonly name: string;
  readonly options: readonly string[];
  readonly sources: readonly string[];
  readonly across: boolean;
  /** The target directory holds old files, and a directory that is in the way. */
  readonly overOld: boolean;
}

const scenarios: readonly Scenario[] = [
  { name: "a rename", options: ["-T"], sources: ["tree"], across: false, overOld: false },
  { name: "renames over old files, with backups", options: ["-b"], sources: ["one", "two", "tree"], across: false, overOld: true },
  { name: "across filesystems", options: ["-T"], sources: ["tree"], across: true, overOld: false },
  { name: "across filesystems, verified", options: ["-T", "--verify"], sources: ["tree"], across: true, overOld: false },
  { name: "across filesystems over old files", options: ["-f"], sources: ["one", "two", "link"], across: true, overOld: true },
  { name: "across, over old ones, with backups", options: ["-b"], sources: ["one", "two", "tree"], across: true, overOld: true },
];

const old = "old contents\n".repeat(50);
/** What stands at the source, by the name below it. */
const contents: Readonly<Record<string, string>> = {
  one: "hello\n".repeat(1000),
  two: "hello\n".repeat(1000),
  "tree/file": "file\n".repeat(3000),
  "tree/hard": "file\n".repeat(3000),
  "tree/sub/other": "other\n",
  "tree/sub/empty": "",
};

let home: TemporaryDirectory;
let other: TestFilesystem;
let copyd = "";

beforeAll(async () => {
  if (unlessRoot() !== null) return;
  await runChecked(["make", "build"], { cwd: root, timeoutMs: 200_000 });
  copyd = process.env.COPYD_BINARY ?? join(root, "dist/copyd");
  home = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  other = await mountFilesystem("tmpfs");
  mkdirSync(`${home.path}/template/tree/sub/nothing`, { recursive: true });
  for (const [name, content] of Object.entries(contents)) writeFileSync(`${home.path}/template/${name}`, content);
  const more = "ln -f one two; ln -f tree/file tree/hard; ln -s one link; ln -s file tree/link; mkfifo tree/fifo; chown 1:1 tree/sub/other";
  await runChecked(["sh", "-c", more], { cwd: `${home.path}/template` });
}, 240_000);
afterAll(async () => {
  await home?.[Symbol.asyncDispose]();
  await other?.[Symbol.asyncDispose]();
});

describeUnless(firstReason(unlessRoot(), havePrograms("strace") ? null : "strace is not installed"), "one call of a move fails", () => {
  for (const scenario of scenarios) {
    test(scenario.name, async () => {
      const undisturbed = await moveUnder(scenario);
      expect([undisturbed.traced.status, await wrongs(scenario, undisturbed.target, true)]).toEqual([0, []]);
      const failures = callsIn(undisturbed.traced.trace).flatMap((call) => errnosOf(call, scenario).map((errno) => ({ ...call, errno })));
      expect(failures.length).toBeGreaterThan(scenario.across ? 80 : 5);
      const complaints: string[] = [];
      const chosen = failures.filter((_, index) => failures.length < stride || (index + today) % stride === 0);
      for (const failing of chosen) {
        const { traced, target } = await moveUnder(scenario, failing);
        const problems = traced.timedOut ? ["it hangs"] : await found(scenario, traced, failing, target);
        complaints.push(...problems.map((problem) => `${failing.syscall} number ${failing.ordinal} with ${failing.errno}: ${problem}`));
      }
      expect(complaints).toEqual([]);
    }, 900_000);
  }
});

/** Of a rename EXDEV is no error: then it is copied. It is never one of several names of an inode alone that is elsewhere. */
function errnosOf({ syscall }: Call, { sources }: Scenario): readonly string[] {
  if (syscall === "renameat2") return sources.length > 1 ? ["EPERM", "ENOSPC"] : ["EXDEV", "EPERM", "ENOSPC"];
  if (syscall === "unlinkat") return ["EBUSY", "EPERM"];
  return errnos[syscall] ?? ["EIO"];
}

async function moveUnder(scenario: Scenario, failing?: Call & { readonly errno: string }) {
  const source = `${home.path}/source`;
  const target = scenario.across ? `${other.path}/target` : `${home.path}/target`;
  for (const path of [source, target]) rmSync(path, { recursive: true, force: true });
  await runChecked(["cp", "-a", `${home.path}/template`, source]);
  if (scenario.overOld) {
    mkdirSync(target);
    for (const name of ["one", "two", "link"]) writeFileSync(`${target}/${name}`, old);
  }
  const names = ["", ...Object.keys(contents), "link", "tree", "tree/link", "tree/fifo", "tree/sub", "tree/sub/nothing"];
  const below = scenario.overOld ? names : names.map((name) => name.replace(/^tree\/?/, ""));
  const watched = [home.path, other.path, ...names.map((name) => join(source, name)), ...below.map((name) => join(target, name))];
  const command = [
    copyd,
    "mv",
    "--local",
    "--lanes=1",
    ...scenario.options,
    ...scenario.sources.map((name) => `${source}/${name}`),
    target,
  ];
  const tracePath = `${home.path}/trace`;
  const traced = await runTraced(command, { watched, tracePath, ...(failing === undefined ? {} : { failing }) });
  return { traced, target };
}

async function found(
  scenario: Scenario,
  traced: Awaited<ReturnType<typeof runTraced>>,
  failing: Call & { readonly errno: string },
  target: string,
): Promise<string[]> {
  if (!traced.trace.includes("(INJECTED)")) return [];
  const isDone = traced.status === 0 && !advisory.has(failing.syscall);
  const problems = [...untruths(traced, failing.errno), ...(await wrongs(scenario, target, isDone))];
  // mv goes on, with a word and status 0, where owner, mode or times cannot be kept.
  const isTold = traced.stderr.includes(texts[failing.errno] ?? failing.errno);
  return isTold ? problems.filter((problem) => !isOfMetadata.test(problem)) : problems;
}

/** rsync's letters: owner, group, mode and times differ, contents do not. */
const isOfMetadata = /rsync sees [.h][fdLS]\.\./;

async function wrongs(scenario: Scenario, target: string, isDone: boolean): Promise<string[]> {
  const source = `${home.path}/source`;
  const placeOf = (name: string): string => join(target, scenario.overOld ? name : name.replace(/^tree\//, ""));
  const problems: string[] = [];
  for (const [name, content] of Object.entries(contents)) {
    if (!scenario.sources.includes(name.split("/")[0] ?? "")) continue;
    const place = placeOf(name);
    const state = (path: string): string => {
      if (!existsSync(path)) return "absent";
      const text = readFileSync(path, "utf8");
      return text === content ? "whole" : text === old ? "old" : `half a file of ${text.length}`;
    };
    const there = state(place);
    if (state(`${source}/${name}`) !== "whole" && there !== "whole") problems.push(`${name} is lost: ${there} at the target`);
    if (there.startsWith("half")) problems.push(`${name} is ${there} at the target`);
    if (isDone && there !== "whole") problems.push(`it says all is well, but ${name} is ${there}`);
    const isOldKept = [place, `${place}~`].some((path) => state(path) === "old");
    if (scenario.overOld && !name.includes("/") && there !== "whole" && !isOldKept) problems.push(`the old ${name} is lost`);
  }
  for (const name of existsSync(target) && lstatSync(target).isDirectory() ? readdirSync(target, { recursive: true }).map(String) : []) {
    if (name.includes(".copyd-")) problems.push(`${name} is left over`);
  }
  const left = scenario.sources.filter((name) => lstatSync(`${source}/${name}`, { throwIfNoEntry: false }) !== undefined);
  if (isDone) problems.push(...left.map((name) => `it says all is well, but the source ${name} is still there`));
  if (isDone) problems.push(...(await unlike(scenario, target)));
  return problems;
}

/** In what the target is not what the source was. */
async function unlike(scenario: Scenario, target: string): Promise<string[]> {
  const from = scenario.overOld ? scenario.sources.map((name) => `${home.path}/template/${name}`) : [`${home.path}/template/tree/`];
  const to = `${target}/`;
  const result = await run(["rsync", "-aHAXnic", ...from, to], { timeoutMs: 30_000 });
  const lines = `${result.stdout}${result.stderr}`.split("\n").filter((line) => line !== "");
  return lines.map((line) => `it says all is well, but rsync sees ${line}`);
}
