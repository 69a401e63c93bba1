// Directory records as the kernel writes them: every name, byte for byte, once.

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from "node:fs";
import { type ByteString, toBytes } from "../../src/bytes.ts";
import { At, DirentType, libc, Open } from "../../src/ffi/libc.ts";
import { Arena, NativeMemory } from "../../src/ffi/memory.ts";
import { isDotOrDotDot, nameLength, nameString, recordLength, recordName, recordType } from "../../src/tree/dirents.ts";
import { temporaryDirectory } from "../support/temporary.ts";

/** All names and types of a directory, read through a buffer of `bufferBytes`. */
function list(path: string, bufferBytes: number): Map<string, number> {
  using arena = new Arena(8192);
  using memory = new NativeMemory(Math.max(4096, bufferBytes));
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(path), Open.O_RDONLY | Open.O_DIRECTORY, 0);
  const found = new Map<string, number>();
  for (;;) {
    const length = libc.getdents64(fd, memory.address, bufferBytes);
    expect(length).toBeGreaterThanOrEqual(0);
    if (length === 0) break;
    let offset = 0;
    for (; offset < length; offset += recordLength(memory.bytes, offset)) {
      const name = recordName(offset);
      if (isDotOrDotDot(memory.bytes, name)) continue;
      const text = nameString(memory.bytes, name);
      expect(nameLength(memory.bytes, name)).toBe(text.length);
      expect(found.has(text)).toBe(false);
      found.set(text, recordType(memory.bytes, offset));
    }
    expect(offset).toBe(length);
  }
  libc.close(fd);
  return found;
}

test("every name is found once, whatever its bytes and however small the buffer", async () => {
  await using directory = await temporaryDirectory();
  const names = [".a", "..a", "...", " ", "\n", "\xff\xfe\x80", "n".repeat(255), "\xfe".repeat(255), "a"];
  for (let index = 0; index < 300; index++) names.push(`${"x".repeat(index % 200)}${index}`);
  for (const name of names) writeFileSync(Buffer.concat([Buffer.from(`${directory.path}/`), toBytes(name as ByteString)]), "");
  for (const bufferBytes of [300, 1024, 32 * 1024]) {
    expect([...list(directory.path, bufferBytes).keys()].sort()).toEqual([...names].sort());
  }
});

test("types come with the names", async () => {
  await using directory = await temporaryDirectory();
  mkdirSync(`${directory.path}/directory`);
  writeFileSync(`${directory.path}/file`, "");
  symlinkSync("file", `${directory.path}/symlink`);
  const found = list(directory.path, 4096);
  expect([found.get("directory"), found.get("file"), found.get("symlink")]).toEqual([DirentType.DIR, DirentType.REG, DirentType.LNK]);
  expect(readdirSync(directory.path).length).toBe(found.size);
});

test("only . and .. are . and ..", () => {
  const bytes = Buffer.from(".\0..\0...\0.a\0a.\0..a\0");
  expect([0, 2, 5, 9, 12, 15].map((at) => isDotOrDotDot(bytes, at))).toEqual([true, true, false, false, false, false]);
});
