// Where the kernel puts a worker: in which control group, and how it shares the processors with those of other users.
//
// A worker's start is nearly all computing. Where control groups share the processors, each user's have the same, however many there
// are. Elsewhere a user's first worker competes with everybody's, and those beside it take what is left over. And what they take is
// counted: of a user whose jobs end, and begin, one after the other, the next ones start more slowly while others are there.

import { availableParallelism } from "node:os";
import type { WorkerPlace } from "../worker/pool.ts";
import { type BudgetLimits, Budgets } from "./budgets.ts";
import type { UserGroups } from "./user-groups.ts";

/** A fifteenth of the weight of the usual niceness: little against others' workers, enough to get on. */
const behindNiceness = 12;
/** Of all processors. */
const crowdedShare = 1 / 8;
/** No job waits longer than the longest rest for the sake of what its user's former ones took. */
const budgetLimits: Omit<BudgetLimits, "crowdedShare"> = { aloneShare: null, crowdMs: 2_000, freeMs: 500, longestRestMs: 2_000 };
/** Charged as a worker starts, lest many do before the first has ended; what it has not taken by then is given back. */
const advanceMs = 500;

export interface ReservedPlace extends WorkerPlace {
  /** To be called once, as the worker is told its job. */
  readonly begin: () => void;
}

export class WorkerPlaces {
  private readonly groups: UserGroups | null;
  private readonly sharesByNiceness: boolean;
  private readonly now: () => number;
  private readonly workers = new Map<number, number>();
  private readonly budgets: Budgets;

  /** `groups`: null where there are none. `users`: whether it is for one user only, who competes with nobody. `now`: milliseconds. */
  constructor(
    groups: UserGroups | null,
    users: "one" | "many",
    now: () => number = () => performance.now(),
    processors: number = availableParallelism(),
  ) {
    this.groups = groups;
    this.sharesByNiceness = users === "many" && groups?.sharesProcessors !== true;
    this.now = now;
    this.budgets = new Budgets({ ...budgetLimits, crowdedShare: crowdedShare * processors });
  }

  /** The user has jobs that move data. */
  see(uid: number): void {
    this.budgets.see(uid, this.now());
  }

  /** How long this user's next worker is to wait, so that others get on; 0 for who is alone. */
  restMs(uid: number): number {
    return this.budgets.restMs(uid, this.now());
  }

  /** The place of one more worker of this user, until it is left. */
  enter(uid: number): WorkerPlace {
    const place = this.reserve(uid);
    place.begin();
    return place;
  }

  /** The same for a process that only waits: nothing is charged for it before it begins. */
  reserve(uid: number): ReservedPlace {
    const others = this.workers.get(uid) ?? 0;
    this.workers.set(uid, others + 1);
    const group = this.groups?.enter(uid) ?? null;
    let chargedMs = 0;
    const begin = (): void => {
      this.see(uid);
      chargedMs = this.budgets.charge(uid, advanceMs, this.now());
    };
    let hasLeft = false;
    const left = (takenMs: number): void => {
      if (hasLeft) return;
      hasLeft = true;
      const now = (this.workers.get(uid) ?? 1) - 1;
      if (now > 0) this.workers.set(uid, now);
      else this.workers.delete(uid);
      group?.left();
      this.see(uid);
      this.budgets.charge(uid, takenMs - chargedMs, this.now());
    };
    return { group: group?.path ?? null, niceness: this.sharesByNiceness && others > 0 ? behindNiceness : 0, begin, left };
  }
}
