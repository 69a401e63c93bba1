// Takes jobs in: one for each destination of a call, all or none, or those that the same call has made before.

import { CopyError } from "../errors.ts";
import type { Policy } from "../policy.ts";
import type { JobRequest } from "../request.ts";
import { type Caller, memberToken, type SubmitOptions } from "./api.ts";
import { memberRequests, requireGroupToken } from "./group.ts";
import { type Job, newJob } from "./job.ts";
import { requireAllowed } from "./job-policy.ts";
import { freshToken, generateToken, isToken } from "./tokens.ts";
import type { UserLoads } from "./user-loads.ts";

export interface AdmissionDependencies<Entry> {
  readonly find: (uid: number, token: string) => Entry | undefined;
  readonly loads: UserLoads;
  /** What the administrator allows a caller's new jobs. */
  readonly policyFor: (caller: Caller) => Policy;
  /** Microseconds of CLOCK_REALTIME. */
  readonly now: () => number;
  /** The highest number that a job ever had. */
  readonly lastId: number;
}

/** `existing`: the first job of the same call. */
export type Admitted<Entry> = { readonly existing: Entry } | { readonly jobs: readonly [Job, ...Job[]] };

export class Admission<Entry extends { readonly job: Job }> {
  private readonly dependencies: AdmissionDependencies<Entry>;
  private lastId: number;
  private lastCreatedUs = 0;

  constructor(dependencies: AdmissionDependencies<Entry>) {
    this.dependencies = dependencies;
    this.lastId = dependencies.lastId;
  }

  /** Throws job-exists, policy-denied, limits-exceeded, bad-option and what a fan-out cannot be. */
  admit(caller: Caller, token: string | null, request: JobRequest, options: SubmitOptions): Admitted<Entry> {
    const asAdmin = options.asAdmin ?? false;
    const requests = memberRequests(request, options.alsoTo ?? []);
    const existing = token === null ? null : this.sameJob(caller, token, requests, asAdmin);
    if (existing !== null) return { existing };
    const rules = this.dependencies.policyFor(caller);
    const policies = requests.map((one) => requireAllowed(rules, one));
    this.dependencies.loads.check(caller.uid, requests, options.beyondLimits === true ? "beyond" : "within");
    const chosen = token ?? freshToken((one) => requests.some((_, index) => this.isTaken(caller, memberToken(one, index))));
    const group = requests.length === 1 ? null : { token: chosen, destinations: requests.map(({ destination }) => destination) };
    const make = (one: JobRequest, index: number): Job => {
      const own = memberToken(chosen, index);
      const workToken = token === null ? own : generateToken();
      // Lists are read page by page, from the time of the last job seen.
      this.lastCreatedUs = Math.max(this.dependencies.now(), this.lastCreatedUs + 1);
      const companions = options.companion === undefined ? {} : { companions: [options.companion] };
      const common = { owner: caller, asAdmin, group, ...companions };
      const facts = { id: ++this.lastId, token: own, workToken, request: one, ...common, ...policies[index] };
      return newJob(facts, this.lastCreatedUs);
    };
    return { jobs: [make(request, 0), ...requests.slice(1).map((one, index) => make(one, index + 1))] };
  }

  private sameJob(caller: Caller, token: string, requests: readonly JobRequest[], asAdmin: boolean): Entry | null {
    if (!isToken(token)) throw new CopyError("bad-option", "token: 1 to 48 letters, digits and underscores");
    if (requests.length > 1) requireGroupToken(token);
    const entry = this.dependencies.find(caller.uid, token);
    if (entry === undefined) {
      const taken = requests.map((_, index) => memberToken(token, index)).find((one) => this.isTaken(caller, one));
      if (taken !== undefined) throw new CopyError("job-exists", `a job ${taken} exists, whose token one of the destinations would get`);
      return null;
    }
    const { job } = entry;
    const destinations = requests.map(({ destination }) => destination);
    const isSameGroup = Bun.deepEquals(job.group?.destinations ?? [job.request.destination], destinations);
    if (isSameGroup && (job.group === null || job.group.token === token)) {
      if (job.asAdmin === asAdmin && Bun.deepEquals(job.request, requests[0])) return entry;
    }
    throw new CopyError("job-exists", `a job ${token} with other arguments exists`);
  }

  private isTaken({ uid }: Caller, token: string): boolean {
    return this.dependencies.find(uid, token) !== undefined;
  }
}
