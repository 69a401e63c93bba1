// The job's state machine: a record, the events that happen to it, and the record after each. Pure: time is an argument.
//
//   queued --started--> scanning -> running -> finishing --ended--> completed | failed | cancelled
//     |                     \         |  ^        (the worker's snapshots move it; its word alone ends nothing)
//     '--> paused            '--> paused, question
//
// What users ask for and cannot have is `invalid-state`. What a worker says out of turn is ignored: it proves nothing.

import { unreachable } from "../assert.ts";
import { CopyError, type FailureCode } from "../errors.ts";
import type { EngineChoice, JobOptions, JobRequest } from "../request.ts";
import { type AnswerChoice, type EntryError, questionChoices, type Snapshot } from "../worker/protocol.ts";
import { type Caller, hasEnded, type JobResult, type JobState, type JobView, type Question } from "./api.ts";
import { outcomeOf } from "./outcome.ts";
import { advanceProgress, endProgress, type Progress, startProgress } from "./progress.ts";

export interface Job {
  /** The store's number; grows with time, never used again. */
  readonly id: number;
  readonly token: string;
  /** Names the job's unpublished files. Not the caller's token: two users may choose the same. */
  readonly workToken: string;
  readonly owner: Caller;
  readonly asAdmin: boolean;
  /** As submitted; a repeated call is compared with it. */
  readonly request: JobRequest;
  /** The request's options as changed since by SetOptions. */
  readonly options: JobOptions;
  readonly state: JobState;
  readonly createdTimeUs: number;
  readonly startedTimeUs: number;
  readonly finishedTimeUs: number;
  readonly progress: Progress;
  /** Counted here from the errors received, whatever the worker claims. */
  readonly errorCount: number;
  readonly warningCount: number;
  readonly firstError: EntryError | null;
  readonly question: Question | null;
  readonly pauseRequested: boolean;
  readonly cancelRequested: boolean;
  /** The worker's last word, believed only as far as the counts allow. */
  readonly claim: WorkerClaim | null;
  /** Why the worker as a whole failed, where it did. */
  readonly workerFailure: WorkerFailure | null;
  readonly result: JobResult | null;
}

export interface WorkerClaim {
  readonly outcome: "completed" | "failed" | "cancelled";
  readonly engines: Readonly<Partial<Record<EngineChoice, number>>>;
  readonly reasons: readonly string[];
}

export interface WorkerFailure {
  readonly code: FailureCode;
  readonly message: string;
}

export type JobEvent =
  | { readonly type: "started" }
  | { readonly type: "snapshot"; readonly snapshot: Snapshot }
  | { readonly type: "errors"; readonly errors: readonly EntryError[] }
  | { readonly type: "question"; readonly question: Question }
  | { readonly type: "question-over"; readonly question: number }
  | { readonly type: "pause-requested" }
  | { readonly type: "resume-requested" }
  | { readonly type: "cancel-requested" }
  | { readonly type: "options-changed"; readonly bandwidthLimit?: number; readonly priority?: JobOptions["priority"] }
  | { readonly type: "answered"; readonly question: number; readonly choice: AnswerChoice }
  | { readonly type: "result"; readonly claim: WorkerClaim; readonly snapshot: Snapshot }
  | { readonly type: "worker-failed"; readonly failure: WorkerFailure }
  /** No process of the job is left, and nothing it had in flight: only now it ends. */
  | { readonly type: "worker-ended" };

export interface NewJob {
  readonly id: number;
  readonly token: string;
  readonly workToken: string;
  readonly owner: Caller;
  readonly asAdmin: boolean;
  readonly request: JobRequest;
}

/** A job that waits for its turn. */
export function newJob(from: NewJob, nowUs: number): Job {
  return {
    ...from,
    options: from.request.options,
    state: "queued",
    createdTimeUs: nowUs,
    startedTimeUs: 0,
    finishedTimeUs: 0,
    progress: startProgress(nowUs),
    errorCount: 0,
    warningCount: 0,
    firstError: null,
    question: null,
    pauseRequested: false,
    cancelRequested: false,
    claim: null,
    workerFailure: null,
    result: null,
  };
}

/**
 * The job after an event; the very same object when the event changed nothing.
 * Throws CopyError `invalid-state` for a request the state does not allow. `nowUs` is microseconds of CLOCK_REALTIME.
 */
export function advance(job: Job, event: JobEvent, nowUs: number): Job {
  switch (event.type) {
    case "started":
      return started(job, nowUs);
    case "snapshot":
      return isWorking(job) ? settled({ ...job, progress: advanceProgress(job.progress, event.snapshot, nowUs) }) : job;
    case "errors":
      return isWorking(job) && event.errors.length > 0 ? countErrors(job, event.errors) : job;
    case "question":
      return isWorking(job) ? settled({ ...job, question: event.question }) : job;
    case "question-over":
      return job.question?.id === event.question ? settled({ ...job, question: null }) : job;
    case "pause-requested":
      return pauseRequested(job);
    case "resume-requested":
      return resumeRequested(job);
    case "cancel-requested":
      return cancelRequested(job, nowUs);
    case "options-changed":
      return optionsChanged(job, event.bandwidthLimit, event.priority);
    case "answered":
      return answered(job, event.question, event.choice);
    case "result":
      return isWorking(job) ? claimed(job, event.claim, event.snapshot, nowUs) : job;
    case "worker-failed":
      return isStarted(job) && job.workerFailure === null ? settled({ ...job, workerFailure: event.failure, question: null }) : job;
    case "worker-ended":
      return isStarted(job) ? ended(job, nowUs) : job;
    default:
      return unreachable(event);
  }
}

/** What the outside sees of a job. `waitReason`: see JobView. */
export function viewOf(job: Job, waitReason = ""): JobView {
  const { snapshot, rate, expectedEndTimeUs } = job.progress;
  return {
    token: job.token,
    owner: job.owner,
    asAdmin: job.asAdmin,
    request: job.options === job.request.options ? job.request : { ...job.request, options: job.options },
    state: job.state,
    waitReason,
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
    result: job.result,
    cancelable: !hasEnded(job.state),
    pausable: isPausable(job),
  };
}

/** True from the worker's start to the job's end. */
export function isStarted(job: Job): boolean {
  return job.startedTimeUs !== 0 && !hasEnded(job.state);
}

/** True while the job takes up its devices and a place: paused and asking ones hold up nobody. */
export function isMoving(job: Job): boolean {
  return isStarted(job) && job.state !== "paused" && job.state !== "question";
}

/** True while the worker's word still counts: started, and neither its last word nor its failure is known. */
function isWorking(job: Job): boolean {
  return isStarted(job) && job.claim === null && job.workerFailure === null;
}

function isPausable(job: Job): boolean {
  // A flush cannot be stopped; reading back, which may take as long as copying did, can.
  const isVerifying = isWorking(job) && job.progress.snapshot.phase === "verifying";
  return !hasEnded(job.state) && (job.state !== "finishing" || isVerifying) && !job.cancelRequested;
}

/** The record with the state its facts amount to. */
function settled(job: Job): Job {
  const state = stateOf(job);
  return state === job.state ? job : { ...job, state };
}

function stateOf(job: Job): JobState {
  if (job.result !== null) return job.result.state;
  if (job.startedTimeUs === 0) return job.pauseRequested ? "paused" : "queued";
  const { phase, paused } = job.progress.snapshot;
  if (job.claim !== null || job.workerFailure !== null) return "finishing";
  if (job.question !== null) return "question";
  // Paused is what the worker says, not what was asked: a label would be a lie while blocks still move.
  if (paused) return "paused";
  if (phase === "scanning") return "scanning";
  return phase === "copying" ? "running" : "finishing";
}

function started(job: Job, nowUs: number): Job {
  if (job.state !== "queued") throw new CopyError("invalid-state", `job ${job.token} is ${job.state} and cannot start`);
  return settled({ ...job, startedTimeUs: Math.max(1, nowUs), progress: startProgress(nowUs) });
}

function countErrors(job: Job, errors: readonly EntryError[]): Job {
  let { errorCount, warningCount, firstError } = job;
  for (const error of errors) {
    if (error.severity === "warning") warningCount++;
    else {
      errorCount++;
      firstError ??= error;
    }
  }
  return { ...job, errorCount, warningCount, firstError };
}

function pauseRequested(job: Job): Job {
  if (job.pauseRequested || (job.state === "paused" && isPausable(job))) return requireActive(job, "paused");
  if (!isPausable(job)) throw refusal(job, "paused");
  return settled({ ...job, pauseRequested: true });
}

function resumeRequested(job: Job): Job {
  requireActive(job, "resumed");
  return job.pauseRequested ? settled({ ...job, pauseRequested: false }) : job;
}

function cancelRequested(job: Job, nowUs: number): Job {
  requireActive(job, "cancelled");
  if (job.cancelRequested) return job;
  const cancelled = { ...job, cancelRequested: true, pauseRequested: false };
  return job.startedTimeUs === 0 ? ended(cancelled, nowUs) : settled(cancelled);
}

function optionsChanged(job: Job, bandwidthLimit: number | undefined, priority: JobOptions["priority"] | undefined): Job {
  requireActive(job, "changed");
  const options = {
    ...job.options,
    bandwidthLimit: bandwidthLimit ?? job.options.bandwidthLimit,
    priority: priority ?? job.options.priority,
  };
  const same = options.bandwidthLimit === job.options.bandwidthLimit && options.priority === job.options.priority;
  return same ? job : { ...job, options };
}

function answered(job: Job, question: number, choice: AnswerChoice): Job {
  requireActive(job, "answered");
  if (job.question === null) throw new CopyError("invalid-state", `job ${job.token} asks nothing`);
  if (job.question.id !== question) {
    throw new CopyError("invalid-state", `job ${job.token} asks question ${job.question.id}, not ${question}`);
  }
  const choices = questionChoices[job.question.kind];
  if (!choices.includes(choice)) {
    throw new CopyError("invalid-arguments", `question ${question} takes ${choices.join(", ")}, not ${choice}`);
  }
  return settled({ ...job, question: null, cancelRequested: job.cancelRequested || choice === "abort" });
}

function claimed(job: Job, claim: WorkerClaim, snapshot: Snapshot, nowUs: number): Job {
  const progress = endProgress(job.progress, snapshot, nowUs);
  return settled({ ...job, claim, progress, question: null });
}

function ended(job: Job, nowUs: number): Job {
  const finishedTimeUs = Math.max(nowUs, job.startedTimeUs, job.createdTimeUs);
  const result = outcomeOf(job, finishedTimeUs);
  const seconds = result.elapsedUs / 1e6;
  const rate = seconds > 0 ? Math.round(result.bytesDone / seconds) : 0;
  const progress = { ...job.progress, rate, expectedEndTimeUs: 0 };
  return settled({ ...job, finishedTimeUs, result, progress, question: null, pauseRequested: false });
}

function requireActive(job: Job, verb: string): Job {
  if (hasEnded(job.state)) throw refusal(job, verb);
  return job;
}

function refusal(job: Job, verb: string): CopyError {
  const state = job.cancelRequested && !hasEnded(job.state) ? "being cancelled" : job.state;
  return new CopyError("invalid-state", `job ${job.token} is ${state} and cannot be ${verb}`);
}
