// Arguments and paths are bytes, whatever the runtime made of them.

import { afterAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ByteString, byteString, byteStringFromText, toBytes } from "../../src/bytes.ts";
import { rawArguments } from "../../src/cli/argv.ts";
import { absolutePath, stripTrailingSlashes } from "../../src/cli/paths.ts";
import { maxPathBytes } from "../../src/request.ts";

const directory = mkdtempSync(join(tmpdir(), "copyd-argv-"));
afterAll(() => rmSync(directory, { recursive: true }));

const bytes = (text: string): ByteString => text as ByteString;

test("decoded arguments stand for their UTF-8 bytes, and the kernel is not asked", () => {
  const neverRead = (): Uint8Array => {
    throw new Error("read");
  };
  expect(rawArguments(["cp", "é", "x"], neverRead)).toEqual([bytes("cp"), bytes("\xc3\xa9"), bytes("x")]);
});

test("arguments that are not UTF-8 are read from the command line, matched from its end", () => {
  const line = Buffer.from("/usr/bin/bun\0main.ts\0cp\0a\xffb\0\0", "latin1");
  expect(rawArguments(["cp", "a\ufffdb", ""], () => line)).toEqual([bytes("cp"), bytes("a\xffb"), bytes("")]);
});

test("an argument that really is U+FFFD, or was put in front, stays what it is", () => {
  const line = Buffer.from("bun\0main.ts\0\xef\xbf\xbd\0y\0", "latin1");
  expect(rawArguments(["--local", "\ufffd", "y"], () => line)).toEqual([bytes("--local"), byteStringFromText("\ufffd"), bytes("y")]);
});

test("a real process gets the bytes of its arguments and of its working directory", () => {
  const odd = join(directory, "odd");
  const script = `
    import { rawArguments } from ${JSON.stringify(join(import.meta.dir, "../../src/cli/argv.ts"))};
    import { absolutePath, workingDirectory } from ${JSON.stringify(join(import.meta.dir, "../../src/cli/paths.ts"))};
    const [name] = rawArguments(process.argv.slice(2));
    process.stdout.write(Buffer.from(absolutePath(name, workingDirectory()), "latin1"));
  `;
  mkdirSync(odd);
  writeFileSync(join(odd, "script.ts"), script);
  const run = Bun.spawnSync(["bash", "-c", `mkdir $'\\xfe' && cd $'\\xfe' && touch $'\\xff\\xc3' && "$BUN" ../script.ts $'\\xff\\xc3'`], {
    cwd: odd,
    env: { PATH: "/usr/bin:/bin", BUN: process.execPath },
  });
  expect(run.stderr.toString()).toBe("");
  const path = byteString(run.stdout);
  expect(path).toBe(`${odd}/\xfe/\xff\xc3` as ByteString);
  expect(statSync(toBytes(path)).isFile()).toBe(true);
});

test("paths are joined and nothing else", () => {
  expect(absolutePath(bytes("a/../b//"), bytes("/home/me"))).toBe(bytes("/home/me/a/../b//"));
  expect(absolutePath(bytes("a"), bytes("/"))).toBe(bytes("/a"));
  expect(absolutePath(bytes("//a"), bytes("/home/me"))).toBe(bytes("//a"));
});

test("names that the kernel refuses as typed become paths that it refuses for the same reason", () => {
  const errorOf = (path: ByteString): string => {
    try {
      statSync(toBytes(path));
      return "none";
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? "?";
    }
  };
  expect(errorOf(absolutePath(bytes(""), bytes("/tmp")))).toBe("ENOENT");
  expect(errorOf(absolutePath(bytes("tmp"), null))).toBe("ENOENT");
  expect(errorOf(absolutePath(bytes(`/tmp/${"./".repeat(maxPathBytes)}`), bytes("/tmp")))).toBe("ENAMETOOLONG");
  expect(errorOf(absolutePath(bytes(`./${"./".repeat(2046)}`), bytes("/tmp")))).toBe("ENAMETOOLONG");
});

test("a path as long as the request takes is kept", () => {
  const longest = bytes(`/${"x".repeat(maxPathBytes - 1)}`);
  expect(absolutePath(longest, null)).toBe(longest);
});

test("trailing slashes are stripped down to the root", () => {
  expect(stripTrailingSlashes(bytes("a//"))).toBe(bytes("a"));
  expect(stripTrailingSlashes(bytes("//"))).toBe(bytes("/"));
  expect(stripTrailingSlashes(bytes(""))).toBe(bytes(""));
});
