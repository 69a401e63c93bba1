// Runs copyd's CLI from its source as a user would: in a directory, with an environment of its own, arguments as bytes if need be.

import { join } from "node:path";
import { type RunOptions, type RunResult, run } from "./process.ts";

export const mainFile = join(import.meta.dir, "../../src/main.ts");

/** The command line of `copyd ARGUMENTS`. */
export function copydCommand(...arguments_: readonly string[]): string[] {
  return [process.execPath, mainFile, ...arguments_];
}

/** No terminal, no colours, no bus but the one that is named. */
export const plainEnvironment: Readonly<Record<string, string>> = { PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8" };

export function runCopyd(arguments_: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run(copydCommand(...arguments_), { env: plainEnvironment, ...options });
}

/** `script` in bash, where "$@" is copyd: for pipes, signals, and arguments that are not UTF-8. */
export function runShell(script: string, options: RunOptions = {}): Promise<RunResult> {
  return run(["bash", "-c", script, "bash", ...copydCommand()], { env: plainEnvironment, ...options });
}
