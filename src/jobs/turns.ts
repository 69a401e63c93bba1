// Whose turn it is: the queue's order, the places there are, and one job at a time on a slow device. And why the others wait.

import type { JobRequest } from "../request.ts";
import type { JobGroup } from "./group.ts";
import { isMoving, type Job } from "./job.ts";
import { JobQueue, type Load, loadOf, type Queued, type QueueLimits } from "./queue.ts";
import type { DeviceNames, SlowDevices } from "./slow-devices.ts";
import type { WorkerPlaces } from "./worker-places.ts";

export interface TurnLimits extends QueueLimits {
  /** Jobs that move data at once on one rotating or USB device; 0: no rule. */
  readonly maxRunningPerSlowDevice: number;
}

/** What a job works on: those of a fan-out, on what all of them do. */
type Needs = readonly JobRequest[];

/** A job that waits, with what its devices are known by. */
interface Waiting extends Queued {
  readonly needs: Needs;
  /** How often another job was started on a device that this one waits for. */
  passedOver: number;
}

/**
 * A job that needs two devices could wait for ever while each is busy in turn. After so many others were let in, those it needs are
 * kept for it. Not sooner: a free device would idle for as long as the other one's job lasts.
 */
const patience = 4;

export class Turns {
  private readonly limits: TurnLimits;
  private readonly queue: JobQueue<Waiting>;
  private readonly slowDevices: SlowDevices | null;
  private readonly restMsOf: (uid: number) => number;

  /** `slowDevices`: null for no rule. The limits may change at any time. */
  constructor(limits: TurnLimits, slowDevices: SlowDevices | null, places: Pick<WorkerPlaces, "restMs">) {
    this.limits = limits;
    this.queue = new JobQueue(limits);
    this.slowDevices = slowDevices;
    this.restMsOf = (uid) => places.restMs(uid);
  }

  get size(): number {
    return this.queue.size;
  }

  add({ owner, token, options, order, request, group }: Job): void {
    const needs = needsOf(request, group);
    this.queue.add({ uid: owner.uid, token, priority: options.priority, order, group: group?.token ?? null, needs, passedOver: 0 });
  }

  /** The order that puts a job of this user and priority before or behind all that wait. */
  orderAt(position: "first" | "last", uid: number, priority: Queued["priority"]): number {
    return this.queue.ends(uid, priority)[position];
  }

  /** Which of its user's waiting jobs this is, from 1; 0: none. */
  position(uid: number, token: string): number {
    return this.queue.position(uid, token);
  }

  /** False when it was not waiting. */
  remove(uid: number, token: string): boolean {
    return this.queue.remove(uid, token);
  }

  /** Before a round of `next` and `waits`: takes up what was mounted since, and what sysfs says, where that may have changed. */
  look({ afresh = false } = {}): void {
    if (afresh) this.slowDevices?.forget();
    if (this.limits.maxRunningPerSlowDevice > 0) this.slowDevices?.look();
  }

  /** Takes out the job to start now, besides those that have started; null when none may. */
  next(started: readonly Job[]): Queued | null {
    const room = this.roomOf(started);
    const next = this.queue.next(this.loadOf(started), (job) => room.admits(job));
    if (next === null) return null;
    const devices = this.devicesOf(next.needs);
    if (devices.length === 0) return next;
    for (const job of this.queue.all()) if (this.devicesOf(job.needs).some((name) => devices.includes(name))) job.passedOver++;
    return next;
  }

  /** Whether a job that does not wait yet would start at once: a guess, since what it depends on may change before it does. */
  wouldStart({ owner, options, request, group }: Job, started: readonly Job[]): boolean {
    if (this.queue.size > 0) return false;
    const load = this.loadOf(started);
    const job = { uid: owner.uid, priority: options.priority, group: group?.token ?? null };
    // Its own wait would make it one of several.
    const rests = load.rests(owner.uid) && load.ofUser(owner.uid).running > 0;
    if (rests || this.queue.lack(job, load) !== null) return false;
    return this.roomOf(started).admits({ ...job, token: "", order: 0, needs: needsOf(request, group), passedOver: 0 });
  }

  /** Tells of each job that waits, why: a sentence for a person, "" where it is the next to be looked at. */
  waits(started: readonly Job[], tell: (job: Queued, reason: string) => void): void {
    const load = this.loadOf(started);
    const room = this.roomOf(started);
    for (const job of this.queue.all()) tell(job, room.reason(job) ?? this.reasonOfPlaces(job, load));
  }

  /** How long until one who rests may start a job; null: nobody whose jobs wait rests. */
  restMs(): number | null {
    const rests = [...this.queue.uids].map(this.restMsOf).filter((ms) => ms > 0);
    return rests.length === 0 ? null : Math.min(...rests);
  }

  private loadOf(started: readonly Job[]): Load {
    return loadOf(started, (uid) => this.restMsOf(uid) > 0);
  }

  private reasonOfPlaces(job: Queued, load: Load): string {
    const lack = this.queue.lack(job, load);
    switch (lack) {
      case "rest":
        return "your last jobs have taken much processor time, and others' go first for a moment";
      case "workers":
        return "your jobs, paused ones included, have as many processes as one user may have";
      case "own-place":
        return "as many of your jobs are running as may at once";
      case "place":
        return "as many jobs are running as may at once";
      case null:
        return "";
    }
  }

  private roomOf(started: readonly Job[]): SlowRoom {
    const busy = new Map<string, number>();
    const groups = new Set<string>();
    for (const job of started) {
      if (!isMoving(job)) continue;
      if (job.group !== null) {
        const group = groupName(job.owner.uid, job.group.token);
        if (groups.has(group)) continue;
        groups.add(group);
      }
      for (const name of this.devicesOf(needsOf(job.request, job.group))) busy.set(name, (busy.get(name) ?? 0) + 1);
    }
    return new SlowRoom(busy, groups, this.limits.maxRunningPerSlowDevice, (job) => this.devicesOf(job.needs));
  }

  private devicesOf(needs: Needs): DeviceNames {
    const { slowDevices } = this;
    if (slowDevices === null || this.limits.maxRunningPerSlowDevice === 0) return [];
    const [first] = needs;
    if (needs.length === 1 && first !== undefined) return slowDevices.of(first);
    return [...new Set(needs.flatMap((request) => slowDevices.of(request)))];
  }
}

function needsOf(request: JobRequest, group: JobGroup | null): Needs {
  return group === null ? [request] : group.destinations.map((destination) => ({ ...request, destination }));
}

function groupName(uid: number, group: string): string {
  return `${uid}/${group}`;
}

/** The slow devices at one moment: which have room for one more job. */
class SlowRoom {
  private readonly busy: ReadonlyMap<string, number>;
  /** Fan-outs that are at work: what one of their jobs uses, the others use with it. */
  private readonly groups: ReadonlySet<string>;
  private readonly most: number;
  private readonly devicesOf: (job: Waiting) => DeviceNames;
  private readonly kept = new Set<string>();

  constructor(busy: ReadonlyMap<string, number>, groups: ReadonlySet<string>, most: number, devicesOf: (job: Waiting) => DeviceNames) {
    this.busy = busy;
    this.groups = groups;
    this.most = most;
    this.devicesOf = devicesOf;
  }

  /** Asked in the order in which jobs are to be served. */
  admits(job: Waiting): boolean {
    if (job.priority === "now" || this.isJoining(job)) return true;
    const devices = this.devicesOf(job);
    if (!devices.some((name) => this.isBusy(name) || this.kept.has(name))) return true;
    if (job.passedOver >= patience) for (const name of devices) this.kept.add(name);
    return false;
  }

  /** null: not for a device's sake. */
  reason(job: Waiting): string | null {
    if (job.priority === "now" || this.isJoining(job)) return null;
    const name = this.devicesOf(job).find((device) => this.isBusy(device));
    if (name === undefined) return null;
    const jobs = this.most === 1 ? "one job works" : `${this.most} jobs work`;
    return `another job uses ${name}; ${jobs} on a rotating or USB device at a time`;
  }

  private isJoining({ uid, group }: Waiting): boolean {
    return group !== null && this.groups.has(groupName(uid, group));
  }

  private isBusy(name: string): boolean {
    return (this.busy.get(name) ?? 0) >= this.most;
  }
}
