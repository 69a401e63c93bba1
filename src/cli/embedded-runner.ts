// Runs a job inside this process, with a worker of its own: no bus, no service, no set-up.

import type { Caller, JobResult, Jobs, JobView } from "../jobs/api.ts";
import { createJobs } from "../jobs/jobs.ts";
import { ownRecordDirectory, removeLeftOvers } from "../jobs/left-over-records.ts";
import type { JobRequest } from "../request.ts";
import { newQuestions, type RunListener, type RunningJob, type RunOptions, typedDestinations } from "./runner.ts";

/** A Runner. The worker is this process's child and runs as whoever we are. */
export async function runEmbedded(request: JobRequest, listener: RunListener, options: RunOptions): Promise<RunningJob> {
  const { lanes, totals, alsoTo } = options;
  const recordDirectory = ownRecordDirectory();
  const places = [request.destination, ...alsoTo.map(({ destination }) => destination)];
  // Before the job: a left-over half file may be what it is about to look at.
  if (recordDirectory !== null) for (const destination of places) await removeLeftOvers(recordDirectory, { ...request, destination });
  const jobs = createJobs({ mode: "embedded", lanes, totals, recordDirectory });
  const close = (): Promise<void> => jobs.shutdown();
  const submitted = jobs.submit(ownIdentity(), null, request, { alsoTo });
  if (alsoTo.length === 0) return follow(jobs, submitted, listener, close);
  const { FanOut } = await import("./fan-out.ts");
  const fanOut = new FanOut(listener, typedDestinations(request, alsoTo));
  const members = jobs.group(submitted).map((job, index) => follow(jobs, job, fanOut.member(index), close));
  return fanOut.running(members, close);
}

/** Nothing is told of a job before the caller's next turn: its worker has to be started first. */
function follow(jobs: Jobs, submitted: JobView, listener: RunListener, close: () => Promise<void>): RunningJob {
  const { promise: ended, resolve } = Promise.withResolvers<JobResult>();
  const ask = newQuestions(listener.question);
  const isIt = ({ token }: JobView): boolean => token === submitted.token;
  let latest = submitted;
  jobs.on("changed", (job) => {
    if (!isIt(job)) return;
    latest = job;
    listener.changed(job);
    ask(job);
  });
  jobs.on("lines", (job, lines) => (isIt(job) ? listener.lines(lines) : undefined));
  jobs.on("errors", (job, errors) => (isIt(job) ? listener.errors(errors) : undefined));
  jobs.on("ended", (job) => {
    if (!isIt(job)) return;
    latest = job;
    if (job.result !== null) resolve(job.result);
  });
  const unlessEnded = (action: (job: JobView) => void): void => {
    if (latest.result === null) action(latest);
  };
  return {
    ended,
    cancel: () => unlessEnded((job) => jobs.cancel(job)),
    pause: () => unlessEnded((job) => (job.pausable ? jobs.pause(job) : undefined)),
    // Whatever its state was when it was last heard of: one that was just told to pause has not said so yet.
    resume: () => unlessEnded((job) => jobs.resume(job)),
    answer: (question, answer) => unlessEnded((job) => jobs.answer(job, question, answer, false)),
    close,
  };
}

/** Who we are, as the service would say of its caller. */
export function ownIdentity(): Caller {
  const gid = process.getegid?.() ?? -1;
  const groups = new Set([gid, ...(process.getgroups?.() ?? [])]);
  return { uid: process.geteuid?.() ?? -1, gid, groups: [...groups] };
}
