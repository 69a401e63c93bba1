// How much each running job may move a second, so that all together and each user's keep to their limits. Pure: time is an argument.
//
// Users share evenly, and so do the jobs of one user; what somebody does not use goes to those who would. A worker keeps to its own
// share by itself; here the shares follow what jobs really move, a few times a second. A share that is not used is counted at
// what is used, so shares may add up to more than the limit for one step; what that lets through is taken back afterwards.

import { isMoving, type Job } from "./job.ts";

export interface BandwidthLimits {
  /** Bytes a second of all jobs, and of each user's; 0: no limit. */
  readonly bandwidthLimit: number;
  readonly bandwidthLimitPerUser: number;
}

/** How often shares are to follow, milliseconds. */
export const bandwidthStepMs = 250;
/** What a job moves is smoothed with this time constant: blocks and snapshots come in lumps. */
const smoothingUs = 500_000;
/** So many steps after its start a job has shown what it wants. */
const graceSteps = 6;
/** A job that moves less than this part of its share does not want all of it, and gets what it moves and room to grow. */
const hungryShare = 0.9;
const headroom = 1.25;
/** A worker's counters grow by whole blocks of several lanes at once. */
const lumpBytes = 8 * 1024 * 1024;
/** Too little to be worth a message. */
const unchanged = 0.02;
/** What was moved beyond a limit, or not although somebody wanted it, is made good at this pace, */
const repaySeconds = 2;
/** by so much faster or slower at most, */
const leastFactor = 0.75;
const mostFactor = 1.1;
/** and of no more than so many seconds at the limit: nobody saves up. */
const mostOwedSeconds = 2;
const mostSavedSeconds = 0.25;

/** What is known of one running job. */
interface Consumer {
  readonly uid: number;
  /** The job's own limit; Infinity for none. */
  ownLimit: number;
  moved: number;
  /** Bytes a second, smoothed; and the share, smoothed alike so that the two can be compared. */
  rate: number;
  smoothedShare: number;
  share: number;
  steps: number;
}

/** What a limit's users moved beyond it (bytes; negative: below it). */
interface Ledger {
  owed: number;
}

export class Bandwidth {
  private readonly limits: BandwidthLimits;
  /** The jobs that move data, by number. */
  private readonly consumers = new Map<number, Consumer>();
  /** What the workers were told last, those of paused jobs included; 0: no limit. */
  private readonly told = new Map<number, number>();
  private readonly all: Ledger = { owed: 0 };
  private readonly users = new Map<number, Ledger>();
  private lastUs = 0;

  /** The limits may change at any time. */
  constructor(limits: BandwidthLimits) {
    this.limits = limits;
  }

  /** Whether shares have to follow what jobs move. */
  get isShared(): boolean {
    return this.limits.bandwidthLimit > 0 || this.limits.bandwidthLimitPerUser > 0;
  }

  /** What a job may move a second now; 0: as much as it can. */
  limitOf(job: Job): number {
    return this.told.get(job.id) ?? job.options.bandwidthLimit;
  }

  /** Shares anew among the started jobs, and tells of each whose limit changed. `nowUs` is microseconds. */
  share(started: readonly Job[], nowUs: number, tell: (job: Job, limit: number) => void): void {
    const moving = started.filter(isMoving);
    const ids = new Set(started.map(({ id }) => id));
    for (const id of this.told.keys()) if (!ids.has(id)) this.told.delete(id);
    this.measure(moving, nowUs);
    this.divide();
    for (const job of moving) {
      const consumer = this.consumers.get(job.id);
      if (consumer === undefined) continue;
      const limit = Number.isFinite(consumer.share) ? Math.max(1, Math.round(consumer.share)) : 0;
      const before = this.limitOf(job);
      if (this.told.has(job.id) && (limit === before || (this.isShared && isAlike(limit, before)))) continue;
      this.told.set(job.id, limit);
      tell(job, limit);
    }
  }

  private measure(moving: readonly Job[], nowUs: number): void {
    // A clock that was set, or a machine that slept, says nothing of how fast anybody was.
    const elapsedUs = Math.min(Math.max(0, nowUs - this.lastUs), 4 * bandwidthStepMs * 1000);
    this.lastUs = nowUs;
    const ids = new Set(moving.map(({ id }) => id));
    for (const id of this.consumers.keys()) if (!ids.has(id)) this.consumers.delete(id);
    for (const job of moving) this.follow(job, elapsedUs);
    this.balance(this.all, this.limits.bandwidthLimit, elapsedUs);
    const present = new Set(moving.map(({ owner }) => owner.uid));
    for (const [uid, ledger] of this.users) {
      if (present.has(uid)) this.balance(ledger, this.limits.bandwidthLimitPerUser, elapsedUs);
      else this.users.delete(uid);
    }
  }

  private follow(job: Job, elapsedUs: number): void {
    const { bandwidthLimit } = job.options;
    const moved = movedBy(job);
    let consumer = this.consumers.get(job.id);
    if (consumer === undefined) {
      consumer = { uid: job.owner.uid, ownLimit: 0, moved, rate: 0, smoothedShare: 0, share: 0, steps: 0 };
      this.consumers.set(job.id, consumer);
    }
    consumer.ownLimit = bandwidthLimit === 0 ? Number.POSITIVE_INFINITY : bandwidthLimit;
    if (elapsedUs === 0 || consumer.share === 0) return;
    const seconds = elapsedUs / 1e6;
    // A worker may lie: by claiming more than its share it takes little from others.
    const most = 2 * consumer.share * seconds + lumpBytes;
    const bytes = Math.min(Math.max(0, moved - consumer.moved), most);
    const kept = Math.exp(-elapsedUs / smoothingUs);
    consumer.moved = moved;
    consumer.rate = consumer.rate * kept + (bytes / seconds) * (1 - kept);
    const former = Number.isFinite(consumer.smoothedShare) ? consumer.smoothedShare : consumer.share;
    consumer.smoothedShare = former * kept + consumer.share * (1 - kept);
    consumer.steps++;
    this.all.owed += bytes;
    this.ledgerOf(consumer.uid).owed += bytes;
  }

  private balance(ledger: Ledger, limit: number, elapsedUs: number): void {
    const owed = ledger.owed - (limit * elapsedUs) / 1e6;
    ledger.owed = Math.min(Math.max(owed, -limit * mostSavedSeconds), limit * mostOwedSeconds);
  }

  private ledgerOf(uid: number): Ledger {
    let ledger = this.users.get(uid);
    if (ledger === undefined) {
      ledger = { owed: 0 };
      this.users.set(uid, ledger);
    }
    return ledger;
  }

  private divide(): void {
    const whole = capacity(this.limits.bandwidthLimit, this.all);
    const users = [...Map.groupBy(this.consumers.values(), ({ uid }) => uid)].map(([uid, jobs]) => {
      const most = capacity(this.limits.bandwidthLimitPerUser, this.ledgerOf(uid));
      return { jobs, most, wish: sum(jobs.map(wishOf)) };
    });
    const wholes = shares(whole, users);
    for (const [index, { jobs, most }] of users.entries()) {
      const claims = jobs.map((job) => ({ most: job.ownLimit, wish: wishOf(job) }));
      const parts = shares(wholes[index] ?? 0, claims);
      // So that one that moves nothing for a while is seen when it wants to again.
      const foothold = Math.min(whole, most) / (4 * this.consumers.size);
      for (const [at, job] of jobs.entries()) job.share = withHeadroom(job, parts[at] ?? 0, foothold);
    }
  }
}

function movedBy({ progress: { snapshot } }: Job): number {
  // A clone moves nothing; what is read back counts as much as what was copied.
  return snapshot.bytesDone - snapshot.bytesCloned + snapshot.bytesVerified;
}

function isHungry({ rate, smoothedShare, steps }: Consumer): boolean {
  return steps < graceSteps || rate >= hungryShare * smoothedShare;
}

function wishOf(job: Consumer): number {
  return isHungry(job) ? job.ownLimit : Math.min(job.ownLimit, job.rate);
}

function withHeadroom(job: Consumer, part: number, foothold: number): number {
  // Less than it moved until now is what others leave it.
  if (isHungry(job) || part < job.rate) return part;
  return Math.min(job.ownLimit, Math.max(part, job.rate * headroom, foothold));
}

function capacity(limit: number, { owed }: Ledger): number {
  if (limit === 0) return Number.POSITIVE_INFINITY;
  return limit * Math.min(mostFactor, Math.max(leastFactor, 1 - owed / (limit * repaySeconds)));
}

function isAlike(limit: number, told: number): boolean {
  if (limit === 0 || told === 0) return limit === told;
  return Math.abs(limit - told) <= unchanged * told;
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, number) => total + number, 0);
}

/** What somebody may have at most, and would use; Infinity where nobody knows an end of it. */
export interface Claim {
  readonly most: number;
  readonly wish: number;
}

/**
 * A capacity shared out: nobody gets more than its `most`, nobody less than another unless it wishes for less, and what the modest
 * leave goes to the others. Where all wishes are met, the rest is room to grow for everybody.
 */
export function shares(whole: number, claims: readonly Claim[]): number[] {
  if (whole === Number.POSITIVE_INFINITY) return claims.map(({ most }) => most);
  const parts = fill(
    whole,
    claims.map(({ most, wish }) => Math.min(most, wish)),
  );
  const rest = whole - sum(parts);
  if (!(rest > 0)) return parts;
  const growth = fill(
    rest,
    claims.map(({ most }, index) => most - (parts[index] ?? 0)),
  );
  return parts.map((part, index) => part + (growth[index] ?? 0));
}

/** Smallest wishes first: each gets its wish or an even part of what is left. */
function fill(whole: number, wishes: readonly number[]): number[] {
  const parts = wishes.map(() => 0);
  const order = wishes.map((_, index) => index).sort((one, other) => compare(wishes[one] ?? 0, wishes[other] ?? 0));
  let left = whole;
  for (const [place, index] of order.entries()) {
    const part = Math.min(wishes[index] ?? 0, left / (order.length - place));
    parts[index] = part;
    left -= part;
  }
  return parts;
}

/** Infinities have no difference. */
function compare(one: number, other: number): number {
  return one < other ? -1 : one > other ? 1 : 0;
}
