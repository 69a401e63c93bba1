// What one caller may ask of the D-Bus service at once, each number with its reason. What jobs may ask is the jobs room's.

import type { DecodeLimits } from "./codec.ts";

export interface ServiceLimits {
  /** Paths in one call: what a file manager may have selected. Beyond it, name the directory. */
  readonly maxSources: number;
  /** Bytes of paths in one call: a command line of the usual ARG_MAX fits. */
  readonly maxArgumentBytes: number;
  /** Of one user. Each subscribed connection is sent every signal. */
  readonly maxSubscriptions: number;
  /** Jobs that one subscription names. */
  readonly maxTokensPerSubscription: number;
  /** Of one user: calls of Wait not yet answered, each held in memory. */
  readonly maxWaits: number;
  /** Questions to polkit of one user under way: each may show a dialogue. */
  readonly maxAuthorizationsPerUser: number;
  /** Jobs in one reply of ListJobs or GetManagedObjects. */
  readonly maxListedJobs: number;
  /** Errors in one reply of GetErrors. */
  readonly maxListedErrors: number;
  /** Records in one reply of ListAudit. */
  readonly maxListedRecords: number;
  /** Operations in one reply of Preview. */
  readonly maxPreviewOperations: number;
  /** Bytes of one reply, roughly: the bus ends connections that send messages beyond its own limit (32 MiB by default). */
  readonly maxReplyBytes: number;
  /** A job's PropertiesChanged are at least so far apart, and so far when many jobs run, milliseconds. State changes do not wait. */
  readonly progressIntervalMs: number;
  readonly crowdedProgressIntervalMs: number;
  /** More running jobs than this are many. */
  readonly crowdedJobs: number;
}

/** So far beyond the limits of one call may go whom polkit lets (org.copyd.override-limits). The bus's own limit is not far. */
export const beyondFactor = 4;

/** What the codec need not even decode: messages that no call can need, be it beyond these limits. Options take the rest. */
export function decodeLimits(limits: Pick<ServiceLimits, "maxSources" | "maxArgumentBytes">): DecodeLimits {
  const maxSources = limits.maxSources * beyondFactor;
  const maxArgumentBytes = limits.maxArgumentBytes * beyondFactor;
  // Each path of an array comes with its length, its NUL and its padding.
  return { maxMessageBytes: maxArgumentBytes + 8 * maxSources + 1024 * 1024, maxValues: maxSources + 32 * 1024 };
}

export const defaultServiceLimits: ServiceLimits = {
  maxSources: 16_384,
  maxArgumentBytes: 4 * 1024 * 1024,
  maxSubscriptions: 64,
  maxTokensPerSubscription: 256,
  maxWaits: 256,
  maxAuthorizationsPerUser: 8,
  maxListedJobs: 1000,
  maxListedErrors: 1000,
  maxListedRecords: 1000,
  maxPreviewOperations: 1000,
  maxReplyBytes: 8 * 1024 * 1024,
  progressIntervalMs: 250,
  crowdedProgressIntervalMs: 1000,
  crowdedJobs: 8,
};
