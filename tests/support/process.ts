// Runs a command to its end with a time limit, and keeps what it said. And which processes there are.

import { existsSync } from "node:fs";

export interface RunOptions {
  readonly cwd?: string;
  /** Replaces the environment; without it the test's own is inherited. */
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  /** Milliseconds until the command is killed; generous, because the machine may be busy. */
  readonly timeoutMs?: number;
}

export interface RunResult {
  readonly command: readonly string[];
  /** The exit status; 128 + signal number where a signal ended it, as a shell says it. */
  readonly status: number;
  readonly signal: NodeJS.Signals | null;
  readonly timedOut: boolean;
  readonly stdout: string;
  readonly stderr: string;
  /** Standard output where it need not be UTF-8. */
  readonly stdoutBytes: Buffer;
}

const defaultTimeoutMs = 60_000;

/** Runs a command and resolves when it has ended, whatever its status. Throws only where it could not be started. */
export async function run(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  let timedOut = false;
  const child = Bun.spawn([...command], {
    stdin: options.input === undefined ? "ignore" : new Blob([options.input]),
    stdout: "pipe",
    stderr: "pipe",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
  });
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, options.timeoutMs ?? defaultTimeoutMs);
  try {
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).bytes(), new Response(child.stderr).text()]);
    const status = await child.exited;
    const stdoutBytes = Buffer.from(stdout.buffer, stdout.byteOffset, stdout.byteLength);
    return {
      command,
      status,
      signal: child.signalCode as NodeJS.Signals | null,
      timedOut,
      stdout: stdoutBytes.toString("utf8"),
      stderr,
      stdoutBytes,
    };
  } finally {
    clearTimeout(timer);
  }
}

/** As `run`, but a status other than 0 throws with the command and what it said. */
export async function runChecked(command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const result = await run(command, options);
  if (result.status === 0) return result;
  const end = result.timedOut ? `was killed after ${options.timeoutMs ?? defaultTimeoutMs} ms` : `ended with ${result.status}`;
  throw new Error(`${command.join(" ")} ${end}\n${result.stderr}${result.stdout}`.slice(0, 8192));
}

/** True where every one of these programs is on the PATH (or in the system's sbin folders). */
export function havePrograms(...programs: readonly string[]): boolean {
  const path = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
  return programs.every((program) => Bun.which(program, { PATH: path }) !== null);
}

/** True while a process of this number exists. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}

/** Resolves when a child has ended and was waited for; rejects after ten seconds. */
export async function untilGone(pid: number): Promise<void> {
  for (let waited = 0; existsSync(`/proc/${pid}`); waited += 10) {
    if (waited > 10_000) throw new Error(`process ${pid} is still there`);
    await Bun.sleep(10);
  }
}
