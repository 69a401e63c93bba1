// Small files in a directory that the job made: which calls each costs, and what is done where one of them turns out otherwise.

import { expect } from "bun:test";
import { appendFileSync, chmodSync, chownSync, cpSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runTraced } from "../recovery/one-failed-call.ts";
import { copydCommand } from "../support/cli.ts";
import { havePrograms } from "../support/process.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const whyNot = havePrograms("strace") ? null : "strace is not installed";
const content = "first line\n";

/** A tree of one file; the watched paths are its source and its copy. */
async function oneFile(): Promise<TemporaryDirectory & { readonly watched: readonly string[]; readonly command: readonly string[] }> {
  const here = await temporaryDirectory();
  mkdirSync(`${here.path}/tree`);
  writeFileSync(`${here.path}/tree/log`, content, { mode: 0o644 });
  const watched = [`${here.path}/tree/log`, `${here.path}/copy/log`];
  // What a refused clone costs on the first file is not asked for here.
  const command = copydCommand("cp", "-a", "--local", "--lanes=1", "--reflink=never", `${here.path}/tree`, `${here.path}/copy`);
  return Object.assign(here, { watched, command });
}

/**
 * What is called from the opening of a file to its closing, and the mode that its copy is made with or gets: "openat 0644". Of the latter of
 * two files: the first one's directory is looked at.
 */
async function callsFor({ path, command }: Awaited<ReturnType<typeof oneFile>>): Promise<string[]> {
  cpSync(`${path}/tree/log`, `${path}/tree/log.1`);
  const { uid, gid, mode } = statSync(`${path}/tree/log`);
  chownSync(`${path}/tree/log.1`, uid, gid);
  chmodSync(`${path}/tree/log.1`, mode & 0o777);
  // An openat is known by its directory.
  const all = ["tree", "tree/log", "tree/log.1", "copy", "copy/log", "copy/log.1"].map((name) => `${path}/${name}`);
  const { trace, status } = await runTraced(command, { watched: all, tracePath: `${path}/trace` });
  expect(status).toBe(0);
  const lines = trace.split("\n");
  const first = lines.findLastIndex((line) => /"log(\.1)?", O_RDONLY/.test(line));
  const calls = lines.slice(first).flatMap((line) => {
    const [, syscall, mode] = /^\d+ +(\w+)\(.*?(?:, (0\d+))?\) += /.exec(line) ?? [];
    return syscall === undefined ? [] : [mode === undefined ? syscall : `${syscall} ${mode}`];
  });
  return calls.slice(0, calls.indexOf("close") + 2);
}

testUnless(whyNot, "a small file costs eleven calls", async () => {
  await using here = await oneFile();
  const made = ["openat", "statx", "flistxattr", "openat 0644", "statx"];
  expect(await callsFor(here)).toEqual([...made, "pread64", "pwrite64", "utimensat", "statx", "close", "close"]);
});

testUnless(whyNot ?? unlessRoot(), "another's file is its owner's alone until he owns it, and gets its mode then", async () => {
  await using here = await oneFile();
  chownSync(`${here.path}/tree/log`, 12_345, 12_345);
  chmodSync(`${here.path}/tree/log`, 0o664);
  const made = ["openat", "statx", "flistxattr", "openat 0600", "statx", "pread64", "pwrite64"];
  expect(await callsFor(here)).toEqual([...made, "fchownat", "fchmod 0664", "utimensat", "statx", "close", "close"]);
});

testUnless(whyNot, "one that grows meanwhile is copied to its new end, which is told", async () => {
  await using here = await oneFile();
  const running = runTraced(here.command, { watched: here.watched, tracePath: `${here.path}/trace`, delayed: "pwrite64" });
  const isRead = (): boolean => existsSync(`${here.path}/trace`) && readFileSync(`${here.path}/trace`, "latin1").includes("pread64(");
  while (!isRead()) await Bun.sleep(10);
  appendFileSync(`${here.path}/tree/log`, "second line\n");
  const { status, stderr } = await running;
  expect({ status, stderr }).toEqual({ status: 0, stderr: `cp: '${here.path}/tree/log' changed while it was copied\n` });
  expect(readFileSync(`${here.path}/copy/log`, "latin1")).toBe(`${content}second line\n`);
});

testUnless(whyNot, "a job of the service tells of a read that failed once, and the copy is whole", async () => {
  await using here = await oneFile();
  const jobModule = JSON.stringify(join(import.meta.dir, "../support/embedded-job.ts"));
  const paths = `[${JSON.stringify(`${here.path}/tree`)}], ${JSON.stringify(`${here.path}/copy`)}`;
  const script = `
    const { startJob } = await import(${jobModule});
    const job = startJob(${paths}, { target: "exact", reflink: "never" });
    const { state } = await job.ended;
    console.log(JSON.stringify({ state, told: job.errors.map(({ severity, message }) => [severity, message]) }));
    process.exit(0);`;
  writeFileSync(`${here.path}/job.ts`, script);
  const failing = { syscall: "pread64", ordinal: 1, errno: "EIO" };
  const command = [process.execPath, `${here.path}/job.ts`];
  const { stdout } = await runTraced(command, { watched: here.watched, tracePath: `${here.path}/trace`, failing });
  const told = ["warning", `'${here.path}/tree/log' could be read only when it was tried again: Input/output error`];
  expect(JSON.parse(stdout)).toEqual({ state: "completed", told: [told] });
  expect(readFileSync(`${here.path}/copy/log`, "latin1")).toBe(content);
});

testUnless(whyNot, "a write that fails is told, and nothing is left of the copy", async () => {
  await using here = await oneFile();
  const failing = { syscall: "pwrite64", ordinal: 1, errno: "EIO" };
  const { status, stderr } = await runTraced(here.command, { watched: here.watched, tracePath: `${here.path}/trace`, failing });
  expect({ status, stderr }).toEqual({ status: 1, stderr: `cp: error writing '${here.path}/copy/log': Input/output error\n` });
  expect(existsSync(`${here.path}/copy/log`)).toBe(false);
});
