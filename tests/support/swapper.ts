// Somebody who swaps names under a copy's hands; swapper.c, compiled on first use, does it.

import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { havePrograms, runChecked } from "./process.ts";
import { asUser, type Identity } from "./users.ts";

export interface Swapper extends AsyncDisposable {
  /** How often it has swapped. */
  readonly swaps: number;
  /** It begins still: goes on, and stands still again. A pair may then be away from home. */
  go(): void;
  stand(): void;
}

const sourceFile = join(import.meta.dir, "swapper.c");

export function whyNoSwapper(): string | null {
  return havePrograms("gcc") ? null : "gcc is not installed";
}

/** Swaps pN with qN in a directory, which both must be in, as `identity`. `counter`: a file of its own, which it keeps its count in. */
export async function startSwapper(identity: Identity, directory: string, pairs: number, counter: string, seed: number): Promise<Swapper> {
  const program = await compiledProgram();
  writeFileSync(counter, Buffer.alloc(8));
  chmodSync(counter, 0o666);
  const child = Bun.spawn(asUser(identity, [program, directory, String(pairs), counter, String(seed)]), {
    stdin: "ignore",
    stdout: "ignore",
    stderr: "inherit",
  });
  const swaps = (): number => Number(readFileSync(counter).readBigUInt64LE());
  const deadlineMs = performance.now() + 20_000;
  while (swaps() === 0) {
    if (child.exitCode !== null || performance.now() > deadlineMs) throw new Error(`the swapper does not swap (${child.exitCode})`);
    await Bun.sleep(2);
  }
  child.kill("SIGSTOP");
  return {
    get swaps() {
      return swaps();
    },
    go: () => child.kill("SIGCONT"),
    stand: () => child.kill("SIGSTOP"),
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await child.exited;
    },
  };
}

/** Compiled into dist/, once for each state of its source; several test processes may do it at once. */
async function compiledProgram(): Promise<string> {
  const source = await Bun.file(sourceFile).text();
  const directory = join(import.meta.dir, "../../dist");
  const program = join(directory, `swapper-${Bun.hash(source).toString(16)}`);
  if (existsSync(program)) return program;
  await mkdir(directory, { recursive: true });
  const unfinished = `${program}.${process.pid}`;
  await runChecked(["gcc", "-O1", "-Wall", "-Wextra", "-Werror", sourceFile, "-o", unfinished]);
  await rename(unfinished, program);
  return program;
}
