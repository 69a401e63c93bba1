// Who is next: round robin between users, by priority and then by age within one user's jobs. No clock, no I/O.

import { priorities } from "../request.ts";
import { isMoving, type Job } from "./job.ts";

export type Priority = (typeof priorities)[number];

export interface Queued {
  readonly uid: number;
  readonly token: string;
  readonly priority: Priority;
  /** The least comes first, among jobs of the same user and priority. */
  readonly order: number;
  /** The fan-out that it belongs to. */
  readonly group: string | null;
}

/** What runs now, as far as it decides who may start. */
export interface Load {
  /** Jobs that move data; paused and asking ones hold up nobody. */
  readonly running: number;
  /** Of these, the ones of priority `now`. */
  readonly runningNow: number;
  readonly ofUser: (uid: number) => UserLoad;
  /** Whether a user has taken so much that the jobs of others go first, for a moment. */
  readonly rests: (uid: number) => boolean;
}

export interface UserLoad {
  readonly running: number;
  readonly runningNow: number;
  readonly workers: number;
  /** Fan-outs of which a job moves data: together they take one place, and the others of them need none. */
  readonly groups: ReadonlySet<string>;
}

export interface QueueLimits {
  readonly maxRunning: number;
  readonly maxRunningNow: number;
  readonly maxRunningPerUser: number;
  readonly maxWorkersPerUser: number;
}

/** What these started jobs take up. */
export function loadOf(started: Iterable<Job>, rests: Load["rests"]): Load {
  const users = new Map<number, { running: number; runningNow: number; workers: number; groups: Set<string> }>();
  let running = 0;
  let runningNow = 0;
  for (const job of started) {
    const own = users.get(job.owner.uid) ?? { running: 0, runningNow: 0, workers: 0, groups: new Set() };
    users.set(job.owner.uid, own);
    own.workers++;
    if (!isMoving(job)) continue;
    if (job.group !== null && own.groups.has(job.group.token)) continue;
    if (job.group !== null) own.groups.add(job.group.token);
    own.running++;
    running++;
    if (job.options.priority !== "now") continue;
    own.runningNow++;
    runningNow++;
  }
  return { running, runningNow, ofUser: (uid) => users.get(uid) ?? nothing, rests };
}

const nothing: UserLoad = { running: 0, runningNow: 0, workers: 0, groups: new Set() };

/** Best first. */
const byUrgency: readonly Priority[] = [...priorities].reverse();

/** What a waiting job lacks: the end of its user's rest, room for another process of its user's, one of its user's places, or any place. */
export type Lack = "rest" | "workers" | "own-place" | "place";

export class JobQueue<Job extends Queued = Queued> {
  /** Users with waiting jobs, the one served longest ago first. */
  private readonly users = new Map<number, Map<Priority, Map<string, Job>>>();
  /** The greatest order that was ever put into each: nearly all come behind it, and need no sorting. */
  private readonly lastOrders = new WeakMap<ReadonlyMap<string, Job>, number>();
  /** By user, worked out when somebody asks. */
  private readonly positions = new Map<number, Map<string, number>>();
  private readonly limits: QueueLimits;
  private count = 0;

  constructor(limits: QueueLimits) {
    this.limits = limits;
  }

  get size(): number {
    return this.count;
  }

  /** Whose jobs wait. */
  get uids(): Iterable<number> {
    return this.users.keys();
  }

  add(job: Job): void {
    let classes = this.users.get(job.uid);
    if (classes === undefined) {
      classes = new Map(byUrgency.map((priority) => [priority, new Map()]));
      this.users.set(job.uid, classes);
    }
    const isLast = this.insert(classes, job) === "at the end" && isLeastUrgent(classes, job.priority);
    this.count++;
    const positions = this.positions.get(job.uid);
    if (isLast && positions !== undefined) positions.set(job.token, positions.size + 1);
    else this.positions.delete(job.uid);
  }

  /** Places for a job of this user and priority before and behind all that wait. */
  ends(uid: number, priority: Priority): { readonly first: number; readonly last: number } {
    const orders = [...(this.users.get(uid)?.get(priority)?.values() ?? [])].map(({ order }) => order);
    const [least, most] = [orders[0] ?? 0, orders.at(-1) ?? 0];
    return { first: least - 1, last: most + 1 };
  }

  /** Which of its user's waiting jobs this is, from 1; 0: none. */
  position(uid: number, token: string): number {
    let positions = this.positions.get(uid);
    if (positions === undefined) {
      const tokens = [...(this.users.get(uid)?.values() ?? [])].flatMap((jobs) => [...jobs.keys()]);
      positions = new Map(tokens.map((each, index) => [each, index + 1]));
      this.positions.set(uid, positions);
    }
    return positions.get(token) ?? 0;
  }

  private insert(classes: Map<Priority, Map<string, Job>>, job: Job): "at the end" | "among others" {
    const jobs = classes.get(job.priority) ?? new Map<string, Job>();
    jobs.set(job.token, job);
    const last = this.lastOrders.get(jobs) ?? Number.NEGATIVE_INFINITY;
    this.lastOrders.set(jobs, Math.max(last, job.order));
    if (job.order >= last) return "at the end";
    const sorted = [...jobs].sort(([, one], [, other]) => one.order - other.order);
    jobs.clear();
    for (const [token, each] of sorted) jobs.set(token, each);
    return "among others";
  }

  /** False when it was not waiting. */
  remove(uid: number, token: string): boolean {
    const classes = this.users.get(uid);
    if (classes === undefined) return false;
    for (const jobs of classes.values()) {
      if (!jobs.delete(token)) continue;
      this.count--;
      this.positions.delete(uid);
      if ([...classes.values()].every((others) => others.size === 0)) this.users.delete(uid);
      return true;
    }
    return false;
  }

  /**
   * Takes out the job to start now, or null when none may. `admits` is asked last, for rules that need to know more of a job
   * (its devices): a job that it refuses is passed over, not waited for.
   */
  next(load: Load, admits: (job: Job) => boolean = () => true): Job | null {
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

  /** All that wait, each user's in the order in which they are to be served. */
  *all(): Generator<Job> {
    for (const classes of this.users.values()) for (const jobs of classes.values()) yield* jobs.values();
  }

  /**
   * What keeps a job from starting; null: nothing. The jobs of a fan-out start together: where the first has found a place, the others
   * need none, and there must be room for all their processes, or no other process.
   */
  lack({ uid, priority, group }: Pick<Queued, "uid" | "priority" | "group">, load: Load): Lack | null {
    const own = load.ofUser(uid);
    if (group !== null && own.groups.has(group)) return null;
    // Who copies one file after the other has nothing else waiting, and is not held up.
    if (own.running + this.waitingOf(uid) > 1 && load.rests(uid)) return "rest";
    const workers = group === null ? 1 : this.waitingOfGroup(uid, group);
    if (own.workers > 0 && own.workers + workers > this.limits.maxWorkersPerUser) return "workers";
    if (priority === "now" && load.runningNow < this.limits.maxRunningNow && own.runningNow === 0) return null;
    if (own.running - own.runningNow >= this.limits.maxRunningPerUser) return "own-place";
    return load.running - load.runningNow >= this.limits.maxRunning ? "place" : null;
  }

  private waitingOf(uid: number): number {
    let count = 0;
    for (const jobs of this.users.get(uid)?.values() ?? []) count += jobs.size;
    return count;
  }

  private waitingOfGroup(uid: number, group: string): number {
    let count = 0;
    for (const jobs of this.users.get(uid)?.values() ?? []) for (const job of jobs.values()) if (job.group === group) count++;
    return count;
  }

  private candidate(
    uid: number,
    classes: ReadonlyMap<Priority, ReadonlyMap<string, Job>>,
    load: Load,
    admits: (job: Job) => boolean,
  ): Job | null {
    const hasGroups = load.ofUser(uid).groups.size > 0;
    for (const [priority, jobs] of classes) {
      const lack = this.lack({ uid, priority, group: null }, load);
      if (lack !== null && !hasGroups) continue;
      for (const job of jobs.values()) {
        if ((job.group === null ? lack : this.lack(job, load)) === null && admits(job)) return job;
      }
    }
    return null;
  }
}

/** True when no job of a lower priority waits. */
function isLeastUrgent(classes: ReadonlyMap<Priority, ReadonlyMap<string, unknown>>, priority: Priority): boolean {
  return byUrgency.slice(byUrgency.indexOf(priority) + 1).every((lower) => (classes.get(lower)?.size ?? 0) === 0);
}
