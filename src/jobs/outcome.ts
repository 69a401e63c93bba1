// What a job came to: the worker's claim and this side's own counts reconciled, always in favour of the worse. Pure.
//
// `failed` exactly when an entry's error was counted (by either side) or the worker failed; a job that its user cancelled
// and whose worker stopped as told is `cancelled`, with the errors until then in its counts.

import { type ByteString, displayText } from "../bytes.ts";
import type { FailureCode } from "../errors.ts";
import type { JobResult } from "./api.ts";
import { triedText } from "./attempts.ts";
import type { Job } from "./job.ts";
import { lessRemoved, removalText } from "./removal.ts";

/** The result of a job whose worker has ended (or that never had one: cancelled while it waited). */
export function outcomeOf(job: Job, finishedTimeUs: number): JobResult {
  const snapshot = lessRemoved(job.progress.snapshot, job.removal);
  const errorCount = Math.max(job.errorCount, snapshot.errorCount);
  const verdict = verdictOf(job, errorCount);
  return {
    ...verdict,
    bytesDone: snapshot.bytesDone,
    bytesCloned: snapshot.bytesCloned,
    filesDone: snapshot.filesDone,
    filesSkipped: snapshot.filesSkipped,
    errorCount,
    warningCount: Math.max(job.warningCount, snapshot.warningCount),
    elapsedUs: job.startedTimeUs === 0 ? 0 : finishedTimeUs - job.startedTimeUs,
    resumeCount: job.attempts.resumed,
    reasons: job.claim?.reasons ?? [],
    engines: job.claim?.engines ?? {},
  };
}

type Verdict = { readonly state: JobResult["state"]; readonly code?: FailureCode; readonly message: string };

function verdictOf(job: Job, errorCount: number): Verdict {
  if (job.startedTimeUs === 0) return { state: "cancelled", code: "cancelled", message: "Cancelled before it began." };
  const { removal } = job;
  if (job.workerFailure !== null) {
    const andRemoved = typeof removal === "object" ? ` It was cancelled; ${removalText(removal)}` : "";
    return failed(job.workerFailure.code, job.workerFailure.message + triedText(job.attempts) + andRemoved);
  }
  if (typeof removal === "object" && "failure" in removal) return failed(removal.failure.code, `Cancelled, but ${removalText(removal)}`);
  const cancelled = { state: "cancelled", code: "cancelled", message: `Cancelled; ${removalText(removal)}` } as const;
  if (job.claim === null) {
    // No worker was left to be told.
    return job.cancelRequested ? cancelled : failed("worker-died", "The copying process ended without a result.");
  }
  if (job.claim.outcome === "cancelled" || job.claim.outcome === "interrupted") {
    if (job.cancelRequested) return cancelled;
    return failed("worker-died", "The copying process stopped before the end, and nobody had asked it to.");
  }
  if (errorCount > 0) return entriesFailed(job, errorCount);
  if (job.claim.outcome === "failed") return failed("worker-protocol", "The copying process reported a failure and named none.");
  return { state: "completed", message: completedMessage(job) };
}

function failed(code: FailureCode, message: string): Verdict {
  return { state: "failed", code, message };
}

function entriesFailed(job: Job, errorCount: number): Verdict {
  const { firstError } = job;
  if (firstError === null) {
    return failed("worker-protocol", `${entries(errorCount)} could not be processed, and the copying process did not say which.`);
  }
  // Names in a worker's messages are bytes; a result is read by people.
  const message = displayText(firstError.message as ByteString);
  const text = errorCount === 1 ? message : `${entries(errorCount)} could not be processed; the first: ${message}`;
  return failed(codeOf(firstError.code), text);
}

/** The pool has refused every code that is not in the failure table. */
function codeOf(code: string): FailureCode {
  return code as FailureCode;
}

function completedMessage(job: Job): string {
  const verb = job.request.operation === "move" ? "moved" : "copied";
  const { filesDone, filesSkipped } = job.progress.snapshot;
  const skipped = filesSkipped === 0 ? "" : `, ${filesSkipped} skipped`;
  return `${filesDone === 1 ? "1 file" : `${filesDone} files`} ${verb}${skipped}.`;
}

function entries(number: number): string {
  return number === 1 ? "1 entry" : `${number} entries`;
}
