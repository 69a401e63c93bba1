// What the outside sees of a job. Pure.

import { hasEnded, type JobView } from "./api.ts";
import { memberTokens } from "./group.ts";
import { isPausable, type Job } from "./job.ts";

export type QueuePlace = Pick<JobView, "waitReason" | "queuePosition">;

const notQueued: QueuePlace = { waitReason: "", queuePosition: 0 };

/** What the outside sees of a job, and of its place in the queue, which it does not know itself. */
export function viewOf(job: Job, { waitReason, queuePosition }: QueuePlace = notQueued): JobView {
  const { snapshot, rate, expectedEndTimeUs } = job.progress;
  return {
    token: job.token,
    owner: job.owner,
    asAdmin: job.asAdmin,
    group: job.group === null ? null : { token: job.group.token, members: memberTokens(job.group) },
    request: job.options === job.request.options ? job.request : { ...job.request, options: job.options },
    companions: job.companions,
    state: job.state,
    waitReason,
    queuePosition,
    phase: snapshot.phase,
    createdTimeUs: job.createdTimeUs,
    startedTimeUs: job.startedTimeUs,
    finishedTimeUs: job.finishedTimeUs,
    totalsValid: snapshot.totalsValid,
    bytesTotal: snapshot.bytesTotal,
    bytesDone: snapshot.bytesDone,
    bytesCloned: snapshot.bytesCloned,
    bytesVerified: snapshot.bytesVerified,
    bytesToVerify: snapshot.bytesToVerify,
    filesTotal: snapshot.filesTotal,
    filesDone: snapshot.filesDone,
    filesSkipped: snapshot.filesSkipped,
    errorCount: Math.max(job.errorCount, snapshot.errorCount),
    warningCount: Math.max(job.warningCount, snapshot.warningCount),
    rate,
    expectedEndTimeUs,
    currentFile: snapshot.currentFile,
    engine: snapshot.engine,
    question: job.question,
    resumeCount: job.attempts.resumed,
    result: job.result,
    cancelable: !hasEnded(job.state),
    pausable: isPausable(job),
  };
}
