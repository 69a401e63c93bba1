// One started job: its worker, the record of what the worker has in flight, and the removal of that when the worker died.

import { assert } from "../assert.ts";
import { CopyError, type FailureCode } from "../errors.ts";
import { type LiveMessage, startWorker, type WorkerEnd, type WorkerHandle, type WorkerLimitChanges } from "../worker/pool.ts";
import type { EntryError, ParentMessage } from "../worker/protocol.ts";
import { createInFlightFile, createUnnamedInFlightFile, type InFlightFile, reopenInFlightFile } from "./in-flight-file.ts";
import type { Job, JobEvent } from "./job.ts";
import { recordName } from "./left-over-records.ts";
import type { JobsLog } from "./log.ts";

export interface RunSettings {
  /** system: as the job's owner, through setpriv. session, embedded: a plain child of this process. */
  readonly mode: "system" | "session" | "embedded";
  readonly sandbox: "strict" | "if-available" | "off";
  /** Where in-flight records outlive this process; null: nowhere. */
  readonly stateDirectory: string | null;
  /** Embedded jobs only: where the record survives this process (see left-over-records.ts); null: nowhere. */
  readonly recordDirectory: string | null;
  readonly totals: boolean;
  readonly lanes: number;
  readonly workerLimits: WorkerLimitChanges;
  readonly cancelTimeoutMs: number;
  readonly recoverTimeoutMs: number;
  /** The worker's command instead of this program itself. */
  readonly self: readonly string[] | null;
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

export class JobRun {
  private readonly settings: RunSettings;
  private readonly listener: RunListener;
  private inFlight: InFlightFile | null = null;
  private worker: WorkerHandle | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(settings: RunSettings, listener: RunListener) {
    this.settings = settings;
    this.listener = listener;
  }

  /** Starts the worker; the job has become `started` before. */
  start(): void {
    const job = this.listener.job();
    this.attempt("worker-start", () => {
      this.inFlight = this.createInFlight(job);
      this.worker = this.launch("start", job, {
        onMessage: (message) => this.receive(message),
        onEnd: (end) => this.workerEnded(end),
      });
    });
  }

  /** For a job whose worker died with a former run of the service: removes what that had in flight. */
  recover(): void {
    const job = this.listener.job();
    this.attempt("worker-died", () => {
      const { stateDirectory } = this.settings;
      this.inFlight = stateDirectory === null ? null : reopenInFlightFile(stateDirectory, inFlightName(job));
      this.removeInFlight();
    });
  }

  send(message: LaterMessage): void {
    this.worker?.send(message);
    if (message.type === "cancel") this.limitStopping();
  }

  private createInFlight(job: Job): InFlightFile {
    const { stateDirectory } = this.settings;
    if (stateDirectory === null) return this.createOwnInFlight(job);
    return createInFlightFile(stateDirectory, inFlightName(job));
  }

  private createOwnInFlight(job: Job): InFlightFile {
    const { recordDirectory } = this.settings;
    if (recordDirectory === null) return createUnnamedInFlightFile(job.workToken);
    return createInFlightFile(recordDirectory, recordName(job.workToken));
  }

  private launch(
    type: "start" | "recover",
    job: Job,
    listeners: { onMessage: (message: LiveMessage) => void; onEnd: (end: WorkerEnd) => void },
  ): WorkerHandle {
    const { settings, inFlight } = this;
    assert(inFlight !== null, "a worker has a record of what it has in flight");
    const options = { ...job.options, bandwidthLimit: this.listener.bandwidthLimit() };
    // Root's rights are not to go where links of others lead.
    const foreignLinks: "follow" | "refuse" = job.asAdmin ? "refuse" : "follow";
    const common = { request: { ...job.request, options }, sandbox: settings.sandbox, token: job.workToken, foreignLinks };
    return startWorker({
      task: type === "start" ? { type, ...common, lanes: settings.lanes, totals: settings.totals } : { type, ...common },
      credentials: settings.mode === "system" ? (job.asAdmin ? rootCredentials : job.owner) : null,
      inFlightFd: inFlight.fd,
      limits: settings.workerLimits,
      trusted: settings.mode === "embedded",
      ...(settings.self === null ? {} : { self: settings.self }),
      ...listeners,
      onStderr: (line) => settings.log.warning("worker says", { job: job.token, uid: job.owner.uid, line }),
    });
  }

  private receive(message: LiveMessage): void {
    if (message.type === "snapshot") this.listener.apply({ type: "snapshot", snapshot: message.snapshot });
    else if (message.type === "lines") this.listener.lines(message.lines);
    else if (message.type === "errors") {
      this.listener.apply({ type: "errors", errors: message.errors });
      this.listener.errors(message.errors);
    } else if (message.type === "question") {
      const { type, question: id, ...facts } = message;
      this.listener.apply({ type, question: { id, ...facts } });
    } else if (message.type === "question-over") this.listener.apply(message);
  }

  private workerEnded(end: WorkerEnd): void {
    clearTimeout(this.timer);
    this.worker = null;
    if (end.kind === "result") {
      const { outcome, engines, reasons, snapshot } = end.result;
      const claimed = outcome === "interrupted" ? "cancelled" : outcome;
      this.listener.apply({ type: "result", claim: { outcome: claimed, engines: engines ?? {}, reasons }, snapshot });
      this.finish("discard");
      return;
    }
    this.fail(end.code, end.message);
    if (!end.gone) {
      // It is stuck in the kernel. What it has in flight cannot be removed behind its back; the record stays for later.
      this.logFailure("worker stuck", "it was killed, but is still in the kernel");
      this.finish("keep");
      return;
    }
    this.attempt("worker-died", () => this.removeInFlight());
  }

  private removeInFlight(): void {
    if (this.inFlight === null || !this.inFlight.wasUsed()) {
      this.finish("discard");
      return;
    }
    const worker = this.launch("recover", this.listener.job(), {
      onMessage: () => undefined,
      onEnd: (end) => {
        clearTimeout(this.timer);
        if (end.kind === "result" && end.result.outcome === "completed") return this.finish("discard");
        this.logFailure("recovery failed", end.kind === "failed" ? end.message : `it ended ${end.result.outcome}`);
        return this.finish("keep");
      },
    });
    this.timer = setTimeout(() => worker.kill("worker-silent", "recovery took too long"), this.settings.recoverTimeoutMs);
  }

  /** A worker that was told to cancel and does not stop is stopped. */
  private limitStopping(): void {
    if (this.worker === null || this.timer !== undefined) return;
    const text = "The copying process did not stop when told to, and was killed.";
    this.timer = setTimeout(() => this.worker?.kill("worker-silent", text), this.settings.cancelTimeoutMs);
  }

  private fail(code: FailureCode, message: string): void {
    this.listener.apply({ type: "worker-failed", failure: { code, message } });
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
      if (cause instanceof CopyError) this.fail(cause.code, reason);
      else this.fail(code, `The record of what is in flight could not be made: ${reason}`);
      this.finish("keep");
    }
  }

  private finish(record: "discard" | "keep"): void {
    try {
      if (this.inFlight !== null && record === "keep" && this.inFlight.wasUsed()) this.inFlight.keep();
      else this.inFlight?.discard();
    } catch (cause) {
      this.logFailure("in-flight record not removed", cause instanceof Error ? cause.message : String(cause));
    }
    this.inFlight = null;
    this.listener.apply({ type: "worker-ended" });
    this.listener.ended();
  }
}

const rootCredentials = { uid: 0, gid: 0, groups: [0] };

function inFlightName(job: Job): string {
  return `in-flight-${job.owner.uid}-${job.workToken}`;
}
