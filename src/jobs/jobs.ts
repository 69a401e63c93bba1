// The jobs of all users: accepts them, lets them run in turn, tells what becomes of them. The service and the embedded mode use it.

import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import type { WorkerLimitChanges } from "../worker/pool.ts";
import type { AnswerChoice, EntryError } from "../worker/protocol.ts";
import { type Caller, hasEnded, type JobsEvents, type JobView, type Preview, type PreviewOptions, type SubmitOptions } from "./api.ts";
import { Bandwidth, bandwidthStepMs } from "./bandwidth.ts";
import { ErrorList } from "./error-list.ts";
import { advance, isStarted, type Job, type JobEvent, newJob, viewOf } from "./job.ts";
import type { AdjustableJobs, JobsDependencies } from "./jobs-dependencies.ts";
import { defaultJobLimits, embeddedJobLimits, type JobLimits } from "./limits.ts";
import { Lingering } from "./lingering.ts";
import { Listeners } from "./listeners.ts";
import { type JobsLog, noLog } from "./log.ts";
import { Previews } from "./previews.ts";
import { JobRun, type RunSettings } from "./run.ts";
import type { JobStore } from "./store.ts";
import { generateToken, isToken } from "./tokens.ts";
import { Turns } from "./turns.ts";
import { UserLoads } from "./user-loads.ts";

/** The room, with the jobs of a former run of the service taken up again where there is a store. */
export function createJobs(dependencies: JobsDependencies): AdjustableJobs {
  return new JobsRoom(dependencies);
}

interface Entry {
  job: Job;
  view: JobView | null;
  run: JobRun | null;
  waitReason: string;
  readonly errors: ErrorList;
}

class JobsRoom implements AdjustableJobs {
  private readonly limits: JobLimits;
  private readonly settings: RunSettings;
  private readonly store: JobStore | null;
  private readonly log: JobsLog;
  private readonly now: () => number;
  private readonly previews: Previews;
  private readonly turns: Turns;
  private readonly bandwidth: Bandwidth;
  private readonly listeners: Listeners<JobsEvents>;
  /** By uid, then token; oldest first. */
  private readonly users = new Map<number, Map<string, Entry>>();
  private readonly loads: UserLoads;
  private readonly started = new Set<Entry>();
  private readonly lingering: Lingering<Entry>;
  private readonly stopped: (() => void)[] = [];
  private lastId: number;
  private pumping = false;
  private bandwidthTimer: ReturnType<typeof setTimeout> | undefined;
  private closing = false;
  private held = false;

  constructor(dependencies: JobsDependencies) {
    const embedded = dependencies.mode === "embedded";
    this.limits = { ...(embedded ? embeddedJobLimits : defaultJobLimits), ...dependencies.limits };
    this.log = dependencies.log ?? noLog;
    this.now = dependencies.now ?? (() => Date.now() * 1000);
    this.store = dependencies.store ?? null;
    this.settings = {
      mode: dependencies.mode,
      sandbox: dependencies.sandbox ?? (embedded ? "off" : "if-available"),
      stateDirectory: dependencies.stateDirectory ?? null,
      recordDirectory: dependencies.recordDirectory ?? null,
      totals: dependencies.totals ?? true,
      lanes: dependencies.lanes ?? 0,
      workerLimits: { ...(embedded ? trustingWorkerLimits : {}), ...dependencies.workerLimits },
      cancelTimeoutMs: this.limits.cancelTimeoutMs,
      recoverTimeoutMs: this.limits.recoverTimeoutMs,
      self: dependencies.self ?? null,
      log: this.log,
    };
    this.previews = new Previews(this.settings, this.limits);
    this.turns = new Turns(this.limits, dependencies.slowDevices ?? null);
    this.bandwidth = new Bandwidth(this.limits);
    this.loads = new UserLoads(this.limits);
    this.lingering = new Lingering(this.limits, this.now, (entry) => this.remove(entry));
    this.listeners = new Listeners((cause) => this.log.error("a listener failed", { reason: String(cause) }));
    this.lastId = this.store?.lastId ?? 0;
    for (const job of this.store?.unfinished() ?? []) this.takeUp(job);
  }

  submit(caller: Caller, token: string | null, request: JobRequest, options: SubmitOptions = {}): JobView {
    if (this.closing) throw new CopyError("shutting-down", "the service is stopping and takes no new jobs");
    const asAdmin = options.asAdmin ?? false;
    if (token !== null) {
      const existing = this.sameJob(caller, token, request, asAdmin);
      if (existing !== null) return existing;
    }
    this.loads.check(caller.uid, request, options.beyondLimits === true ? "beyond" : "within");
    const chosen = token ?? this.freshToken(caller.uid);
    const workToken = token === null ? chosen : generateToken();
    const job = newJob({ id: ++this.lastId, token: chosen, workToken, owner: caller, asAdmin, request }, this.now());
    const entry = this.enter(job);
    this.store?.save(job, "now");
    this.enqueue(job);
    const admin = asAdmin || undefined;
    this.log.info("job queued", { job: chosen, uid: caller.uid, operation: request.operation, admin });
    const view = this.view(entry);
    this.listeners.emit("added", view);
    return view;
  }

  async preview(caller: Caller, request: JobRequest, options: PreviewOptions): Promise<Preview> {
    if (this.closing) throw new CopyError("shutting-down", "the service is stopping");
    const summary = await this.previews.run(caller, request, options);
    const rate = this.store?.rateOf(caller.uid) ?? 0;
    return { summary, expectedTimeUs: rate > 0 ? Math.round((summary.bytes / rate) * 1e6) : null };
  }

  get(uid: number, token: string): JobView | undefined {
    const entry = this.users.get(uid)?.get(token);
    return entry === undefined ? undefined : this.view(entry);
  }

  list(uid: number | null): readonly JobView[] {
    const users = uid === null ? [...this.users.values()] : [this.users.get(uid) ?? new Map<string, Entry>()];
    const entries = users.flatMap((entries) => [...entries.values()]);
    return entries.sort((one, other) => one.job.id - other.job.id).map((entry) => this.view(entry));
  }

  cancel(job: JobView): void {
    const entry = this.require(job);
    this.apply(entry, { type: "cancel-requested" });
    this.turns.remove(entry.job.owner.uid, entry.job.token);
    entry.run?.send({ type: "cancel" });
  }

  pause(job: JobView): void {
    const entry = this.require(job);
    this.apply(entry, { type: "pause-requested" });
    this.turns.remove(entry.job.owner.uid, entry.job.token);
    entry.run?.send({ type: "pause" });
  }

  resume(job: JobView): void {
    const entry = this.require(job);
    const before = entry.job;
    this.apply(entry, { type: "resume-requested" });
    if (entry.job === before) return;
    if (entry.job.state === "queued") this.enqueue(entry.job);
    else entry.run?.send({ type: "resume" });
  }

  setOptions(job: JobView, options: { readonly bandwidthLimit?: number; readonly priority?: JobRequest["options"]["priority"] }): void {
    const entry = this.require(job);
    const before = entry.job;
    this.apply(entry, { type: "options-changed", ...options });
    if (entry.job === before) return;
    if (this.turns.remove(entry.job.owner.uid, entry.job.token)) this.enqueue(entry.job);
    this.shareBandwidth();
    if (options.priority !== undefined) entry.run?.send({ type: "set-options", priority: options.priority });
  }

  answer(job: JobView, question: number, choice: AnswerChoice, forAll: boolean): void {
    const entry = this.require(job);
    this.apply(entry, { type: "answered", question, choice });
    entry.run?.send({ type: "answer", question, choice, forAll });
  }

  errors(job: JobView, offset: number, limit: number): readonly EntryError[] {
    return this.require(job).errors.slice(offset, limit);
  }

  forget(job: JobView): void {
    const entry = this.require(job);
    if (!hasEnded(entry.job.state)) {
      throw new CopyError("invalid-state", `job ${job.token} is ${entry.job.state} and cannot be forgotten`);
    }
    this.remove(entry);
    this.store?.remove(entry.job);
  }

  on<Name extends keyof JobsEvents>(event: Name, listener: JobsEvents[Name]): void {
    this.listeners.on(event, listener);
  }

  counts(): { readonly active: number; readonly queued: number } {
    return { active: this.started.size, queued: this.turns.size };
  }

  setLimits(limits: Partial<JobLimits>): void {
    // The turns, the loads and the lingering look at this very object.
    Object.assign(this.limits, limits);
    this.turns.look({ afresh: true });
    this.shareBandwidth();
    this.pump();
  }

  hold(): void {
    this.held = true;
  }

  release(): void {
    this.held = false;
    this.pump();
  }

  async shutdown(): Promise<void> {
    this.closing = true;
    const failure = { code: "shutting-down", message: "The service was stopped while the job ran." } as const;
    for (const entry of [...this.started]) {
      this.apply(entry, { type: "worker-failed", failure });
      entry.run?.send({ type: "cancel" });
    }
    // Without a store nobody would ever start them again.
    if (this.store === null) this.cancelWaiting();
    if (this.started.size > 0) await new Promise<void>((resolve) => this.stopped.push(resolve));
    await this.previews.stop();
    this.lingering.stop();
  }

  private cancelWaiting(): void {
    for (const view of this.list(null)) if (view.startedTimeUs === 0 && !hasEnded(view.state)) this.cancel(view);
  }

  private sameJob(caller: Caller, token: string, request: JobRequest, asAdmin: boolean): JobView | null {
    if (!isToken(token)) throw new CopyError("bad-option", "token: 1 to 48 letters, digits and underscores");
    const entry = this.users.get(caller.uid)?.get(token);
    if (entry === undefined) return null;
    if (entry.job.asAdmin === asAdmin && Bun.deepEquals(entry.job.request, request)) return this.view(entry);
    throw new CopyError("job-exists", `a job ${token} with other arguments exists`);
  }

  private freshToken(uid: number): string {
    const taken = this.users.get(uid);
    for (;;) {
      const token = generateToken();
      if (taken?.has(token) !== true) return token;
    }
  }

  private enter(job: Job): Entry {
    const entry: Entry = {
      job,
      view: null,
      run: null,
      waitReason: "",
      errors: new ErrorList(this.limits.maxErrorsPerJob, this.limits.maxErrorBytesPerJob),
    };
    const { uid } = job.owner;
    const entries = this.users.get(uid);
    if (entries === undefined) this.users.set(uid, new Map([[job.token, entry]]));
    else entries.set(job.token, entry);
    this.loads.add(uid, job.request);
    return entry;
  }

  /** A job of a former run of the service: waits again, or, had it started, ends as failed once its remains are removed. */
  private takeUp(job: Job): void {
    const entry = this.enter(job);
    entry.errors.add(this.store?.errors(job, 0, this.limits.maxErrorsPerJob) ?? []);
    if (!isStarted(job)) {
      if (job.state === "queued") this.enqueue(job);
      return;
    }
    this.started.add(entry);
    const message = "The service was restarted while the job ran: what was finished until then was kept.";
    this.apply(entry, { type: "worker-failed", failure: { code: "worker-died", message } });
    entry.run = this.runOf(entry);
    entry.run.recover();
  }

  private enqueue(job: Job): void {
    this.turns.add(job);
    this.pump();
  }

  /** Starts what may start, after the caller has had its reply. */
  private pump(): void {
    if (this.pumping) return;
    this.pumping = true;
    queueMicrotask(() => {
      this.pumping = false;
      if (this.closing || this.held || this.turns.size === 0) return;
      this.turns.look();
      for (let entry = this.nextEntry(); entry !== undefined; entry = this.nextEntry()) this.start(entry);
      this.turns.waits(this.startedJobs(), ({ uid, token }, reason) => this.tellWait(this.users.get(uid)?.get(token), reason));
    });
  }

  private nextEntry(): Entry | undefined {
    const next = this.turns.next(this.startedJobs());
    return next === null ? undefined : this.users.get(next.uid)?.get(next.token);
  }

  /** Now, and then every so often as long as shares have to follow what jobs move. */
  private shareBandwidth(): void {
    clearTimeout(this.bandwidthTimer);
    this.bandwidthTimer = undefined;
    this.bandwidth.share(this.startedJobs(), this.now(), ({ owner, token }, bandwidthLimit) => {
      this.users.get(owner.uid)?.get(token)?.run?.send({ type: "set-options", bandwidthLimit });
    });
    if (this.bandwidth.isShared && this.started.size > 0) {
      this.bandwidthTimer = setTimeout(() => this.shareBandwidth(), bandwidthStepMs);
    }
  }

  private startedJobs(): readonly Job[] {
    return [...this.started].map(({ job }) => job);
  }

  private tellWait(entry: Entry | undefined, reason: string): void {
    if (entry === undefined || entry.waitReason === reason) return;
    entry.waitReason = reason;
    entry.view = null;
    this.listeners.emit("changed", this.view(entry), false);
  }

  private start(entry: Entry): void {
    this.started.add(entry);
    entry.run = this.runOf(entry);
    this.apply(entry, { type: "started" });
    this.shareBandwidth();
    this.log.info("job started", { job: entry.job.token, uid: entry.job.owner.uid });
    entry.run.start();
  }

  private runOf(entry: Entry): JobRun {
    return new JobRun(this.settings, {
      job: () => entry.job,
      bandwidthLimit: () => this.bandwidth.limitOf(entry.job),
      apply: (event) => this.apply(entry, event),
      errors: (errors) => this.recordErrors(entry, errors),
      lines: (lines) => this.listeners.emit("lines", this.view(entry), lines),
      ended: () => {
        entry.run = null;
        this.pump();
      },
    });
  }

  private recordErrors(entry: Entry, errors: readonly EntryError[]): void {
    const kept = entry.errors.add(errors);
    if (kept.length > 0) this.store?.addErrors(entry.job, kept);
    this.listeners.emit("errors", this.view(entry), errors);
  }

  /** The only place where a job changes. */
  private apply(entry: Entry, event: JobEvent): void {
    const before = entry.job;
    entry.job = advance(before, event, this.now());
    if (entry.job === before) return;
    entry.view = null;
    const { state, question } = entry.job;
    if (state !== "queued") entry.waitReason = "";
    const ended = hasEnded(state);
    // Intermediate states go with the next batch: a worker that flips its state must not make the disk busy.
    this.store?.save(entry.job, ended || event.type === "started" ? "now" : "soon");
    const urgent = state !== before.state || question !== before.question;
    if (ended) this.settle(entry);
    if (urgent && this.bandwidth.isShared) this.shareBandwidth();
    this.listeners.emit("changed", this.view(entry), urgent);
    if (!ended) {
      if (urgent) this.pump();
      return;
    }
    this.listeners.emit("ended", this.view(entry));
    this.lingering.add(entry);
  }

  private settle(entry: Entry): void {
    const { job } = entry;
    this.loads.remove(job.owner.uid, job.request);
    this.started.delete(entry);
    this.log.info("job ended", { job: job.token, uid: job.owner.uid, state: job.state, code: job.result?.code ?? "" });
    if (this.closing && this.started.size === 0) for (const resolve of this.stopped.splice(0)) resolve();
  }

  private remove(entry: Entry): void {
    this.lingering.delete(entry);
    const { uid } = entry.job.owner;
    const entries = this.users.get(uid);
    entries?.delete(entry.job.token);
    if (entries?.size === 0) this.users.delete(uid);
    this.listeners.emit("removed", this.view(entry));
  }

  private require(job: JobView): Entry {
    const entry = this.users.get(job.owner.uid)?.get(job.token);
    if (entry === undefined) throw new CopyError("no-such-job", `there is no job ${job.token}`);
    return entry;
  }

  private view(entry: Entry): JobView {
    entry.view ??= viewOf(entry.job, entry.waitReason);
    return entry.view;
  }
}

/** The embedded worker is the caller's own child and prints its lines at any pace. */
const trustingWorkerLimits: WorkerLimitChanges = {
  messagesPerSecond: Number.POSITIVE_INFINITY,
  bytesPerSecond: Number.POSITIVE_INFINITY,
};
