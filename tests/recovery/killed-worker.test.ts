// The real worker, killed at random moments: another one goes on, nothing half-made stays, and the job says that it was resumed.

import { expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createJobs } from "../../src/jobs/jobs.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { testCaller, untilEnded } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const files = 1200;
const bytes = Buffer.alloc(20_000, "copyd");
/** Bytes a second until its worker is killed: seconds before the end, so that it is under way also where this test is slow to look. */
const slow = 6_000_000;

test("kill -9 of workers leaves no half file and no leftovers, and each job is completed all the same", async () => {
  await using directory = await temporaryDirectory();
  const source = join(directory.path, "source");
  const state = join(directory.path, "state");
  mkdirSync(source);
  mkdirSync(state);
  for (let index = 0; index < files; index++) writeFileSync(join(source, `f${index}`), bytes);
  const jobs = createJobs({ mode: "session", sandbox: "off", stateDirectory: state });
  const copyTo = (destination: string, bandwidthLimit: number) =>
    jobs.submit(
      testCaller,
      null,
      requestSchema.parse({ operation: "copy", sources: [source], destination, options: { durability: "none", bandwidthLimit } }),
    );

  let killed = 0;
  for (let round = 0; round < 8; round++) {
    const destination = join(directory.path, `destination${round}`);
    const job = copyTo(destination, slow);
    const deadlineMs = performance.now() + 20_000;
    while (entriesOf(destination).length < 50 + 100 * round && performance.now() < deadlineMs) await Bun.sleep(2);
    const [pid] = readFileSync(`/proc/${process.pid}/task/${process.pid}/children`, "utf8").trim().split(" ").map(Number);
    if (pid !== undefined && pid > 0) process.kill(pid, "SIGKILL");
    jobs.setOptions(job, { bandwidthLimit: 0 });
    const end = await untilEnded(jobs, job);
    expect(end.result?.state).toBe("completed");
    killed += end.resumeCount;
    const names = entriesOf(destination);
    expect(names).toHaveLength(files);
    expect(names.filter((name) => !/^f\d+$/.test(name) || statSync(join(destination, name)).size !== bytes.length)).toEqual([]);
  }
  expect(killed).toBe(8);
  expect(readdirSync(state)).toEqual([]);
  const end = await untilEnded(jobs, copyTo(join(directory.path, "last"), 0));
  expect(end.result).toMatchObject({ state: "completed", filesDone: files });
  expect(readdirSync(join(directory.path, "last"))).toHaveLength(files);
}, 120_000);

function entriesOf(directory: string): string[] {
  return statSync(directory, { throwIfNoEntry: false }) === undefined ? [] : readdirSync(directory);
}
