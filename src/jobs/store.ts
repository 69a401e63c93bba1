// The durable store of jobs.

import type { EntryError } from "../worker/protocol.ts";
import type { Job } from "./job.ts";

export interface JobStore {
  /** The highest number that a job was ever stored under. */
  readonly lastId: number;
  /** Jobs that had not ended, oldest first. */
  unfinished(): readonly Job[];
  /** Stores the job as it is now. `soon`: with the next batch, about a second later at most. */
  save(job: Job, when: "now" | "soon"): void;
  addErrors(job: Job, errors: readonly EntryError[]): void;
  /** Forgets it altogether. */
  remove(job: Job): void;
  close(): void;
}
