// Runs a job inside this process, with a worker of its own: no bus, no service, no set-up.

import type { Caller, JobResult, JobView } from "../jobs/api.ts";
import { createJobs } from "../jobs/jobs.ts";
import { ownRecordDirectory, removeLeftOvers } from "../jobs/left-over-records.ts";
import type { JobRequest } from "../request.ts";
import { newQuestions, type RunListener, type RunningJob, type RunOptions } from "./runner.ts";

/** A Runner. The worker is this process's child and runs as whoever we are. */
export async function runEmbedded(request: JobRequest, listener: RunListener, { lanes, totals }: RunOptions): Promise<RunningJob> {
  const recordDirectory = ownRecordDirectory();
  // Before the job: a left-over half file may be what it is about to look at.
  if (recordDirectory !== null) await removeLeftOvers(recordDirectory, request);
  const jobs = createJobs({ mode: "embedded", lanes, totals, recordDirectory });
  const { promise: ended, resolve } = Promise.withResolvers<JobResult>();
  const ask = newQuestions(listener.question);
  let latest: JobView | null = null;
  const see = (job: JobView): void => {
    latest = job;
    listener.changed(job);
    ask(job);
  };
  jobs.on("changed", see);
  jobs.on("lines", (_, lines) => listener.lines(lines));
  jobs.on("errors", (_, errors) => listener.errors(errors));
  jobs.on("ended", (job) => {
    latest = job;
    if (job.result !== null) resolve(job.result);
  });
  const submitted = jobs.submit(ownIdentity(), null, request);
  const current = (): JobView => latest ?? submitted;
  const unlessEnded = (action: (job: JobView) => void): void => {
    const job = current();
    if (job.result === null) action(job);
  };
  return {
    ended,
    cancel: () => unlessEnded((job) => jobs.cancel(job)),
    pause: () => unlessEnded((job) => (job.pausable ? jobs.pause(job) : undefined)),
    resume: () => unlessEnded((job) => (job.state === "paused" ? jobs.resume(job) : undefined)),
    answer: (question, answer) => unlessEnded((job) => jobs.answer(job, question, answer, false)),
    close: () => jobs.shutdown(),
  };
}

/** Who we are, as the service would say of its caller. */
export function ownIdentity(): Caller {
  const gid = process.getegid?.() ?? -1;
  const groups = new Set([gid, ...(process.getgroups?.() ?? [])]);
  return { uid: process.geteuid?.() ?? -1, gid, groups: [...groups] };
}
