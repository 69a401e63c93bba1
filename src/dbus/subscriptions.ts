// Who hears of which jobs: subscribed connections, each for its own user's jobs, all of them or named ones.

import { CopyError } from "../errors.ts";
import type { ServiceLimits } from "./service-limits.ts";

/** What is sent only to those who asked for it, beside what every subscriber hears. */
export interface Extras {
  readonly lines: boolean;
  readonly errors: boolean;
}

interface Subscription {
  readonly sender: string;
  readonly uid: number;
  /** null: all jobs. */
  tokens: Set<string> | null;
  extras: Extras;
}

/** What a connection is subscribed to: one job, or all of its user's for null. */
export interface SubscriptionEntry extends Extras {
  readonly sender: string;
  readonly uid: number;
  readonly token: string | null;
}

type Limits = Pick<ServiceLimits, "maxSubscriptions" | "maxTokensPerSubscription">;

export class Subscriptions {
  private readonly bySender = new Map<string, Subscription>();
  private readonly byUid = new Map<number, Set<Subscription>>();
  private readonly limits: Limits;

  constructor(limits: Limits) {
    this.limits = limits;
  }

  get count(): number {
    return this.bySender.size;
  }

  /** All of them, as `add` takes them, one entry for each job that is named. */
  list(): readonly SubscriptionEntry[] {
    return [...this.bySender.values()].flatMap(({ sender, uid, tokens, extras }) =>
      (tokens === null ? [null] : [...tokens]).map((token) => ({ sender, uid, token, ...extras })),
    );
  }

  /** Adds to what the sender hears: one job, or, without a token, all of its user's. Throws limits-exceeded. */
  add(sender: string, uid: number, options: Extras & { readonly token: string | null }): void {
    const subscription = this.bySender.get(sender) ?? this.create(sender, uid, options.token === null ? null : new Set());
    subscription.extras = { lines: options.lines, errors: options.errors };
    if (options.token === null) subscription.tokens = null;
    else this.addToken(subscription, options.token);
  }

  remove(sender: string): void {
    const subscription = this.bySender.get(sender);
    if (subscription === undefined) return;
    this.bySender.delete(sender);
    const ofUser = this.byUid.get(subscription.uid);
    ofUser?.delete(subscription);
    if (ofUser?.size === 0) this.byUid.delete(subscription.uid);
  }

  /** The connections that hear of a job; with `lines` or `errors`, those that want these. */
  hearing(uid: number, token: string, what: "signals" | keyof Extras = "signals"): string[] {
    const ofUser = this.byUid.get(uid);
    if (ofUser === undefined) return [];
    const hearing: string[] = [];
    for (const { sender, tokens, extras } of ofUser) {
      if ((tokens === null || tokens.has(token)) && (what === "signals" || extras[what])) hearing.push(sender);
    }
    return hearing;
  }

  private create(sender: string, uid: number, tokens: Set<string> | null): Subscription {
    const ofUser = this.byUid.get(uid) ?? new Set();
    if (ofUser.size >= this.limits.maxSubscriptions) {
      throw new CopyError("limits-exceeded", `your user has ${ofUser.size} subscribed connections, which is the limit`);
    }
    const subscription = { sender, uid, tokens, extras: { lines: false, errors: false } };
    this.bySender.set(sender, subscription);
    this.byUid.set(uid, ofUser.add(subscription));
    return subscription;
  }

  private addToken({ tokens }: Subscription, token: string): void {
    // Who hears all jobs goes on doing so.
    if (tokens === null) return;
    if (tokens.size >= this.limits.maxTokensPerSubscription && !tokens.has(token)) {
      throw new CopyError("limits-exceeded", `the connection is subscribed to ${tokens.size} jobs by name: subscribe to all`);
    }
    tokens.add(token);
  }
}
