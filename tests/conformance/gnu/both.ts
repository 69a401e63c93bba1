// Runs one case by GNU's cp and by ours, each in a fresh tree at the same path, and says in which lines the outcomes differ.

import { chmodSync, chownSync, existsSync, mkdirSync, rmSync } from "node:fs";
import { run } from "../../support/process.ts";
import { asUser, type Identity } from "../../support/users.ts";
import type { Case } from "./case.ts";
import { age, treeLines } from "./outcome.ts";

export type Program = "cp" | "mv";
export type Who = "root" | "user";
/** The ways in which ours runs: by itself, and through a daemon on a bus. */
export type Mode = "embedded" | "service";

const timeoutSeconds = 20;
const killed = "status: killed after a long time";
/** COPYD_TEST_CP and COPYD_TEST_MV name other builds of GNU's programs to compare with. */
export const reference: Readonly<Record<Program, string | undefined>> = { cp: process.env.COPYD_TEST_CP, mv: process.env.COPYD_TEST_MV };

export interface Bench {
  /** The binary under test. */
  readonly copyd: string;
  readonly program: Program;
  /** The ordinary user: one that the service knows, where there is a service. */
  readonly user: Identity;
  /** The bus that the service mode's daemon is on; null where there can be none. */
  readonly busAddress: string | null;
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
  const ours = await outcomeOf(test, who, bench, number, "embedded");
  // Both wait for ever, for the reader of a FIFO: how far each came is a matter of time.
  if (gnu[0] === killed && ours[0] === killed) return [];
  return difference(gnu.map(reading), ours.map(reading));
}

/** The same for several modes, with one run of GNU's. */
export async function differencesByMode(
  test: Case,
  who: Who,
  bench: Bench,
  number: number,
  modes: readonly Mode[],
): Promise<Map<Mode, string[]>> {
  const gnu = await outcomeOf(test, who, bench, number, "gnu");
  const found = new Map<Mode, string[]>();
  for (const mode of modes) found.set(mode, difference(gnu, await outcomeOf(test, who, bench, number, mode)));
  return found;
}

/** What came of it: status, words and tree. */
export async function outcomeOf(test: Case, who: Who, bench: Bench, number: number, which: "gnu" | Mode): Promise<string[]> {
  const place = bench.places[test.on ?? "tmpfs"];
  if (place === undefined) throw new Error(`there is no ${test.on} here`);
  const identity = who === "root" ? null : bench.user;
  const root = `${place}/${number}-${who}`;
  const tree = `${root}/t`;
  await remove(root);
  // By calls, not by commands: thousands of cases start enough processes as it is.
  for (const directory of [root, tree]) {
    mkdirSync(directory);
    chmodSync(directory, 0o755);
  }
  try {
    if (identity !== null) chownSync(tree, identity.uid, identity.gid);
    for (const name of test.mounts ?? []) await must(shell(mountScript(name, identity), null, tree), test);
    if (test.rootSetup !== undefined) await must(shell(test.rootSetup, null, tree), test);
    await must(shell(test.setup, identity, tree), test);
    const before = age(tree);
    const script = `${bench.program}() { ${commandOf(bench, which)} "$@"; }\n${test.run}`;
    const bus = which === "service" ? { DBUS_SYSTEM_BUS_ADDRESS: `${bench.busAddress}` } : {};
    const result = await shell(script, identity, tree, { ...test.env, ...bus }, test.stdin);
    const lines = [result.status === 137 ? killed : `status: ${result.status}`];
    lines.push(...said("out", result.stdout, test), ...said("err", result.stderr, test));
    const { uid, gid } = identity ?? { uid: 0, gid: 0 };
    lines.push(...(await treeLines(tree, { before, uid, gid, xattrs: test.xattrs === true, blocks: test.blocks === true })));
    return lines;
  } finally {
    for (const name of test.mounts ?? []) await shell(`umount -l "${name}"`, null, tree);
    await remove(root, test.mounts?.length ?? 0);
  }
}

/** rm knows how to keep out of a filesystem that is still mounted there, and removes what a call may not. */
async function remove(root: string, mountCount = 0): Promise<void> {
  if (mountCount === 0) {
    try {
      rmSync(root, { recursive: true, force: true });
    } catch {
      // It is still there.
    }
  }
  if (existsSync(root)) await shell(`rm -rf --one-file-system "${root}"`, null, "/");
}

function mountScript(name: string, identity: Identity | null): string {
  const { uid, gid } = identity ?? { uid: 0, gid: 0 };
  return `mkdir "${name}" && mount -t tmpfs -o size=64m,mode=755,uid=${uid},gid=${gid} copyd-test "${name}"`;
}

/** The release of the program that ours is compared with, as "9.1"; "" where it does not say. */
export function referenceRelease(program: Program): string {
  const { stdout } = Bun.spawnSync([reference[program] ?? program, "--version"], { env: { PATH: "/usr/bin:/bin", LC_ALL: "C" } });
  return /\(GNU coreutils\) ([0-9.]+)/.exec(stdout.toString())?.[1] ?? "";
}

function commandOf({ copyd, program }: Bench, which: "gnu" | Mode): string {
  if (which === "gnu") return reference[program] === undefined ? `command ${program}` : `'${reference[program]}'`;
  return `'${copyd}' ${program}${which === "embedded" ? " --local" : ""}`;
}

function said(stream: "out" | "err", text: string, test: Case): string[] {
  // `copyd cp` points to its own help.
  const lines = text.replace(/^Try 'copyd (cp|mv) --help'/gm, "Try '$1 --help'").split("\n");
  if (lines.at(-1) === "") lines.pop();
  else lines.push("(no newline at the end)");
  return (test.ordered === true ? lines : lines.sort()).map((line) => `${stream}: ${line}`);
}

async function must(running: ReturnType<typeof shell>, test: Case): Promise<void> {
  const result = await running;
  if (result.status !== 0) throw new Error(`the set-up of "${test.name}" ended with ${result.status}: ${result.stderr}`);
}

function shell(script: string, identity: Identity | null, cwd: string, env: Readonly<Record<string, string>> = {}, input?: string) {
  // timeout ends the whole process group: what a case started in the background would hold the pipes open.
  const command = ["timeout", "--signal=KILL", `${timeoutSeconds}`, "sh", "-c", `umask 022\n${script}`];
  const argv = identity === null ? command : asUser(identity, command);
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
