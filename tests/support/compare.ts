// Whether one tree is a true copy of another: rsync's opinion, and a look of our own at what rsync does not see.

import { existsSync } from "node:fs";
import { run, runChecked } from "./process.ts";
import { deepDirectory } from "./tree.ts";

export interface CompareOptions {
  /** Holes: "kept" demands that a file mostly of holes is so in the copy; "any" does not look (another kind of filesystem). */
  readonly holes?: "kept" | "any";
  /** More arguments for rsync, as --exclude=/fifo; what is excluded here is still seen by our own look. */
  readonly rsyncOptions?: readonly string[];
  /** Attributes an ordinary user cannot keep are not compared. */
  readonly owners?: "kept" | "any";
  readonly timeoutMs?: number;
}

const maxDifferences = 40;

/** The differences between a tree and its copy, one per line, and none for a true copy. */
export async function compareTrees(source: string, destination: string, options: CompareOptions = {}): Promise<string[]> {
  const differences = [
    ...(await rsyncDifferences(source, destination, options)),
    ...(await inodeDifferences(source, destination, options)),
    ...(await deepDifferences(source, destination, options)),
  ];
  return differences.slice(0, maxDifferences);
}

/** Throws with the list when the copy is not true. */
export async function expectSameTree(source: string, destination: string, options: CompareOptions = {}): Promise<void> {
  const differences = await compareTrees(source, destination, options);
  if (differences.length > 0) throw new Error(`${destination} is not ${source}:\n${differences.join("\n")}`);
}

async function rsyncDifferences(source: string, destination: string, options: CompareOptions): Promise<string[]> {
  const owners = options.owners === "any" ? ["--no-owner", "--no-group"] : [];
  // rsync stops at paths of 4096 bytes: the deep part is compared by tar.
  const extra = [`--exclude=/${deepDirectory}/`, ...owners, ...(options.rsyncOptions ?? [])];
  const command = ["rsync", "-aHAXnic", "--delete", ...extra, `${source}/`, `${destination}/`];
  const result = await run(command, { timeoutMs: options.timeoutMs ?? 300_000, env: { ...environment(), LC_ALL: "C" } });
  const lines = `${result.stdout}${result.stderr}`.split("\n").filter((line) => line !== "");
  if (result.status !== 0) lines.unshift(`rsync ended with ${result.status}`);
  return lines.map((line) => `rsync: ${line}`);
}

interface Entry {
  readonly type: string;
  readonly mode: string;
  readonly owner: string;
  readonly mtime: string;
  readonly size: number;
  readonly target: string;
  readonly inode: string;
  readonly linkCount: number;
  readonly blocks: number;
}

/** Nanosecond times, which names share an inode, and holes: rsync compares none of them to the end. */
async function inodeDifferences(source: string, destination: string, options: CompareOptions): Promise<string[]> {
  const [wanted, found] = await Promise.all([listTree(source, options), listTree(destination, options)]);
  const differences: string[] = [];
  for (const [name, entry] of wanted) {
    const copy = found.get(name);
    if (copy === undefined) differences.push(`missing: ${quoted(name)}`);
    else differences.push(...entryDifferences(entry, copy, options).map((what) => `${what}: ${quoted(name)}`));
  }
  for (const name of found.keys()) if (!wanted.has(name)) differences.push(`not in the source: ${quoted(name)}`);
  differences.push(...linkDifferences(wanted, found));
  return differences;
}

function entryDifferences(entry: Entry, copy: Entry, options: CompareOptions): string[] {
  const differences: string[] = [];
  const compare = (what: string, wanted: string | number, found: string | number): void => {
    if (wanted !== found) differences.push(`${what} is ${found}, not ${wanted}`);
  };
  compare("type", entry.type, copy.type);
  compare("mtime", entry.mtime, copy.mtime);
  if (entry.type !== "l") compare("mode", entry.mode, copy.mode);
  if (entry.type === "l") compare("link target", entry.target, copy.target);
  if (entry.type === "f") compare("size", entry.size, copy.size);
  if (options.owners !== "any") compare("owner", entry.owner, copy.owner);
  const mostlyHoles = entry.type === "f" && entry.size >= 1 << 20 && entry.blocks * 512 < entry.size / 2;
  if (mostlyHoles && options.holes !== "any" && copy.blocks * 512 > entry.size * 0.75) {
    differences.push(`holes were filled (${copy.blocks} blocks, not ${entry.blocks})`);
  }
  return differences;
}

/** Two names are one inode in the copy exactly where they are in the source. */
function linkDifferences(wanted: ReadonlyMap<string, Entry>, found: ReadonlyMap<string, Entry>): string[] {
  const differences: string[] = [];
  const pairs = new Map<string, string>();
  for (const [name, entry] of wanted) {
    const copy = found.get(name);
    if (entry.type === "d" || copy === undefined) continue;
    const partner = pairs.get(entry.inode);
    if (partner === undefined) pairs.set(entry.inode, copy.inode);
    else if (partner !== copy.inode) differences.push(`no longer a hard link: ${quoted(name)}`);
    if (entry.linkCount === 1 && copy.linkCount !== 1) differences.push(`became a hard link: ${quoted(name)}`);
  }
  return differences;
}

async function listTree(path: string, options: CompareOptions): Promise<Map<string, Entry>> {
  const format = ["%P", "%y", "%m", "%U:%G", "%T@", "%s", "%l", "%D:%i", "%n", "%b"].map((field) => `${field}\\0`).join("");
  const { stdoutBytes } = await runChecked(["find", path, "-printf", format], { timeoutMs: options.timeoutMs ?? 300_000 });
  const fields = stdoutBytes.toString("latin1").split("\0");
  const entries = new Map<string, Entry>();
  for (let at = 0; at + 10 <= fields.length; at += 10) {
    const [name = "", type = "", mode = "", owner = "", mtime = "", size, target = "", inode = "", links, blocks] = fields.slice(
      at,
      at + 10,
    );
    entries.set(name, { type, mode, owner, mtime, size: Number(size), target, inode, linkCount: Number(links), blocks: Number(blocks) });
  }
  return entries;
}

/** The part with paths beyond 4096 bytes, contents and attributes, as the checksum of a tar stream. */
async function deepDifferences(source: string, destination: string, options: CompareOptions): Promise<string[]> {
  if (!existsSync(`${source}/${deepDirectory}`)) return [];
  const [wanted, found] = await Promise.all([tarSum(source, options), tarSum(destination, options)]);
  return wanted === found ? [] : [`contents or attributes differ below ${deepDirectory}/`];
}

async function tarSum(path: string, options: CompareOptions): Promise<string> {
  const owners = options.owners === "any" ? " --owner=0 --group=0" : "";
  const flags = `--sort=name --format=posix --pax-option=delete=atime,delete=ctime --xattrs --acls${owners}`;
  const script = `set -o pipefail; tar -C "$1" ${flags} -cf - ${deepDirectory} | sha256sum`;
  const result = await run(["bash", "-c", script, "tar", path], { timeoutMs: options.timeoutMs ?? 300_000 });
  return result.status === 0 ? result.stdout : result.stderr;
}

function quoted(name: string): string {
  return JSON.stringify(name.length > 200 ? `${name.slice(0, 80)}...${name.slice(-80)}` : name);
}

function environment(): Record<string, string> {
  return process.env as Record<string, string>;
}
