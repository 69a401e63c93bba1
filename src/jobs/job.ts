// The job's state machine: a record, the events that happen to it, and the record after each. Pure: time is an argument.
//
//   queued --started--> scanning -> running -> finishing --ended--> completed | failed | cancelled
//     |  ^                  \         |  ^        (the worker's snapshots move it; its word alone ends nothing)
//     |  |                   '--> paused, question
//     |  '-- the worker died, or was stopped with the service: the job waits to go on
//     '--> paused
//
// What users ask for and cannot have is `invalid-state`. What a worker says out of turn is ignored: it proves nothing.

import { unreachable } from "../assert.ts";
import { CopyError } from "../errors.ts";
import type { Policy } from "../policy.ts";
import type { JobOptions, JobRequest } from "../request.ts";
import { type AnswerChoice, type EntryError, questionChoices, type Snapshot } from "../worker/protocol.ts";
import { type Answers, withAnswer, withoutGiven } from "./answers.ts";
import { type Caller, hasEnded, type JobResult, type JobState, type Published, type Question } from "./api.ts";
import { type Attempts, afterCrash, afterDeath, mayResume, noAttempts, resumedOnce } from "./attempts.ts";
import type { JobGroup } from "./group.ts";
import type { JobEvent, WorkerClaim, WorkerFailure } from "./job-events.ts";
import type { JobMount } from "./job-mounts.ts";
import { outcomeOf } from "./outcome.ts";
import type { ProcessIdentity } from "./process-identity.ts";
import { advanceProgress, endProgress, type Progress, restingProgress, resumeProgress, startProgress } from "./progress.ts";
import { askedRemoval, isToRemove, type Removal } from "./removal.ts";

/** Those that came last are kept: connections come and go as often as somebody likes. */
const maxCompanions = 64;

export interface Job extends Answers {
  /** The store's number; grows with time, never used again. */
  readonly id: number;
  readonly token: string;
  /** Names the job's unpublished files. Not the caller's token: two users may choose the same. */
  readonly workToken: string;
  readonly owner: Caller;
  readonly asAdmin: boolean;
  /** The fan-out that it belongs to; null: it is alone. */
  readonly group: JobGroup | null;
  /** Its worker is paused so that others of its fan-out can follow (held), or was just let go and has not said so (releasing). */
  readonly hold: "none" | "held" | "releasing";
  /** Connections whose last one's end is to be its own (on-disconnect=cancel). */
  readonly companions: readonly string[];
  /** As submitted; a repeated call is compared with it. */
  readonly request: JobRequest;
  /** What the administrator allowed its owner when it was asked for; left out: everything. */
  readonly policy?: Policy;
  /** The request's options as changed since by SetOptions. */
  readonly options: JobOptions;
  /** Its place among its owner's waiting jobs of the same priority: its number, unless it was moved. */
  readonly order: number;
  readonly state: JobState;
  readonly activity: Activity;
  readonly createdTimeUs: number;
  /** When the first worker was started; 0: none was. */
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
  /** Whether what it published is to go with its cancel, and what came of that. */
  readonly removal: Removal;
  /** The service stops: the worker is to end so that the job can go on later. */
  readonly stopRequested: boolean;
  readonly attempts: Attempts;
  /** kernel.random.boot_id when it first started; "": not yet. */
  readonly bootId: string;
  /** What its arguments lay on when it first started. */
  readonly mounts: readonly JobMount[];
  /** The last worker, until it is known to be gone. */
  readonly process: ProcessIdentity | null;
  /** The worker's last word, believed only as far as the counts allow. */
  readonly claim: WorkerClaim | null;
  /** Why the worker as a whole failed, where it did. */
  readonly workerFailure: WorkerFailure | null;
  readonly result: JobResult | null;
}

/** none: no process of it is there. working: a worker is. clearing: what a dead worker had in flight is being removed. */
export const activities = ["none", "working", "clearing"] as const;
export type Activity = (typeof activities)[number];

export interface NewJob {
  readonly id: number;
  readonly token: string;
  readonly workToken: string;
  readonly owner: Caller;
  readonly asAdmin: boolean;
  readonly request: JobRequest;
  readonly policy?: Policy;
  readonly group?: JobGroup | null;
  readonly companions?: readonly string[];
}

/** Of all waiting jobs. */
const none: readonly never[] = [];

/** A job that waits for its turn. */
export function newJob(from: NewJob, nowUs: number): Job {
  return {
    ...from,
    group: from.group ?? null,
    companions: from.companions ?? none,
    hold: "none",
    options: from.request.options,
    order: from.id,
    state: "queued",
    activity: "none",
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
    removal: "none",
    stopRequested: false,
    attempts: noAttempts,
    bootId: "",
    mounts: none,
    process: null,
    standingAnswers: none,
    givenAnswers: none,
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
      return started(job, event.bootId, event.mounts, nowUs);
    case "worker-started":
      return isStarted(job) ? { ...job, process: event.process } : job;
    case "snapshot":
      return isWorking(job) ? snapshotTaken(job, event.snapshot, nowUs) : job;
    case "errors":
      return isWorking(job) && event.errors.length > 0 ? countErrors(job, event.errors) : job;
    case "question":
      return isWorking(job) ? settled({ ...job, question: event.question }) : job;
    case "question-over":
      return questionOver(job, event.question);
    case "pause-requested":
      return pauseRequested(job);
    case "resume-requested":
      return resumeRequested(job);
    case "cancel-requested":
      return cancelRequested(job, event.published ?? "keep", nowUs);
    case "hold":
      return isWorking(job) ? settled({ ...job, hold: "held" }) : job;
    case "let-go":
      return job.hold === "held" ? settled({ ...job, hold: job.pauseRequested ? "none" : "releasing" }) : job;
    case "options-changed":
      return optionsChanged(job, event);
    case "accompanied":
      return accompanied(job, event.companion);
    case "answered":
      return answered(job, event.question, event.choice, event.forAll);
    case "stop-requested":
      return isStarted(job) && !job.stopRequested ? { ...job, stopRequested: true } : job;
    case "result":
      return isWorking(job) ? claimed(job, event.claim, event.snapshot, nowUs) : job;
    case "worker-failed":
      return isStarted(job) && job.workerFailure === null ? workerFailed(job, event.failure) : job;
    case "removed":
      return isStarted(job) && isToRemove(job) ? { ...job, removal: event.removed } : job;
    case "removal-failed":
      return isStarted(job) && isToRemove(job) ? { ...job, removal: { failure: event.failure } } : job;
    case "service-lost":
      return serviceLost(job);
    case "clearing":
      return mayBeCleared(job) ? settled({ ...job, activity: "clearing" }) : job;
    case "worker-ended":
      return isStarted(job) ? workerEnded(job, nowUs) : job;
    default:
      return unreachable(event);
  }
}

/** True while a process of the job may be there. */
export function isStarted(job: Job): boolean {
  return job.activity !== "none" && !hasEnded(job.state);
}

function mayBeCleared(job: Job): boolean {
  return job.activity === "none" && job.startedTimeUs !== 0 && !hasEnded(job.state);
}

/** Whether a job whose worker has ended, or is about to, waits for a further one. */
export function goesOn(job: Job): boolean {
  if (job.cancelRequested || hasEnded(job.state)) return false;
  if (job.claim !== null) return job.claim.outcome === "interrupted" && (job.stopRequested || mayResume(job.attempts));
  return job.workerFailure === null || (job.workerFailure.mayGoOn && (job.stopRequested || mayResume(job.attempts)));
}

/** True while the job takes up its devices and a place: paused and asking ones hold up nobody. */
export function isMoving(job: Job): boolean {
  return isStarted(job) && job.state !== "paused" && job.state !== "question";
}

/** True while the worker's word still counts: started, and neither its last word nor its failure is known. */
function isWorking(job: Job): boolean {
  return job.activity === "working" && !hasEnded(job.state) && job.claim === null && job.workerFailure === null;
}

export function isPausable(job: Job): boolean {
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
  const { phase, paused } = job.progress.snapshot;
  const isClearing = job.activity === "clearing" || job.workerFailure !== null;
  if (job.activity === "none" || (isClearing && goesOn(job))) return job.pauseRequested ? "paused" : "queued";
  if (isClearing || job.claim !== null) return "finishing";
  if (job.question !== null) return "question";
  // Paused is what the worker says, not what was asked: a label would be a lie while blocks still move.
  if (paused && (job.hold === "none" || job.pauseRequested)) return "paused";
  if (phase === "scanning") return "scanning";
  return phase === "copying" ? "running" : "finishing";
}

function started(job: Job, bootId: string, mounts: readonly JobMount[], nowUs: number): Job {
  if (job.state !== "queued" || job.activity !== "none") {
    throw new CopyError("invalid-state", `job ${job.token} is ${job.state} and cannot start`);
  }
  const working = { ...job, activity: "working", stopRequested: false, hold: "none" } as const;
  if (job.startedTimeUs === 0) {
    return settled({ ...working, startedTimeUs: Math.max(1, nowUs), bootId, mounts, progress: startProgress(nowUs) });
  }
  const attempts = resumedOnce(job.attempts, job.progress.snapshot);
  return settled({ ...working, attempts, progress: resumeProgress(job.progress, nowUs), errorCount: 0, warningCount: 0, firstError: null });
}

function snapshotTaken(job: Job, snapshot: Snapshot, nowUs: number): Job {
  const hold = job.hold === "releasing" && !snapshot.paused ? "none" : job.hold;
  return settled({ ...job, hold, progress: advanceProgress(job.progress, snapshot, nowUs) });
}

function workerFailed(job: Job, failure: WorkerFailure): Job {
  const attempts = failure.mayGoOn && !job.stopRequested ? afterDeath(job.attempts, job.progress.snapshot) : job.attempts;
  return settled({ ...job, attempts, workerFailure: failure, question: null, hold: "none", activity: "clearing" });
}

function serviceLost(job: Job): Job {
  if (!isStarted(job)) return job;
  const message = "The service ended while the job ran, and was not told to.";
  const failure: WorkerFailure = { code: "worker-died", message, mayGoOn: true };
  const clearing = { ...job, activity: "clearing", stopRequested: false, hold: "none", question: null } as const;
  if (job.claim !== null || job.workerFailure !== null || job.cancelRequested) return settled(clearing);
  return settled({ ...clearing, attempts: afterCrash(job.attempts, job.progress.snapshot), workerFailure: failure });
}

function workerEnded(job: Job, nowUs: number): Job {
  const saidNothing = job.activity === "working" && job.claim === null && job.workerFailure === null && !job.stopRequested;
  // The service ends before it was done: the next one sees to it.
  const isLeftOver = isToRemove(job);
  if (!isLeftOver && (saidNothing || !goesOn(job))) return ended(job, nowUs);
  const progress = restingProgress(job.progress);
  const rest = { activity: "none", claim: null, workerFailure: null, question: null, stopRequested: false, hold: "none" } as const;
  return settled({ ...job, ...rest, progress });
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
  if (job.pauseRequested) return requireActive(job, "paused");
  if (!isPausable(job)) throw refusal(job, "paused");
  return settled({ ...job, pauseRequested: true });
}

function resumeRequested(job: Job): Job {
  requireActive(job, "resumed");
  return job.pauseRequested ? settled({ ...job, pauseRequested: false }) : job;
}

function cancelRequested(job: Job, published: Published, nowUs: number): Job {
  requireActive(job, "cancelled");
  const removal = askedRemoval(job, published);
  // Its copies are where nothing is mounted now, and its user does not want to wait for them.
  const isGivenUp = job.cancelRequested && removal === "asked" && published === "keep" && job.activity === "none";
  if (isGivenUp) return ended({ ...job, removal: "none" }, nowUs);
  if (job.cancelRequested && removal === job.removal) return job;
  const cancelled = { ...job, cancelRequested: true, removal, pauseRequested: false };
  return job.startedTimeUs === 0 ? ended(cancelled, nowUs) : settled(cancelled);
}

function optionsChanged(job: Job, { bandwidthLimit, priority, order }: Extract<JobEvent, { type: "options-changed" }>): Job {
  requireActive(job, "changed");
  if (order !== undefined && job.state !== "queued") throw refusal(job, "moved in the queue");
  const options = {
    ...job.options,
    bandwidthLimit: bandwidthLimit ?? job.options.bandwidthLimit,
    priority: priority ?? job.options.priority,
  };
  const same = options.bandwidthLimit === job.options.bandwidthLimit && options.priority === job.options.priority;
  return same && (order ?? job.order) === job.order ? job : { ...job, options: same ? job.options : options, order: order ?? job.order };
}

function accompanied(job: Job, companion: string): Job {
  if (hasEnded(job.state) || job.companions.includes(companion)) return job;
  return { ...job, companions: [...job.companions, companion].slice(-maxCompanions) };
}

function answered(job: Job, question: number, choice: AnswerChoice, forAll: boolean): Job {
  requireActive(job, "answered");
  if (job.question === null) throw new CopyError("invalid-state", `job ${job.token} asks nothing`);
  if (job.question.id !== question) {
    throw new CopyError("invalid-state", `job ${job.token} asks question ${job.question.id}, not ${question}`);
  }
  const { kind } = job.question;
  const choices = questionChoices[kind];
  if (!choices.includes(choice)) {
    throw new CopyError("invalid-arguments", `question ${question} takes ${choices.join(", ")}, not ${choice}`);
  }
  return settled({
    ...job,
    ...withAnswer(job, job.question, choice, forAll),
    question: null,
    cancelRequested: job.cancelRequested || choice === "abort",
  });
}

/** Also of one that was answered: the worker has the answer, and keeps it. */
function questionOver(job: Job, question: number): Job {
  if (job.question?.id === question) return settled({ ...job, question: null });
  const givenAnswers = withoutGiven(job.givenAnswers, question);
  return givenAnswers === job.givenAnswers ? job : { ...job, givenAnswers };
}

function claimed(job: Job, claim: WorkerClaim, snapshot: Snapshot, nowUs: number): Job {
  if (claim.outcome !== "interrupted") {
    return settled({ ...job, claim, progress: endProgress(job.progress, snapshot, nowUs), question: null });
  }
  // Not its last word: what was shown stays shown.
  const progress = advanceProgress(job.progress, { ...snapshot, paused: false }, nowUs);
  const attempts = job.stopRequested ? job.attempts : afterDeath(job.attempts, progress.snapshot);
  return settled({ ...job, claim, attempts, progress, question: null });
}

function ended(job: Job, nowUs: number): Job {
  const finishedTimeUs = Math.max(nowUs, job.startedTimeUs, job.createdTimeUs);
  const result = outcomeOf(job, finishedTimeUs);
  const seconds = result.elapsedUs / 1e6;
  const rate = seconds > 0 ? Math.round(result.bytesDone / seconds) : 0;
  const progress = { ...job.progress, rate, expectedEndTimeUs: 0 };
  const rest = { activity: "none", question: null, pauseRequested: false, hold: "none", process: null } as const;
  return settled({ ...job, ...rest, finishedTimeUs, result, progress });
}

function requireActive(job: Job, verb: string): Job {
  if (hasEnded(job.state)) throw refusal(job, verb);
  return job;
}

function refusal(job: Job, verb: string): CopyError {
  const state = job.cancelRequested && !hasEnded(job.state) ? "being cancelled" : job.state;
  return new CopyError("invalid-state", `job ${job.token} is ${state} and cannot be ${verb}`);
}
