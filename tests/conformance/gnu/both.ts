// Runs one case by the machine's cp and by ours, each in a fresh tree at the same path, and says in which lines the outcomes differ.

import { mkdirSync } from "node:fs";
import { run } from "../../support/process.ts";
import { asUser } from "../../support/users.ts";
import type { Case } from "./case.ts";
import { age, treeLines } from "./outcome.ts";

export type Program = "cp" | "mv";
export type Who = "root" | "user";

/** Nobody else on the machine has this number. */
export const userId = 1_234_567;
const timeoutSeconds = 20;

export interface Bench {
  /** The binary under test. */
  readonly copyd: string;
  readonly program: Program;
  /** An existing directory, that everybody may enter, for each kind of filesystem. */
  readonly places: Readonly<Partial<Record<NonNullable<Case["on"]>, string>>>;
}

/** The lines in which ours differs from GNU's, "-" GNU's, "+" ours, as `reading` reads both. None for equal outcomes. */
export async function differencesOf(
  test: Case,
  who: Who,
  bench: Bench,
  number: number,
  reading: (line: string) => string = (line) => line,
): Promise<string[]> {
  const gnu = await outcomeOf(test, who, bench, number, "gnu");
  const ours = await outcomeOf(test, who, bench, number, "copyd");
  return difference(gnu.map(reading), ours.map(reading));
}

async function outcomeOf(test: Case, who: Who, bench: Bench, number: number, which: "gnu" | "copyd"): Promise<string[]> {
  const place = bench.places[test.on ?? "tmpfs"];
  if (place === undefined) throw new Error(`there is no ${test.on} here`);
  const root = `${place}/${number}-${who}`;
  const tree = `${root}/t`;
  await shell(`rm -rf "${root}" && mkdir -m 755 "${root}" && mkdir -m 755 "${tree}"`, "root", "/");
  try {
    if (who === "user") await shell(`chown ${userId}:${userId} "${tree}"`, "root", "/");
    if (test.rootSetup !== undefined) await must(shell(test.rootSetup, "root", tree), test);
    await must(shell(test.setup, who, tree), test);
    const before = age(tree);
    const program = which === "gnu" ? `command ${bench.program}` : `'${bench.copyd}' ${bench.program} --local`;
    const script = `${bench.program}() { ${program} "$@"; }\n${test.run}`;
    const result = await shell(script, who, tree, { ...test.env }, test.stdin);
    const lines = [result.status === 137 ? "status: killed after a long time" : `status: ${result.status}`];
    lines.push(...said("out", result.stdout, test), ...said("err", result.stderr, test));
    const uid = who === "root" ? 0 : userId;
    lines.push(...(await treeLines(tree, { before, uid, xattrs: test.xattrs === true, blocks: test.blocks === true })));
    return lines;
  } finally {
    await shell(`rm -rf --one-file-system "${root}"`, "root", "/");
  }
}

function said(stream: "out" | "err", text: string, test: Case): string[] {
  const lines = text.split("\n");
  if (lines.at(-1) === "") lines.pop();
  else lines.push("(no newline at the end)");
  return (test.ordered === true ? lines : lines.sort()).map((line) => `${stream}: ${line}`);
}

async function must(running: ReturnType<typeof shell>, test: Case): Promise<void> {
  const result = await running;
  if (result.status !== 0) throw new Error(`the set-up of "${test.name}" ended with ${result.status}: ${result.stderr}`);
}

function shell(script: string, who: Who, cwd: string, env: Readonly<Record<string, string>> = {}, input?: string) {
  // timeout ends the whole process group: what a case started in the background would hold the pipes open.
  const command = ["timeout", "--signal=KILL", `${timeoutSeconds}`, "sh", "-c", `umask 022\n${script}`];
  const argv = who === "root" ? command : asUser({ uid: userId, gid: userId }, command);
  const environment = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C", HOME: "/", ...env };
  return run(argv, { cwd, env: environment, ...(input === undefined ? {} : { input }) });
}

/** A line-wise difference by longest common subsequence; outcomes are short. */
export function difference(old: readonly string[], now: readonly string[]): string[] {
  const lengths: number[][] = Array.from({ length: old.length + 1 }, () => new Array<number>(now.length + 1).fill(0));
  const at = (i: number, j: number): number => lengths[i]?.[j] ?? 0;
  for (let i = old.length - 1; i >= 0; i--) {
    for (let j = now.length - 1; j >= 0; j--) {
      (lengths[i] as number[])[j] = old[i] === now[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const lines: string[] = [];
  let i = 0;
  let j = 0;
  while (i < old.length || j < now.length) {
    if (i < old.length && j < now.length && old[i] === now[j]) {
      i++;
      j++;
    } else if (j >= now.length || (i < old.length && at(i + 1, j) >= at(i, j + 1))) lines.push(`-${old[i++]}`);
    else lines.push(`+${now[j++]}`);
  }
  return lines;
}

/** An empty directory for the trees of one filesystem. */
export function makePlace(path: string): string {
  mkdirSync(path, { recursive: true, mode: 0o755 });
  return path;
}
