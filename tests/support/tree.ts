// A tree with every oddity a file system allows: what a copy must carry over, made with real files.

import {
  chmodSync,
  chownSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { type ByteString, toBytes } from "../../src/bytes.ts";
import { havePrograms, runChecked } from "./process.ts";

export const oddities = [
  "hard-links",
  "symlinks",
  "setuid",
  "owners",
  "xattrs",
  "acls",
  "sparse",
  "odd-names",
  "deep-paths",
  "fifos",
  "devices",
  "capabilities",
] as const;
export type Oddity = (typeof oddities)[number];

export interface TreeOptions {
  /** Oddities to leave out: those the filesystem or the user cannot have are left out by themselves. */
  readonly without?: readonly Oddity[];
  /** Ordinary small files besides, spread over directories of 100. */
  readonly plainFiles?: number;
}

export interface OddTree {
  readonly path: string;
  /** What it holds. */
  readonly oddities: ReadonlySet<Oddity>;
}

/** The directory below which paths pass 4096 bytes; rsync cannot follow there, so compareTrees looks by other means. */
export const deepDirectory = "deep";

const megabyte = 1_000_000;

/** Fills an existing empty directory. The same options give the same tree, times included. */
export async function makeOddTree(path: string, options: TreeOptions = {}): Promise<OddTree> {
  const present = new Set<Oddity>(oddities.filter((oddity) => options.without?.includes(oddity) !== true && isPossible(oddity)));
  makePlainFiles(path, options.plainFiles ?? 20);
  if (present.has("hard-links")) makeHardLinks(path);
  if (present.has("symlinks")) makeSymlinks(path);
  if (present.has("sparse")) makeSparseFiles(path);
  if (present.has("odd-names")) makeOddNames(path);
  if (present.has("setuid")) makeModes(path);
  if (present.has("owners")) makeOwners(path);
  if (present.has("xattrs")) await makeXattrs(path, present);
  if (present.has("acls")) await makeAcls(path, present);
  if (present.has("capabilities")) await makeCapabilities(path);
  if (present.has("fifos")) await runChecked(["mkfifo", "-m", "0640", `${path}/fifo`]);
  if (present.has("devices")) await makeDevices(path);
  if (present.has("deep-paths")) await makeDeepPath(path);
  await ageTree(path);
  return { path, oddities: present };
}

function isPossible(oddity: Oddity): boolean {
  const root = process.getuid?.() === 0;
  switch (oddity) {
    case "owners":
    case "devices":
      return root;
    case "capabilities":
      return root && havePrograms("setcap");
    case "xattrs":
      return havePrograms("setfattr");
    case "acls":
      return havePrograms("setfacl");
    default:
      return true;
  }
}

/** A path below a directory whose name is given as latin1 characters, one per byte. */
export function below(path: string, name: string): Buffer {
  return Buffer.concat([Buffer.from(`${path}/`, "utf8"), toBytes(name as ByteString)]);
}

/** Reproducible bytes that do not compress to nothing and differ from file to file. */
export function contentOf(seed: number, sizeBytes: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  let state = (seed * 2654435761 + 1) >>> 0;
  for (let at = 0; at + 4 <= sizeBytes; at += 4) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(state, at);
  }
  return bytes;
}

function makePlainFiles(path: string, count: number): void {
  const sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000];
  for (let index = 0; index < count; index++) {
    const directory = `${path}/plain/${Math.floor(index / 100)}`;
    mkdirSync(directory, { recursive: true });
    writeFileSync(`${directory}/file-${index}`, contentOf(index, sizes[index % sizes.length] ?? 0));
  }
  mkdirSync(`${path}/empty-directory`);
  mkdirSync(`${path}/nested/a/b/c`, { recursive: true });
  writeFileSync(`${path}/nested/a/b/c/file`, "deep down\n");
  writeFileSync(`${path}/several-megabytes`, contentOf(7, 5 * megabyte + 13));
}

function makeHardLinks(path: string): void {
  mkdirSync(`${path}/links/elsewhere`, { recursive: true });
  writeFileSync(`${path}/links/one`, "three names, one file\n");
  linkSync(`${path}/links/one`, `${path}/links/two`);
  linkSync(`${path}/links/one`, `${path}/links/elsewhere/three`);
  writeFileSync(`${path}/links/large`, contentOf(9, 2 * megabyte));
  linkSync(`${path}/links/large`, `${path}/zz-large-again`);
}

function makeSymlinks(path: string): void {
  mkdirSync(`${path}/symlinks`);
  symlinkSync("../several-megabytes", `${path}/symlinks/to-file`);
  symlinkSync("../nested", `${path}/symlinks/to-directory`);
  symlinkSync("nowhere/at/all", `${path}/symlinks/dangling`);
  symlinkSync("loop", `${path}/symlinks/loop`);
  symlinkSync("/etc/passwd", `${path}/symlinks/absolute`);
  symlinkSync(toBytes("t\xff\xfe\n" as ByteString), below(path, "symlinks/odd-target"));
  makeLongestSymlink(`${path}/symlinks/longest-target`);
  symlinkSync("to-file", `${path}/symlinks/second`);
  linkSync(`${path}/symlinks/second`, `${path}/symlinks/second-again`);
}

function makeLongestSymlink(path: string): void {
  try {
    symlinkSync("x".repeat(4095), path);
  } catch {
    // xfs holds a kilobyte.
    symlinkSync("x".repeat(1023), path);
  }
}

function makeSparseFiles(path: string): void {
  mkdirSync(`${path}/sparse`);
  writeFileSync(`${path}/sparse/only-a-hole`, "");
  truncateSync(`${path}/sparse/only-a-hole`, 20 * megabyte);
  writeAt(`${path}/sparse/data-in-the-middle`, 8 * megabyte, 30 * megabyte);
  writeAt(`${path}/sparse/data-at-the-end`, 10 * megabyte, 10 * megabyte + 5);
  writeAt(`${path}/sparse/data-at-the-start`, 0, 9 * megabyte + 1);
}

function writeAt(path: string, offset: number, sizeBytes: number): void {
  const fd = openSync(path, "w");
  writeSync(fd, "here!", offset);
  closeSync(fd);
  truncateSync(path, sizeBytes);
}

function makeOddNames(path: string): void {
  mkdirSync(`${path}/names`);
  const names = [
    "not-utf8-\xff\xfe\x80",
    "newline\nin the name",
    "tab\tand \\ backslash",
    " leading and trailing ",
    "-rf",
    "--help",
    "'quoted' \"twice\"",
    "star*question?[bracket]",
    "$(touch injected)",
    "\x01\x1b[31mcontrol",
    "...",
    ".hidden",
    "#comment#",
    "name~",
    Buffer.from("gr\u00fc\u00dfe \u65e5\u672c\u8a9e \u{1f600}", "utf8").toString("latin1"),
    "n".repeat(255),
    "\xfe".repeat(255),
  ];
  for (const [index, name] of names.entries()) writeFileSync(below(path, `names/${name}`), `${index}\n`);
  mkdirSync(below(path, "names/directory \xe9\n"));
  writeFileSync(below(path, "names/directory \xe9\n/inside"), "inside\n");
}

function makeModes(path: string): void {
  mkdirSync(`${path}/modes`);
  for (const mode of [0o4755, 0o2755, 0o6711, 0o1644, 0o600, 0o444, 0o777]) {
    const file = `${path}/modes/${mode.toString(8)}`;
    writeFileSync(file, `${mode.toString(8)}\n`);
    chmodSync(file, mode);
  }
  for (const mode of [0o2775, 0o1777, 0o555, 0o700]) {
    const directory = `${path}/modes/d${mode.toString(8)}`;
    mkdirSync(directory);
    writeFileSync(`${directory}/inside`, "x");
    chmodSync(directory, mode);
  }
}

function makeOwners(path: string): void {
  mkdirSync(`${path}/owners`);
  for (const [index, id] of [1, 1000, 65_533, 100_000, 2_000_000_000].entries()) {
    writeFileSync(`${path}/owners/${id}`, "mine\n");
    chownSync(`${path}/owners/${id}`, id, id + 1);
    // chown clears the set-user-ID bit, so a mode that has it must be set after; a copy must do the same.
    if (index === 1) chmodSync(`${path}/owners/${id}`, 0o4711);
  }
}

async function makeXattrs(path: string, present: Set<Oddity>): Promise<void> {
  mkdirSync(`${path}/xattrs/directory`, { recursive: true });
  writeFileSync(`${path}/xattrs/file`, "with attributes\n");
  try {
    await runChecked(["setfattr", "-n", "user.copyd.test", "-v", "some value", `${path}/xattrs/file`]);
    await runChecked(["setfattr", "-n", "user.binary", "-v", "0x00ff0a00", `${path}/xattrs/file`]);
    await runChecked(["setfattr", "-n", "user.empty", `${path}/xattrs/file`]);
    await runChecked(["setfattr", "-n", "user.long", "-v", "v".repeat(2000), `${path}/xattrs/file`]);
    await runChecked(["setfattr", "-n", "user.on.directory", "-v", "yes", `${path}/xattrs/directory`]);
  } catch (error) {
    if (!String(error).includes("not supported")) throw error;
    present.delete("xattrs");
  }
}

async function makeAcls(path: string, present: Set<Oddity>): Promise<void> {
  mkdirSync(`${path}/acls/directory`, { recursive: true });
  writeFileSync(`${path}/acls/file`, "with an ACL\n");
  try {
    await runChecked(["setfacl", "-m", "u:1000:rwx,g:1001:r,m::rx", `${path}/acls/file`]);
    await runChecked(["setfacl", "-m", "u:1000:rwx,d:u:1000:rwx,d:g:1001:rx,d:o::-", `${path}/acls/directory`]);
    writeFileSync(`${path}/acls/directory/inherits`, "inherited\n");
  } catch (error) {
    if (!String(error).includes("not supported")) throw error;
    present.delete("acls");
  }
}

async function makeCapabilities(path: string): Promise<void> {
  writeFileSync(`${path}/capable`, "#!/bin/true\n");
  await runChecked(["setcap", "cap_net_bind_service+ep", `${path}/capable`]);
}

async function makeDevices(path: string): Promise<void> {
  await runChecked(["mknod", `${path}/null-device`, "c", "1", "3"]);
  await runChecked(["mknod", `${path}/block-device`, "b", "7", "250"]);
}

/** Twenty directories of 240 bytes each: no single path reaches the file at the end. Perl goes there step by step. */
async function makeDeepPath(path: string): Promise<void> {
  const script = `
    chdir $ARGV[0] or die "chdir: $!"; mkdir "${deepDirectory}"; chdir "${deepDirectory}" or die "chdir: $!";
    for my $level (1 .. 20) { my $name = sprintf("%02d-", $level) . "d" x 237; mkdir $name or die "mkdir: $!"; chdir $name or die "chdir: $!"; }
    open my $file, ">", "at the end" or die "open: $!"; print $file "five thousand bytes of path\\n"; close $file;
    link "at the end", "again" or die "link: $!"; symlink "at the end", "link" or die "symlink: $!";`;
  await runChecked(["perl", "-e", script, path]);
}

/** Times long ago, with nanoseconds, on everything; directories too, and symlinks' own. */
async function ageTree(path: string): Promise<void> {
  // -execdir goes into each directory, so that the deep part is reached; it refuses a PATH with relative entries.
  const touch = ["touch", "--no-dereference", "--date=2001-02-03 04:05:06.123456789 UTC"];
  await runChecked(["find", path, "-depth", "-execdir", ...touch, "{}", "+"], { env: { PATH: "/usr/bin:/bin" } });
  await runChecked(["touch", "--date=@-1.5", `${path}/several-megabytes`]);
  await runChecked(["touch", "--date=@1700000000.000000001", `${path}/nested`]);
  await runChecked(["touch", "--date=@1600000000.999999999", path]);
}
