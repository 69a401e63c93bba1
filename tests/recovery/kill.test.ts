// kill -9 of the worker at random moments, and cancels: no half file under a final name, nothing left over, a job that says what is true.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { startJob } from "../support/embedded-job.ts";
import { filesystemKinds, mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { Random } from "../support/random.ts";
import { describeUnless } from "../support/skip.ts";
import { inspect, prepare, type Workload, workloads } from "./workload.ts";

const random = new Random();
/** Per workload and filesystem; five workloads and four filesystems. */
const kills = process.env.COPYD_TORTURE === undefined ? 5 : 50;
const cancels = process.env.COPYD_TORTURE === undefined ? 1 : 20;

for (const kind of filesystemKinds) {
  describeUnless(whyNoFilesystem(kind), `disturbed on ${kind}`, () => {
    let filesystem: TestFilesystem;
    let source = "";
    let destination = "";
    beforeAll(async () => {
      filesystem = await mountFilesystem(kind, { sizeBytes: 700 * 1024 * 1024 });
      destination = `${filesystem.path}/destination`;
      for (const [index, workload] of workloads.entries()) {
        mkdirSync(`${filesystem.path}/source-${index}`);
        workload.make(`${filesystem.path}/source-${index}`);
      }
    });
    afterAll(() => filesystem[Symbol.asyncDispose]());

    /** How long an undisturbed run takes, from the worker's start; it must be right as well. */
    async function undisturbed(workload: Workload): Promise<number> {
      prepare(workload, source, destination);
      const job = startJob([source], destination, { target: "exact", ...workload.options });
      await job.worker();
      const startMs = performance.now();
      const end = await job.ended;
      const tookMs = performance.now() - startMs;
      expect(end.result?.message).toContain("copied");
      expect(inspect(workload, source, destination, true).problems).toEqual([]);
      return tookMs;
    }

    for (const [index, workload] of workloads.entries()) {
      test(`kill -9 while it copies ${workload.name} (COPYD_TEST_SEED=${random.seed})`, async () => {
        source = `${filesystem.path}/source-${index}`;
        const tookMs = await undisturbed(workload);
        for (let round = 0; round < kills; round++) {
          prepare(workload, source, destination);
          const job = startJob([source], destination, { target: "exact", ...workload.options });
          const pid = await job.worker();
          const afterMs = (random.below(10_000) / 10_000) * tookMs;
          await Bun.sleep(afterMs);
          killProcess(pid);
          const end = await job.ended;
          const where = `killed after ${afterMs.toFixed(1)} of ${tookMs.toFixed(1)} ms`;
          const { problems, whole } = inspect(workload, source, destination, end.state === "completed");
          expect({ where, problems }).toEqual({ where, problems: [] });
          if (end.state !== "completed") {
            expect(end.state).toBe("failed");
            expect(["worker-died", "worker-start"]).toContain(end.result?.code ?? "");
          }
          expect(end.filesDone).toBeLessThanOrEqual(whole);
        }
      }, 120_000);
    }

    test(`cancelled at random moments (COPYD_TEST_SEED=${random.seed})`, async () => {
      for (const [index, workload] of workloads.entries()) {
        source = `${filesystem.path}/source-${index}`;
        const tookMs = await undisturbed(workload);
        for (let round = 0; round < cancels; round++) {
          prepare(workload, source, destination);
          const job = startJob([source], destination, { target: "exact", ...workload.options });
          await job.worker();
          await Bun.sleep((random.below(10_000) / 10_000) * tookMs);
          const view = job.jobs.get(job.submitted.owner.uid, job.submitted.token);
          if (view?.cancelable === true) job.jobs.cancel(view);
          const end = await job.ended;
          const { problems, whole } = inspect(workload, source, destination, end.state === "completed");
          expect(problems).toEqual([]);
          if (end.state !== "completed") expect([end.state, end.result?.code]).toEqual(["cancelled", "cancelled"]);
          expect(end.filesDone).toBe(whole);
        }
      }
    }, 120_000);
  });
}

function killProcess(pid: number): void {
  if (pid === 0) return;
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    // It ended before.
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
