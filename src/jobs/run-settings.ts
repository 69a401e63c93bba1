// What each run of a job is told of what the jobs room was made with.

import type { Policy } from "../policy.ts";
import type { WorkerLimitChanges } from "../worker/pool.ts";
import type { Caller } from "./api.ts";
import type { JobsDependencies } from "./jobs-dependencies.ts";
import type { JobLimits } from "./limits.ts";
import { type JobsLog, noLog } from "./log.ts";
import { bootId, bootNumber } from "./process-identity.ts";
import { WorkerPlaces } from "./worker-places.ts";

export interface RunSettings {
  /** What the administrator allows a caller's new job or dry run. */
  readonly policyFor: (caller: Caller) => Policy;
  /** system: as the job's owner, through setpriv. session, embedded: a plain child of this process. */
  readonly mode: "system" | "session" | "embedded";
  readonly sandbox: "strict" | "if-available" | "off";
  /** Where records and checkpoints outlive this process; null: nowhere, and no job goes on after its worker has died. */
  readonly stateDirectory: string | null;
  /** Embedded jobs only: where the record survives this process (see left-over-records.ts); null: nowhere. */
  readonly recordDirectory: string | null;
  readonly totals: boolean;
  readonly lanes: number;
  readonly workerLimits: WorkerLimitChanges;
  readonly cancelTimeoutMs: number;
  readonly stopTimeoutMs: number;
  readonly recoverTimeoutMs: number;
  /** kernel.random.boot_id of now. */
  readonly bootId: string;
  /** Likewise, for what workers note. */
  readonly bootNumber: number;
  /** The worker's command instead of this program itself. */
  readonly self: readonly string[] | null;
  readonly places: WorkerPlaces;
  /** See WorkerOptions. */
  readonly pace: () => Promise<void> | null;
  readonly log: JobsLog;
}

export function runSettings(dependencies: JobsDependencies, limits: JobLimits): RunSettings {
  const embedded = dependencies.mode === "embedded";
  const boot = bootId();
  return {
    mode: dependencies.mode,
    sandbox: dependencies.sandbox ?? (embedded ? "off" : "if-available"),
    stateDirectory: dependencies.stateDirectory ?? null,
    recordDirectory: dependencies.recordDirectory ?? null,
    totals: dependencies.totals ?? true,
    lanes: dependencies.lanes ?? 0,
    workerLimits: { ...(embedded ? trustingWorkerLimits : {}), ...dependencies.workerLimits },
    cancelTimeoutMs: limits.cancelTimeoutMs,
    stopTimeoutMs: limits.stopTimeoutMs,
    recoverTimeoutMs: limits.recoverTimeoutMs,
    bootId: boot,
    bootNumber: bootNumber(boot),
    policyFor: dependencies.policyFor ?? (() => []),
    pace: dependencies.pace ?? (() => null),
    self: dependencies.self ?? null,
    places: new WorkerPlaces(dependencies.userGroups ?? null, dependencies.mode === "system" ? "many" : "one"),
    log: dependencies.log ?? noLog,
  };
}

/** The embedded worker is the caller's own child and prints its lines at any pace. */
const trustingWorkerLimits: WorkerLimitChanges = {
  messagesPerSecond: Number.POSITIVE_INFINITY,
  bytesPerSecond: Number.POSITIVE_INFINITY,
};
