// The whole service disturbed at random: workers and the service killed, together and in order. Each job, left alone, ends in exactly the
// tree and the verdict that an undisturbed run gives, and whoever waits for it hears so.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connectService } from "../../src/dbus/client.ts";
import type { JobView } from "../../src/jobs/api.ts";
import { conflictPolicies, type JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { expectSameTree } from "../support/compare.ts";
import { type DaemonProcess, startDaemon } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { contentOf } from "../support/tree.ts";
import { Tally, WriteMeter } from "./disturbance.ts";

const random = new Random();
const isTorture = process.env.COPYD_TORTURE !== undefined;
const rounds = Number(process.env.COPYD_KILLS ?? (isTorture ? 1000 : 6));

interface Case {
  readonly tree: "small" | "big";
  readonly operation: "copy" | "move";
  readonly onConflict: (typeof policies)[number];
  /** verified: read back and compared. listed: with a manifest of what was copied. */
  readonly checked: "no" | "verified" | "listed";
}

interface Undisturbed {
  readonly end: JobView;
  readonly tookMs: number;
  /** What it wrote. */
  readonly bytes: number;
}

const policies = conflictPolicies.filter((policy) => policy !== "ask");

describeUnless(
  firstReason(unlessRoot(), whyNoBus(), havePrograms("rsync") ? null : "rsync is not installed"),
  "a disturbed service",
  () => {
    let fast: TemporaryDirectory;
    let other: TemporaryDirectory;
    let bus: PrivateBus;
    let daemon: DaemonProcess;
    const wanted = new Map<string, Undisturbed>();
    beforeAll(async () => {
      fast = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
      other = await temporaryDirectory();
      bus = await privateBus({ kind: "system" });
      daemon = await startDaemon(bus);
      for (const tree of ["small", "big"] as const) makeTree(tree, join(fast.path, tree), join(fast.path, `${tree}-before`));
    }, 60_000);
    afterAll(async () => {
      await daemon[Symbol.asyncDispose]();
      for (const each of [bus, other, fast]) await each[Symbol.asyncDispose]();
    });

    /** A source and a destination of their own, as before any job. A move goes to another filesystem where there is one. */
    async function prepare(name: string, { tree, operation, onConflict, checked }: Case): Promise<JobRequest> {
      const source = join(fast.path, name, "source");
      const destination = join(operation === "move" ? other.path : fast.path, name, "destination");
      for (const path of [source, destination]) {
        rmSync(join(path, ".."), { recursive: true, force: true });
        mkdirSync(join(path, ".."));
      }
      mkdirSync(join(destination, ".."), { recursive: true });
      mkdirSync(join(source, ".."), { recursive: true });
      await runChecked(["cp", "-a", join(fast.path, tree), source]);
      await runChecked(["cp", "-a", join(fast.path, `${tree}-before`), destination]);
      // What was born within a moment before the job, and is whole and equal, counts as made by it.
      await Bun.sleep(300);
      const preserve = ["mode", "times", "owner", "xattr", "hardlinks", "links"];
      const checks = {
        ...(checked === "verified" && { verify: random.pick(["size", "xxh3", "sha256"]) }),
        ...(checked === "listed" && { manifest: join(fast.path, name, "sums") }),
      };
      const durability = random.pick(["none", "job"]);
      const common = { target: "exact", reflink: "never", recursive: true, symlinks: "copy" };
      const options = { ...common, durability, onConflict, preserve, ...checks };
      return requestSchema.parse({ operation, sources: [source], destination, options });
    }

    /** What becomes of a case that nobody disturbs, once. */
    async function undisturbed(what: Case): Promise<{ readonly name: string } & Undisturbed> {
      const name = `${what.tree}-${what.operation}-${what.onConflict}-${what.checked}`;
      const known = wanted.get(name);
      if (known !== undefined) return { name, ...known };
      using client = await connectService({ address: bus.address });
      const request = await prepare(name, what);
      using meter = new WriteMeter(() => daemon.pid);
      const startMs = performance.now();
      const { token } = await client.submit(request);
      const end = await client.wait(token);
      // What an undisturbed job fails with is the reason for all that differs from it.
      if (end.state === "failed") console.log(`undisturbed ${name}: ${JSON.stringify(await client.errors(token))}`);
      const found = { end, tookMs: performance.now() - startMs, bytes: meter.bytes };
      wanted.set(name, found);
      return { name, ...found };
    }

    async function disturb(meter: WriteMeter): Promise<string> {
      const how = random.pick(["worker", "worker", "service", "both", "stop"]);
      const [worker] = childrenOf(daemon.pid);
      if (worker !== undefined) meter.look(worker);
      if (worker !== undefined && (how === "worker" || how === "both")) process.kill(worker, "SIGKILL");
      if (how === "worker") return how;
      daemon.kill(how === "stop" ? "SIGTERM" : "SIGKILL");
      await daemon.exited;
      daemon = await startDaemon(bus);
      return how;
    }

    /** One job with its kills, and everything in which it differs from the undisturbed one. */
    async function disturbOnce(round: number, tally: Tally): Promise<void> {
      const what: Case = {
        tree: random.chance(70) ? "small" : "big",
        operation: random.chance(50) ? "copy" : "move",
        onConflict: random.pick(policies),
        checked: random.pick(["no", "no", "verified", "listed"]),
      };
      const { name, end: good, tookMs, bytes: needed } = await undisturbed(what);
      const request = await prepare("disturbed", what);
      using meter = new WriteMeter(() => daemon.pid);
      using client = await connectService({ address: bus.address });
      const { token } = await client.submit(request);
      const ended = client.wait(token);
      let isOver = false;
      const over = (): void => {
        isOver = true;
      };
      ended.then(over, over);
      const log: string[] = [];
      for (let left = 1 + random.below(3); left > 0; left--) {
        const afterMs = random.below(Math.ceil(tookMs * 1.2));
        await Bun.sleep(afterMs);
        if (isOver) break;
        const how = await disturb(meter);
        tally.killed(how);
        log.push(`${how} after ${afterMs} ms`);
      }
      const end = await ended;
      const where = `round ${round}, ${name}: ${log.join(", ")}`;
      tally.ended(where, { kills: log.length, resumed: end.resumeCount, bytes: meter.bytes, needed });
      const [found, expected] = [end, good].map((each) => `${each.state} ${each.result?.code ?? ""} ${each.errorCount}`);
      if (found !== expected) {
        const errors = (await client.errors(token)).map(({ message }) => message);
        tally.failed(where, `${found} and not ${expected}: ${JSON.stringify(end.result)} ${errors.join("; ")}`);
      }
      for (const why of await differences(name, what)) tally.failed(where, why);
    }

    async function differences(name: string, { operation, checked }: Case): Promise<string[]> {
      const found: string[] = [];
      for (const side of ["source", "destination"]) {
        const place = side === "destination" && operation === "move" ? other.path : fast.path;
        const [wanted, is] = [join(place, name, side), join(place, "disturbed", side)];
        if (existsSync(is) !== existsSync(wanted)) found.push(`${side} ${existsSync(is) ? "is" : "is not"} there`);
        if (!existsSync(is) || !existsSync(wanted)) continue;
        const compared = side === "destination" ? expectSameTree(wanted, is) : expectSameFiles(wanted, is);
        await compared.catch((cause: unknown) => found.push(String(cause)));
      }
      if (checked !== "listed") return found;
      const [wanted, is] = [name, "disturbed"].map((each) => linesOf(join(fast.path, each, "sums")));
      if (wanted !== is) found.push(`the manifest is another one:\n${is}\nand not\n${wanted}`);
      return found;
    }

    test(
      `${rounds} jobs end as if nothing had happened (COPYD_TEST_SEED=${random.seed})`,
      async () => {
        const tally = new Tally();
        for (let round = 0; round < rounds; round++) {
          await disturbOnce(round, tally);
          if (isTorture || round === rounds - 1) console.log(`${tally}`);
        }
        expect(tally.failures).toEqual([]);
        expect(tally.resumes).toBeGreaterThan(0);
        expect((await daemon.log()).includes("internal error")).toBe(false);
      },
      60_000 + rounds * 20_000,
    );

    test("a job whose filesystem is unmounted between two runs of the service waits, says so, and goes on when it is back", async () => {
      const [medium, point] = [join(fast.path, "medium"), join(fast.path, "mounted")];
      for (const path of [medium, point]) mkdirSync(path);
      const mount = (): Promise<unknown> => runChecked(["mount", "--bind", medium, point]);
      await mount();
      try {
        const request = { operation: "copy", sources: [join(fast.path, "big")], destination: join(point, "copy") };
        const options = { target: "exact", recursive: true, reflink: "never", preserve: ["mode", "times"], bandwidthLimit: 10_000_000 };
        using before = await connectService({ address: bus.address });
        const { token } = await before.submit(requestSchema.parse({ ...request, options }));
        while ((await before.show(token)).bytesDone === 0) await Bun.sleep(20);
        daemon.kill("SIGTERM");
        await daemon.exited;
        await runChecked(["umount", point]);
        daemon = await startDaemon(bus);
        using client = await connectService({ address: bus.address });
        const waiting = await client.show(token);
        expect(waiting.state).toBe("queued");
        expect(waiting.waitReason).toMatch(/^'.*mounted' \(.*\) is not mounted$/);
        expect(existsSync(join(point, "copy"))).toBe(false);
        await client.setOptions(token, { bandwidthLimit: 0 });
        await mount();
        expect((await client.wait(token)).result).toMatchObject({ state: "completed", resumeCount: 1 });
        await expectSameTree(join(fast.path, "big"), join(point, "copy"));
      } finally {
        await run(["umount", point]);
      }
    }, 120_000);
  },
);

/** The lines of a manifest; the lanes write them in any order. */
function linesOf(path: string): string {
  return existsSync(path) ? readFileSync(path, "utf8").split("\n").sort().join("\n") : "none";
}

/** What a move leaves: the directories' times are those of the removals. */
async function expectSameFiles(expected: string, found: string): Promise<void> {
  const { stdout } = await runChecked(["rsync", "-aHAXnic", "--omit-dir-times", "--delete", `${expected}/`, `${found}/`]);
  if (stdout !== "") throw new Error(`${found} is not ${expected}:\n${stdout}`);
}

/** Files with links and times, and what stands at the destination before: some older, some newer, some the same. */
function makeTree(tree: "small" | "big", source: string, before: string): void {
  const count = tree === "small" ? 600 : 3;
  const directories = tree === "small" ? 20 : 1;
  for (let index = 0; index < count; index++) {
    const directory = `d${index % directories}`;
    for (const root of [source, before]) mkdirSync(join(root, directory), { recursive: true });
    const path = join(source, directory, `f${index}`);
    const content = contentOf(index, tree === "small" ? ((index * 37) % 60) * 200 : (isTorture ? 90_000_000 : 30_000_000) + index);
    writeFileSync(path, content);
    utimesSync(path, 1_600_000_000, 1_600_000_000 + index);
    if (tree === "small" && index % 50 === 0) linkSync(path, join(source, directory, `hard${index}`));
    if (tree === "small" && index % 60 === 0) symlinkSync(`f${index}`, join(source, directory, `soft${index}`));
    if (index % 3 !== 0) continue;
    const old = join(before, directory, `f${index}`);
    writeFileSync(old, index % 2 === 0 ? `old contents of ${index}` : content);
    const time = 1_600_000_000 + index + (index % 4 === 0 ? -1000 : index % 4 === 1 ? 0 : 1000);
    utimesSync(old, time, time);
  }
}
