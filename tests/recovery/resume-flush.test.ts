// An error that a flush was told is told once: it outlives the worker that heard of it, and where nobody heard, what may be lost is looked at.

import { afterEach, beforeEach, expect } from "bun:test";
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, statSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { Errno } from "../../src/errno.ts";
import { HeadWord, logStart, MarkWord, markStarts, PageKind, PageWord, pageBytes } from "../../src/worker/checkpoint-layout.ts";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { killedAt, ResumableJob, type RunOptions } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { readTrace } from "../support/trace.ts";

const reason = firstReason(whyNoFilesystem("tmpfs"), havePrograms("strace") ? null : "strace is not installed");
const fileBytes = 100_000;

let directory: TemporaryDirectory;
let other: TestFilesystem;
let [source, destination] = ["", ""];

beforeEach(async () => {
  directory = await temporaryDirectory();
  other = await mountFilesystem("tmpfs");
  source = join(directory.path, "source");
  destination = join(other.path, "destination");
  mkdirSync(source);
});
afterEach(async () => {
  await other[Symbol.asyncDispose]();
  await directory[Symbol.asyncDispose]();
});

function makeFiles(count: number): void {
  for (let file = 0; file < count; file++) writeFileSync(join(source, `f${file}`), Buffer.alloc(fileBytes, `content ${file} `));
}

function move(options: Record<string, unknown> = {}, operation: "move" | "copy" = "move"): ResumableJob {
  const request = { operation, sources: [source], destination, options: { target: "exact", engine: "read-write", ...options } };
  return new ResumableJob(directory.path, request);
}

function injecting(fault: string): Pick<RunOptions, "under"> {
  return { under: ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=syncfs", "-e", `inject=syncfs:${fault}`] };
}

/** A device that is slow to write back and to flush. */
const slowDevice = ["-e", "trace=syncfs,sync_file_range", "-e", "inject=sync_file_range:delay_enter=30000"];

function headWord(job: ResumableJob, word: number): number {
  const bytes = readFileSync(job.checkpointPath).subarray(word * 4, word * 4 + 4);
  return bytes.length === 4 ? bytes.readUInt32LE() : 0;
}

/** Of the log. */
function pagesOfCopies(job: ResumableJob): Uint32Array[] {
  const { buffer } = new Uint8Array(readFileSync(job.checkpointPath));
  const count = Math.floor((buffer.byteLength - logStart) / pageBytes);
  const pages = Array.from({ length: count }, (_, index) => new Uint32Array(buffer, logStart + index * pageBytes, pageBytes / 4));
  return pages.filter((page) => page[PageWord.kind] === PageKind.copies);
}

/** Of the same size, time and inode: what a device that could not write gives back once the page cache has let go of it. */
async function damage(path: string): Promise<void> {
  const stamp = join(directory.path, "stamp");
  await runChecked(["touch", "-r", path, stamp]);
  const fd = openSync(path, "r+");
  writeSync(fd, Buffer.alloc(4096), 0, 4096, 8192);
  closeSync(fd);
  await runChecked(["touch", "-r", stamp, path]);
}

testUnless(
  reason,
  "a flush for a mark failed and the worker was killed: the next one keeps the sources, and the result names it",
  async () => {
    makeFiles(60);
    using job = move({ bandwidthLimit: 1_500_000 });
    const { end } = await job.run({
      ...injecting("error=ENOSPC:when=1"),
      // The worker itself: strace would let it go on.
      onMessage: (message, { pid }) => {
        if (message.type !== "snapshot" || headWord(job, HeadWord.flushError) === 0) return;
        for (const worker of childrenOf(pid)) process.kill(worker, "SIGKILL");
      },
    });
    expect(end.kind).toBe("failed");
    expect(readdirSync(destination).length).toBeLessThan(60);
    const second = await job.run();
    expect(second.errors).toEqual([`cannot flush the filesystem of '${destination}': No space left on device`]);
    expect(second.end).toMatchObject({ kind: "result", result: { outcome: "failed" } });
    expect(readdirSync(source)).toHaveLength(60);
  },
  60_000,
);

testUnless(
  reason,
  "what a flush was told lies on the medium before anything else is done: the machine may be switched off next",
  async () => {
    makeFiles(5);
    using job = move();
    const trace = join(directory.path, "trace");
    const calls = ["-e", "trace=syncfs,fdatasync,unlink,unlinkat", "-e", "inject=syncfs:error=ENOSPC:when=1"];
    const { errors } = await job.run({ under: ["strace", "-f", "-qq", "-y", "-o", trace, ...calls], lanes: 1 });
    expect(errors).toEqual([`cannot flush the filesystem of '${destination}': No space left on device`]);
    const lines = readTrace(trace);
    const at = lines.findIndex((line) => line.includes(" syncfs(") && line.includes("(INJECTED)"));
    const [thread] = (lines[at] ?? "").split(" ");
    expect(lines.slice(at + 1).find((line) => line.startsWith(`${thread} `))).toMatch(
      new RegExp(` fdatasync\\(\\d+<${job.checkpointPath}[^>]*>\\) += 0`),
    );
    expect(headWord(job, HeadWord.flushError)).toBe(Errno.ENOSPC);
  },
  60_000,
);

for (const durability of ["job", "none"]) {
  testUnless(
    reason,
    `a worker was killed in its flush, durability ${durability}: what the medium does not hold is copied again before its source goes`,
    async () => {
      makeFiles(5);
      using job = move({ durability });
      const { end } = await job.run({ ...injecting("error=EIO:signal=KILL:when=1"), lanes: 1 });
      expect(end.kind).toBe("failed");
      expect(readdirSync(source)).toHaveLength(5);
      const inodes = (): number[] => [0, 1, 2, 3, 4].map((file) => statSync(join(destination, `f${file}`)).ino);
      const before = inodes();
      await damage(join(destination, "f2"));
      const second = await job.run();
      expect(second.errors).toEqual([]);
      expect(second.end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
      expect(existsSync(source)).toBe(false);
      for (let file = 0; file < 5; file++) {
        expect(readFileSync(join(destination, `f${file}`)).equals(Buffer.alloc(fileBytes, `content ${file} `))).toBe(true);
      }
      // The others are what they were.
      expect(inodes().filter((inode, file) => inode === before[file])).toHaveLength(4);
    },
    60_000,
  );
}

for (const [where, name, options] of [
  ["beside an older file", "f2 (2)", { onConflict: "rename" }],
  ["into an older file", "f2", { onConflict: "overwrite", gnu: { inPlace: true } }],
] as const) {
  testUnless(
    reason,
    `a copy ${where}, of which a killed worker's flush was told an error, is looked at as well`,
    async () => {
      makeFiles(5);
      mkdirSync(destination);
      writeFileSync(join(destination, "f2"), "older");
      using job = move({ durability: "job", recursive: true, ...options }, "copy");
      expect((await job.run({ ...injecting("error=EIO:signal=KILL:when=1"), lanes: 1 })).end.kind).toBe("failed");
      await damage(join(destination, name));
      const { errors, end } = await job.run();
      expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed" } }]);
      const contents = readdirSync(destination).filter((each) =>
        readFileSync(join(destination, each)).equals(Buffer.alloc(fileBytes, "content 2 ")),
      );
      expect(contents.length).toBe(1);
    },
    60_000,
  );
}

testUnless(
  reason,
  "a copy in doubt whose own flush fails is made again, be it what its source is as far as it can be read",
  async () => {
    makeFiles(5);
    using job = move();
    expect((await job.run({ ...injecting("error=EIO:signal=KILL:when=1"), lanes: 1 })).end.kind).toBe("failed");
    const inodes = (): number[] => [0, 1, 2, 3, 4].map((file) => statSync(join(destination, `f${file}`)).ino);
    const before = inodes();
    // The copy alone: the checkpoint is flushed as well.
    const path = ["-P", join(destination, "f2"), "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"];
    const second = await job.run({ under: ["strace", "-f", "-qq", "-o", "/dev/null", ...path], lanes: 1 });
    expect([second.errors, existsSync(source)]).toEqual([[], false]);
    expect(inodes().map((inode, file) => inode === before[file])).toEqual([true, true, false, true, true]);
  },
  60_000,
);

testUnless(
  reason,
  "what is in doubt after a kill in a flush stays so until it was looked at, over further kills",
  async () => {
    makeFiles(40);
    using job = move({ bandwidthLimit: 100_000_000 });
    expect((await job.run({ ...injecting("signal=KILL:when=1"), lanes: 1 })).end.kind).toBe("failed");
    // Each of two more workers gets no further than its own flush, or is killed before it has looked at all.
    expect((await job.run({ killWhen: () => true })).end.kind).toBe("failed");
    await damage(join(destination, "f7"));
    expect((await job.run()).errors).toEqual([]);
    expect(readFileSync(join(destination, "f7")).equals(Buffer.alloc(fileBytes, "content 7 "))).toBe(true);
    expect(existsSync(source)).toBe(false);
  },
  60_000,
);

testUnless(
  reason,
  "what came while sources were being removed already is in doubt after a kill like all else, and is looked at before it goes",
  async () => {
    makeFiles(5);
    using job = move({ bandwidthLimit: 2_000_000 });
    expect((await job.run(killedAt("unlinkat", 3))).end.kind).toBe("failed");
    expect([readdirSync(source).length, readdirSync(destination).length]).toEqual([3, 5]);
    const content = Buffer.alloc(1_000_000, "new ");
    for (const name of ["new1", "new2"]) writeFileSync(join(source, name), content);
    const copied = (): string[] => readdirSync(destination).filter((name) => name.startsWith("new"));
    expect((await job.run({ lanes: 1, killWhen: () => copied().length > 0 })).end.kind).toBe("failed");
    const [name = "", ...others] = copied();
    expect(others).toEqual([]);
    await damage(join(destination, name));
    const { errors, end } = await job.run();
    expect([errors, end]).toMatchObject([[], { kind: "result", result: { outcome: "completed" } }]);
    expect(existsSync(source)).toBe(false);
    for (const each of ["new1", "new2"]) expect(readFileSync(join(destination, each)).equals(content)).toBe(true);
  },
  60_000,
);

testUnless(
  reason,
  "many small files on a slow device: what a flush that nobody asked for was told, the job tells at its end",
  async () => {
    makeFiles(400);
    using job = move({ recursive: true, durability: "none" }, "copy");
    const under = ["strace", "-f", "-qq", "-o", "/dev/null", ...slowDevice, "-e", "inject=syncfs:error=EIO:delay_enter=100000"];
    const { errors, end } = await job.run({ under, isWatched: true });
    expect(errors).toEqual([`cannot flush the filesystem of '${destination}': Input/output error`]);
    expect(end).toMatchObject({ kind: "result", result: { outcome: "failed" } });
    expect(readdirSync(destination)).toHaveLength(400);
  },
  60_000,
);

testUnless(
  reason,
  "and so does a copy that nobody resumes, which has no checkpoint to keep it in",
  async () => {
    makeFiles(400);
    const under = ["strace", "-f", "-qq", "-o", "/dev/null", ...slowDevice, "-e", "inject=syncfs:error=EIO:delay_enter=100000"];
    const command = copydCommand("cp", "-r", "--local", "--progress=always", source, destination);
    const { status, stderr } = await run([...under, ...command], { env: plainEnvironment });
    expect([status, stderr]).toEqual([
      1,
      expect.stringContaining(`cp: cannot flush the filesystem of '${destination}': Input/output error\n`),
    ]);
    expect(readdirSync(destination)).toHaveLength(400);
  },
  60_000,
);

testUnless(
  reason,
  "many small files are moved to a slow device: a kill in a flush leaves no more in doubt than what came since the flush before",
  async () => {
    makeFiles(1200);
    using job = move({ durability: "none" });
    const under = ["strace", "-f", "-qq", "-o", "/dev/null", ...slowDevice, "-e", "inject=syncfs:delay_enter=400000"];
    // Pages of the log, each of many files, by both marks: one may be about to be written anew.
    const marked = (): number => Math.min(...markStarts.map((start) => headWord(job, start / 4 + MarkWord.pages)));
    const { end } = await job.run({
      under,
      lanes: 1,
      isWatched: true,
      onMessage: (message, { pid }) => {
        if (message.type !== "snapshot" || marked() === 0) return;
        for (const worker of childrenOf(pid)) process.kill(worker, "SIGKILL");
      },
    });
    expect(end.kind).toBe("failed");
    const second = await job.run();
    expect(second.errors).toEqual([]);
    const isDoubtful = pagesOfCopies(job).map((page) => page[PageWord.isDoubtful] === 1);
    expect([isDoubtful.includes(true), isDoubtful.indexOf(true) > 0]).toEqual([true, true]);
    expect(existsSync(source)).toBe(false);
    expect(readdirSync(destination)).toHaveLength(1200);
  },
  60_000,
);

testUnless(
  reason,
  "what a flush of a large file's beginning was told fails the file, whatever the flush at the end says, and a move keeps its source",
  async () => {
    writeFileSync(join(source, "big"), Buffer.alloc(100 * 1024 * 1024, "big "));
    using job = move({ bandwidthLimit: 40_000_000 });
    const under = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO"];
    const { errors, end } = await job.run({ under, lanes: 1 });
    expect(errors).toEqual([`error writing '${join(destination, "big")}': Input/output error`]);
    expect(end).toMatchObject({ kind: "result", result: { outcome: "failed" } });
    expect([readdirSync(source), readdirSync(destination)]).toEqual([["big"], []]);
  },
  60_000,
);
