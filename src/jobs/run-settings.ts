// What each run of a job is told of what the jobs room was made with.

import type { WorkerLimitChanges } from "../worker/pool.ts";
import type { JobsDependencies } from "./jobs-dependencies.ts";
import type { JobLimits } from "./limits.ts";
import { noLog } from "./log.ts";
import { bootId, bootNumber } from "./process-identity.ts";
import type { RunSettings } from "./run.ts";
import { WorkerPlaces } from "./worker-places.ts";

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
