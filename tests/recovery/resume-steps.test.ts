// A worker with a checkpoint, killed between any two steps: strace ends it at one call, and the job goes on to the tree of an undisturbed run.

import { afterEach, beforeEach, expect } from "bun:test";
import { existsSync, linkSync, mkdirSync, readdirSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { expectSameTree } from "../support/compare.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { killedAt, ResumableJob, type RunOptions } from "../support/resumable-job.ts";
import { firstReason, testUnless } from "../support/skip.ts";

/** Whatever changes a file, a directory or the checkpoint. */
const steps = ["openat", "mkdirat", "linkat", "symlinkat", "renameat", "renameat2", "unlinkat", "utimensat", "pwrite64", "close", "fchmod"];
/** What makes a link or a special file, gives it its attributes and its name. */
const lastSteps = ["symlinkat", "mknodat", "utimensat", "renameat2"];
const kills = process.env.COPYD_TORTURE === "1" ? 60 : 5;

const directory = directoryOfEachTest();
let elsewhere: TestFilesystem;
beforeEach(async () => {
  elsewhere = await mountFilesystem("tmpfs");
});
afterEach(() => elsewhere[Symbol.asyncDispose]());

function makeSource(source: string): void {
  for (let index = 0; index < 12; index++) {
    const below = join(source, `d${index % 3}`);
    mkdirSync(below, { recursive: true });
    writeFileSync(join(below, `f${index}`), `new ${index} `.repeat(100));
    utimesSync(join(below, `f${index}`), 1_000_000_000, 1_600_000_000 + index);
  }
  linkSync(join(source, "d0", "f0"), join(source, "d1", "second"));
  symlinkSync("f1", join(source, "d1", "symlink"));
  Bun.spawnSync(["mkfifo", join(source, "d2", "fifo")]);
}

/** What stands there before: other files under some of the names. */
function makeStanding(destination: string): void {
  mkdirSync(join(destination, "d0"), { recursive: true });
  mkdirSync(join(destination, "d1"));
  for (const name of ["d0/f0", "d0/f3", "d1/f1", "d1/symlink", "d1/second"]) {
    writeFileSync(join(destination, name), "old");
    utimesSync(join(destination, name), 1_000_000_000, 1_500_000_000);
  }
}

const scenarios = [
  { name: "a new tree", operation: "copy", standing: false, options: {} },
  { name: "over old files", operation: "copy", standing: true, options: { onConflict: "overwrite" } },
  { name: "with numbered backups", operation: "copy", standing: true, options: { onConflict: "overwrite", gnu: { backup: "numbered" } } },
  { name: "beside old files", operation: "copy", standing: true, options: { onConflict: "rename" } },
  { name: "a move", operation: "move", standing: true, options: { onConflict: "newer" } },
] as const;

const lacking = firstReason(whyNoFilesystem("tmpfs"), havePrograms("strace") ? null : "strace is not installed");
for (const { name, operation, standing, options } of scenarios) {
  testUnless(
    lacking,
    `${name}: each kill is gone on from`,
    async () => {
      const random = Random.announced();
      const at = (what: string): string => join(elsewhere.path, what);
      const run = async (destination: string, kill: RunOptions): Promise<boolean> => {
        const [source, records] = [join(directory.path, `source-${destination}`), join(directory.path, `records-${destination}`)];
        Bun.spawnSync(["cp", "-a", join(directory.path, "model"), source]);
        mkdirSync(records);
        if (standing) Bun.spawnSync(["cp", "-a", join(directory.path, "standing"), at(destination)]);
        const request = { operation, sources: [source], destination: at(destination), options: { target: "exact", ...options } };
        using job = new ResumableJob(records, request);
        let last = await job.run(kill);
        const isKilled = last.end.kind === "failed";
        if (isKilled) last = await job.run();
        expect(last.errors).toEqual([]);
        expect(last.end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
        if (operation === "move") expect(existsSync(source)).toBe(false);
        return isKilled;
      };
      makeSource(join(directory.path, "model"));
      makeStanding(join(directory.path, "standing"));
      await run("calm", {});
      let killed = 0;
      // Not every call comes so often.
      for (let round = 0; killed < kills && round < 5 * kills; round++) {
        const step = random.pick(steps);
        const when = 1 + random.below(step === "openat" || step === "close" ? 250 : 25);
        if (await run(`rough${round}`, killedAt(step, when))) killed++;
        const differences = await expectSameTree(at("calm"), at(`rough${round}`), { timeoutMs: 30_000 }).catch(
          (cause: Error) => cause.message,
        );
        expect([step, when, differences]).toEqual([step, when, undefined]);
        const left = readdirSync(at(`rough${round}`), { recursive: true }).filter((entry) => String(entry).includes(".copyd-"));
        expect(left).toEqual([]);
      }
      expect(killed).toBeGreaterThan(0);
    },
    600_000,
  );
}

testUnless(
  lacking,
  "a link and a special file beside old ones are made once, whichever call was the last",
  async () => {
    const source = join(directory.path, "source");
    mkdirSync(source);
    symlinkSync("somewhere", join(source, "link"));
    Bun.spawnSync(["mkfifo", join(source, "pipe")]);
    let killed = 0;
    for (const [index, [step, when]] of [1, 2, 3].flatMap((nth) => lastSteps.map((call) => [call, nth] as const)).entries()) {
      const destination = join(elsewhere.path, `copy${index}`);
      const records = join(directory.path, `records${index}`);
      mkdirSync(records);
      mkdirSync(destination);
      for (const name of ["link", "pipe"]) writeFileSync(join(destination, name), "old");
      const options = { target: "exact", onConflict: "rename" } as const;
      using job = new ResumableJob(records, { operation: "copy", sources: [source], destination, options });
      const first = await job.run(killedAt(step, when));
      if (first.end.kind === "failed") {
        killed++;
        expect((await job.run()).end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
      }
      expect([step, when, readdirSync(destination).sort()]).toEqual([step, when, ["link", "link (2)", "pipe", "pipe (2)"]]);
    }
    expect(killed).toBeGreaterThan(4);
  },
  120_000,
);
