// One run of a job: its worker, the files that outlive the worker, and the removal of what a worker that died had in flight.

import { assert } from "../assert.ts";
import { CopyError, type FailureCode } from "../errors.ts";
import {
  type LiveMessage,
  makeReady,
  type ProcessOptions,
  type ReadyProcess,
  startWorker,
  type WorkerEnd,
  type WorkerHandle,
} from "../worker/pool.ts";
import type { EntryError, ParentMessage } from "../worker/protocol.ts";
import { watchFileBounds } from "./file-bounds.ts";
import { goesOn, type Job } from "./job.ts";
import type { JobEvent } from "./job-events.ts";
import type { CheckpointFile } from "./job-files.ts";
import { processIdentity } from "./process-identity.ts";
import { isToRemove } from "./removal.ts";
import { RunFiles } from "./run-files.ts";
import type { RunSettings } from "./run-settings.ts";
import type { ReservedPlace } from "./worker-places.ts";

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
  private files: RunFiles | null = null;
  /** Between prepare and start. */
  private ready: { readonly process: ReadyProcess; readonly place: ReservedPlace } | null = null;
  private worker: WorkerHandle | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;
  /** The worker removes what others left, and does not copy. */
  private isRecovering = false;

  constructor(settings: RunSettings, listener: RunListener) {
    this.settings = settings;
    this.listener = listener;
  }

  /**
   * Before `start`, while the job is stored and told of: opens its files and makes a process for it, whose runtime starts meanwhile and which
   * does nothing yet. What fails here fails there again, and is told.
   */
  prepare(): void {
    const place = this.settings.places.reserve(this.listener.job().owner.uid);
    try {
      const files = this.open();
      this.ready = { process: makeReady({ ...this.processOptions(files), place }), place };
    } catch {
      place.left(0);
      this.dismiss();
    }
  }

  /** The job does not start yet. */
  dismiss(): void {
    this.ready?.process[Symbol.dispose]();
    this.ready = null;
    this.letGo((files) => files.remove());
  }

  /** Starts the worker; the job has become `started` before. What a former worker left in flight is removed first. */
  start(): void {
    this.attempt("worker-start", () => {
      const { inFlight } = this.open();
      if (this.settings.stateDirectory === null || !inFlight.wasUsed()) this.work();
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

  private open(): RunFiles {
    const told = "what the job has done cannot be noted: interrupted, it would begin anew";
    this.files ??= new RunFiles(this.listener.job(), this.settings, (reason) => this.logFailure(told, reason));
    return this.files;
  }

  private get checkpoint(): CheckpointFile | null {
    return this.files?.checkpoint ?? null;
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
    this.files?.renewRecord();
    this.work();
  }

  private launch(
    type: "start" | "recover",
    listeners: { onMessage: (message: LiveMessage) => void; onEnd: (end: WorkerEnd) => void },
  ): WorkerHandle {
    const { settings, files, ready } = this;
    this.ready = null;
    const job = this.listener.job();
    assert(files !== null, "a worker has a record of what it has in flight");
    const place = ready?.place ?? settings.places.reserve(job.owner.uid);
    place.begin();
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
      ...this.processOptions(files),
      place,
      ...(ready === null ? {} : { ready: ready.process }),
      inFlightPath: files.inFlight.path,
      limits: settings.workerLimits,
      trusted: settings.mode === "embedded",
      pace: settings.pace,
      ...listeners,
      onEnd: (end) => {
        bounds?.[Symbol.dispose]();
        listeners.onEnd(end);
      },
      onStderr: (line) => settings.log.warning("worker says", { job: job.token, uid: job.owner.uid, line }),
    });
    // Embedded, the files are its user's own.
    if (settings.mode !== "embedded") {
      bounds = watchFileBounds(files.inFlight.fd, files.checkpoint?.fd ?? null, () =>
        worker.kill("worker-protocol", "The copying process wrote more to its job's own files than any needs."),
      );
    }
    return worker;
  }

  /** What a process is made with, but for its place. */
  private processOptions({ inFlight, checkpoint }: RunFiles): Omit<ProcessOptions, "place"> {
    const { mode, self } = this.settings;
    const { asAdmin, owner } = this.listener.job();
    return {
      credentials: mode === "system" ? (asAdmin ? rootCredentials : owner) : null,
      inFlightFd: inFlight.fd,
      checkpointFd: checkpoint?.fd ?? null,
      ...(self === null ? {} : { self }),
    };
  }

  private checkpointFacts(job: Job): { isResumed: boolean; isSameBoot: boolean; startedTimeUs: number } | null {
    const checkpoint = this.checkpoint;
    if (checkpoint === null) return null;
    const isFirst = job.attempts.resumed === 0;
    // A power cut may have taken back that the job had started, and its checkpoint is there all the same.
    const isForgotten = isFirst && !checkpoint.isNew;
    const isSameBoot = job.bootId === this.settings.bootId && !isForgotten;
    return { isResumed: !isFirst || isForgotten, isSameBoot, startedTimeUs: isForgotten ? job.createdTimeUs : job.startedTimeUs };
  }

  /** For a worker that is to remove what the job has published; null: it is to stay. */
  private removalFacts(job: Job): { isSameBoot: boolean; startedTimeUs: number } | null {
    if (!isToRemove(job) || this.files?.hasCheckpoint !== true) return null;
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
    const hasCheckpoint = this.files?.hasCheckpoint === true;
    const isNeeded = this.files?.inFlight.wasUsed() === true || (!keepsPartial && hasCheckpoint);
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
    const hasCheckpoint = this.files?.hasCheckpoint === true;
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
      else this.fail(code, `The copying process could not be prepared: ${reason}`, "is final");
      this.finish("keep");
    }
  }

  private finish(record: "discard" | "keep"): void {
    this.letGo((files) => files.close(record));
    this.listener.apply({ type: "worker-ended" });
    this.listener.ended();
  }

  private letGo(how: (files: RunFiles) => void): void {
    try {
      if (this.files !== null) how(this.files);
    } catch (cause) {
      this.logFailure("a job's record could not be closed or removed", cause instanceof Error ? cause.message : String(cause));
    }
    this.files = null;
  }
}

const rootCredentials = { uid: 0, gid: 0, groups: [0] };

/** Ends of a worker that another one, from where it was, may not come to. */
const mayDoBetter: ReadonlySet<FailureCode> = new Set<FailureCode>([
  "worker-died",
  "worker-silent",
  "worker-out-of-memory",
  "worker-too-many-processes",
]);
