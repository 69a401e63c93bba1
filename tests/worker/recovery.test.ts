// After a worker died: only what is surely its own unfinished file is removed, whatever the record says.

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import {
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { InFlight, InFlightState, recordBytes } from "../../src/engines/in-flight.ts";
import { layout } from "../../src/ffi/layout.ts";
import { At, libc, Mmap } from "../../src/ffi/libc.ts";
import { Arena, mapAnonymous } from "../../src/ffi/memory.ts";
import { Stat } from "../../src/ffi/stat.ts";
import { logStart } from "../../src/worker/checkpoint-layout.ts";
import { PartialSlot } from "../../src/worker/partial-files.ts";
import { inFlightBytes } from "../../src/worker/protocol.ts";
import { removeInFlight, removePartials } from "../../src/worker/recovery.ts";
import { whyNoFilesystem } from "../support/filesystems.ts";
import { runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

let directory: TemporaryDirectory;
let path = "";
let fd = -1;
let address = 0;

beforeAll(async () => {
  directory = await temporaryDirectory();
});
afterAll(() => directory[Symbol.asyncDispose]());

beforeEach(() => {
  rmSync(`${directory.path}/d`, { recursive: true, force: true });
  path = `${directory.path}/d`;
  mkdirSync(path);
  if (fd >= 0) closeSync(fd);
  fd = openSync(`${directory.path}/record`, "w+");
  ftruncateSync(fd, inFlightBytes);
  address = libc.mmap(0, inFlightBytes, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.MAP_SHARED, fd, 0);
});

/** What a lane had in flight when it died. */
function record(lane: number, name: string, state: "creating" | "created", where = path, boot = 0): void {
  using arena = new Arena(8192);
  const stat = new Stat(arena.allocate(layout.statx.size));
  expect(stat.ofTarget(At.AT_FDCWD, arena.cstring(where))).toBe(0);
  const inFlight = new InFlight(address, lane, boot);
  expect(inFlight.enter(where, stat)).toBe(true);
  inFlight.creating(arena.cstring(name));
  if (state === "creating") return;
  const known = stat.ofName(At.AT_FDCWD, arena.cstring(`${where}/${name}`)) === 0;
  inFlight.created(known ? stat.inodeLow : 0, known ? stat.inodeHigh : 0);
}

function statOf(arena: Arena, name: string): Stat {
  const stat = new Stat(arena.allocate(layout.statx.size)).withBirth();
  expect(stat.ofName(At.AT_FDCWD, arena.cstring(name))).toBe(0);
  return stat;
}

test("an unfinished file is removed, in every lane's record", () => {
  for (const lane of [0, 1, 31]) {
    writeFileSync(`${path}/file-${lane}`, "half");
    record(lane, `file-${lane}`, "created");
  }
  expect(removeInFlight(fd, "job")).toBe(3);
  expect(existsSync(`${path}/file-31`)).toBe(false);
  // A whole file may get the name next, and the number of that inode.
  for (const lane of [0, 1, 31]) expect(new InFlight(address, lane).state).toBe(InFlightState.idle);
  expect(removeInFlight(fd, "job")).toBe(0);
});

test("a temporary file with the job's token is removed, another job's is not", () => {
  writeFileSync(`${path}/.copyd-job-7`, "half");
  record(0, ".copyd-job-7", "creating");
  writeFileSync(`${path}/.copyd-other-7`, "half");
  record(1, ".copyd-other-7", "creating");
  expect(removeInFlight(fd, "job")).toBe(1);
  expect(existsSync(`${path}/.copyd-other-7`)).toBe(true);
});

test("of big files that nobody goes on with, only the recorded one is removed, under a temporary name of this job", () => {
  const head = mapAnonymous(logStart);
  using arena = new Arena(16 * 1024);
  const [source, directoryStat] = [statOf(arena, path), statOf(arena, path)];
  const names = [".copyd-job-1", ".copyd-other-1", "mine", ".copyd-job-2", ".copyd-job-3"];
  const slots = names.map((name, index) => {
    writeFileSync(`${path}/${name}`, "half");
    const slot = new PartialSlot(head, index);
    const { inodeLow: directoryInodeLow, inodeHigh: directoryInodeHigh } = directoryStat;
    const isElsewhere = name === ".copyd-job-3";
    const place = { name, directory: path, directoryInodeLow: directoryInodeLow + (isElsewhere ? 1 : 0), directoryInodeHigh };
    expect(slot.fill(source, statOf(arena, `${path}/${name}`), place, 1)).toBe(true);
    return slot;
  });
  writeFileSync(`${path}/new`, "a whole file");
  renameSync(`${path}/new`, `${path}/.copyd-job-2`);
  expect(removePartials(slots, "job")).toBe(1);
  expect(readdirSync(path).sort()).toEqual(names.slice(1).sort());
  expect(slots.some(({ isUsed }) => isUsed)).toBe(false);
});

test("of another boot, when the record may be an old one, only temporary names are believed", () => {
  for (const [lane, [name, state]] of (
    [
      ["whole", "created"],
      ["empty", "creating"],
      [".copyd-job-7", "created"],
    ] as const
  ).entries()) {
    writeFileSync(`${path}/${name}`, state === "created" ? "whole by now" : "");
    record(lane, name, state, path, 1);
  }
  expect(removeInFlight(fd, "job", 2)).toBe(1);
  expect(readdirSync(path).sort()).toEqual(["empty", "whole"]);
  expect(removeInFlight(fd, "job", 1)).toBe(2);
});

test("an empty file that was about to be created is removed, one with content is somebody else's", () => {
  writeFileSync(`${path}/empty`, "");
  record(0, "empty", "creating");
  writeFileSync(`${path}/full`, "another's");
  record(1, "full", "creating");
  expect(removeInFlight(fd, "job")).toBe(1);
  expect(existsSync(`${path}/full`)).toBe(true);
});

test("a file that got a second name, a directory, a symlink stay", () => {
  writeFileSync(`${path}/linked`, "half");
  linkSync(`${path}/linked`, `${path}/second-name`);
  mkdirSync(`${path}/subdirectory`);
  symlinkSync("linked", `${path}/symlink`);
  for (const [lane, name] of ["linked", "subdirectory", "symlink"].entries()) record(lane, name, "created");
  expect(removeInFlight(fd, "job")).toBe(0);
  expect(existsSync(`${path}/linked`) && existsSync(`${path}/subdirectory`)).toBe(true);
});

test("a file that somebody put in the place of the unfinished one stays", () => {
  writeFileSync(`${path}/file`, "half");
  record(0, "file", "created");
  writeFileSync(`${path}/new`, "a whole file of another job");
  renameSync(`${path}/new`, `${path}/file`);
  expect(removeInFlight(fd, "job")).toBe(0);
  expect(existsSync(`${path}/file`)).toBe(true);
});

test("inodes are told apart by all 64 bits of their numbers", () => {
  writeFileSync(`${path}/file`, "another's");
  writeFileSync(`${path}/empty`, "");
  using arena = new Arena(8192);
  const [above, file] = [statOf(arena, path), statOf(arena, `${path}/file`)];
  record(0, "file", "creating");
  new InFlight(address, 0).created(file.inodeLow, file.inodeHigh + 1);
  record(1, "empty", "creating");
  new InFlight(address, 1).enter(path, { device: above.device, inodeLow: above.inodeLow, inodeHigh: above.inodeHigh + 1 });
  expect(removeInFlight(fd, "job")).toBe(0);
  expect(readdirSync(path).sort()).toEqual(["empty", "file"]);
  new InFlight(address, 0).created(file.inodeLow, file.inodeHigh);
  new InFlight(address, 1).enter(path, above);
  expect(removeInFlight(fd, "job")).toBe(2);
});

testUnless(
  whyNoFilesystem("tmpfs"),
  "nothing is removed from a filesystem that was mounted in the place of another, where inodes have the same numbers",
  async () => {
    const mount = async (): Promise<void> => void (await runChecked(["mount", "-t", "tmpfs", "copyd-test", path]));
    await mount();
    try {
      writeFileSync(`${path}/empty`, "");
      record(0, "empty", "creating");
      await mount();
      try {
        writeFileSync(`${path}/empty`, "");
        expect(removeInFlight(fd, "job")).toBe(0);
        expect(existsSync(`${path}/empty`)).toBe(true);
      } finally {
        await runChecked(["umount", path]);
      }
      expect(removeInFlight(fd, "job")).toBe(1);
    } finally {
      await runChecked(["umount", path]);
    }
  },
);

test("nothing is removed from a directory that came in the place of the recorded one", () => {
  writeFileSync(`${path}/file`, "half");
  record(0, "file", "created");
  record(1, "empty", "creating");
  renameSync(path, `${directory.path}/moved`);
  mkdirSync(path);
  writeFileSync(`${path}/file`, "another's");
  writeFileSync(`${path}/empty`, "");
  expect(removeInFlight(fd, "job")).toBe(0);
  rmSync(path, { recursive: true });
  symlinkSync("elsewhere", path);
  mkdirSync(`${directory.path}/elsewhere`);
  writeFileSync(`${directory.path}/elsewhere/file`, "another's");
  expect(removeInFlight(fd, "job")).toBe(0);
  expect(existsSync(`${directory.path}/elsewhere/file`)).toBe(true);
  rmSync(`${directory.path}/moved`, { recursive: true });
  rmSync(`${directory.path}/elsewhere`, { recursive: true });
  rmSync(path);
});

test("names with slashes, empty names, relative directories and garbage remove nothing", () => {
  writeFileSync(`${directory.path}/outside`, "");
  record(0, "../outside", "created");
  record(1, "", "created");
  writeFileSync(`${path}/file`, "half");
  record(3, "file", "created");
  // From the root it would be that directory, but for its first byte.
  using arena = new Arena(8192);
  const above = statOf(arena, path);
  new InFlight(address, 3).enter(`x${path.slice(1)}`, above);
  const words = new Uint32Array(inFlightBytes / 4);
  crypto.getRandomValues(new Uint8Array(words.buffer, 2 * recordBytes, 4096));
  const garbage = Buffer.from(words.buffer).subarray(2 * recordBytes, 2 * recordBytes + 4096);
  for (const state of [InFlightState.creating, InFlightState.created]) {
    garbage.writeUInt32LE(state, 0);
    writeSync(fd, garbage, 0, garbage.length, 2 * recordBytes);
    expect(removeInFlight(fd, "job")).toBe(0);
  }
  expect(existsSync(`${directory.path}/outside`) && existsSync(`${path}/file`)).toBe(true);
});

test("an unused record names nothing and is left as it is", () => {
  expect(removeInFlight(fd, "job")).toBe(0);
  expect(statSync(`${directory.path}/record`).size).toBe(inFlightBytes);
});

test("a directory whose path is longer than PATH_MAX is found", () => {
  const names = Array.from({ length: 20 }, (_, index) => `${index}`.padEnd(240, "x"));
  Bun.spawnSync(["perl", "-e", 'for (@ARGV) { mkdir $_; chdir $_ or die } open F, ">", "file"; print F "half"', ...names], { cwd: path });
  const deep = `${path}/${names.join("/")}`;
  using arena = new Arena(8192);
  const stat = new Stat(arena.allocate(layout.statx.size));
  let at = libc.openat(At.AT_FDCWD, arena.cstring(path), 0o200000, 0);
  for (const name of names) {
    const next = libc.openat(at, arena.cstring(name), 0o200000, 0);
    libc.close(at);
    at = next;
  }
  expect(stat.ofDescriptor(at, arena.cstring(""))).toBe(0);
  const inFlight = new InFlight(address, 0);
  inFlight.enter(deep, stat);
  inFlight.creating(arena.cstring("file"));
  const file = libc.openat(at, arena.cstring("file"), 0, 0);
  expect(stat.ofDescriptor(file, arena.cstring(""))).toBe(0);
  inFlight.created(stat.inodeLow, stat.inodeHigh);
  libc.close(file);
  expect(removeInFlight(fd, "job")).toBe(1);
  expect(stat.ofName(at, arena.cstring("file"))).toBeLessThan(0);
  libc.close(at);
  Bun.spawnSync(["rm", "-rf", path]);
});
