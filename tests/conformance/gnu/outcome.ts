// What a command did: its status, what it said, and the whole tree afterwards, as lines that can be compared.

import { createHash } from "node:crypto";
import { type BigIntStats, lstatSync, lutimesSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { runChecked } from "../../support/process.ts";

/** Inode numbers by path, as they were before the command: to see which files were kept and which made anew. */
export type Before = ReadonlyMap<string, string>;

const nowAgeSeconds = 1_000_000_000;
/** What set-up scripts made gets these times, so that a preserved time can be told from a new one. */
const agedSeconds = 981_173_106.25;

/** Gives everything below the path the old time, unless its set-up gave it another, and remembers the inodes. */
export function age(root: string): Before {
  const before = new Map<string, string>();
  const paths = listed(root);
  for (const path of paths) before.set(inodeOf(lstatSync(path, { bigint: true })), relative(root, path));
  // Deepest first: touching an entry does not change its directory's times, but reading one may change its access time.
  for (const path of paths.reverse()) {
    if (Number(lstatSync(path, { bigint: true }).mtimeNs) / 1e9 > nowAgeSeconds) lutimesSync(path, agedSeconds, agedSeconds);
  }
  return before;
}

export interface Look {
  readonly xattrs: boolean;
  readonly blocks: boolean;
  readonly before: Before;
  /** The one who copied is called "me", and so is the group. */
  readonly uid: number;
  readonly gid: number;
}

/** One line for each entry, in the order of names. */
export async function treeLines(root: string, look: Look): Promise<string[]> {
  const attributes = look.xattrs ? await attributesOf(root) : new Map<string, string>();
  const firstNames = new Map<string, string>();
  const lines: string[] = [];
  for (const path of listed(root)) {
    const name = relative(root, path);
    const stat = lstatSync(path, { bigint: true });
    const line = [quoted(name), ...fieldsOf(path, stat, look)];
    if (!stat.isDirectory() && stat.nlink > 1n) {
      const first = firstNames.get(inodeOf(stat));
      if (first === undefined) firstNames.set(inodeOf(stat), name);
      line.push(first === undefined ? `links=${stat.nlink}` : `same-as=${quoted(first)}`);
    }
    const attribute = attributes.get(name);
    if (attribute !== undefined) line.push(attribute);
    lines.push(line.join(" "));
  }
  return lines;
}

function fieldsOf(path: Buffer, stat: BigIntStats, look: Look): string[] {
  const type = typeOf(stat);
  const called = (id: bigint, own: number): string => (id === BigInt(own) ? "me" : `${id}`);
  const fields = [type, (stat.mode & 0o7777n).toString(8).padStart(4, "0"), `${called(stat.uid, look.uid)}:${called(stat.gid, look.gid)}`];
  fields.push(Number(stat.mtimeNs) / 1e9 > nowAgeSeconds ? "now" : `mtime=${stat.mtimeNs}`);
  const was = look.before.get(inodeOf(stat));
  fields.push(was === undefined ? "new" : `was=${quoted(was)}`);
  if (type === "link") fields.push(`->${quoted(readlinkSync(path, { encoding: "buffer" }).toString("latin1"))}`);
  if (type === "file") fields.push(`size=${stat.size}`, contentOf(path, stat));
  if (type === "char" || type === "block") fields.push(`rdev=${stat.rdev}`);
  if (type === "file" && look.blocks) fields.push(`blocks=${stat.blocks}`);
  return fields;
}

function inodeOf(stat: BigIntStats): string {
  return `${stat.dev}:${stat.ino}`;
}

function typeOf(stat: BigIntStats): string {
  if (stat.isFile()) return "file";
  if (stat.isDirectory()) return "dir";
  if (stat.isSymbolicLink()) return "link";
  if (stat.isFIFO()) return "fifo";
  if (stat.isSocket()) return "socket";
  return stat.isCharacterDevice() ? "char" : "block";
}

function contentOf(path: Buffer, stat: BigIntStats): string {
  if (stat.size > 64n * 1024n * 1024n) return "large";
  const bytes = readFileSync(path);
  if (bytes.length <= 40 && /^[ -~\n]*$/.test(bytes.toString("latin1"))) return JSON.stringify(bytes.toString("latin1"));
  return createHash("sha1").update(bytes).digest("hex").slice(0, 12);
}

/** Every path below (and with) the root, sorted by bytes; parents come before what is in them. */
function listed(root: string): Buffer[] {
  const paths: Buffer[] = [Buffer.from(root)];
  for (let at = 0; at < paths.length; at++) {
    const path = paths[at] as Buffer;
    if (!lstatSync(path).isDirectory()) continue;
    const names = readdirSync(path, { encoding: "buffer" }).sort(Buffer.compare);
    for (const name of names) paths.push(Buffer.concat([path, Buffer.from("/"), name]));
  }
  return paths.sort(Buffer.compare);
}

function relative(root: string, path: Buffer): string {
  return path.length === Buffer.byteLength(root) ? "." : path.subarray(Buffer.byteLength(root) + 1).toString("latin1");
}

function quoted(name: string): string {
  return /^[!-~]+$/.test(name) ? name : JSON.stringify(name);
}

async function attributesOf(root: string): Promise<Map<string, string>> {
  const { stdout } = await runChecked(["getfattr", "-R", "-P", "-h", "-d", "-m", "-", "-e", "hex", "."], { cwd: root });
  const attributes = new Map<string, string>();
  for (const block of stdout.split("\n\n")) {
    const [header, ...values] = block.split("\n").filter((line) => line !== "");
    if (header === undefined) continue;
    attributes.set(header.replace("# file: ", ""), values.sort().join(" "));
  }
  return attributes;
}
