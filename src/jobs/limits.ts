// How much the jobs room takes on, with the reason for each number.

export interface JobLimits {
  /** Jobs that move data at once. */
  readonly maxRunning: number;
  /** Jobs of priority `now` that may run beyond maxRunning, one for each user. */
  readonly maxRunningNow: number;
  /** Of maxRunning, how many one user may hold: long jobs of one user must leave room for another's. */
  readonly maxRunningPerUser: number;
  /** Jobs that move data at once on one rotating or USB device; 0: no rule. */
  readonly maxRunningPerSlowDevice: number;
  /** Bytes a second of all jobs, and of one user's, shared among those that run; 0: no limit. */
  readonly bandwidthLimit: number;
  readonly bandwidthLimitPerUser: number;
  /** Worker processes of one user, paused and asking ones included: each is some tens of megabytes. */
  readonly maxWorkersPerUser: number;
  /** Bytes by which one job of a fan-out may be ahead of the last, an eighth of the memory at most: what it has read should still be cached. 0: no end. */
  readonly fanOutWindow: number;
  /** How long the others of a fan-out wait for one that makes no progress. */
  readonly fanOutPatienceMs: number;
  /** Jobs of one user that have not ended. */
  readonly maxJobsPerUser: number;
  /** Paths in those jobs' requests, bytes: they are held in memory. */
  readonly maxArgumentBytesPerUser: number;
  /** Errors kept of one job, and their bytes; beyond, they are counted only. */
  readonly maxErrorsPerJob: number;
  readonly maxErrorBytesPerJob: number;
  /** How long an ended job stays an object, and how many of one user's. */
  readonly lingerMs: number;
  readonly maxEndedPerUser: number;
  /** Dry runs at once, of all and of one user: each is a worker that reads directories. */
  readonly maxPreviews: number;
  readonly maxPreviewsPerUser: number;
  /** How long a dry run may look; then it says what it has found. */
  readonly previewTimeoutMs: number;
  /** How long a worker that was told to cancel may take to stop. */
  readonly cancelTimeoutMs: number;
  /** How long a worker that was told to stop with the service may take: less than systemd and people wait for a service. */
  readonly stopTimeoutMs: number;
  /** How long the removal of what a dead worker had in flight may take. */
  readonly recoverTimeoutMs: number;
}

export const defaultJobLimits: JobLimits = {
  maxRunning: 4,
  maxRunningNow: 2,
  maxRunningPerUser: 3,
  maxRunningPerSlowDevice: 1,
  bandwidthLimit: 0,
  bandwidthLimitPerUser: 0,
  maxWorkersPerUser: 8,
  fanOutWindow: 512 * 1024 * 1024,
  fanOutPatienceMs: 10_000,
  maxJobsPerUser: 1000,
  maxArgumentBytesPerUser: 16 * 1024 * 1024,
  maxErrorsPerJob: 10_000,
  maxErrorBytesPerJob: 4 * 1024 * 1024,
  lingerMs: 60_000,
  maxEndedPerUser: 200,
  maxPreviews: 8,
  maxPreviewsPerUser: 2,
  previewTimeoutMs: 120_000,
  cancelTimeoutMs: 10_000,
  stopTimeoutMs: 6_000,
  recoverTimeoutMs: 60_000,
};

/** For the embedded mode: one user, one job, nobody to protect from anybody. */
export const embeddedJobLimits: JobLimits = {
  ...defaultJobLimits,
  maxArgumentBytesPerUser: Number.POSITIVE_INFINITY,
  previewTimeoutMs: 0x7fff_ffff,
};
