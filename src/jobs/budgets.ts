// What each user takes of what all share, against a share of it: who has taken more rests, for so long at most. Times are monotonic
// milliseconds, and given: no clock.

export interface BudgetLimits {
  /** What a user may take of each millisecond while others are there. */
  readonly crowdedShare: number;
  /** And while nobody else is; null: all there is, for which nothing is owed. */
  readonly aloneShare: number | null;
  /** How long a user is there after having been seen. */
  readonly crowdMs: number;
  /** What may be taken beyond the share before it is time to rest. */
  readonly freeMs: number;
  readonly longestRestMs: number;
}

/** What a user has taken, less what the share has given since. */
interface Account {
  debtMs: number;
  /** When the debt was that. */
  atMs: number;
  seenMs: number;
}

export class Budgets {
  private readonly limits: BudgetLimits;
  private readonly accounts = new Map<number, Account>();

  constructor(limits: BudgetLimits) {
    this.limits = limits;
  }

  /** The user is there. */
  see(uid: number, nowMs: number): void {
    this.settle(uid, nowMs).account.seenMs = nowMs;
  }

  /** The user has taken so much, or, below 0, gives it back. Returns what was charged: no more is owed than the longest rest pays. */
  charge(uid: number, takenMs: number, nowMs: number): number {
    const { account, mostMs } = this.settle(uid, nowMs);
    const chargedMs = Math.min(takenMs, mostMs - account.debtMs);
    account.debtMs += chargedMs;
    return chargedMs;
  }

  /** How long the user is to take nothing yet. */
  restMs(uid: number, nowMs: number): number {
    const { account, share } = this.settle(uid, nowMs);
    return share === null ? 0 : Math.max(0, (account.debtMs - this.limits.freeMs) / share);
  }

  /** What the user owes now and may owe at most, and the share that is for the user. */
  private settle(uid: number, nowMs: number): { readonly account: Account; readonly mostMs: number; readonly share: number | null } {
    const share = this.shareOf(uid, nowMs);
    const mostMs = share === null ? 0 : this.limits.freeMs + this.limits.longestRestMs * share;
    const account = this.accounts.get(uid) ?? { debtMs: 0, atMs: nowMs, seenMs: Number.NEGATIVE_INFINITY };
    this.accounts.set(uid, account);
    account.debtMs = Math.max(0, Math.min(mostMs, account.debtMs) - (nowMs - account.atMs) * (share ?? 0));
    account.atMs = nowMs;
    return { account, mostMs, share };
  }

  private shareOf(uid: number, nowMs: number): number | null {
    const { crowdedShare, aloneShare, crowdMs } = this.limits;
    for (const [other, { seenMs, debtMs, atMs }] of this.accounts) {
      if (other === uid) continue;
      if (nowMs - seenMs <= crowdMs) return crowdedShare;
      if ((nowMs - atMs) * crowdedShare >= debtMs) this.accounts.delete(other);
    }
    return aloneShare;
  }
}
