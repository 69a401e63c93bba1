// Something to copy, and what must hold of the copy at any moment: no name shows half a file, and nothing unfinished lies about.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { contentOf } from "../support/tree.ts";

export interface Workload {
  readonly name: string;
  /** Request options. */
  readonly options: Record<string, unknown>;
  /** Fills an empty directory with what is copied. */
  readonly make: (source: string) => void;
  /** What stands at the destination before: nothing, the same names with old contents, or only the directories. */
  readonly destination: "absent" | "old files" | "directories";
}

function smallFiles(source: string): void {
  for (let directory = 0; directory < 30; directory++) {
    const path = `${source}/d${directory % 6}/e${directory}`;
    mkdirSync(path, { recursive: true });
    for (let file = 0; file < 50; file++) writeFileSync(`${path}/f${file}`, contentOf(directory * 50 + file, ((file * 37) % 60) * 200));
  }
}

function bigFiles(source: string): void {
  for (let file = 0; file < 3; file++) writeFileSync(`${source}/big-${file}`, contentOf(file, 12_000_000 + file));
}

export const workloads: readonly Workload[] = [
  { name: "small files into a new directory", options: {}, make: smallFiles, destination: "absent" },
  { name: "small files into directories that exist", options: {}, make: smallFiles, destination: "directories" },
  { name: "small files over old ones", options: { onConflict: "overwrite" }, make: smallFiles, destination: "old files" },
  { name: "big files, physically copied", options: { reflink: "never" }, make: bigFiles, destination: "absent" },
  { name: "big files over old ones", options: { reflink: "never", onConflict: "overwrite" }, make: bigFiles, destination: "old files" },
];

/** Whole paths below a directory: those of files, then of directories. */
export function entriesBelow(path: string): { files: string[]; directories: string[] } {
  const found = { files: [] as string[], directories: [] as string[] };
  const open = [""];
  for (let at = open.pop(); at !== undefined; at = open.pop()) {
    for (const entry of readdirSync(join(path, at), { withFileTypes: true })) {
      const name = at === "" ? entry.name : `${at}/${entry.name}`;
      if (entry.isDirectory()) {
        open.push(name);
        found.directories.push(name);
      } else found.files.push(name);
    }
  }
  return found;
}

const oldText = (name: string): string => `old contents of ${name}\n`;

/** Puts the destination into its state before the job. */
export function prepare(workload: Workload, source: string, destination: string): void {
  rmSync(destination, { recursive: true, force: true });
  if (workload.destination === "absent") return;
  const { files, directories } = entriesBelow(source);
  mkdirSync(destination);
  for (const name of directories) mkdirSync(join(destination, name), { recursive: true });
  if (workload.destination === "old files") for (const name of files) writeFileSync(join(destination, name), oldText(name));
}

export interface Finding {
  /** What is wrong; nothing, in a good copy. */
  readonly problems: string[];
  /** Files that are whole. */
  readonly whole: number;
}

/** Looks at every file of a destination whose copying was disturbed. `isDone`: the job claims that all was copied. */
export function inspect(workload: Workload, source: string, destination: string, isDone: boolean): Finding {
  const problems: string[] = [];
  let whole = 0;
  const wanted = new Set(entriesBelow(source).files);
  const found = existsSync(destination) ? entriesBelow(destination).files : [];
  const present = new Set(found);
  for (const name of found) {
    if (!wanted.has(name)) {
      problems.push(`left over: ${name}`);
      continue;
    }
    const bytes = readFileSync(join(destination, name));
    if (bytes.equals(readFileSync(join(source, name)))) whole++;
    else if (workload.destination !== "old files" || bytes.toString() !== oldText(name)) {
      problems.push(`half a file: ${name}, ${statSync(join(destination, name)).size} bytes`);
    } else if (isDone) problems.push(`still old: ${name}`);
  }
  for (const name of wanted) {
    if (present.has(name)) continue;
    if (isDone) problems.push(`missing: ${name}`);
    else if (workload.destination === "old files") problems.push(`the old file is gone: ${name}`);
  }
  return { problems, whole };
}
