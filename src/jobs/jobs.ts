// The jobs of all users: accepts them, lets them run in turn, tells what becomes of them. The service and the embedded mode use it.

import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import type { AnswerChoice, EntryError } from "../worker/protocol.ts";
import { Admission } from "./admission.ts";
import {
  type Caller,
  hasEnded,
  type JobQuery,
  type JobsEvents,
  type JobView,
  type OptionChanges,
  type Preview,
  type PreviewOptions,
  type Published,
  type Scope,
  type StatisticsQuery,
  type StatisticsRow,
  type SubmitOptions,
} from "./api.ts";
import { CommonParts } from "./common-parts.ts";
import { ErrorList } from "./error-list.ts";
import { Groups } from "./groups.ts";
import { advance, goesOn, type Job } from "./job.ts";
import type { JobEvent } from "./job-events.ts";
import { JobFiles } from "./job-files.ts";
import { mountsOf } from "./job-mounts.ts";
import { JobTable } from "./job-table.ts";
import { viewOf } from "./job-view.ts";
import type { AdjustableJobs, JobsDependencies } from "./jobs-dependencies.ts";
import { defaultJobLimits, embeddedJobLimits, type JobLimits } from "./limits.ts";
import { Lingering } from "./lingering.ts";
import { Listeners } from "./listeners.ts";
import { type JobsLog, noLog } from "./log.ts";
import { ownMounts } from "./obstacles.ts";
import { removeRemainsOf } from "./orphans.ts";
import { PastJobs } from "./past-jobs.ts";
import { PreparedRuns } from "./prepared-runs.ts";
import { Previews } from "./previews.ts";
import { isToRemove } from "./removal.ts";
import { Returns } from "./returns.ts";
import { JobRun, stopOf } from "./run.ts";
import { type RunSettings, runSettings } from "./run-settings.ts";
import { Schedule } from "./schedule.ts";
import { Steering } from "./steering.ts";
import type { JobStore } from "./store.ts";
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
  private readonly past: PastJobs;
  private readonly schedule: Schedule<Entry>;
  private readonly listeners: Listeners<JobsEvents>;
  private readonly table = new JobTable<Entry>();
  private readonly common = new CommonParts();
  private readonly loads: UserLoads;
  private readonly admission: Admission<Entry>;
  private readonly groups: Groups<Entry>;
  private readonly steering: Steering<Entry>;
  readonly started = new Set<Entry>();
  private readonly prepared = new PreparedRuns<Entry>((entry) => this.runOf(entry));
  private readonly lingering: Lingering<Entry>;
  private readonly files: JobFiles;
  private readonly returns: Returns<Entry>;
  private readonly readMounts: NonNullable<JobsDependencies["readMounts"]>;
  private readonly stopped: (() => void)[] = [];
  private closing = false;
  private held = false;

  constructor(dependencies: JobsDependencies) {
    const embedded = dependencies.mode === "embedded";
    this.limits = { ...(embedded ? embeddedJobLimits : defaultJobLimits), ...dependencies.limits };
    this.log = dependencies.log ?? noLog;
    this.now = dependencies.now ?? (() => Date.now() * 1000);
    this.store = dependencies.store ?? null;
    this.past = new PastJobs(this.store);
    this.settings = runSettings(dependencies, this.limits);
    this.previews = new Previews(this.settings, this.limits, this.store);
    this.loads = new UserLoads(this.limits);
    this.lingering = new Lingering(this.limits, this.now, (entry) => this.remove(entry));
    this.listeners = new Listeners((cause) => this.log.error("a listener failed", { reason: String(cause) }));
    this.schedule = new Schedule({
      limits: this.limits,
      slowDevices: dependencies.slowDevices ?? null,
      places: this.settings.places,
      now: this.now,
      find: (uid, token) => this.table.get(uid, token),
      started: () => [...this.started].map(({ job }) => job),
      isOpen: () => !this.closing && !this.held,
      admits: (entry) => this.returns.admits(entry),
      start: (entry) => this.start(entry),
      tellWait: (entry, reason) => this.tellWait(entry, reason),
      tellLimit: (entry, bandwidthLimit) => entry.run?.send({ type: "set-options", bandwidthLimit }),
    });
    const { store } = this;
    this.admission = new Admission({
      find: (uid, token) => this.table.get(uid, token),
      loads: this.loads,
      policyFor: this.settings.policyFor,
      now: this.now,
      lastId: store?.lastId ?? 0,
    });
    this.groups = new Groups({
      limits: this.limits,
      isOpen: () => !this.held && !this.closing,
      now: this.now,
      find: (uid, token) => this.table.get(uid, token),
      apply: (entry, event) => this.apply(entry, event),
      tell: (entry, message) => entry.run?.send(message),
    });
    this.files = new JobFiles(this.settings.stateDirectory, store === null ? null : () => store.makeDurable(), this.log);
    this.readMounts = dependencies.readMounts ?? ownMounts;
    this.returns = new Returns({
      readMounts: this.readMounts,
      files: this.files,
      tellWait: (entry, reason) => this.tellWait(entry, reason),
      clear: (entry) => this.clear(entry),
      enqueue: (entry) => this.enqueue(entry.job),
    });
    this.steering = new Steering({
      schedule: this.schedule,
      returns: this.returns,
      groups: this.groups,
      apply: (entry, event) => this.apply(entry, event),
      require: (job) => this.require(job),
      enqueue: (job) => this.enqueue(job),
    });
    if (store !== null) this.takeUpAll(store);
  }

  submit(caller: Caller, token: string | null, request: JobRequest, options: SubmitOptions = {}): JobView {
    if (this.closing) throw new CopyError("shutting-down", "the service is stopping and takes no new jobs");
    const admitted = this.admission.admit(caller, token, request, options);
    if ("existing" in admitted) return this.view(admitted.existing);
    const { jobs } = admitted;
    const entries = jobs.map((job) => this.enter(job));
    // Embedded, a process was started long before.
    const isSoon = entries.length === 1 && this.settings.mode !== "embedded";
    for (const entry of entries) if (isSoon && this.schedule.wouldStart(entry.job)) this.prepared.prepare(entry);
    // In one transaction: all of a fan-out, or none.
    for (const entry of entries) this.store?.save(entry.job, entry === entries.at(-1) ? "now" : "soon");
    for (const entry of entries) {
      const { job } = entry;
      this.enqueue(job);
      const admin = job.asAdmin || undefined;
      this.log.info("job queued", { job: job.token, uid: caller.uid, operation: request.operation, admin });
      this.listeners.emit("added", this.view(entry));
    }
    return this.view(this.require(viewOf(jobs[0])));
  }

  async preview(caller: Caller, request: JobRequest, options: PreviewOptions): Promise<Preview> {
    if (this.closing) throw new CopyError("shutting-down", "the service is stopping");
    return await this.previews.run(caller, request, options);
  }

  get(uid: number, token: string): JobView | undefined {
    const entry = this.table.get(uid, token);
    return entry === undefined ? this.past.find(uid, token) : this.view(entry);
  }

  list(uid: number | null): readonly JobView[] {
    return this.table.list(uid).map((entry) => this.view(entry));
  }

  group(job: JobView): readonly JobView[] {
    const entry = this.table.get(job.owner.uid, job.token);
    return entry === undefined ? [] : this.groups.membersOf(entry.job).map((member) => this.view(member));
  }

  search(query: JobQuery): readonly JobView[] {
    return this.past.search(query, this.list(query.uid));
  }

  statistics(query: StatisticsQuery): readonly StatisticsRow[] {
    return this.past.statistics(query);
  }

  cancel(job: JobView, scope: Scope = "job", published: Published = "keep"): void {
    this.steering.each(job, scope, (entry) => this.steering.cancel(entry, published));
  }

  pause(job: JobView, scope: Scope = "job"): void {
    this.steering.each(job, scope, (entry) => this.steering.pause(entry));
  }

  resume(job: JobView, scope: Scope = "job"): void {
    this.steering.each(job, scope, (entry) => this.steering.resume(entry));
  }

  setOptions(job: JobView, changes: OptionChanges): void {
    this.steering.setOptions(this.require(job), changes);
  }

  accompany(job: JobView, companion: string): void {
    this.apply(this.require(job), { type: "accompanied", companion });
  }

  answer(job: JobView, question: number, choice: AnswerChoice, forAll: boolean): void {
    const entry = this.require(job);
    this.apply(entry, { type: "answered", question, choice, forAll });
    entry.run?.send({ type: "answer", question, choice, forAll });
  }

  errors(job: JobView, offset: number, limit: number): readonly EntryError[] {
    return this.isPresent(job) ? this.require(job).errors.slice(offset, limit) : this.past.errors(job, offset, limit);
  }

  forget(job: JobView): void {
    if (!this.isPresent(job)) {
      this.past.forget(job);
      return;
    }
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
    return { active: this.started.size, queued: this.schedule.turns.size + this.returns.size };
  }

  setLimits(limits: Partial<JobLimits>): void {
    // The turns, the loads and the lingering look at this very object.
    Object.assign(this.limits, limits);
    this.schedule.limitsChanged();
  }

  hold(): void {
    this.held = true;
  }

  release(): void {
    this.held = false;
    this.schedule.pump();
  }

  async shutdown(): Promise<void> {
    this.closing = true;
    this.returns.stop();
    const [event, message] = stopOf(this.store === null ? "for good" : "for now");
    for (const entry of [...this.started]) {
      this.apply(entry, event);
      entry.run?.send(message);
    }
    // Without a store nobody would ever start them again.
    const waiting = this.store === null ? this.list(null).filter((view) => view.startedTimeUs === 0 && !hasEnded(view.state)) : [];
    for (const view of waiting) this.cancel(view);
    if (this.started.size > 0) await new Promise<void>((resolve) => this.stopped.push(resolve));
    await this.previews.stop();
    this.lingering.stop();
    this.groups.stop();
    this.files.stop();
  }

  private enter(job: Job): Entry {
    const entry = this.newEntry(this.common.of(job));
    this.table.add(entry);
    if (!hasEnded(job.state)) this.loads.add(job.owner.uid, job.request);
    if (job.startedTimeUs !== 0) entry.errors.load();
    return entry;
  }

  private newEntry(job: Job): Entry {
    return { job, view: null, run: null, waitReason: "", errors: new ErrorList(job, this.store, this.limits) };
  }

  private takeUpAll(store: JobStore): void {
    const unfinished = store.unfinished();
    for (const name of this.files.sweep(unfinished, store)) removeRemainsOf(name, store, this.settings, (job) => this.files.retire(job));
    // Who was away while the service ended still finds the result.
    for (const job of store.endedSince(this.now() - this.limits.lingerMs * 1000)) this.lingering.add(this.enter(job));
    for (const job of unfinished) this.takeUp(job);
  }

  /** A job of a former run of the service: it goes on, or ends as it was about to. */
  private takeUp(job: Job): void {
    const entry = this.enter(job);
    this.apply(entry, { type: "service-lost" });
    if (goesOn(entry.job) || isToRemove(entry.job)) this.apply(entry, { type: "worker-ended" });
    this.returns.add(entry, "first clear");
  }

  private clear(entry: Entry): void {
    this.started.add(entry);
    entry.run = this.runOf(entry);
    this.apply(entry, { type: "clearing" });
    entry.run.clear();
  }

  private enqueue(job: Job): void {
    this.schedule.turns.add(job);
    this.schedule.pump();
  }

  private tellWait(entry: Entry, reason: string): void {
    if (entry.waitReason === reason) return;
    entry.waitReason = reason;
    entry.view = null;
    this.listeners.emit("changed", this.view(entry), false);
  }

  private start(entry: Entry): void {
    this.started.add(entry);
    entry.run = this.prepared.take(entry);
    const isFirst = entry.job.startedTimeUs === 0;
    const mounts = isFirst && this.store !== null ? mountsOf(entry.job.request, this.readMounts()) : [];
    this.apply(entry, { type: "started", bootId: this.settings.bootId, mounts });
    this.schedule.shareBandwidth("limit");
    if (!isFirst) entry.errors.clear();
    this.log.info(isFirst ? "job started" : "job goes on", { job: entry.job.token, uid: entry.job.owner.uid });
    entry.run.start();
  }

  private runOf(entry: Entry): JobRun {
    return new JobRun(this.settings, {
      job: () => entry.job,
      bandwidthLimit: () => this.schedule.bandwidthOf(entry.job),
      apply: (event) => this.apply(entry, event),
      errors: (errors) => this.recordErrors(entry, errors),
      lines: (lines) => this.listeners.emit("lines", this.view(entry), lines),
      ended: () => {
        entry.run = null;
        this.returns.add(entry, "just wait");
        this.schedule.pump();
      },
    });
  }

  private recordErrors(entry: Entry, errors: readonly EntryError[]): void {
    entry.errors.add(errors);
    this.listeners.emit("errors", this.view(entry), errors, entry.errors.count - errors.length);
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
    const isLeft = before.activity !== "none" && entry.job.activity === "none";
    // Intermediate states go with the next batch: a worker that flips its state must not make the disk busy. Users' wishes do not.
    const isWish = /(started|-requested|answered|accompanied|options-changed)$/.test(event.type);
    this.store?.save(entry.job, ended || isLeft || isWish ? "now" : "soon");
    const urgent = state !== before.state || question !== before.question;
    if (ended) this.settle(entry);
    else if (isLeft) this.started.delete(entry);
    if (urgent) this.schedule.shareBandwidth("state");
    this.groups.look(entry.job, event);
    if (this.closing && this.started.size === 0) for (const resolve of this.stopped.splice(0)) resolve();
    this.listeners.emit("changed", this.view(entry), urgent);
    if (!ended) {
      if (urgent) this.schedule.pump();
      return;
    }
    this.listeners.emit("ended", this.view(entry));
    this.lingering.add(entry);
  }

  private settle(entry: Entry): void {
    const { job } = entry;
    this.loads.remove(job.owner.uid, job.request);
    this.started.delete(entry);
    this.files.retire(job);
    this.log.info("job ended", { job: job.token, uid: job.owner.uid, state: job.state, code: job.result?.code ?? "" });
  }

  private remove(entry: Entry): void {
    this.lingering.delete(entry);
    this.table.delete(entry);
    this.listeners.emit("removed", this.view(entry));
  }

  private require(job: JobView): Entry {
    // A job of the past takes no request, and says so by its state.
    return this.table.get(job.owner.uid, job.token) ?? this.newEntry(this.past.require(job));
  }

  private isPresent({ owner, token }: JobView): boolean {
    return this.table.get(owner.uid, token) !== undefined;
  }

  private view(entry: Entry): JobView {
    const { job, waitReason } = entry;
    const queuePosition = job.state === "queued" ? this.schedule.turns.position(job.owner.uid, job.token) : 0;
    if (entry.view === null || entry.view.queuePosition !== queuePosition) entry.view = viewOf(job, { waitReason, queuePosition });
    return entry.view;
  }
}
