// Jobs that have ended and are no objects any more, as the store remembers them: found, listed, read and forgotten like the others.

import { CopyError } from "../errors.ts";
import type { EntryError } from "../worker/protocol.ts";
import { hasEnded, type JobQuery, type JobView, type StatisticsQuery, type StatisticsRow } from "./api.ts";
import type { Job } from "./job.ts";
import { viewOf } from "./job-view.ts";
import type { JobStore } from "./store.ts";

export class PastJobs {
  private readonly store: JobStore | null;

  /** `store`: null where nothing outlasts this process. */
  constructor(store: JobStore | null) {
    this.store = store;
  }

  /** Jobs that the query fits, the newest of them, oldest first. `present`: those that are known without the store. */
  search(query: JobQuery, present: readonly JobView[]): readonly JobView[] {
    if (!query.history || this.store === null) {
      const fitting = present.filter((job) => fits(query, job)).sort((one, other) => one.createdTimeUs - other.createdTimeUs);
      return query.limit === 0 ? [] : fitting.slice(-query.limit);
    }
    const views = new Map(present.map((job) => [keyOf(job), job]));
    const found = this.store.search(query).map((job) => views.get(keyOf(job)) ?? viewOf(job));
    return found.reverse();
  }

  /** The latest ended job of this user with this very token. */
  find(uid: number, token: string): JobView | undefined {
    const job = this.job(uid, token);
    return job === undefined ? undefined : viewOf(job);
  }

  /** Throws no-such-job. */
  require({ owner, token }: JobView): Job {
    const job = this.job(owner.uid, token);
    if (job === undefined) throw new CopyError("no-such-job", `there is no job ${token}`);
    return job;
  }

  errors(job: JobView, offset: number, limit: number): readonly EntryError[] {
    const past = this.require(job);
    return this.store?.errors(past, offset, limit) ?? [];
  }

  forget(job: JobView): void {
    const past = this.require(job);
    this.store?.remove(past);
  }

  statistics(query: StatisticsQuery): readonly StatisticsRow[] {
    return this.store?.statistics(query) ?? [];
  }

  private job(uid: number, token: string): Job | undefined {
    const job = this.store?.find(uid, token) ?? undefined;
    // What has not ended and is not known to the room is a row that no version of copyd wrote so.
    return job !== undefined && hasEnded(job.state) ? job : undefined;
  }
}

function fits({ uid, states, token, sinceUs, beforeUs }: JobQuery, job: JobView): boolean {
  if (uid !== null && job.owner.uid !== uid) return false;
  if (states !== null && !states.includes(job.state)) return false;
  if (token !== null && !job.token.startsWith(token)) return false;
  return job.createdTimeUs >= (sinceUs ?? 0) && job.createdTimeUs < (beforeUs ?? Number.POSITIVE_INFINITY);
}

/** A token may be taken again once its job is no object any more. */
function keyOf({ owner, token, createdTimeUs }: Pick<JobView, "owner" | "token" | "createdTimeUs">): string {
  return `${owner.uid} ${token} ${createdTimeUs}`;
}
