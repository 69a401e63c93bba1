// Jobs that copy nothing: the states of the jobs room in memory, moved on by the test. For tests of what the bus makes of them.

import { CopyError } from "../../src/errors.ts";
import {
  type Caller,
  hasEnded,
  type JobQuery,
  type JobResult,
  type Jobs,
  type JobsEvents,
  type JobView,
  type StatisticsQuery,
  type StatisticsRow,
  type SubmitOptions,
} from "../../src/jobs/api.ts";
import { newJob } from "../../src/jobs/job.ts";
import { viewOf } from "../../src/jobs/job-view.ts";
import type { JobRequest } from "../../src/request.ts";
import type { EntryError } from "../../src/worker/protocol.ts";

type Listeners = { [Name in keyof JobsEvents]: JobsEvents[Name][] };

export class MemoryJobs implements Jobs {
  /** What was asked of the jobs, in order: "pause abc", "set-options abc {...}". */
  readonly asked: string[] = [];
  /** What statistics are told. */
  rows: readonly StatisticsRow[] = [];
  maxJobsPerUser = Number.POSITIVE_INFINITY;
  private readonly views = new Map<string, JobView>();
  private readonly errorLists = new Map<string, EntryError[]>();
  private readonly listeners: Listeners = { added: [], removed: [], changed: [], ended: [], lines: [], errors: [] };
  private closing = false;
  private lastToken = 0;

  submit(caller: Caller, token: string | null, request: JobRequest, options: SubmitOptions = {}): JobView {
    if (this.closing) throw new CopyError("shutting-down", "the service is stopping");
    const chosen = token ?? `memory${++this.lastToken}`;
    const existing = this.get(caller.uid, chosen);
    if (existing !== undefined) {
      if (Bun.deepEquals(existing.request, request)) return existing;
      throw new CopyError("job-exists", `your job '${chosen}' was given other arguments`);
    }
    if (options.beyondLimits !== true && this.list(caller.uid).length >= this.maxJobsPerUser) {
      throw new CopyError("limits-exceeded", "your user has too many jobs");
    }
    const asAdmin = options.asAdmin ?? false;
    const companions = options.companion === undefined ? [] : [options.companion];
    const facts = { id: 0, token: chosen, workToken: chosen, owner: caller, asAdmin, request, companions };
    const view = viewOf(newJob(facts, Date.now() * 1000));
    this.views.set(key(view), view);
    for (const listener of this.listeners.added) listener(view);
    return view;
  }

  preview(): never {
    throw new CopyError("not-supported", "nothing is looked at here");
  }

  get(uid: number, token: string): JobView | undefined {
    return this.views.get(`${uid}/${token}`);
  }

  list(uid: number | null): readonly JobView[] {
    return [...this.views.values()].filter(({ owner }) => uid === null || owner.uid === uid);
  }

  group(): readonly JobView[] {
    return [];
  }

  search({ uid, states, limit }: JobQuery): readonly JobView[] {
    const found = this.list(uid).filter(({ state }) => states === null || states.includes(state));
    return limit === 0 ? [] : found.slice(-limit);
  }

  statistics(query: StatisticsQuery): readonly StatisticsRow[] {
    this.asked.push(`statistics ${JSON.stringify(query)}`);
    return this.rows;
  }

  cancel(job: JobView): void {
    this.ask("cancel", job);
    this.end(job, "cancelled");
  }

  pause(job: JobView): void {
    this.ask("pause", job);
    this.update(job, { state: "paused" }, true);
  }

  resume(job: JobView): void {
    this.ask("resume", job);
    this.update(job, { state: "running" }, true);
  }

  setOptions(job: JobView, options: object): void {
    this.ask("set-options", job, JSON.stringify(options));
  }

  accompany(job: JobView, companion: string): void {
    const { companions } = this.current(job);
    if (!companions.includes(companion)) this.update(job, { companions: [...companions, companion] });
  }

  answer(job: JobView, question: number, choice: string, forAll: boolean): void {
    this.ask("answer", job, `${question} ${choice} ${forAll}`);
  }

  errors(job: JobView, offset: number, limit: number): readonly EntryError[] {
    return (this.errorLists.get(key(job)) ?? []).slice(offset, offset + limit);
  }

  forget(job: JobView): void {
    if (!hasEnded(this.current(job).state)) throw new CopyError("invalid-state", "the job has not ended");
    this.views.delete(key(job));
    for (const listener of this.listeners.removed) listener(job);
  }

  on<Name extends keyof JobsEvents>(event: Name, listener: JobsEvents[Name]): void {
    this.listeners[event].push(listener);
  }

  counts(): { readonly active: number; readonly queued: number } {
    const states = [...this.views.values()].map(({ state }) => state);
    const queued = states.filter((state) => state === "queued").length;
    return { queued, active: states.filter((state) => state !== "queued" && !hasEnded(state)).length };
  }

  async shutdown(): Promise<void> {
    this.closing = true;
    for (const job of this.views.values()) if (!hasEnded(job.state)) this.end(job, "cancelled");
  }

  /** Changes a job's view and tells it. */
  update(job: JobView, patch: Partial<JobView>, urgent = false): JobView {
    const view = { ...this.current(job), ...patch };
    this.views.set(key(view), view);
    for (const listener of this.listeners.changed) listener(view, urgent);
    return view;
  }

  end(job: JobView, state: JobResult["state"]): void {
    const { filesDone, filesSkipped, bytesDone, bytesCloned, errorCount, warningCount } = this.current(job);
    const counts = { filesDone, filesSkipped, bytesDone, bytesCloned, errorCount, warningCount };
    const result: JobResult = {
      state,
      ...(state === "cancelled" && { code: "cancelled" }),
      message: `the job has ${state}`,
      ...counts,
      resumeCount: 0,
      elapsedUs: 1000,
      reasons: ["memory"],
      engines: { "read-write": filesDone },
    };
    const view = this.update(job, { state, result, finishedTimeUs: Date.now() * 1000, cancelable: false, pausable: false }, true);
    for (const listener of this.listeners.ended) listener(view);
  }

  addErrors(job: JobView, errors: readonly EntryError[]): void {
    const before = this.errorLists.get(key(job)) ?? [];
    this.errorLists.set(key(job), [...before, ...errors]);
    for (const listener of this.listeners.errors) listener(job, errors, before.length);
    this.update(job, { errorCount: this.current(job).errorCount + errors.length });
  }

  sayLines(job: JobView, lines: readonly string[]): void {
    for (const listener of this.listeners.lines) listener(job, lines);
  }

  private current(job: JobView): JobView {
    const view = this.views.get(key(job));
    if (view === undefined) throw new CopyError("unknown-object", "no such job");
    return view;
  }

  private ask(what: string, job: JobView, details = ""): void {
    if (hasEnded(this.current(job).state)) throw new CopyError("invalid-state", `the job has ended: ${this.current(job).state}`);
    this.asked.push(`${what} ${job.token} ${details}`.trimEnd());
  }
}

function key({ owner, token }: JobView): string {
  return `${owner.uid}/${token}`;
}
