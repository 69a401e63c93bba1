// The errors of one job: counted, and as many kept, here and in the store, as the limits let.

import type { EntryError } from "../worker/protocol.ts";
import type { Job } from "./job.ts";
import type { JobStore } from "./store.ts";

export interface ErrorLimits {
  readonly maxErrorsPerJob: number;
  readonly maxErrorBytesPerJob: number;
}

export class ErrorList {
  private readonly kept: EntryError[] = [];
  private keptBytes = 0;
  private addedCount = 0;
  private readonly job: Job;
  private readonly store: JobStore | null;
  private readonly maxCount: number;
  private readonly maxBytes: number;

  /** Of this job, whatever becomes of it. `store`: null where nothing outlasts this process. */
  constructor(job: Job, store: JobStore | null, { maxErrorsPerJob, maxErrorBytesPerJob }: ErrorLimits) {
    this.job = job;
    this.store = store;
    this.maxCount = maxErrorsPerJob;
    this.maxBytes = maxErrorBytesPerJob;
  }

  /** How many were added, kept or not. */
  get count(): number {
    return this.addedCount;
  }

  /** Those that a former run of the service kept. */
  load(): void {
    if (this.store !== null) this.keep(this.store.errors(this.job, 0, this.maxCount));
  }

  /** Counts them all and keeps what fits. */
  add(errors: readonly EntryError[]): void {
    const kept = this.keep(errors);
    if (kept.length > 0) this.store?.addErrors(this.job, kept);
  }

  /** Whoever goes on with the job finds them again. */
  clear(): void {
    this.kept.length = 0;
    this.addedCount = 0;
    this.keptBytes = 0;
    this.store?.clearErrors(this.job);
  }

  slice(offset: number, limit: number): readonly EntryError[] {
    return this.kept.slice(offset, offset + limit);
  }

  /** Returns exactly what fits. The first that does not ends the list: what is kept has no gaps. */
  private keep(errors: readonly EntryError[]): readonly EntryError[] {
    const before = this.kept.length;
    this.addedCount += errors.length;
    for (const error of errors) {
      const bytes = error.path.length + error.message.length + 128;
      if (this.kept.length >= this.maxCount || this.keptBytes + bytes > this.maxBytes) {
        this.keptBytes = this.maxBytes;
        break;
      }
      this.kept.push(error);
      this.keptBytes += bytes;
    }
    return this.kept.slice(before);
  }
}
