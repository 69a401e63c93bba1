// Rules 1, 2 and 5 of copying: done means on the device, an error of fsync is final, and a move deletes nothing that is not durable.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copydCommand, plainEnvironment } from "../../support/cli.ts";
import { mountFaultyFilesystem, whyNoFaultyFilesystem } from "../../support/faulty-filesystem.ts";
import { type FilesystemKind, filesystemKinds, mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../../support/filesystems.ts";
import { havePrograms, run, runChecked } from "../../support/process.ts";
import { describeUnless, firstReason, testUnless } from "../../support/skip.ts";
import { temporaryDirectory } from "../../support/temporary.ts";
import { readTrace } from "../../support/trace.ts";

const noStrace = havePrograms("strace") ? null : "strace is not installed";
const writing = "pwrite64,copy_file_range,linkat,mkdirat,fchmod,fchownat,utimensat,renameat,renameat2,unlinkat";
const files = { one: "1\n".repeat(3000), "sub/two": "2\n" };

/** The calls of a job's one lane, in order, as "name(arguments". */
async function callsOf(path: string, arguments_: readonly string[], inject: readonly string[] = []) {
  const trace = `${path}/trace`;
  const strace = ["strace", "-f", "-qq", "-y", "-o", trace, "-e", `trace=fsync,fdatasync,syncfs,sync,${writing}`, ...inject];
  const env = { ...plainEnvironment, XDG_RUNTIME_DIR: path };
  const result = await run([...strace, ...copydCommand(...arguments_)], { cwd: path, env });
  const lines = readTrace(trace);
  const lane = lines.find((line) => /^\d+ +(mkdirat|linkat)\(/.test(line))?.split(" ")[0] ?? "none";
  const calls = lines.filter((line) => line.startsWith(`${lane} `) && line.includes("(")).map((line) => line.replace(/^\d+ +/, ""));
  return { ...result, calls };
}

for (const kind of filesystemKinds) {
  describeUnless(firstReason(whyNoFilesystem(kind), noStrace), `on ${kind}`, () => {
    let filesystem: TestFilesystem;
    let path = "";
    beforeAll(async () => {
      filesystem = await mountFilesystem(kind satisfies FilesystemKind, { sizeBytes: 400 * 1024 * 1024 });
      path = filesystem.path;
      mkdirSync(`${path}/source/sub`, { recursive: true });
      mkdirSync(`${path}/there`);
      for (const [name, content] of Object.entries(files)) writeFileSync(`${path}/source/${name}`, content);
    });
    afterAll(() => filesystem[Symbol.asyncDispose]());

    const copy = (durability: string, target: string) =>
      callsOf(path, ["cp", "--local", "--lanes=1", "-a", `--durability=${durability}`, "source", target]);
    // "???": strace saw the end of a call only, that of a thread which ended with its process.
    const names = (calls: readonly string[]): string[] =>
      calls.map((call) => call.slice(0, call.indexOf("("))).filter((name) => name !== "???");

    test("durability=job ends with one flush of the destination's filesystem, after everything else", async () => {
      const { status, calls } = await copy("job", "job");
      expect(status).toBe(0);
      expect(names(calls).filter((name) => /sync/.test(name))).toEqual(["syncfs"]);
      expect(names(calls).at(-1)).toBe("syncfs");
    });

    test("durability=file syncs each file before it gets its name, and its directory", async () => {
      const { status, calls } = await callsOf(path, [
        ...["cp", "--local", "--lanes=1", "--durability=file", "source/one", "source/sub/two", "there"],
      ]);
      expect(status).toBe(0);
      const published = calls.filter((call) => /^(linkat|renameat2?)\(/.test(call));
      expect(published).toHaveLength(2);
      for (const call of published) {
        const before = calls.slice(0, calls.indexOf(call));
        expect(before.filter((earlier) => earlier.startsWith("fsync(")).length).toBe(published.indexOf(call) + 1);
        expect(before.at(-1)).toStartWith("fsync(");
      }
    });

    test("durability=none flushes nothing, as cp", async () => {
      const { status, calls } = await copy("none", "none");
      expect(status).toBe(0);
      expect(names(calls).filter((name) => /sync/.test(name))).toEqual([]);
    });

    test("a flush that fails is an error of the job", async () => {
      const inject = ["-e", "inject=syncfs:error=EIO"];
      const { status, stderr } = await callsOf(path, ["cp", "--local", "--durability=job", "source/one", "there/flushed"], inject);
      expect({ status, stderr }).toEqual({
        status: 1,
        stderr: "cp: cannot flush the filesystem of 'there/flushed': Input/output error\n",
      });
    });
  });
}

describeUnless(firstReason(whyNoFilesystem("tmpfs"), noStrace), "a move to another filesystem", () => {
  test("keeps its sources when the flush fails", async () => {
    await using here = await temporaryDirectory();
    await using there = await mountFilesystem("tmpfs");
    writeFileSync(`${here.path}/a`, files.one);
    const inject = ["-e", "inject=syncfs:error=EIO"];
    const { status, stderr } = await callsOf(here.path, ["mv", "--local", "a", `${there.path}/a`], inject);
    expect({ status, stderr }).toEqual({ status: 1, stderr: `mv: cannot flush the filesystem of '${there.path}/a': Input/output error\n` });
    expect(readFileSync(`${here.path}/a`, "utf8")).toBe(files.one);
  });

  test("keeps its sources when the flush of a filesystem fails that is mounted below the destination", async () => {
    await using here = await temporaryDirectory();
    await using there = await mountFilesystem("tmpfs");
    mkdirSync(`${here.path}/tree/below`, { recursive: true });
    writeFileSync(`${here.path}/tree/below/file`, files.one);
    mkdirSync(`${there.path}/below`);
    await runChecked(["mount", "-t", "tmpfs", "copyd-test", `${there.path}/below`]);
    try {
      const script = `import { startJob } from ${JSON.stringify(join(import.meta.dir, "../../support/embedded-job.ts"))};
        const job = startJob(${JSON.stringify([`${here.path}/tree`])}, ${JSON.stringify(there.path)}, { target: "exact" }, "move");
        console.log(JSON.stringify([(await job.ended).state, job.errors.map(({ code, message }) => [code, message])]));
        process.exit(0);`;
      writeFileSync(`${here.path}/move.ts`, script);
      // The first flush is that of the destination itself.
      const strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=syncfs", "-e", "inject=syncfs:error=EIO:when=2"];
      const { stdout } = await runChecked([...strace, process.execPath, `${here.path}/move.ts`]);
      const message = `cannot flush a filesystem below '${there.path}': Input/output error`;
      expect(JSON.parse(stdout)).toEqual(["failed", [["flush-failed", message]]]);
      expect(readFileSync(`${here.path}/tree/below/file`, "utf8")).toBe(files.one);
      expect(readFileSync(`${there.path}/below/file`, "utf8")).toBe(files.one);
    } finally {
      await runChecked(["umount", `${there.path}/below`]);
    }
  });
});

for (const [program, durability] of [
  ["cp", "job"],
  ["mv", "none"],
] as const) {
  testUnless(
    firstReason(whyNoFilesystem("tmpfs"), noStrace),
    `${program}: the flush goes through a descriptor that was open before the first copy, and so hears what others were told of it`,
    async () => {
      await using here = await temporaryDirectory();
      await using there = await mountFilesystem("tmpfs");
      writeFileSync(`${here.path}/a`, files.one);
      const calls = ["strace", "-f", "-qq", "-o", `${here.path}/trace`, "-e", "trace=openat,fcntl,linkat,renameat,renameat2,syncfs"];
      const command = copydCommand(program, "--local", "--lanes=1", `--durability=${durability}`, "a", `${there.path}/a`);
      const env = { ...plainEnvironment, XDG_RUNTIME_DIR: here.path };
      expect((await run([...calls, ...command], { cwd: here.path, env })).status).toBe(0);
      const lines = readTrace(`${here.path}/trace`);
      const flush = lines.findIndex((line) => line.includes("syncfs("));
      const fd = /syncfs\((\d+)/.exec(lines[flush] ?? "")?.[1] ?? "";
      const opened = lines.slice(0, flush).findLastIndex((line) => line.endsWith(` = ${fd}`));
      const published = lines.findIndex((line) => line.includes(`linkat(`) || /renameat2?\(.* = 0$/.test(line));
      expect([fd !== "", opened >= 0, published >= 0, opened < published]).toEqual([true, true, true, true]);
    },
  );
}

for (const program of ["cp", "mv"] as const) {
  testUnless(whyNoFaultyFilesystem(), `${program}: a file whose fsync failed is dropped, not synced again and believed`, async () => {
    await using here = await temporaryDirectory();
    const { path } = here;
    mkdirSync(`${path}/below/there`, { recursive: true });
    // The device says it once; the next fsync would call lost pages written.
    await using faulty = await mountFaultyFilesystem({
      directory: `${path}/below`,
      rules: [{ operations: ["fsync"], errno: "EIO", times: 1 }],
    });
    writeFileSync(`${path}/a`, files.one);
    writeFileSync(`${path}/b`, "b");
    const target = `${faulty.path}/there`;
    const env = { ...plainEnvironment, XDG_RUNTIME_DIR: path };
    const result = await run(copydCommand(program, "--local", "--lanes=1", "--durability=file", "a", "b", target), { cwd: path, env });
    expect({ status: result.status, stderr: result.stderr }).toEqual({
      status: 1,
      stderr: `${program}: error writing '${target}/a': Input/output error\n`,
    });
    expect(await faulty.injected()).toHaveLength(1);
    expect(readdirSync(`${path}/below/there`)).toEqual(["b"]);
    expect(readFileSync(`${path}/a`, "utf8")).toBe(files.one);
    rmSync(`${path}/a`);
    expect(existsSync(`${path}/below/there/b`)).toBe(true);
  });
}
