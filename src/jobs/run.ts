// One run of a job: its worker, the files that outlive the worker, and the removal of what a worker that died had in flight.

import { assert } from "../assert.ts";
import { CopyError, type FailureCode } from "../errors.ts";
import type { Policy } from "../policy.ts";
import { type LiveMessage, startWorker, type WorkerEnd, type WorkerHandle, type WorkerLimitChanges } from "../worker/pool.ts";
import type { EntryError, ParentMessage } from "../worker/protocol.ts";
import type { Caller } from "./api.ts";
import { watchFileBounds } from "./file-bounds.ts";
import { createInFlightFile, createUnnamedInFlightFile, type InFlightFile } from "./in-flight-file.ts";
import { goesOn, type Job } from "./job.ts";
import type { JobEvent } from "./job-events.ts";
import { type CheckpointFile, openCheckpoint, openInFlight } from "./job-files.ts";
import { recordName } from "./left-over-records.ts";
import type { JobsLog } from "./log.ts";
import { processIdentity } from "./process-identity.ts";
import { isToRemove } from "./removal.ts";
import type { WorkerPlaces } from "./worker-places.ts";

export interface RunSettings {
  /** What the administrator allows a caller's new job or dry run. */
  readonly policyFor: (caller: Caller) => Policy;
  /** system: as the job's owner, through setpriv. session, embedded: a plain child of this process. */
  readonly mode: "system" | "session" | "embedded";
  readonly sandbox: "strict" | "if-available" | "off";
  /** Where records and checkpoints outlive this process; null: nowhere, and no job goes on after its worker has died. */
  readonly stateDirectory: string | null;
  /** Embedded jobs only: where the record survives this process (see left-over-records.ts); null: nowhere. */
  readonly recordDirectory: string | null;
  readonly totals: boolean;
  readonly lanes: number;
  readonly workerLimits: WorkerLimitChanges;
  readonly cancelTimeoutMs: number;
  readonly stopTimeoutMs: number;
  readonly recoverTimeoutMs: number;
  /** kernel.random.boot_id of now. */
  readonly bootId: string;
  /** Likewise, for what workers note. */
  readonly bootNumber: number;
  /** The worker's command instead of this program itself. */
  readonly self: readonly string[] | null;
  readonly places: WorkerPlaces;
  /** See WorkerOptions. */
  readonly pace: () => Promise<void> | null;
  readonly log: JobsLog;
}

/** What happens to the job while it runs. */
export interface RunListener {
  readonly job: () => Job;
  /** Bytes a second that the worker begins with; 0: no limit. */
  readonly bandwidthLimit: () => number;
  readonly apply: (event: JobEvent) => void;
  readonly errors: (errors: readonly EntryError[]) => void;
  readonly lines: (lines: readonly string[]) => void;
  /** No process is left: the last that is heard of the run. */
  readonly ended: () => void;
}

type LaterMessage = Exclude<ParentMessage, { type: "start" | "recover" | "preview" }>;

/** What a job is told, and its worker, when the service stops: to go on with the next one, or never. */
export function stopOf(how: "for now" | "for good"): readonly [JobEvent, LaterMessage] {
  if (how === "for now") return [{ type: "stop-requested" }, { type: "stop" }];
  const failure = { code: "shutting-down", message: "The service was stopped while the job ran.", mayGoOn: false } as const;
  return [{ type: "worker-failed", failure }, { type: "cancel" }];
}

export class JobRun {
  private readonly settings: RunSettings;
  private readonly listener: RunListener;
  private inFlight: InFlightFile | null = null;
  private checkpoint: CheckpointFile | null = null;
  private worker: WorkerHandle | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** The worker removes what others left, and does not copy. */
  private isRecovering = false;

  constructor(settings: RunSettings, listener: RunListener) {
    this.settings = settings;
    this.listener = listener;
  }

  /** Starts the worker; the job has become `started` before. What a former worker left in flight is removed first. */
  start(): void {
    this.attempt("worker-start", () => {
      this.open();
      if (this.settings.stateDirectory === null || this.inFlight?.wasUsed() !== true) this.work();
      else this.recover((removed) => this.workAfresh(removed));
    });
  }

  /** The job is `clearing`: removes what its former worker had in flight, and, where it does not go on, its partial files. */
  clear(): void {
    this.attempt("worker-died", () => {
      this.open();
      this.removeRemains();
    });
  }

  send(message: LaterMessage): void {
    // Removing is what a cancelled job does.
    if (message.type === "cancel" && this.isRecovering) return;
    this.worker?.send(message);
    if (message.type === "cancel") this.limitStopping(this.settings.cancelTimeoutMs);
    else if (message.type === "stop") this.limitStopping(this.settings.stopTimeoutMs);
  }

  private open(): void {
    const job = this.listener.job();
    const { stateDirectory, recordDirectory } = this.settings;
    if (stateDirectory !== null) {
      const open = (): CheckpointFile => openCheckpoint(stateDirectory, job);
      // Without one, a job that was begun before would meet its own copies as somebody else's.
      this.checkpoint = job.attempts.resumed > 0 ? open() : (this.withoutPlace(open) ?? null);
      this.inFlight = this.withoutPlace(() => openInFlight(stateDirectory, job)) ?? null;
    } else if (recordDirectory !== null) {
      this.inFlight = this.withoutPlace(() => createInFlightFile(recordDirectory, recordName(job.workToken))) ?? null;
    }
    this.inFlight ??= createUnnamedInFlightFile(job.workToken);
  }

  /** Opens a file that outlives this process; undefined where its filesystem is full or read-only: the job is done all the same. */
  private withoutPlace<File>(open: () => File): File | undefined {
    try {
      return open();
    } catch (cause) {
      if (!isWithoutPlace(cause)) throw cause;
      this.logFailure("what the job has done cannot be noted: interrupted, it would begin anew", cause.message);
      return undefined;
    }
  }

  private work(): void {
    const worker = this.launch("start", { onMessage: (message) => this.receive(message), onEnd: (end) => this.workerEnded(end) });
    this.worker = worker;
    if (this.checkpoint !== null) this.listener.apply({ type: "worker-started", process: processIdentity(worker.pid) });
  }

  private workAfresh(removed: boolean): void {
    const job = this.listener.job();
    if (job.cancelRequested) {
      this.removeRemains();
      return;
    }
    if (job.stopRequested) {
      this.finish(removed ? "discard" : "keep");
      return;
    }
    if (!removed) {
      this.fail("worker-died", "What a former copying process had left unfinished could not be removed.", "may go on");
      this.finish("keep");
      return;
    }
    // A new one: the worker expects an empty record.
    this.inFlight?.discard();
    const { stateDirectory } = this.settings;
    this.inFlight = stateDirectory === null ? null : openInFlight(stateDirectory, job);
    this.work();
  }

  private launch(
    type: "start" | "recover",
    listeners: { onMessage: (message: LiveMessage) => void; onEnd: (end: WorkerEnd) => void },
  ): WorkerHandle {
    const { settings, inFlight } = this;
    const job = this.listener.job();
    assert(inFlight !== null, "a worker has a record of what it has in flight");
    const options = { ...job.options, bandwidthLimit: this.listener.bandwidthLimit() };
    // Root's rights are not to go where links of others lead.
    const foreignLinks: "follow" | "refuse" = job.asAdmin ? "refuse" : "follow";
    const common = {
      request: { ...job.request, options },
      sandbox: settings.sandbox,
      token: job.workToken,
      foreignLinks,
      boot: settings.bootNumber,
    };
    const { standingAnswers, givenAnswers } = job;
    const checkpointFd = this.checkpoint?.fd ?? null;
    let bounds: Disposable | null = null;
    const worker = startWorker({
      task:
        type === "start"
          ? {
              type,
              ...common,
              ...(job.policy !== undefined && { policy: job.policy }),
              lanes: settings.lanes,
              totals: settings.totals,
              checkpoint: this.checkpointFacts(job),
              standingAnswers: [...standingAnswers],
              givenAnswers: [...givenAnswers],
            }
          : { type, ...common, keepsPartial: goesOn(job), removal: this.removalFacts(job) },
      credentials: settings.mode === "system" ? (job.asAdmin ? rootCredentials : job.owner) : null,
      // Whoever asked, not whose rights it has: it is that user's share of the machine.
      place: settings.places.enter(job.owner.uid),
      inFlightFd: inFlight.fd,
      inFlightPath: inFlight.path,
      checkpointFd,
      limits: settings.workerLimits,
      trusted: settings.mode === "embedded",
      pace: settings.pace,
      ...(settings.self === null ? {} : { self: settings.self }),
      ...listeners,
      onEnd: (end) => {
        bounds?.[Symbol.dispose]();
        listeners.onEnd(end);
      },
      onStderr: (line) => settings.log.warning("worker says", { job: job.token, uid: job.owner.uid, line }),
    });
    // Embedded, the files are its user's own.
    if (settings.mode !== "embedded") {
      bounds = watchFileBounds(inFlight.fd, checkpointFd, () =>
        worker.kill("worker-protocol", "The copying process wrote more to its job's own files than any needs."),
      );
    }
    return worker;
  }

  private checkpointFacts(job: Job): { isResumed: boolean; isSameBoot: boolean; startedTimeUs: number } | null {
    if (this.checkpoint === null) return null;
    const isFirst = job.attempts.resumed === 0;
    // A power cut may have taken back that the job had started, and its checkpoint is there all the same.
    const isForgotten = isFirst && !this.checkpoint.isNew;
    const isSameBoot = job.bootId === this.settings.bootId && !isForgotten;
    return { isResumed: !isFirst || isForgotten, isSameBoot, startedTimeUs: isForgotten ? job.createdTimeUs : job.startedTimeUs };
  }

  /** For a worker that is to remove what the job has published; null: it is to stay. */
  private removalFacts(job: Job): { isSameBoot: boolean; startedTimeUs: number } | null {
    if (!isToRemove(job) || this.checkpoint?.wasUsed() !== true) return null;
    return { isSameBoot: job.bootId === this.settings.bootId, startedTimeUs: job.startedTimeUs };
  }

  private receive(message: LiveMessage): void {
    if (message.type === "snapshot") this.listener.apply({ type: "snapshot", snapshot: message.snapshot });
    else if (message.type === "lines") this.listener.lines(message.lines);
    else if (message.type === "errors") {
      // Told before they are counted: a count never names errors that are still to be told.
      this.listener.errors(message.errors);
      this.listener.apply({ type: "errors", errors: message.errors });
    } else if (message.type === "question") {
      const { type, question: id, ...facts } = message;
      this.listener.apply({ type, question: { id, ...facts } });
    } else if (message.type === "question-over") this.listener.apply(message);
  }

  private workerEnded(end: WorkerEnd): void {
    this.forgetWorker();
    if (end.kind === "result") {
      const { outcome, engines, reasons, snapshot } = end.result;
      this.listener.apply({ type: "result", claim: { outcome, engines: engines ?? {}, reasons }, snapshot });
      if (isToRemove(this.listener.job())) this.attempt("worker-died", () => this.removeRemains());
      else this.finish("discard");
      return;
    }
    const died = this.checkpoint !== null && mayDoBetter.has(end.code);
    this.fail(end.code, end.message, died ? "may go on" : "is final");
    if (!end.gone) {
      // It is stuck in the kernel. What it has in flight cannot be removed behind its back; the record stays for later.
      this.logFailure("worker stuck", "it was killed, but is still in the kernel");
      this.finish("keep");
      return;
    }
    // The next service removes it: there are only seconds left.
    if (this.listener.job().stopRequested) this.finish("keep");
    else this.attempt("worker-died", () => this.removeRemains());
  }

  /** Of a worker that is gone: what it had in flight, the partial files of a job that does not go on, and its copies where asked for. */
  private removeRemains(): void {
    const job = this.listener.job();
    const keepsPartial = goesOn(job);
    const hasRemoval = isToRemove(job);
    if (hasRemoval && job.stopRequested) {
      this.finish("keep");
      return;
    }
    const hasCheckpoint = this.checkpoint?.wasUsed() === true;
    const isNeeded = this.inFlight?.wasUsed() === true || (!keepsPartial && hasCheckpoint);
    if (!isNeeded) {
      if (hasRemoval) this.endRemoval();
      this.finish("discard");
      return;
    }
    this.recover((removed) => {
      const after = this.listener.job();
      // Cancelled meanwhile, or only now so that its copies are to go as well.
      const isNews = (keepsPartial && !goesOn(after)) || (!hasRemoval && isToRemove(after));
      if (removed && isNews) this.removeRemains();
      else this.finish(removed ? "discard" : "keep");
    });
  }

  private recover(then: (removed: boolean) => void): void {
    const hasRemoval = isToRemove(this.listener.job());
    const hasCheckpoint = this.checkpoint?.wasUsed() === true;
    this.worker = this.launch("recover", {
      onMessage: () => undefined,
      onEnd: (end) => {
        this.forgetWorker();
        const removed = end.kind === "result" && end.result.outcome === "completed";
        if (!removed) this.logFailure("recovery failed", end.kind === "failed" ? end.message : `it ended ${end.result.outcome}`);
        if (hasRemoval && hasCheckpoint) this.tellRemoval(end);
        else if (hasRemoval) this.endRemoval();
        this.attempt("worker-died", () => then(removed));
      },
    });
    this.isRecovering = true;
    // As many copies as there are take their time: it says that it lives.
    if (hasRemoval) return;
    this.timer = setTimeout(() => this.worker?.kill("worker-silent", "recovery took too long"), this.settings.recoverTimeoutMs);
  }

  private tellRemoval(end: WorkerEnd): void {
    // Stopped with the service, it is not over.
    if (this.listener.job().stopRequested && !(end.kind === "result" && end.result.outcome === "completed")) return;
    if (end.kind === "failed") this.failRemoval(end.code, end.message);
    else {
      const { filesDone: files, bytesDone: bytes, filesSkipped: left } = end.result.snapshot;
      this.listener.apply({ type: "removed", removed: { files, bytes, left } });
    }
  }

  /** Where no checkpoint tells of copies: there are none, or there was no room for one. */
  private endRemoval(): void {
    if (this.listener.job().progress.snapshot.filesDone === 0) {
      this.listener.apply({ type: "removed", removed: { files: 0, bytes: 0, left: 0 } });
    } else this.failRemoval("not-supported", "The service had no room to note what the job has made.");
  }

  private failRemoval(code: FailureCode, message: string): void {
    this.listener.apply({ type: "removal-failed", failure: { code, message, mayGoOn: false } });
  }

  private forgetWorker(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.worker = null;
    this.isRecovering = false;
  }

  /** A worker that was told to end and does not is ended. */
  private limitStopping(timeoutMs: number): void {
    if (this.worker === null) return;
    clearTimeout(this.timer);
    const text = "The copying process did not stop when told to, and was killed.";
    this.timer = setTimeout(() => this.worker?.kill("worker-silent", text), timeoutMs);
  }

  private fail(code: FailureCode, message: string, how: "may go on" | "is final"): void {
    this.listener.apply({ type: "worker-failed", failure: { code, message, mayGoOn: how === "may go on" } });
    this.logFailure("worker failed", message, code);
  }

  private logFailure(what: string, reason: string, code?: FailureCode): void {
    const { token, owner } = this.listener.job();
    this.settings.log.error(what, { job: token, uid: owner.uid, code, reason });
  }

  /** Whatever cannot be opened or started ends the job with its reason. */
  private attempt(code: FailureCode, action: () => void): void {
    try {
      action();
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      if (isToRemove(this.listener.job())) this.failRemoval(cause instanceof CopyError ? cause.code : code, reason);
      if (cause instanceof CopyError) this.fail(cause.code, reason, "is final");
      else this.fail(code, `The record of what is in flight could not be made: ${reason}`, "is final");
      this.finish("keep");
    }
  }

  private finish(record: "discard" | "keep"): void {
    try {
      if (this.inFlight !== null && record === "keep" && this.inFlight.wasUsed()) this.inFlight.keep();
      else this.inFlight?.discard();
      this.checkpoint?.close();
    } catch (cause) {
      this.logFailure("a job's record could not be closed or removed", cause instanceof Error ? cause.message : String(cause));
    }
    this.inFlight = null;
    this.checkpoint = null;
    this.listener.apply({ type: "worker-ended" });
    this.listener.ended();
  }
}

function isWithoutPlace(cause: unknown): cause is Error {
  return cause instanceof Error && "code" in cause && ["ENOSPC", "EDQUOT", "EROFS"].includes(String(cause.code));
}

const rootCredentials = { uid: 0, gid: 0, groups: [0] };

/** Ends of a worker that another one, from where it was, may not come to. */
const mayDoBetter: ReadonlySet<FailureCode> = new Set<FailureCode>([
  "worker-died",
  "worker-silent",
  "worker-out-of-memory",
  "worker-too-many-processes",
]);
