// A copy to several destinations disturbed at random: its workers and the service killed, together and in order. Each destination ends
// by itself exactly as an undisturbed run ends there: one that fails in places, one that gets full, and those that are well.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { byteStringFromText } from "../../src/bytes.ts";
import { connectService, type ServiceClient } from "../../src/dbus/client.ts";
import { type JobView, memberToken } from "../../src/jobs/api.ts";
import { conflictPolicies, type JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import type { EntryError } from "../../src/worker/protocol.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { compareTrees } from "../support/compare.ts";
import { type DaemonProcess, startDaemon } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { type FaultyFilesystem, mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { mountFilesystem, type TestFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, isRunning, runChecked } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { contentOf } from "../support/tree.ts";

const random = new Random();
const rounds = Number(process.env.COPYD_KILLS ?? (process.env.COPYD_TORTURE === undefined ? 6 : 300));
// With "fail" there would be two kinds of errors at one destination, of which either may be the first.
const policies = conflictPolicies.filter((policy) => policy !== "ask" && policy !== "fail");
type Policy = (typeof policies)[number];

/** In the order asked for. On all but the full one something stands before the job. */
const kinds = ["memory", "disk", "failing", "full"] as const;
type Kind = (typeof kinds)[number];

/** One worker, all of them, the service, both at once, and the service in order. */
const disturbances = ["worker", "service", "both", "workers", "stop"] as const;
type Disturbance = (typeof disturbances)[number];

interface End {
  readonly job: JobView;
  readonly errors: readonly EntryError[];
}

interface Undisturbed {
  readonly ends: readonly End[];
  readonly tookMs: number;
}

const whyNot = firstReason(
  unlessRoot(),
  whyNoBus(),
  whyNoFilesystem("ext4"),
  whyNoFaultyFilesystem(),
  havePrograms("rsync") ? null : "rsync is not installed",
);

describeUnless(whyNot, "a disturbed copy to several destinations", () => {
  let fast: TemporaryDirectory;
  let other: TemporaryDirectory;
  let full: TestFilesystem;
  let failing: FaultyFilesystem;
  let bus: PrivateBus;
  let daemon: DaemonProcess;
  const known = new Map<Policy, Undisturbed>();
  // Small enough that they wait for each other.
  const start = (): Promise<DaemonProcess> => startDaemon(bus, ["--set", "jobs.fan-out-window=2000000"]);
  const source = (): string => join(fast.path, "source");
  const placeOf = (kind: Kind): string => {
    if (kind === "full") return full.path;
    if (kind === "failing") return failing.path;
    return kind === "memory" ? fast.path : other.path;
  };

  beforeAll(async () => {
    fast = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
    other = await temporaryDirectory();
    full = await mountFilesystem("ext4", { sizeBytes: tinySizeBytes });
    mkdirSync(join(fast.path, "below"));
    failing = await mountFaultyFilesystem({ directory: join(fast.path, "below") });
    bus = await privateBus({ kind: "system" });
    daemon = await start();
    makeTree(source(), join(fast.path, "before"));
  }, 60_000);
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    for (const each of [bus, failing, full, other, fast]) await each[Symbol.asyncDispose]();
  });

  /** Where the copy is to be at a destination. */
  const treeAt = (kind: Kind, name: string): string => join(placeOf(kind), kind === "full" ? "copy" : name, "tree");

  async function prepare(name: string, onConflict: Policy): Promise<{ readonly request: JobRequest; readonly others: readonly string[] }> {
    await failing.setRules([]);
    for (const kind of kinds) {
      const tree = treeAt(kind, name);
      rmSync(join(tree, ".."), { recursive: true, force: true });
      mkdirSync(join(tree, ".."));
      if (kind !== "full") await runChecked(["cp", "-a", join(fast.path, "before"), tree]);
    }
    await failing.setRules([{ operations: ["write", "copy_file_range", "fallocate"], errno: "EIO", path: "*/d3/*" }]);
    // What was born within a moment before the job, and is whole and equal, counts as made by it.
    await Bun.sleep(300);
    const preserve = ["mode", "times", "owner", "xattr", "hardlinks", "links"];
    const common = { target: "exact", reflink: "never", recursive: true, symlinks: "copy", onFull: "fail" };
    const options = { ...common, durability: random.pick(["none", "job"]), onConflict, preserve };
    const [destination, ...others] = kinds.map((kind) => treeAt(kind, name));
    return { request: requestSchema.parse({ operation: "copy", sources: [source()], destination, options }), others };
  }

  /** How all have ended; to be asked when nobody kills any more. */
  async function endsOf(client: ServiceClient, jobs: readonly JobView[]): Promise<End[]> {
    const ends: End[] = [];
    for (const job of jobs) {
      const errors: EntryError[] = [];
      for (let more = await client.errors(job); more.length > 0; more = await client.errors(job, errors.length)) errors.push(...more);
      ends.push({ job, errors });
    }
    return ends;
  }

  const allEnded = (client: ServiceClient, first: string): Promise<JobView[]> =>
    Promise.all(kinds.map((_, index) => client.wait(memberToken(first, index))));

  async function submit(client: ServiceClient, name: string, onConflict: Policy): Promise<string> {
    const { request, others } = await prepare(name, onConflict);
    const alsoTo = others.map((path) => ({ destination: byteStringFromText(path) }));
    const watches = await client.submitAndWatchAll(request, alsoTo);
    for (const watch of watches) watch.close();
    return watches[0].address.token;
  }

  /** What becomes of it when nobody disturbs, once for each policy. */
  async function undisturbed(onConflict: Policy): Promise<Undisturbed> {
    const before = known.get(onConflict);
    if (before !== undefined) return before;
    using client = await connectService({ address: bus.address });
    const token = await submit(client, `undisturbed-${onConflict}`, onConflict);
    const startMs = performance.now();
    const jobs = await allEnded(client, token);
    const ends = await endsOf(client, jobs);
    const found = { ends, tookMs: performance.now() - startMs };
    known.set(onConflict, found);
    expect(ends.map(({ job }) => job.state)).toEqual(["completed", "completed", "failed", "failed"]);
    expect(ends[2]?.job.result?.code).toBe("write-error");
    expect(untruths("the full one, undisturbed", treeAt("full", ""), ends[3])).toEqual([]);
    return found;
  }

  async function disturb(how: Disturbance): Promise<Disturbance> {
    const workers = childrenOf(daemon.pid);
    const victims = how === "worker" ? workers.filter((_, index) => index === random.below(workers.length)) : workers;
    if (how !== "service" && how !== "stop") for (const pid of victims) if (isRunning(pid)) process.kill(pid, "SIGKILL");
    if (how === "worker" || how === "workers") return how;
    daemon.kill(how === "stop" ? "SIGTERM" : "SIGKILL");
    await daemon.exited;
    daemon = await start();
    return how;
  }

  /** One copy with its kills, and everything in which it differs from the undisturbed one. */
  async function disturbOnce(round: number): Promise<{ readonly failures: string[]; readonly resumes: number }> {
    const onConflict = random.pick(policies);
    const { ends: good, tookMs } = await undisturbed(onConflict);
    using client = await connectService({ address: bus.address });
    const token = await submit(client, "disturbed", onConflict);
    let isOver = false;
    const ended = allEnded(client, token).finally(() => {
      isOver = true;
    });
    ended.catch(() => undefined);
    const log: string[] = [];
    const times = 1 + random.below(4);
    for (let time = 0; time < times; time++) {
      // Each in its turn comes early, while all of them copy.
      const how = time === 0 ? disturbances[round % disturbances.length] : random.pick(disturbances);
      const afterMs = random.below(Math.ceil(tookMs * (time === 0 ? 0.3 : 0.8)));
      await Bun.sleep(afterMs);
      if (isOver || how === undefined) break;
      log.push(`${await disturb(how)} after ${afterMs} ms`);
    }
    const ends = await endsOf(client, await ended);
    const failures: string[] = [];
    for (const [index, kind] of kinds.entries()) {
      const where = `round ${round}, ${onConflict}, ${kind}: ${log.join(", ")}`;
      const end = ends[index];
      if (kind === "full") failures.push(...untruths(where, treeAt(kind, ""), end));
      else failures.push(...(await differences(where, kind, `undisturbed-${onConflict}`, good[index], end)));
    }
    return { failures, resumes: ends.reduce((sum, { job }) => sum + job.resumeCount, 0) };
  }

  async function differences(where: string, kind: Kind, name: string, good: End | undefined, end: End | undefined): Promise<string[]> {
    const failures: string[] = [];
    const [found, wanted] = [summaryOf(end, "disturbed"), summaryOf(good, name)];
    if (found !== wanted) failures.push(`${where}: ${found} and not ${wanted}`);
    for (const line of await compareTrees(treeAt(kind, name), treeAt(kind, "disturbed"))) failures.push(`${where}: ${line}`);
    return failures;
  }

  /** In what the end at the full destination lies: which files found room is chance, but each is whole, or named by an error. */
  function untruths(where: string, tree: string, end: End | undefined): string[] {
    if (end === undefined) return [`${where}: no end`];
    const failures: string[] = [];
    const { job } = end;
    // That room is short is a warning, of all the tree.
    const errors = end.errors.filter(({ severity }) => severity === "error");
    if (job.state !== "failed" || job.result?.code !== "no-space") failures.push(`${job.state}, ${job.result?.code}`);
    const named = new Set(errors.map(({ path }) => path as string));
    const wanted = entriesBelow(source());
    const found = new Set(entriesBelow(tree));
    for (const name of found) if (!wanted.includes(name)) failures.push(`left over: ${name}`);
    let whole = 0;
    for (const name of wanted) {
      const [one, other] = [join(source(), name), join(tree, name)];
      if (!found.has(name)) {
        const isNamed = isNamedIn(named, [one, other]);
        if (!isNamed) failures.push(`neither there nor told: ${name}`);
        continue;
      }
      if (lstatSync(one).isDirectory()) continue;
      whole++;
      if (lstatSync(one).isFile() && !readFileSync(one).equals(readFileSync(other))) failures.push(`half a file: ${name}`);
      if (named.has(other)) failures.push(`told, and whole: ${name}`);
    }
    if (whole !== job.filesDone) failures.push(`${whole} are there, and ${job.filesDone} are told`);
    if (errors.length !== job.errorCount) failures.push(`${errors.length} errors of ${job.errorCount}`);
    return failures.map((failure) => `${where}: ${failure}`);
  }

  test(
    `${rounds} of them end everywhere as if nothing had happened (COPYD_TEST_SEED=${random.seed})`,
    async () => {
      const failures: string[] = [];
      let resumes = 0;
      for (let round = 0; round < rounds; round++) {
        const outcome = await disturbOnce(round);
        for (const failure of outcome.failures) console.error(failure);
        failures.push(...outcome.failures);
        resumes += outcome.resumes;
      }
      expect(failures).toEqual([]);
      expect(resumes).toBeGreaterThan(0);
      expect((await daemon.log()).includes("internal error")).toBe(false);
      expect(readdirSync(`${bus.directory}/state`).filter((name) => name.startsWith("in-flight"))).toEqual([]);
    },
    60_000 + rounds * 20_000,
  );
});

/** State, code, counters and errors of an end, with the names of its destination made those of any. */
function summaryOf(end: End | undefined, name: string): string {
  if (end === undefined) return "no end";
  const { job, errors } = end;
  const told = errors.map(({ message }) => message.replaceAll(`/${name}/`, "/NAME/")).sort();
  const { filesDone, filesSkipped, bytesDone, errorCount, warningCount } = job;
  const counts = { filesDone, filesSkipped, bytesDone, errorCount, warningCount };
  return `${job.state} ${job.result?.code ?? ""} ${JSON.stringify(counts)} ${told.join("; ")}`;
}

/** Whether a path or a directory that it lies in is among those named. */
function isNamedIn(named: ReadonlySet<string>, paths: readonly string[]): boolean {
  return paths.some((path) => {
    for (let at = path; at.length > 1; at = at.slice(0, at.lastIndexOf("/"))) if (named.has(at)) return true;
    return false;
  });
}

function entriesBelow(root: string): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root, { recursive: true, encoding: "utf8" });
}

/** Small files, links, one file that the full destination has no room for; what stands at destinations before: older, newer, the same. */
function makeTree(tree: string, before: string): void {
  const directories = 8;
  for (let index = 0; index < 400; index++) {
    const directory = `d${index % directories}`;
    for (const root of [tree, before]) mkdirSync(join(root, directory), { recursive: true });
    const path = join(tree, directory, `f${index}`);
    const content = contentOf(index, 1 + ((index * 37) % 60) * 500);
    writeFileSync(path, content);
    utimesSync(path, 1_600_000_000, 1_600_000_000 + index);
    if (index % 50 === 0) linkSync(path, join(tree, directory, `hard${index}`));
    if (index % 60 === 0) symlinkSync(`f${index}`, join(tree, directory, `soft${index}`));
    if (index % 3 !== 0) continue;
    const old = join(before, directory, `f${index}`);
    writeFileSync(old, index % 2 === 0 ? `old contents of ${index}` : content);
    const time = 1_600_000_000 + index + (index % 4 === 0 ? -1000 : index % 4 === 1 ? 0 : 1000);
    utimesSync(old, time, time);
  }
  writeFileSync(join(tree, "d1", "large"), contentOf(1, 30_000_000));
  utimesSync(join(tree, "d1", "large"), 1_600_000_000, 1_600_000_000);
}
