// Where the kernel puts a worker: in which control group, and how it shares the processors with those of other users.
//
// A worker's start is nearly all computing. Where control groups share the processors, each user's have the same, however many there
// are. Elsewhere a user's first worker competes with everybody's, and those beside it take what is left over.

import type { WorkerPlace } from "../worker/pool.ts";
import type { UserGroups } from "./user-groups.ts";

/** A fifteenth of the weight of the usual niceness: little against others' workers, enough to get on. */
const behindNiceness = 12;

export class WorkerPlaces {
  private readonly groups: UserGroups | null;
  private readonly sharesByNiceness: boolean;
  private readonly workers = new Map<number, number>();

  /** `groups`: null where there are none. `users`: whether it is for one user only, who competes with nobody. */
  constructor(groups: UserGroups | null, users: "one" | "many") {
    this.groups = groups;
    this.sharesByNiceness = users === "many" && groups?.sharesProcessors !== true;
  }

  /** The place of one more worker of this user, until it is left. */
  enter(uid: number): WorkerPlace {
    const others = this.workers.get(uid) ?? 0;
    this.workers.set(uid, others + 1);
    const group = this.groups?.enter(uid) ?? null;
    let hasLeft = false;
    const left = (): void => {
      if (hasLeft) return;
      hasLeft = true;
      const now = (this.workers.get(uid) ?? 1) - 1;
      if (now > 0) this.workers.set(uid, now);
      else this.workers.delete(uid);
      group?.left();
    };
    return { group: group?.path ?? null, niceness: this.sharesByNiceness && others > 0 ? behindNiceness : 0, left };
  }
}
