// The whole service disturbed at random: workers and the service killed, together and in order. Each job, left alone, ends in exactly the
// tree and the verdict that an undisturbed run gives, and whoever waits for it hears so.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, linkSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
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

const random = new Random();
const isTorture = process.env.COPYD_TORTURE !== undefined;
const rounds = Number(process.env.COPYD_KILLS ?? (isTorture ? 1000 : 6));

interface Case {
  readonly tree: "small" | "big";
  readonly operation: "copy" | "move";
  readonly onConflict: (typeof policies)[number];
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
    const wanted = new Map<string, { readonly end: JobView; readonly tookMs: number }>();
    beforeAll(async () => {
      fast = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
      other = await temporaryDirectory();
      bus = await privateBus({ kind: "system" });
      daemon = await startDaemon(bus);
      for (const tree of ["small", "big"] as const) makeTree(tree, join(fast.path, tree), join(fast.path, `${tree}-before`));
    });
    afterAll(async () => {
      await daemon[Symbol.asyncDispose]();
      for (const each of [bus, other, fast]) await each[Symbol.asyncDispose]();
    });

    /** A source and a destination of their own, as before any job. A move goes to another filesystem where there is one. */
    async function prepare(name: string, { tree, operation, onConflict }: Case): Promise<JobRequest> {
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
      const options = { target: "exact", durability: "none", reflink: "never", recursive: true, symlinks: "copy", onConflict, preserve };
      return requestSchema.parse({ operation, sources: [source], destination, options });
    }

    /** What becomes of a case that nobody disturbs, once. */
    async function undisturbed(what: Case): Promise<{ readonly name: string; readonly end: JobView; readonly tookMs: number }> {
      const name = `${what.tree}-${what.operation}-${what.onConflict}`;
      const known = wanted.get(name);
      if (known !== undefined) return { name, ...known };
      using client = await connectService({ address: bus.address });
      const request = await prepare(name, what);
      const startMs = performance.now();
      const end = await client.wait((await client.submit(request)).token);
      const found = { end, tookMs: performance.now() - startMs };
      wanted.set(name, found);
      return { name, ...found };
    }

    async function disturb(): Promise<string> {
      const how = random.pick(["worker", "worker", "service", "both", "stop"]);
      const [worker] = childrenOf(daemon.pid);
      if (worker !== undefined && (how === "worker" || how === "both")) process.kill(worker, "SIGKILL");
      if (how === "worker") return how;
      daemon.kill(how === "stop" ? "SIGTERM" : "SIGKILL");
      await daemon.exited;
      daemon = await startDaemon(bus);
      return how;
    }

    test(
      `${rounds} jobs end as if nothing had happened (COPYD_TEST_SEED=${random.seed})`,
      async () => {
        let resumed = 0;
        for (let round = 0; round < rounds; round++) {
          const what: Case = {
            tree: random.chance(70) ? "small" : "big",
            operation: random.chance(60) ? "copy" : "move",
            onConflict: random.pick(policies),
          };
          const { name, end: good, tookMs } = await undisturbed(what);
          const request = await prepare("disturbed", what);
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
            log.push(`${await disturb()} after ${afterMs} ms`);
          }
          const end = await ended;
          resumed += end.resumeCount;
          const where = `round ${round}, ${name}: ${log.join(", ")}`;
          expect([where, end.state, end.result?.code, end.errorCount]).toEqual([where, good.state, good.result?.code, good.errorCount]);
          for (const side of ["source", "destination"]) {
            const place = side === "destination" && what.operation === "move" ? other.path : fast.path;
            const [expected, found] = [join(place, name, side), join(place, "disturbed", side)];
            expect([where, side, existsSync(found)]).toEqual([where, side, existsSync(expected)]);
            if (!existsSync(expected)) continue;
            try {
              if (side === "destination") await expectSameTree(expected, found);
              else await expectSameFiles(expected, found);
            } catch (error) {
              throw new Error(`${where}: ${String(error)}`);
            }
          }
        }
        expect(resumed).toBeGreaterThan(0);
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
