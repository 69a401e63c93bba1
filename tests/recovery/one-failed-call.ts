// Runs a command under strace with one of its system calls failing: which calls there are, what each may answer, and what is true then.

import { readFileSync } from "node:fs";
import { run } from "../support/process.ts";

const timeoutMs = 30_000;
const delayMicroseconds = 1_000_000;

/** What each call is made to answer; the others EIO. Of ioctl and copy_file_range these are errors and no refusals. */
export const errnos: Readonly<Record<string, readonly string[]>> = {
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
export const texts: Readonly<Record<string, string>> = {
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
export const advisory = new Set(["fstatfs", "fallocate", "lseek", "fadvise64", "readlink"]);

export interface Call {
  readonly syscall: string;
  /** The how-manieth of its kind. */
  readonly ordinal: number;
}

/** The calls of an undisturbed run, in order: strace counts them by path and thread, and one lane makes them all. */
export function callsIn(trace: string): Call[] {
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

/** The command with the calls on the watched paths written to `tracePath`; `failing`: all of these calls but one do their work; `delayed`: that call waits before it does. */
export async function runTraced(
  command: readonly string[],
  {
    watched,
    tracePath,
    failing,
    delayed,
  }: {
    readonly watched: readonly string[];
    readonly tracePath: string;
    readonly failing?: Call & { readonly errno: string };
    readonly delayed?: string;
  },
) {
  const inject = failing === undefined ? [] : ["-e", `inject=${failing.syscall}:error=${failing.errno}:when=${failing.ordinal}`];
  if (delayed !== undefined) inject.push("-e", `inject=${delayed}:delay_enter=${delayMicroseconds}`);
  const paths = watched.flatMap((each) => ["-P", each]);
  const env = { PATH: "/usr/bin:/bin", LC_ALL: "C", HOME: "/" };
  const result = await run(["strace", "-f", "-qq", "-o", tracePath, ...paths, ...inject, ...command], { cwd: "/", env, timeoutMs });
  return { ...result, trace: readFileSync(tracePath, "latin1") };
}

export type Traced = Awaited<ReturnType<typeof runTraced>>;

/** What is wrong with how it ended, whatever became of the files. None also where the call was never reached. */
export function untruths({ status, stderr }: Traced, errno: string): string[] {
  const problems: string[] = [];
  if (status !== 0 && status !== 1) problems.push(`it ended with ${status}: ${stderr}`);
  const text = texts[errno] ?? errno;
  if (status === 1 && !stderr.includes(text)) problems.push(`it does not say "${text}": ${stderr.trim()}`);
  return problems;
}
