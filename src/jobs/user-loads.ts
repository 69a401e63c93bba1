// What each user has asked for and not yet got, against what one user may ask for.

import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";

export interface UserLimits {
  readonly maxJobsPerUser: number;
  readonly maxArgumentBytesPerUser: number;
}

/** So far beyond the limits may go whom an administrator lets: more than a person needs, and still an end. */
const beyondFactor = 10;

interface UserLoad {
  readonly jobs: number;
  readonly argumentBytes: number;
}

const nothing: UserLoad = { jobs: 0, argumentBytes: 0 };

export class UserLoads {
  private readonly byUser = new Map<number, UserLoad>();
  private readonly limits: UserLimits;

  constructor(limits: UserLimits) {
    this.limits = limits;
  }

  /** Throws CopyError `limits-exceeded` where these jobs more would be too many, be it beyond the limits. */
  check(uid: number, requests: readonly JobRequest[], how: "within" | "beyond" = "within"): void {
    const load = this.byUser.get(uid) ?? nothing;
    const factor = how === "beyond" ? beyondFactor : 1;
    const maxJobsPerUser = this.limits.maxJobsPerUser * factor;
    const maxArgumentBytesPerUser = this.limits.maxArgumentBytesPerUser * factor;
    if (load.jobs + requests.length > maxJobsPerUser) {
      throw new CopyError("limits-exceeded", `user ${uid} has ${load.jobs} jobs that have not ended; ${maxJobsPerUser} are allowed`);
    }
    const bytes = requests.reduce((sum, request) => sum + argumentBytes(request), load.argumentBytes);
    if (bytes > maxArgumentBytesPerUser) {
      throw new CopyError("limits-exceeded", `the paths of user ${uid}'s jobs would exceed ${maxArgumentBytesPerUser} bytes`);
    }
  }

  add(uid: number, request: JobRequest): void {
    const load = this.byUser.get(uid) ?? nothing;
    this.byUser.set(uid, { jobs: load.jobs + 1, argumentBytes: load.argumentBytes + argumentBytes(request) });
  }

  remove(uid: number, request: JobRequest): void {
    const load = this.byUser.get(uid) ?? nothing;
    if (load.jobs <= 1) this.byUser.delete(uid);
    else this.byUser.set(uid, { jobs: load.jobs - 1, argumentBytes: load.argumentBytes - argumentBytes(request) });
  }
}

function argumentBytes(request: JobRequest): number {
  return request.sources.reduce((sum, path) => sum + path.length, request.destination.length);
}
