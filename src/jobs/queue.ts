// Who is next: round robin between users, by priority and then by age within one user's jobs. No clock, no I/O.

import { priorities } from "../request.ts";
import type { Job } from "./job.ts";

export type Priority = (typeof priorities)[number];

export interface Queued {
  readonly uid: number;
  readonly token: string;
  readonly priority: Priority;
}

/** What runs now, as far as it decides who may start. */
export interface Load {
  /** Jobs that move data; paused and asking ones hold up nobody. */
  readonly running: number;
  /** Of these, the ones of priority `now`. */
  readonly runningNow: number;
  readonly ofUser: (uid: number) => { readonly running: number; readonly runningNow: number; readonly workers: number };
}

export interface QueueLimits {
  readonly maxRunning: number;
  readonly maxRunningNow: number;
  readonly maxRunningPerUser: number;
  readonly maxWorkersPerUser: number;
}

/** What these started jobs take up. */
export function loadOf(started: Iterable<Job>): Load {
  const none = { running: 0, runningNow: 0, workers: 0 };
  const users = new Map<number, { running: number; runningNow: number; workers: number }>();
  let running = 0;
  let runningNow = 0;
  for (const job of started) {
    const own = users.get(job.owner.uid) ?? { ...none };
    users.set(job.owner.uid, own);
    own.workers++;
    if (job.state === "paused" || job.state === "question") continue;
    own.running++;
    running++;
    if (job.options.priority !== "now") continue;
    own.runningNow++;
    runningNow++;
  }
  return { running, runningNow, ofUser: (uid) => users.get(uid) ?? none };
}

/** Best first. */
const byUrgency: readonly Priority[] = [...priorities].reverse();

export class JobQueue {
  /** Users with waiting jobs, the one served longest ago first. */
  private readonly users = new Map<number, Map<Priority, Map<string, Queued>>>();
  private readonly limits: QueueLimits;
  private count = 0;

  constructor(limits: QueueLimits) {
    this.limits = limits;
  }

  get size(): number {
    return this.count;
  }

  /** Behind all others of the same user and priority. */
  add(job: Queued): void {
    let classes = this.users.get(job.uid);
    if (classes === undefined) {
      classes = new Map(byUrgency.map((priority) => [priority, new Map()]));
      this.users.set(job.uid, classes);
    }
    classes.get(job.priority)?.set(job.token, job);
    this.count++;
  }

  /** False when it was not waiting. */
  remove(uid: number, token: string): boolean {
    const classes = this.users.get(uid);
    if (classes === undefined) return false;
    for (const jobs of classes.values()) {
      if (!jobs.delete(token)) continue;
      this.count--;
      if ([...classes.values()].every((others) => others.size === 0)) this.users.delete(uid);
      return true;
    }
    return false;
  }

  /**
   * Takes out the job to start now, or null when none may. `admits` is asked last, for rules that need to know more of a job
   * (its devices): a job that it refuses is passed over, not waited for.
   */
  next(load: Load, admits: (job: Queued) => boolean = () => true): Queued | null {
    for (const [uid, classes] of this.users) {
      const job = this.candidate(uid, classes, load, admits);
      if (job === null) continue;
      const served = this.users.get(uid);
      this.remove(uid, job.token);
      // To the end of the round, unless nothing of the user's is left.
      if (served !== undefined && this.users.delete(uid)) this.users.set(uid, served);
      return job;
    }
    return null;
  }

  private candidate(
    uid: number,
    classes: ReadonlyMap<Priority, ReadonlyMap<string, Queued>>,
    load: Load,
    admits: (job: Queued) => boolean,
  ): Queued | null {
    const own = load.ofUser(uid);
    if (own.workers >= this.limits.maxWorkersPerUser) return null;
    const ordinary =
      load.running - load.runningNow < this.limits.maxRunning && own.running - own.runningNow < this.limits.maxRunningPerUser;
    const extra = load.runningNow < this.limits.maxRunningNow && own.runningNow === 0;
    for (const [priority, jobs] of classes) {
      if (!ordinary && !(priority === "now" && extra)) continue;
      for (const job of jobs.values()) if (admits(job)) return job;
    }
    return null;
  }
}
