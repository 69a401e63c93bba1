// Programs in C that tests and benchmarks need: compiled into dist/, once for each state of their source.

import { existsSync } from "node:fs";
import { mkdir, rename } from "node:fs/promises";
import { basename, join } from "node:path";
import { runChecked } from "./process.ts";

/** The program's path; several processes may ask for it at once. Rejects with the compiler's words. */
export async function compiledProgram(sourceFile: string, flags: readonly string[], libraries: readonly string[]): Promise<string> {
  const source = await Bun.file(sourceFile).text();
  const directory = join(import.meta.dir, "../../dist");
  const program = join(directory, `${basename(sourceFile, ".c")}-${Bun.hash(source).toString(16)}`);
  if (existsSync(program)) return program;
  await mkdir(directory, { recursive: true });
  const unfinished = `${program}.${process.pid}`;
  await runChecked(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", ...flags, sourceFile, "-o", unfinished, ...libraries]);
  await rename(unfinished, program);
  return program;
}
