// Small files that come from a medium are asked for ahead, and only where they are going to be read.

import { expect } from "bun:test";
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Fadvise, libc } from "../../src/ffi/libc.ts";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { compareTrees } from "../support/compare.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const files = 300;
const reason = firstReason(whyNoFilesystem("ext4"), havePrograms("strace") ? null : "strace is not installed");

testUnless(reason, "what comes from a medium is asked for ahead, unless it may not be wanted or is there already", async () => {
  await using fs = await mountFilesystem("ext4", { sizeBytes: 256 * 1024 ** 2 });
  const source = `${fs.path}/source`;
  mkdirSync(source);
  for (let index = 0; index < files; index++) writeFileSync(`${source}/file-${index}`, randomBytes(20_000));
  const asked = async (destination: string, ...options: readonly string[]): Promise<number> => {
    evict(source);
    return await askedAhead(`${fs.path}/trace`, [...options, source, `${fs.path}/${destination}`]);
  };
  // Of the first files nobody knows yet that they are cold; what two lanes come to between two looks differs from run to run.
  expect(await asked("cold")).toBeGreaterThan(files / 2);
  expect(await compareTrees(source, `${fs.path}/cold`)).toEqual([]);
  expect(await asked("dropped", "--cache=drop")).toBe(0);
  expect(await asked("linked", "--link")).toBe(0);
  // Most of them are to be copied, but nobody knows which before the destination was looked at.
  for (let index = 0; index < files; index++) if (index % 4 > 0) rmSync(`${fs.path}/cold/file-${index}`);
  expect(await asked("cold", "-n", "-T")).toBe(0);
  expect(await asked("cold", "-T")).toBeGreaterThan(files / 2);
  await runChecked(["sh", "-c", `cat ${source}/* > ${fs.path}/all`]);
  expect(await askedAhead(`${fs.path}/trace`, [source, `${fs.path}/warm`])).toBe(0);
  expect(await compareTrees(source, `${fs.path}/warm`)).toEqual([]);
});

/** How many files a copy asks the kernel to read ahead. `trace` is a file to be overwritten. */
async function askedAhead(trace: string, arguments_: readonly string[]): Promise<number> {
  const command = copydCommand("cp", "-a", "--local", "--lanes=2", ...arguments_);
  const watched = ["strace", "-f", "-qq", "-e", "trace=fadvise64", "-o", trace, ...command];
  await runChecked(watched, { env: plainEnvironment });
  return readFileSync(trace, "utf8").split("POSIX_FADV_WILLNEED").length - 1;
}

function evict(directory: string): void {
  for (const name of readdirSync(directory)) {
    const fd = openSync(`${directory}/${name}`, "r");
    fsyncSync(fd);
    libc.posixFadvise(fd, 0, 0, Fadvise.DONTNEED);
    closeSync(fd);
  }
}
