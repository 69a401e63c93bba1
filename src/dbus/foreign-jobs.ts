// Jobs of other users: there for whoever may manage them (root, and whom polkit lets), and for nobody else.
//
// Whether there is such a job is looked at only after the yes: what is asked and answered before says nothing of it.

import { CopyError, type FailureCode } from "../errors.ts";
import type { Jobs, JobView } from "../jobs/api.ts";
import type { Authorizations } from "./authorizations.ts";
import { type JobAddress, jobPath } from "./object-path.ts";
import { type CallContext, noObject } from "./objects.ts";

/** Who wants to know why asks the Manager, as by ListJobs with all-users. */
const hidden: ReadonlySet<FailureCode> = new Set(["not-authorized", "authorization-required"]);

export class ForeignJobs {
  private readonly jobs: Jobs;
  private readonly authorizations: Authorizations;

  constructor(jobs: Jobs, authorizations: Authorizations) {
    this.jobs = jobs;
    this.authorizations = authorizations;
  }

  /** The job, where the caller may manage it. Throws unknown-object where it may not, and what `require` throws. */
  async find(address: JobAddress, context: CallContext): Promise<JobView | undefined> {
    if (!this.authorizations.isPossible) return undefined;
    try {
      await this.require(address.uid, context, address.token);
    } catch (refusal) {
      const isHidden = refusal instanceof CopyError && hidden.has(refusal.code);
      if (!isHidden) throw refusal;
      throw noObject(jobPath(address.uid, address.token), refusal);
    }
    return this.jobs.get(address.uid, address.token);
  }

  /**
   * Resolves where the caller may manage this user's jobs, as everybody may their own. Throws not-authorized, authorization-required,
   * limits-exceeded, access-denied; not-supported on the session bus, where there is nobody else.
   */
  async require(owner: number, context: CallContext, token?: string): Promise<void> {
    if (owner === context.caller.uid) return;
    const details = new Map([["owner", String(owner)], ...(token === undefined ? [] : [["job", token] as const])]);
    await this.authorizations.require("org.copyd.manage-others", details, context, { owner, ...(token !== undefined && { job: token }) });
  }
}
