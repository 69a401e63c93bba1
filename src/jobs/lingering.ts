// Ended jobs that linger: for a while, so that whoever was away can read the result, and only so many of one user.

import type { Job } from "./job.ts";

export interface LingerLimits {
  readonly lingerMs: number;
  readonly maxEndedPerUser: number;
}

export class Lingering<Entry extends { readonly job: Job }> {
  /** By uid; each in the order in which they ended. */
  private readonly byUser = new Map<number, Set<Entry>>();
  private readonly limits: LingerLimits;
  private readonly now: () => number;
  private readonly expire: (entry: Entry) => void;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `now` is microseconds of CLOCK_REALTIME; `expire` is called once an entry has had its time, and is to `delete` it. */
  constructor(limits: LingerLimits, now: () => number, expire: (entry: Entry) => void) {
    this.limits = limits;
    this.now = now;
    this.expire = expire;
  }

  /** Too many of one user: the oldest go before their time. */
  add(entry: Entry): void {
    const { uid } = entry.job.owner;
    const own = this.byUser.get(uid) ?? new Set();
    this.byUser.set(uid, own.add(entry));
    if (own.size > this.limits.maxEndedPerUser) {
      const [oldest] = own;
      if (oldest !== undefined) this.expire(oldest);
    }
    this.sweepLater();
  }

  delete(entry: Entry): void {
    const { uid } = entry.job.owner;
    const own = this.byUser.get(uid);
    if (own?.delete(entry) && own.size === 0) this.byUser.delete(uid);
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  private sweepLater(): void {
    if (this.timer !== undefined || this.byUser.size === 0) return;
    const firstEndUs = Math.min(...[...this.byUser.values()].map((own) => firstOf(own)?.job.finishedTimeUs ?? 0));
    const waitMs = firstEndUs / 1000 + this.limits.lingerMs - this.now() / 1000;
    // Never longer than the limit: the clock may have been set back meanwhile.
    this.timer = setTimeout(() => this.sweep(), Math.min(Math.max(0, waitMs), this.limits.lingerMs));
    this.timer.unref();
  }

  private sweep(): void {
    this.timer = undefined;
    const limitUs = this.now() - this.limits.lingerMs * 1000;
    for (const own of [...this.byUser.values()]) {
      for (const entry of own) if (entry.job.finishedTimeUs <= limitUs) this.expire(entry);
    }
    this.sweepLater();
  }
}

function firstOf<Entry>(entries: ReadonlySet<Entry>): Entry | undefined {
  const [first] = entries;
  return first;
}
