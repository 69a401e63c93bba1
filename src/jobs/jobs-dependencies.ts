// What the jobs room is made of and what its owner may change later: for the daemon, the embedded mode and tests.

import type { MountTable } from "../mount-table.ts";
import type { Policy } from "../policy.ts";
import type { WorkerLimitChanges } from "../worker/pool.ts";
import type { Caller, Jobs } from "./api.ts";
import type { Job } from "./job.ts";
import type { JobLimits } from "./limits.ts";
import type { JobsLog } from "./log.ts";
import type { JobRun } from "./run.ts";
import type { RunSettings } from "./run-settings.ts";
import type { SlowDevices } from "./slow-devices.ts";
import type { JobStore } from "./store.ts";
import type { UserGroups } from "./user-groups.ts";

export interface JobsDependencies {
  /**
   * system: workers run as each job's owner, through setpriv, which needs root. session and embedded: workers are plain
   * children of this process.
   */
  readonly mode: "system" | "session" | "embedded";
  readonly limits?: Partial<JobLimits>;
  readonly workerLimits?: WorkerLimitChanges;
  /** By default "if-available", and "off" when embedded. */
  readonly sandbox?: RunSettings["sandbox"];
  /** History and restarts; null (the default): everything ends with this process. */
  readonly store?: JobStore | null;
  /** Where records and checkpoints outlive this process; null (the default): nowhere. */
  readonly stateDirectory?: string | null;
  /** Embedded: where records survive this process; null (the default): nowhere. */
  readonly recordDirectory?: string | null;
  /** Devices on which jobs take turns; null (the default): none. */
  readonly slowDevices?: SlowDevices | null;
  /** Control groups that limit what the workers of each user take; null (the default): none. */
  readonly userGroups?: UserGroups | null;
  /** What the administrator allows a caller; by default everything. Asked once for each job. */
  readonly policyFor?: (caller: Caller) => Policy;
  /** Count totals for a percentage; on by default. */
  readonly totals?: boolean;
  /** Lanes of each worker; 0 (the default): it adapts. */
  readonly lanes?: number;
  readonly log?: JobsLog;
  /** Microseconds of CLOCK_REALTIME. */
  readonly now?: () => number;
  /** What the listeners to lines and errors cannot take any more of: workers wait for it to resolve; null: they take more. */
  readonly pace?: () => Promise<void> | null;
  /** The worker's command instead of this program itself. */
  readonly self?: readonly string[];
  /** What is mounted now; by default what the kernel says. */
  readonly readMounts?: () => MountTable;
}

/** The jobs, and the limits that may change while they run: what has begun under the former ones goes on. */
export interface AdjustableJobs extends Jobs {
  setLimits(limits: Partial<JobLimits>): void;
  /** Takes jobs, but starts none until `release`: with a store, the next run of the service may be the one that starts them. */
  hold(): void;
  release(): void;
  /** What runs now. */
  readonly started: ReadonlySet<{ readonly job: Job; readonly run: JobRun | null }>;
}
