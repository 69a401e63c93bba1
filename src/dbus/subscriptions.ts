// Who hears of which jobs: subscribed connections, each for its own user's jobs or those of users that it may manage, all or named ones.

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
  /** By the jobs' owner; null: all of them. */
  readonly tokens: Map<number, Set<string> | null>;
  extras: Extras;
}

/** One job of a user, or all of that user's for null. */
export interface Subject {
  readonly owner: number;
  readonly token: string | null;
}

/** What a connection, of the user `uid`, is subscribed to. */
export interface SubscriptionEntry extends Extras, Subject {
  readonly sender: string;
  readonly uid: number;
}

type Limits = Pick<ServiceLimits, "maxSubscriptions" | "maxTokensPerSubscription">;

export class Subscriptions {
  private readonly bySender = new Map<string, Subscription>();
  private readonly byUid = new Map<number, Set<Subscription>>();
  private readonly byOwner = new Map<number, Set<Subscription>>();
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
      [...tokens].flatMap(([owner, named]) => [...(named ?? [null])].map((token) => ({ sender, uid, owner, token, ...extras }))),
    );
  }

  /** Adds to what the sender, of the user `uid`, hears: one job, or, without a token, all of its owner's. Throws limits-exceeded. */
  add(sender: string, uid: number, { owner, token, lines, errors }: Extras & Subject): void {
    const subscription = this.bySender.get(sender) ?? this.create(sender, uid);
    subscription.extras = { lines, errors };
    if (token === null) subscription.tokens.set(owner, null);
    else this.addToken(subscription, owner, token);
    addTo(this.byOwner, owner, subscription);
  }

  remove(sender: string): void {
    const subscription = this.bySender.get(sender);
    if (subscription === undefined) return;
    this.bySender.delete(sender);
    removeFrom(this.byUid, subscription.uid, subscription);
    for (const owner of subscription.tokens.keys()) removeFrom(this.byOwner, owner, subscription);
  }

  /** The connections that hear of a job; with `lines` or `errors`, those that want these. */
  hearing(owner: number, token: string, what: "signals" | keyof Extras = "signals"): string[] {
    const subscribed = this.byOwner.get(owner);
    if (subscribed === undefined) return [];
    const hearing: string[] = [];
    for (const { sender, tokens, extras } of subscribed) {
      const named = tokens.get(owner);
      if ((named === null || named?.has(token) === true) && (what === "signals" || extras[what])) hearing.push(sender);
    }
    return hearing;
  }

  private create(sender: string, uid: number): Subscription {
    const connections = this.byUid.get(uid)?.size ?? 0;
    if (connections >= this.limits.maxSubscriptions) {
      throw new CopyError("limits-exceeded", `your user has ${connections} subscribed connections, which is the limit`);
    }
    const subscription = { sender, uid, tokens: new Map(), extras: { lines: false, errors: false } };
    this.bySender.set(sender, subscription);
    addTo(this.byUid, uid, subscription);
    return subscription;
  }

  private addToken({ tokens }: Subscription, owner: number, token: string): void {
    const named = tokens.get(owner);
    // Who hears all jobs goes on doing so.
    if (named === null || named?.has(token) === true) return;
    let count = 0;
    for (const each of tokens.values()) count += each?.size ?? 1;
    if (count >= this.limits.maxTokensPerSubscription) {
      throw new CopyError("limits-exceeded", `the connection is subscribed to ${count} jobs by name: subscribe to all`);
    }
    tokens.set(owner, (named ?? new Set()).add(token));
  }
}

function addTo(index: Map<number, Set<Subscription>>, uid: number, subscription: Subscription): void {
  index.set(uid, (index.get(uid) ?? new Set()).add(subscription));
}

function removeFrom(index: Map<number, Set<Subscription>>, uid: number, subscription: Subscription): void {
  const subscriptions = index.get(uid);
  subscriptions?.delete(subscription);
  if (subscriptions?.size === 0) index.delete(uid);
}
