// What a result was measured on: processors, memory, kernel and versions, and nothing that names the machine.

import { readFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { join } from "node:path";
import { havePrograms, run } from "../tests/support/process.ts";
import type { Tool } from "./cells.ts";
import type { BenchResult } from "./result-file.ts";

export function machineFacts(): Pick<BenchResult, "machine" | "kernel"> {
  return {
    machine: { processors: cpus().length, model: cpus()[0]?.model ?? "unknown", memoryBytes: totalmem() },
    kernel: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim(),
  };
}

export function loadNow(): number {
  return loadavg()[0] ?? 0;
}

/** Of the binary, the commit that it should be of, the tools and what makes the filesystems. */
export async function versionFacts(copyd: string, tools: readonly Tool[]): Promise<Record<string, string>> {
  const versions: Record<string, string> = {};
  const note = async (name: string, command: readonly string[]): Promise<void> => {
    if (command[0] !== copyd && !havePrograms(command[0] ?? "")) return;
    const { stdout, stderr, status } = await run(command, { timeoutMs: 10_000 });
    const line = `${stdout}\n${stderr}`.split("\n").find((text) => /\d+\.\d+/.test(text));
    if (status === 0 && line !== undefined) versions[name] = /\d+\.\d+[\w.+~-]*/.exec(line)?.[0] ?? line.trim();
  };
  await note("copyd", [copyd, "--version"]);
  const commit = await run(["git", "-C", join(import.meta.dir, ".."), "describe", "--always", "--dirty", "--exclude=*"]);
  if (commit.status === 0) versions.commit = commit.stdout.trim();
  const programs = tools.flatMap(({ steps }) => steps.flatMap((step) => (step.kind === "run" ? [step.command[0] ?? ""] : [])));
  for (const program of new Set(programs)) if (program !== "{copyd}" && program !== "sh") await note(program, [program, "--version"]);
  for (const program of ["mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"]) await note(program, [program, "-V"]);
  return versions;
}
