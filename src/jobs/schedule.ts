// Lets waiting jobs start when it is their turn, and running ones share the bandwidth: whenever something changed, and every so often.

import { Bandwidth, bandwidthStepMs } from "./bandwidth.ts";
import { isMoving, type Job } from "./job.ts";
import type { JobLimits } from "./limits.ts";
import type { SlowDevices } from "./slow-devices.ts";
import { Turns } from "./turns.ts";
import type { WorkerPlaces } from "./worker-places.ts";

export interface ScheduleDependencies<Entry> {
  /** May change at any time; `limitsChanged` says that they did. */
  readonly limits: JobLimits;
  readonly slowDevices: SlowDevices | null;
  readonly places: Pick<WorkerPlaces, "see" | "restMs">;
  /** Microseconds. */
  readonly now: () => number;
  readonly find: (uid: number, token: string) => Entry | undefined;
  readonly started: () => readonly Job[];
  /** Whether jobs are started at all. */
  readonly isOpen: () => boolean;
  /** Whether this one may start in its turn; one that may not is out of the queue. */
  readonly admits: (entry: Entry) => boolean;
  readonly start: (entry: Entry) => void;
  readonly tellWait: (entry: Entry, reason: string) => void;
  readonly tellLimit: (entry: Entry, bandwidthLimit: number) => void;
}

/** Jobs that wait; the reasons of a longer queue are worked out every so often, and not whenever a job comes or goes. */
const shortQueue = 200;
const reasonsIntervalMs = 250;

export class Schedule<Entry> {
  readonly turns: Turns;
  private readonly dependencies: ScheduleDependencies<Entry>;
  private readonly bandwidth: Bandwidth;
  private isDue = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private reasonsTimer: ReturnType<typeof setTimeout> | undefined;
  private restTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(dependencies: ScheduleDependencies<Entry>) {
    this.dependencies = dependencies;
    this.turns = new Turns(dependencies.limits, dependencies.slowDevices, dependencies.places);
    this.bandwidth = new Bandwidth(dependencies.limits);
  }

  /** As of Turns. */
  wouldStart(job: Job): boolean {
    return this.dependencies.isOpen() && this.turns.wouldStart(job, this.dependencies.started());
  }

  /** Starts what may start, after the caller has had its reply. */
  pump(): void {
    if (this.isDue) return;
    this.isDue = true;
    queueMicrotask(() => {
      this.isDue = false;
      const { isOpen, admits, start, started, places } = this.dependencies;
      if (!isOpen() || this.turns.size === 0) return;
      this.turns.look();
      for (const job of started()) if (isMoving(job)) places.see(job.owner.uid);
      for (let entry = this.next(); entry !== undefined; entry = this.next()) if (admits(entry)) start(entry);
      this.wakeAfterRest();
      if (this.turns.size <= shortQueue) this.tellReasons();
      else this.reasonsTimer ??= setTimeout(() => this.tellReasons(), reasonsIntervalMs).unref();
    });
  }

  private wakeAfterRest(): void {
    clearTimeout(this.restTimer);
    const restMs = this.turns.restMs();
    if (restMs !== null) this.restTimer = setTimeout(() => this.pump(), Math.ceil(restMs)).unref();
  }

  private tellReasons(): void {
    clearTimeout(this.reasonsTimer);
    this.reasonsTimer = undefined;
    const { isOpen, find, started, tellWait } = this.dependencies;
    if (!isOpen()) return;
    this.turns.waits(started(), ({ uid, token }, reason) => {
      const entry = find(uid, token);
      if (entry !== undefined) tellWait(entry, reason);
    });
  }

  /** What a job may move a second now; 0: as much as it can. */
  bandwidthOf(job: Job): number {
    return this.bandwidth.limitOf(job);
  }

  /** Something changed that shares depend on: a job's own limit, or, where there is a common one, a job's state. */
  shareBandwidth(cause: "limit" | "state"): void {
    if (cause === "state" && !this.bandwidth.isShared) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    const { find, started, tellLimit, now } = this.dependencies;
    const jobs = started();
    this.bandwidth.share(jobs, now(), ({ owner, token }, limit) => {
      const entry = find(owner.uid, token);
      if (entry !== undefined) tellLimit(entry, limit);
    });
    // Shares follow what jobs move.
    if (this.bandwidth.isShared && jobs.length > 0) this.timer = setTimeout(() => this.shareBandwidth("state"), bandwidthStepMs);
  }

  limitsChanged(): void {
    this.turns.look({ afresh: true });
    this.shareBandwidth("limit");
    this.pump();
  }

  private next(): Entry | undefined {
    const next = this.turns.next(this.dependencies.started());
    return next === null ? undefined : this.dependencies.find(next.uid, next.token);
  }
}
