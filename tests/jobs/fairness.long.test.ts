// A flood of one user's jobs, and another user's few that come later: how long these wait, with real processes.

import { expect, test } from "bun:test";
import type { JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import { testCaller, testRequest, testWorker } from "../support/jobs.ts";

const flood = 120;
const few = 10;

for (const maxRunning of [1, 4]) {
  test(`with ${maxRunning} at a time, a user's ${few} jobs do not wait for the ${flood} urgent ones that another queued before`, async () => {
    const jobs = createJobs({ mode: "session", self: testWorker, limits: { maxRunning } });
    const late = { ...testCaller, uid: testCaller.uid + 1 };
    const starts: string[] = [];
    const ended: JobView[] = [];
    const seen = new Set<string>();
    jobs.on("changed", (job) => {
      if (job.startedTimeUs === 0 || seen.has(job.token)) return;
      seen.add(job.token);
      starts.push(job.owner.uid === late.uid ? "late" : "flood");
    });
    jobs.on("ended", (job) => ended.push(job));
    for (let index = 0; index < flood; index++) jobs.submit(testCaller, null, testRequest("well", { priority: "high" }));
    while (ended.length < 10) await Bun.sleep(5);
    const before = starts.length;
    for (let index = 0; index < few; index++) jobs.submit(late, null, testRequest("well"));
    while (ended.filter(({ owner }) => owner.uid === late.uid).length < few) await Bun.sleep(5);
    const after = starts.slice(before);
    const mostBetween = Math.max(
      ...after
        .join(" ")
        .split("late")
        .slice(0, few)
        .map((text) => text.trim().split(" ").filter(Boolean).length),
    );
    const waits = ended.filter(({ owner }) => owner.uid === late.uid).map((job) => (job.startedTimeUs - job.createdTimeUs) / 1000);
    console.log(
      `${maxRunning} at a time: the ${few} were started among ${after.lastIndexOf("late") + 1} starts, never more than ${mostBetween} of the flood between two; ` +
        `waited ${Math.round(Math.min(...waits))} to ${Math.round(Math.max(...waits))} ms, with ${flood - starts.filter((who) => who === "flood").length} of the flood still waiting at their end`,
    );
    expect(mostBetween).toBeLessThanOrEqual(maxRunning === 1 ? 2 : 3);
    expect(after.lastIndexOf("late") + 1).toBeLessThanOrEqual(2 * few + maxRunning);
    for (const job of jobs.list(null)) if (job.result === null) jobs.cancel(job);
    await jobs.shutdown();
  }, 120_000);
}
