// kill -9 between any two steps of a copy and of a move: nothing is lost, no final name shows half a file, and the next run clears up.
//
// strace ends the worker, or stops it so that cp and worker can be killed together, at one call that changes something; then at
// another. COPYD_TORTURE=1 takes every one, else some of each scenario, others each day.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { childrenOf } from "../support/embedded-job.ts";
import { mountFilesystem, type TestFilesystem } from "../support/filesystems.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const root = join(import.meta.dir, "../..");
const timeoutMs = 60_000;
/** Of the calls of a scenario, every so manieth. */
const stride = process.env.COPYD_TORTURE === undefined ? 9 : 1;
const today = Math.floor(Date.now() / 86_400_000);

/** Whatever changes a file, a directory or what the medium has of them; glibc's renameat2 without flags is renameat. */
const steps =
  "openat,openat2,pwrite64,mkdirat,linkat,symlinkat,mknodat,renameat,renameat2,unlinkat,fchmod,fchmodat,fchownat,utimensat,ftruncate,fsync,syncfs,copy_file_range,close";

/** The file takes several writes. */
const fresh: Readonly<Record<string, string>> = { file: "new contents\n".repeat(55_000), "sub/other": "other\n", "sub/empty": "" };
const old = "old contents\n".repeat(50);

interface Scenario {
  readonly name: string;
  readonly program: "cp" | "mv";
  readonly options: readonly string[];
  /** On another filesystem than the source. */
  readonly isElsewhere: boolean;
  /** The files that stand there before. */
  readonly standing: readonly string[];
}

const scenarios: readonly Scenario[] = [
  { name: "a new tree", program: "cp", options: ["-a"], isElsewhere: false, standing: [] },
  { name: "into directories that exist", program: "cp", options: ["-a"], isElsewhere: false, standing: ["sub/neighbour"] },
  {
    name: "in the place of old files",
    program: "cp",
    options: ["-a", "--remove-destination", "--durability=file"],
    isElsewhere: false,
    standing: ["file", "sub/other"],
  },
  { name: "with backups", program: "cp", options: ["-a", "-b"], isElsewhere: false, standing: ["file", "sub/other"] },
  { name: "a move to another filesystem", program: "mv", options: [], isElsewhere: true, standing: [] },
];

describeUnless(firstReason(unlessRoot(), havePrograms("strace") ? null : "strace is not installed"), "killed at a step", () => {
  let home: TemporaryDirectory;
  let elsewhere: TestFilesystem;
  let copyd = "";
  let env: Record<string, string> = {};
  let kills = 0;

  beforeAll(async () => {
    await runChecked(["make", "build"], { cwd: root, timeoutMs: 200_000 });
    copyd = process.env.COPYD_BINARY ?? join(root, "dist/copyd");
    home = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
    elsewhere = await mountFilesystem("ext4", { sizeBytes: 64 * 1024 * 1024 });
    mkdirSync(`${home.path}/runtime`, { mode: 0o700 });
    env = { PATH: "/usr/bin:/bin", LC_ALL: "C", HOME: "/", XDG_RUNTIME_DIR: `${home.path}/runtime` };
  }, 240_000);
  afterAll(async () => {
    await elsewhere[Symbol.asyncDispose]();
    await home[Symbol.asyncDispose]();
  });

  const source = (): string => `${home.path}/source`;
  const destinationOf = ({ isElsewhere }: Scenario): string => `${isElsewhere ? elsewhere.path : home.path}/destination`;

  async function prepare(scenario: Scenario): Promise<void> {
    const destination = destinationOf(scenario);
    for (const path of [source(), destination]) rmSync(path, { recursive: true, force: true });
    mkdirSync(`${source()}/sub`, { recursive: true });
    for (const [name, content] of Object.entries(fresh)) writeFileSync(`${source()}/${name}`, content);
    await runChecked(["sh", "-c", "ln file sub/hard; ln -s file link; mkfifo fifo; chown 1:1 sub/other"], { cwd: source() });
    if (scenario.standing.length > 0) mkdirSync(`${destination}/sub`, { recursive: true });
    for (const name of scenario.standing) writeFileSync(`${destination}/${name}`, old);
  }

  function command(scenario: Scenario, inject: readonly string[]): string[] {
    const strace = ["strace", "-f", "-qq", "-o", `${home.path}/trace`, "-e", `trace=${steps}`, ...inject];
    return [
      ...strace,
      copyd,
      scenario.program,
      "--local",
      "--lanes=1",
      "--engine=read-write",
      ...scenario.options,
      "-T",
      source(),
      destinationOf(scenario),
    ];
  }

  const traced = (): string => readFileSync(`${home.path}/trace`, "latin1");

  /** The calls of the thread that copies, as strace counts them: by thread and name. */
  async function callsOf(scenario: Scenario): Promise<(readonly [string, number])[]> {
    await prepare(scenario);
    await runChecked(command(scenario, []), { env, timeoutMs });
    const lines = traced().split("\n");
    const lane = /^\d+ +mkdirat\(/m.exec(traced())?.[0].split(" ")[0] ?? "";
    const counts = new Map<string, number>();
    const calls: (readonly [string, number])[] = [];
    for (const line of lines) {
      const syscall = new RegExp(`^${lane} +(\\w+)\\(`).exec(line)?.[1];
      if (syscall === undefined) continue;
      counts.set(syscall, (counts.get(syscall) ?? 0) + 1);
      calls.push([syscall, counts.get(syscall) ?? 0]);
    }
    return calls;
  }

  /** Ends the worker at the call; cp lives, and clears up after it. */
  async function killWorker(scenario: Scenario, syscall: string, ordinal: number): Promise<string[]> {
    const { status, stderr, timedOut } = await run(command(scenario, ["-e", `inject=${syscall}:signal=KILL:when=${ordinal}`]), {
      env,
      timeoutMs,
    });
    if (timedOut) return ["it hangs"];
    if (status !== 0) kills++;
    // The signal may have met cp itself: then there was nobody to say anything.
    if (status !== 0 && status !== 137 && stderr.trim() === "") return [`it ended with ${status} and said nothing`];
    return status === 0 ? incomplete(scenario) : [];
  }

  /** Stops whoever makes the call just after it, and kills cp and its worker together. */
  async function killAll(scenario: Scenario, syscall: string, ordinal: number): Promise<string[]> {
    rmSync(`${home.path}/trace`, { force: true });
    const strace = Bun.spawn(command(scenario, ["-e", `inject=${syscall}:signal=STOP:when=${ordinal}`]), {
      env,
      stdin: "ignore",
      stdout: "ignore",
      stderr: "ignore",
    });
    const deadline = Date.now() + timeoutMs;
    while (strace.exitCode === null && !(existsSync(`${home.path}/trace`) && traced().includes("stopped by SIGSTOP"))) {
      if (Date.now() > deadline) throw new Error(`neither stopped nor ended at ${syscall} number ${ordinal}`);
      await Bun.sleep(5);
    }
    if (strace.exitCode !== null) return [];
    kills++;
    const [cp = 0] = childrenOf(strace.pid);
    const all = [cp, ...childrenOf(cp)];
    for (const pid of all) process.kill(pid, "SIGKILL");
    await strace.exited;
    return [];
  }

  /** Any run of the same user clears up first. */
  async function nextRun(): Promise<string[]> {
    const result = await run([copyd, "cp", "--local", "/dev/null", `${home.path}/unrelated`], { env, timeoutMs });
    const kept = readdirSync(`${home.path}/runtime/copyd`);
    const problems = kept.map((name) => `the record ${name} is still there after the next run`);
    return result.status === 0 ? problems : [...problems, `the next run ended with ${result.status}: ${result.stderr}`];
  }

  function inspect(scenario: Scenario): string[] {
    const destination = destinationOf(scenario);
    const problems: string[] = [];
    const names = existsSync(destination) ? readdirSync(destination, { recursive: true }).map(String) : [];
    problems.push(...names.filter((name) => name.includes(".copyd-")).map((name) => `${name} is left over`));
    const read = (path: string): string | null => (existsSync(path) && lstatSync(path).isFile() ? readFileSync(path, "utf8") : null);
    const isBackedUp = scenario.options.includes("-b");
    for (const name of [...Object.keys(fresh), "sub/hard"]) {
      const wanted = fresh[name] ?? fresh.file;
      const found = read(`${destination}/${name}`);
      const before = scenario.standing.includes(name) ? old : null;
      const isWhole = found === wanted || (found !== null && found === before);
      if (found !== null && !isWhole) problems.push(`${name} is a half file of ${found.length}`);
      if (found === null && before !== null && !isBackedUp) problems.push(`${name} is gone, old and new`);
      if (isBackedUp && before !== null && found !== old && read(`${destination}/${name}~`) !== old)
        problems.push(`the old ${name} is lost`);
      if (read(`${source()}/${name}`) !== wanted && (scenario.program === "cp" || found !== wanted)) problems.push(`${name} is lost`);
    }
    for (const name of scenario.standing) {
      if (fresh[name] === undefined && read(`${destination}/${name}`) !== old) problems.push(`${name}, a bystander, was touched`);
    }
    return problems;
  }

  function incomplete(scenario: Scenario): string[] {
    const names = [...Object.keys(fresh), "sub/hard", "link", "fifo"];
    const missing = names.filter((name) => lstatSync(`${destinationOf(scenario)}/${name}`, { throwIfNoEntry: false }) === undefined);
    return missing.map((name) => `it says that all is well, but ${name} is missing`);
  }

  for (const scenario of scenarios) {
    test(scenario.name, async () => {
      const calls = await callsOf(scenario);
      expect(calls.length).toBeGreaterThan(30);
      const complaints: string[] = [];
      kills = 0;
      for (let index = today % stride; index < calls.length; index += stride) {
        const [syscall = "", ordinal = 0] = calls[index] ?? [];
        for (const kill of [killWorker, killAll]) {
          await prepare(scenario);
          const problems = await kill(scenario, syscall, ordinal);
          problems.push(...(await nextRun()), ...inspect(scenario));
          complaints.push(...problems.map((problem) => `${kill.name} at ${syscall} number ${ordinal}: ${problem}`));
        }
      }
      expect(complaints).toEqual([]);
      // A call that closes what nobody needs any more may come too late to matter; most do not.
      expect(kills).toBeGreaterThan(calls.length / stride);
      if (stride === 1) console.log(`${scenario.name}: ${kills} kills at ${calls.length} steps`);
    }, 1_200_000);
  }
});
