// `copyd cp --also`: several destinations told as one, by this process and through the service alike.

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { whyNoBus } from "../support/bus.ts";
import { plainEnvironment, runCopyd } from "../support/cli.ts";
import { mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { type JobService, startJobService } from "../support/job-service.ts";
import type { RunResult } from "../support/process.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

describeUnless(firstReason(whyNoBus(), whyNoFilesystem("ext4")), "cp --also", () => {
  let service: JobService;
  let temporary: TemporaryDirectory;
  let cwd: string;
  beforeAll(async () => {
    service = await startJobService();
    temporary = await temporaryDirectory();
    cwd = join(temporary.path, "here");
  });
  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await temporary[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    rmSync(cwd, { recursive: true, force: true });
    for (const name of ["tree", "a", "b", "c"]) mkdirSync(join(cwd, name), { recursive: true });
    for (let file = 0; file < 10; file++) writeFileSync(join(cwd, "tree", `file ${file}`), `text ${file}`);
  });

  const environments = (): Record<string, Record<string, string>> => ({
    alone: { ...plainEnvironment },
    served: { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: service.bus.address },
  });
  const cp = (how: string, line: string, input = ""): Promise<RunResult> =>
    runCopyd(["cp", ...(how === "alone" ? ["--local"] : []), ...line.split(" ")], { cwd, input, env: environments()[how] ?? {} });
  const objects = ({ stdout }: RunResult): Record<string, unknown>[] =>
    stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  const textOf = (path: string): string => readFileSync(join(cwd, path), "utf8");

  for (const how of ["alone", "served"]) {
    test(`${how}: every destination gets everything, in silence`, async () => {
      const before = service.jobs.list(null).length;
      const result = await cp(how, "-a --verify tree --also b --also=c a");
      expect(result).toMatchObject({ status: 0, stdout: "", stderr: "" });
      for (const name of ["a", "b", "c"]) {
        expect(readdirSync(join(cwd, name, "tree"))).toHaveLength(10);
        expect(textOf(`${name}/tree/file 3`)).toBe("text 3");
      }
      expect(service.jobs.list(null).length - before).toBe(how === "alone" ? 0 : 3);
    });

    test(`${how}: each error names its destination, the others are whole, and the status is 1`, async () => {
      await using full = await mountFilesystem("ext4", { sizeBytes: tinySizeBytes });
      writeFileSync(join(cwd, "tree", "large"), Buffer.alloc(24 * 1024 * 1024, "x"));
      const result = await cp(how, `-r --json tree --also ${full.path} a`);
      expect(result.status).toBe(1);
      // Small files of other lanes may find the disk full as well.
      const lines = result.stderr.trimEnd().split("\n");
      expect(lines).toContain(`cp: to '${full.path}': error writing '${full.path}/tree/large': No space left on device`);
      for (const line of lines) expect(line.startsWith(`cp: to '${full.path}': error writing '${full.path}/tree/`)).toBe(true);
      expect(textOf("a/tree/large")).toHaveLength(24 * 1024 * 1024);
      const told = objects(result);
      const errors = told.filter(({ type }) => type === "error");
      expect(errors.length).toBe(lines.length);
      for (const error of errors) expect(error).toMatchObject({ destination: full.path, code: "no-space" });
      const results = told.filter(({ type }) => type === "result");
      expect(results.map(({ destination, state }) => [destination, state]).sort()).toEqual(
        [
          ["a", "completed"],
          [full.path, "failed"],
          [undefined, "failed"],
        ].sort(),
      );
      expect(told.at(-1)).toMatchObject({ type: "result", state: "failed", errorCount: errors.length });
      expect(told.at(-1)?.destination).toBeUndefined();
    });

    test(`${how}: questions come one at a time, and each answer goes to its own destination`, async () => {
      for (const name of ["a", "b"]) writeFileSync(join(cwd, name, "one"), "old");
      writeFileSync(join(cwd, "one"), "new");
      const { status, stderr } = await cp(how, "-i one --also b a", "y\nn\n");
      expect(status).toBe(1);
      expect(stderr.match(/overwrite '[ab]\/one'\? /g)).toHaveLength(2);
      const isFirst = stderr.indexOf("'a/one'") < stderr.indexOf("'b/one'");
      expect([textOf("a/one"), textOf("b/one")]).toEqual(isFirst ? ["new", "old"] : ["old", "new"]);
    });
  }

  test("a dry run previews each, and makes nothing", async () => {
    const { status, stdout } = await cp("alone", "-r --dry-run tree --also b a");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^to 'a':\n(.*\n)*to 'b':\n/);
    expect(stdout).toContain("here/b/tree/file 1'");
    expect(readdirSync(join(cwd, "b"))).toEqual([]);
    const told = objects(await cp("alone", "-r --dry-run --json tree --also b a"));
    expect(told.filter(({ type }) => type === "summary").map(({ destination }) => destination)).toEqual(["a", "b"]);
  });

  test("what cannot be is refused before anything is made", async () => {
    symlinkSync("a", join(cwd, "link"));
    for (const [line, complaint] of [
      ["-r tree --also link a", "destinations 'a' and 'link' are the same"],
      ["-r tree --also= a", "--also needs a destination"],
      ["-r --manifest sums tree --also b a", "cannot combine --also with --manifest: it is of one destination"],
      ["-r --cache=drop tree --also b a", "cannot combine --also with --cache=drop"],
      ["-r --parents tree --also nodir a", "with --parents, the destination must be a directory"],
      [`-r tree${" --also b".repeat(8)} a`, "at most 8 destinations"],
    ] as const) {
      const { status, stderr } = await cp("alone", line);
      expect([line, status, stderr]).toEqual([line, 1, expect.stringContaining(complaint)]);
    }
    expect(readdirSync(join(cwd, "a"))).toEqual([]);
    const moved = await runCopyd(["mv", "--local", "--also", "b", "tree", "a"], { cwd });
    expect([moved.status, moved.stderr]).toEqual([1, expect.stringContaining("--also is for cp")]);
    expect(existsSync(join(cwd, "tree"))).toBe(true);
  });

  test("the jobs of one copy are shown with each other, and cancelled together", async () => {
    writeFileSync(join(cwd, "tree", "large"), Buffer.alloc(1024 * 1024, "x"));
    const env = environments().served ?? {};
    const copy = cp("served", "-r --limit-rate=1 tree --also b a");
    const running = (): string[] =>
      service.jobs
        .list(null)
        .filter(({ state }) => state === "running")
        .map(({ token }) => token);
    while (running().length < 2) await Bun.sleep(20);
    const [first = "", second = ""] = running();
    expect(second).toBe(`${first}_2`);
    expect((await runCopyd(["jobs"], { cwd, env })).stdout).toMatch(/\/a \(1 of 2\)\n(.*\n)*.*\/b \(2 of 2\)/);
    expect((await runCopyd(["show", second], { cwd, env })).stdout).toMatch(new RegExp(`With: +${first}\n`));
    expect((await runCopyd(["cancel", "--group", second], { cwd, env })).status).toBe(0);
    expect((await copy).status).not.toBe(0);
    for (const token of [first, second]) expect(service.jobs.get(process.getuid?.() ?? 0, token)?.state).toBe("cancelled");
  });
});
