// The copy that the worker's main thread makes: which thread it is, what is true when a call of it fails, and when it is killed there.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { startJob } from "../support/embedded-job.ts";
import { mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { untilAsked } from "../support/jobs.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { ResumableJob } from "../support/resumable-job.ts";
import { describeUnless, firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { readTrace } from "../support/trace.ts";
import { advisory, type Call, callsIn, errnos, runTraced, untruths } from "./one-failed-call.ts";

const content = "hello\n".repeat(500);
const noStrace = havePrograms("strace") ? null : "strace is not installed";

let here: TemporaryDirectory;
beforeAll(async () => {
  here = await temporaryDirectory();
  writeFileSync(`${here.path}/source`, content, { mode: 0o640 });
  if (process.getuid?.() === 0) chownSync(`${here.path}/source`, 12_345, 12_345);
});
afterAll(() => here[Symbol.asyncDispose]());

const destination = (): string => `${here.path}/copy`;

function copyTraced(failing?: Call & { readonly errno: string }) {
  rmSync(destination(), { force: true });
  const watched = [here.path, `${here.path}/source`, destination()];
  const command = copydCommand("cp", "-a", "--local", `${here.path}/source`, destination());
  return runTraced(command, { watched, tracePath: `${here.path}/trace`, ...(failing === undefined ? {} : { failing }) });
}

/** Nothing, or the whole file, and no other name. */
function standing(): "nothing" | "whole" | "half" {
  const others = readdirSync(here.path).filter((name) => name.startsWith(".copyd-"));
  if (others.length > 0) return "half";
  if (!existsSync(destination())) return "nothing";
  const [from, to] = [statSync(`${here.path}/source`), statSync(destination())];
  const isAlike = to.mode === from.mode && to.mtimeMs === from.mtimeMs && to.uid === from.uid && to.gid === from.gid;
  return readFileSync(destination(), "utf8") === content && isAlike ? "whole" : "half";
}

describeUnless(noStrace, "of a small file", () => {
  /** The numbers of the threads that ran a program, and of the one that gave the copy its name. */
  async function threads(...options: readonly string[]): Promise<{ readonly mains: readonly string[]; readonly copying: string }> {
    rmSync(destination(), { force: true });
    const command = copydCommand("cp", "-a", "--local", ...options, `${here.path}/source`, destination());
    const strace = ["strace", "-f", "-qq", "-o", `${here.path}/trace`, "-e", "trace=execve,linkat"];
    await runChecked([...strace, ...command], { env: plainEnvironment });
    const lines = readTrace(`${here.path}/trace`);
    const of = (syscall: string): string[] => lines.flatMap((line) => (line.includes(` ${syscall}(`) ? (line.split(" ")[0] ?? "") : []));
    return { mains: of("execve"), copying: of("linkat").at(-1) ?? "" };
  }

  test("the worker's main thread copies it, and a lane where lanes were asked for", async () => {
    const alone = await threads();
    expect(alone.mains).toContain(alone.copying);
    const byLane = await threads("--lanes=1");
    expect(byLane.copying).not.toBe("");
    expect(byLane.mains).not.toContain(byLane.copying);
  });

  test("each call fails once: the copy is whole all the same, or the failure is told and nothing is there", async () => {
    const calls = callsIn((await copyTraced()).trace);
    expect(calls.length).toBeGreaterThan(10);
    const complaints: string[] = [];
    for (const call of calls) {
      for (const errno of errnos[call.syscall] ?? ["EIO"]) {
        const traced = await copyTraced({ ...call, errno });
        if (!traced.trace.includes("(INJECTED)")) continue;
        const problems = traced.timedOut ? ["it hangs"] : untruths(traced, errno);
        const stands = standing();
        if (stands === "half") problems.push("half a file stands there");
        if (traced.status === 0 && !advisory.has(call.syscall) && stands !== "whole") problems.push(`it says all is well: ${stands}`);
        complaints.push(...problems.map((problem) => `${call.syscall} number ${call.ordinal} with ${errno}: ${problem}`));
      }
    }
    expect(complaints).toEqual([]);
  }, 300_000);

  // Their file has no name by which strace would know it; the lane that tries again fails with the same.
  for (const [syscall, errno] of [
    ["fchownat", "EPERM"],
    ["utimensat", "EPERM"],
    ["pwrite64", "ENOSPC"],
  ] as const) {
    testUnless(unlessRoot(), `${syscall} fails: it is told`, async () => {
      rmSync(destination(), { force: true });
      const inject = ["-e", `trace=${syscall}`, "-e", `inject=${syscall}:error=${errno}`];
      const command = copydCommand("cp", "-a", "--local", `${here.path}/source`, destination());
      const traced = await run(["strace", "-f", "-qq", "-o", `${here.path}/trace`, ...inject, ...command], { env: plainEnvironment });
      expect({ status: traced.status, told: untruths({ ...traced, trace: "" }, errno) }).toEqual({ status: 1, told: [] });
      if (errno === "ENOSPC") expect(existsSync(destination())).toBe(false);
    });
  }

  test("one that grows meanwhile is copied anew, and whole", async () => {
    rmSync(destination(), { force: true });
    const source = `${here.path}/log`;
    writeFileSync(source, content);
    const tracePath = `${here.path}/growing`;
    const slowly = ["-e", "trace=preadv2,utimensat", "-e", "inject=utimensat:delay_enter=1000000:when=1"];
    const command = ["strace", "-f", "-qq", "-o", tracePath, ...slowly, ...copydCommand("cp", "-a", "--local", source, destination())];
    const running = run(command, { env: plainEnvironment });
    while (!existsSync(tracePath) || !readFileSync(tracePath, "latin1").includes("preadv2(")) await Bun.sleep(5);
    await Bun.sleep(100);
    appendFileSync(source, "more\n");
    expect((await running).status).toBe(0);
    expect(readFileSync(destination(), "utf8")).toBe(`${content}more\n`);
  });

  test("a job that goes on keeps to the name that it began with, though a directory has come under it", async () => {
    rmSync(destination(), { force: true });
    using job = new ResumableJob(here.path, {
      operation: "copy",
      sources: [`${here.path}/source`],
      destination: destination(),
      options: { durability: "none" },
    });
    const inject = ["-e", "trace=linkat", "-e", "inject=linkat:signal=KILL:when=1:error=EIO"];
    const { end } = await job.run({ under: ["strace", "-f", "-qq", "-o", `${here.path}/trace`, ...inject] });
    expect(end.kind).toBe("failed");
    mkdirSync(destination());
    const { end: second } = await job.run();
    expect(second).toMatchObject({ kind: "result", result: { outcome: "failed" } });
    expect(readdirSync(destination())).toEqual([]);
    rmSync(destination(), { recursive: true });
  });

  test("kill -9 at each call: nothing half is there, and the job that goes on does not take its own copy for another's", async () => {
    const counts = new Map<string, number>();
    for (const { syscall, ordinal } of callsIn((await copyTraced()).trace)) counts.set(syscall, ordinal);
    let killed = 0;
    for (const [syscall, last] of counts) {
      for (let ordinal = 1; ordinal <= last; ordinal++) {
        rmSync(destination(), { force: true });
        const options = { durability: "none", onConflict: "fail" };
        using job = new ResumableJob(here.path, {
          operation: "copy",
          sources: [`${here.path}/source`],
          destination: destination(),
          options,
        });
        const paths = [here.path, `${here.path}/source`, destination()].flatMap((path) => ["-P", path]);
        const inject = ["-e", `inject=${syscall}:signal=KILL:when=${ordinal}`];
        const { end } = await job.run({ under: ["strace", "-f", "-qq", "-o", `${here.path}/trace`, ...paths, ...inject] });
        expect(standing()).not.toBe("half");
        if (end.kind === "result") continue;
        killed++;
        const { end: second } = await job.run();
        expect(second).toMatchObject({ kind: "result", result: { outcome: "completed", snapshot: { filesDone: 1 } } });
        expect(standing()).toBe("whole");
      }
    }
    expect(killed).toBeGreaterThan(8);
  }, 300_000);
});

for (const kind of ["ext4", "tmpfs"] as const) {
  testUnless(
    firstReason(unlessRoot(), whyNoFilesystem(kind)),
    `${kind}: a full disk asks as ever, and nothing half is there`,
    async () => {
      await using filesystem = await mountFilesystem(kind, { sizeBytes: tinySizeBytes });
      let left = 4 * 1024 * 1024;
      const fill = (name: string, bytes: number): boolean => {
        try {
          writeFileSync(`${filesystem.path}/${name}`, Buffer.alloc(bytes, 1));
          return true;
        } catch {
          // It is full, which is what is wanted.
          return false;
        }
      };
      for (let index = 0; left >= 1; left = fill(`fill${index++}`, left) ? left : Math.floor(left / 4));
      const job = startJob([`${here.path}/source`], `${filesystem.path}/copy`);
      const question = await untilAsked(job);
      expect(question.kind).toBe("space");
      expect(existsSync(`${filesystem.path}/copy`)).toBe(false);
      for (const name of readdirSync(filesystem.path)) if (name.startsWith("fill")) rmSync(`${filesystem.path}/${name}`);
      job.jobs.answer(job.submitted, question.id, "retry", false);
      expect((await job.ended).result).toMatchObject({ state: "completed", filesDone: 1 });
      expect(readFileSync(`${filesystem.path}/copy`, "utf8")).toBe(content);
    },
    60_000,
  );
}
