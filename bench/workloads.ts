// What is copied: trees and files made the same way every time, from a seed.

import { createCipheriv } from "node:crypto";
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from "node:fs";
import { runChecked } from "../tests/support/process.ts";

export interface Workload {
  readonly name: string;
  readonly title: string;
  readonly kind: "tree" | "file";
  /** What it takes on a filesystem, about: images and free memory are measured by it. */
  readonly sizeBytes: number;
  /** Makes it at a path that does not exist; the bytes of data in it. */
  readonly make: (path: string) => Promise<number>;
}

const gibibyte = 1024 ** 3;
/** Changing one changes every result: begin a new series then. */
const seed = 20_240_517;
const smallest = 500;
const largest = 60_000;
const meanBytes = (smallest + largest) / 2;

export const workloads = {
  small: tree("small", { files: 30_000, parents: 20, children: 20 }),
  flat: tree("flat", { files: 20_000, parents: 0, children: 0 }),
  /** Small enough that cp, with some ten calls of 2 ms a file, takes twenty seconds. */
  few: tree("few", { files: 1000, parents: 5, children: 8 }),
  usr: { name: "usr", title: "a mixed tree of 1.2 GB: a part of /usr without caches", kind: "tree", sizeBytes: 1.4e9, make: makeUsr },
  big: file("big", "one file of 2 GiB", 2 * gibibyte),
  medium: {
    name: "medium",
    title: "200 files of 5 MB",
    kind: "tree",
    sizeBytes: 1e9,
    make: async (path) => {
      mkdirSync(path);
      for (let index = 0; index < 200; index++) writeContent(`${path}/file-${index}`, 5e6, index);
      return 1e9;
    },
  },
  tiny: file("tiny", "one file of 4 KiB, the whole command", 4096),
} as const satisfies Record<string, Workload>;

/** Numbers in [0, 1), the same ones for the same seed (mulberry32). */
export function randomNumbers(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

interface TreeShape {
  readonly files: number;
  /** Directories at the top and in each of them; 0: one flat directory. */
  readonly parents: number;
  readonly children: number;
}

/** Sizes uniform from 0.5 to 60 kB. */
function tree(name: string, shape: TreeShape): Workload {
  const count = shape.parents * shape.children;
  const where = count === 0 ? "one flat directory" : `${count} directories`;
  return {
    name,
    title: `${shape.files} files of 0.5 to 60 kB in ${where}`,
    kind: "tree",
    // A page's worth of slack a file.
    sizeBytes: shape.files * (meanBytes + 4096),
    make: async (path) => makeTree(path, shape),
  };
}

function makeTree(path: string, { files, parents, children }: TreeShape): number {
  const random = randomNumbers(seed);
  const directories = [path];
  mkdirSync(path);
  for (let parent = 0; parent < parents; parent++) {
    mkdirSync(`${path}/part-${parent}`);
    for (let child = 0; child < children; child++) {
      const directory = `${path}/part-${parent}/folder-${child}`;
      mkdirSync(directory);
      directories.push(directory);
    }
  }
  const leaves = parents === 0 ? directories : directories.slice(1);
  const content = contentPool();
  let bytes = 0;
  for (let index = 0; index < files; index++) {
    const size = Math.round(smallest + random() * (largest - smallest));
    const start = Math.floor(random() * (content.length - size));
    writeFileSync(`${leaves[index % leaves.length]}/file-${index}.data`, content.subarray(start, start + size));
    bytes += size;
  }
  return bytes;
}

function file(name: string, title: string, sizeBytes: number): Workload {
  return {
    name,
    title,
    kind: "file",
    sizeBytes,
    make: async (path) => {
      writeContent(path, sizeBytes, 0);
      return sizeBytes;
    },
  };
}

let pool: Buffer | undefined;

/** 16 MiB that no compression makes smaller: the key stream of a cipher. */
function contentPool(): Buffer {
  if (pool !== undefined) return pool;
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  pool = createCipheriv("aes-128-ctr", key, Buffer.alloc(16)).update(Buffer.alloc(16 * 1024 ** 2));
  return pool;
}

/** No two stretches of a file, nor two files, are the same: each block carries its number. */
function writeContent(path: string, sizeBytes: number, number: number): void {
  const content = contentPool();
  const block = Buffer.allocUnsafe(1024 ** 2);
  const fd = openSync(path, "wx", 0o644);
  try {
    for (let done = 0; done < sizeBytes; done += block.length) {
      const index = done / block.length;
      const start = ((index * 7919 + number * 104_729) * 512) % (content.length - block.length);
      content.copy(block, 0, start, start + block.length);
      block.writeUInt32LE(index, 0);
      block.writeUInt32LE(number, 4);
      let at = 0;
      const length = Math.min(block.length, sizeBytes - done);
      while (at < length) at += writeSync(fd, block, at, length - at);
    }
  } finally {
    closeSync(fd);
  }
}

const caches = ["__pycache__", "*.pyc", "*.cache", "ld.so.cache", "locale-archive"];
const usrLimitBytes = 1.2e9;
const folderLimitBytes = 400e6;
let usrFolders: readonly string[] | undefined;

async function makeUsr(path: string): Promise<number> {
  usrFolders ??= await chooseUsrFolders();
  mkdirSync(path);
  const excluded = caches.map((pattern) => `'--exclude=${pattern}'`).join(" ");
  const script = `set -o pipefail; tar -C / --xattrs --acls ${excluded} -cf - --null -T - | tar -C "$1" --xattrs --xattrs-include='*' --acls -xpf -`;
  const input = usrFolders.map((folder) => `${folder}\0`).join("");
  await runChecked(["bash", "-c", script, "tar", path], { input, timeoutMs: 300_000 });
  const { stdout } = await runChecked(["du", "-s", "--apparent-size", "--block-size=1", path], { timeoutMs: 120_000 });
  return Number(stdout.split("\t")[0]);
}

/** Whole folders two levels down, in an order that mixes kinds, as many as fit; the same ones on the same machine. */
async function chooseUsrFolders(): Promise<string[]> {
  const script = `cd / && find usr -mindepth 2 -maxdepth 2 -xdev -not -path 'usr/local*' -not -path 'usr/lib64*' -print0 |
    du -s -0 --block-size=1 --files0-from=-`;
  const { stdout } = await runChecked(["sh", "-c", script], { timeoutMs: 300_000 });
  const folders = stdout.split("\0").flatMap((line) => {
    const tab = line.indexOf("\t");
    return tab < 0 ? [] : [{ bytes: Number(line.slice(0, tab)), name: line.slice(tab + 1) }];
  });
  const order = ({ name }: { readonly name: string }): number => Bun.hash.crc32(name);
  let total = 0;
  const chosen: string[] = [];
  for (const { bytes, name } of folders.sort((a, b) => order(a) - order(b) || (a.name < b.name ? -1 : 1))) {
    if (bytes > folderLimitBytes || total + bytes > usrLimitBytes) continue;
    total += bytes;
    chosen.push(name);
  }
  return chosen;
}
