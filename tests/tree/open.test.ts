// Opening below a directory: nothing leads elsewhere, and no path is too long.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { type ByteString, toBytes } from "../../src/bytes.ts";
import { Errno } from "../../src/errno.ts";
import { At, libc, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { BeneathOpener } from "../../src/tree/open.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

let directory: TemporaryDirectory;
let rootFd = -1;
const opener = new BeneathOpener();
const arena = new Arena(8192);

beforeAll(async () => {
  directory = await temporaryDirectory();
  mkdirSync(`${directory.path}/root/a/b`, { recursive: true });
  writeFileSync(`${directory.path}/root/a/b/file`, "inside");
  writeFileSync(`${directory.path}/outside`, "outside");
  rootFd = libc.openat(At.AT_FDCWD, arena.cstring(`${directory.path}/root`), Open.O_PATH | Open.O_DIRECTORY, 0);
});
afterAll(async () => {
  libc.close(rootFd);
  opener[Symbol.dispose]();
  arena[Symbol.dispose]();
  await directory[Symbol.asyncDispose]();
});

function contentOf(fd: number): string {
  expect(fd).toBeGreaterThanOrEqual(0);
  const text = readFileSync(fd, "utf8");
  libc.close(fd);
  return text;
}

test("a file below is opened, and the root itself", () => {
  expect(contentOf(opener.open(rootFd, "a/b/file", Open.O_RDONLY))).toBe("inside");
  const itself = opener.open(rootFd, "", Open.O_PATH | Open.O_DIRECTORY);
  expect(itself).toBeGreaterThanOrEqual(0);
  libc.close(itself);
});

test("names are bytes", () => {
  writeFileSync(Buffer.concat([Buffer.from(`${directory.path}/root/`), toBytes("\xff\xfe\n" as ByteString)]), "odd");
  expect(contentOf(opener.open(rootFd, "\xff\xfe\n", Open.O_RDONLY))).toBe("odd");
});

test("a symlink anywhere in the path is refused, also one that stays inside", () => {
  symlinkSync("a", `${directory.path}/root/to-a`);
  symlinkSync("file", `${directory.path}/root/a/b/to-file`);
  expect(opener.open(rootFd, "to-a/b/file", Open.O_RDONLY)).toBe(-Errno.ELOOP);
  expect(opener.open(rootFd, "a/b/to-file", Open.O_RDONLY)).toBe(-Errno.ELOOP);
});

test("nothing leads out: neither .. nor an absolute path nor a symlink swapped in for a directory", () => {
  expect(opener.open(rootFd, "../outside", Open.O_RDONLY)).toBe(-Errno.EXDEV);
  expect(opener.open(rootFd, "a/../../outside", Open.O_RDONLY)).toBe(-Errno.EXDEV);
  expect(opener.open(rootFd, `${directory.path}/outside`, Open.O_RDONLY)).toBe(-Errno.EXDEV);
  mkdirSync(`${directory.path}/root/swapped`);
  writeFileSync(`${directory.path}/root/swapped/outside`, "inside");
  expect(contentOf(opener.open(rootFd, "swapped/outside", Open.O_RDONLY))).toBe("inside");
  rmSync(`${directory.path}/root/swapped`, { recursive: true });
  symlinkSync("..", `${directory.path}/root/swapped`);
  expect(opener.open(rootFd, "swapped/outside", Open.O_RDONLY)).toBe(-Errno.ELOOP);
});

test("openFollowing goes where a caller's path leads, but through no magic link", () => {
  symlinkSync(`${directory.path}/outside`, `${directory.path}/root/to-outside`);
  expect(contentOf(opener.openFollowing(rootFd, "to-outside", Open.O_RDONLY))).toBe("outside");
  const proc = libc.openat(At.AT_FDCWD, arena.cstring("/proc/self"), Open.O_PATH | Open.O_DIRECTORY, 0);
  expect(opener.openFollowing(proc, `fd/${rootFd}/a/b/file`, Open.O_RDONLY)).toBe(-Errno.ELOOP);
  libc.close(proc);
});

test("openWithoutLinks goes anywhere, but through no link", () => {
  const outside = `${directory.path}/outside`;
  expect(contentOf(opener.openWithoutLinks(rootFd, outside, Open.O_RDONLY))).toBe("outside");
  expect(contentOf(opener.openWithoutLinks(rootFd, "../outside", Open.O_RDONLY))).toBe("outside");
  symlinkSync("a", `${directory.path}/root/way`);
  expect(opener.openWithoutLinks(rootFd, "way/b/file", Open.O_RDONLY)).toBe(-Errno.ELOOP);
  expect(opener.openWithoutLinks(At.AT_FDCWD, `${directory.path}/root/way`, Open.O_RDONLY)).toBe(-Errno.ELOOP);
});

test("a path beyond 4096 bytes is walked in pieces, without leaving a descriptor open, and no piece leads out", () => {
  const names = Array.from({ length: 40 }, (_, index) => `${index}`.padEnd(240, "x"));
  const script = 'for (@ARGV) { mkdir $_; chdir $_ or die } open F, ">", "file"; print F "deep"; symlink "/", "out"';
  expect(Bun.spawnSync(["perl", "-e", script, ...names], { cwd: `${directory.path}/root` }).success).toBe(true);
  const before = readdirSync("/proc/self/fd").length;
  const deep = names.join("/");
  expect(deep.length).toBeGreaterThan(9000);
  expect(contentOf(opener.open(rootFd, `${deep}/file`, Open.O_RDONLY))).toBe("deep");
  expect(opener.open(rootFd, `${deep}/missing`, Open.O_RDONLY)).toBe(-Errno.ENOENT);
  expect(opener.open(rootFd, `${deep}/out/etc`, Open.O_RDONLY)).toBe(-Errno.ELOOP);
  symlinkSync(names[0] ?? "", `${directory.path}/root/long`);
  expect(opener.open(rootFd, `long/${names.slice(1).join("/")}/file`, Open.O_RDONLY)).toBe(-Errno.ELOOP);
  expect(opener.open(rootFd, `../root/${deep}/file`, Open.O_RDONLY)).toBe(-Errno.EXDEV);
  expect(opener.open(rootFd, `${names.slice(0, 30).join("/")}/absent/${deep}`, Open.O_RDONLY)).toBe(-Errno.ENOENT);
  expect(opener.open(rootFd, `${"y".repeat(5000)}/file`, Open.O_RDONLY)).toBe(-Errno.ENAMETOOLONG);
  for (let time = 0; time < 100; time++) opener.open(rootFd, `${deep}/missing`, Open.O_RDONLY);
  // The runtime opens and closes some of its own meanwhile.
  expect(readdirSync("/proc/self/fd").length).toBeLessThan(before + 50);
});
