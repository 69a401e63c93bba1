// Holds the workers still while the machine sleeps, without a word to the jobs' own state: who had paused a job finds it paused.

import type { Job } from "./job.ts";
import type { AdjustableJobs } from "./jobs-dependencies.ts";

/** A worker stops moving within 100 ms; one that is stuck in the kernel is not waited for. Milliseconds. */
const stillMs = 2_000;
const lookAgainMs = 20;

/** Begins nothing, and tells the workers to stand still; resolves when they say that they do, or after two seconds. */
export async function freeze(jobs: AdjustableJobs): Promise<void> {
  jobs.hold();
  for (const { run } of jobs.started) run?.send({ type: "pause" });
  const deadlineMs = performance.now() + stillMs;
  while ([...jobs.started].some(({ job }) => moves(job)) && performance.now() < deadlineMs) await Bun.sleep(lookAgainMs);
}

/** Lets go on who was neither paused before nor held for its fan-out. */
export function thaw(jobs: AdjustableJobs): void {
  for (const { job, run } of jobs.started) if (!job.pauseRequested && job.hold !== "held") run?.send({ type: "resume" });
  jobs.release();
}

/** Until it has said otherwise. What flushes, asks or ends writes nothing that a pause could hold back. */
function moves(job: Job): boolean {
  return (job.state === "scanning" || job.state === "running") && !job.progress.snapshot.paused;
}
