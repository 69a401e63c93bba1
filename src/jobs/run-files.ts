// What outlives the worker of one run of a job, open: the record of what is in flight, and the checkpoint where there is a place for one.

import { createInFlightFile, createUnnamedInFlightFile, type InFlightFile } from "./in-flight-file.ts";
import type { Job } from "./job.ts";
import { type CheckpointFile, openCheckpoint, openInFlight } from "./job-files.ts";
import { recordName } from "./left-over-records.ts";

/** As of RunSettings. */
export interface RunPlaces {
  readonly stateDirectory: string | null;
  readonly recordDirectory: string | null;
}

export class RunFiles {
  readonly checkpoint: CheckpointFile | null = null;
  private record: InFlightFile;
  private readonly job: Pick<Job, "owner" | "workToken">;
  private readonly stateDirectory: string | null;

  /**
   * Those of a former run where there are any. `tellFull`: called with the reason where they cannot be made, for their filesystem is full
   * or read-only: the job is done all the same. Throws the other errors of opening.
   */
  constructor(job: Job, { stateDirectory, recordDirectory }: RunPlaces, tellFull: (reason: string) => void) {
    this.job = job;
    this.stateDirectory = stateDirectory;
    let record: InFlightFile | undefined;
    if (stateDirectory !== null) {
      const open = (): CheckpointFile => openCheckpoint(stateDirectory, job);
      // Without one, a job that was begun before would meet its own copies as somebody else's.
      this.checkpoint = job.attempts.resumed > 0 ? open() : (unlessFull(open, tellFull) ?? null);
      record = unlessFull(() => openInFlight(stateDirectory, job), tellFull);
    } else if (recordDirectory !== null) {
      record = unlessFull(() => createInFlightFile(recordDirectory, recordName(job.workToken)), tellFull);
    }
    this.record = record ?? createUnnamedInFlightFile(job.workToken);
  }

  get inFlight(): InFlightFile {
    return this.record;
  }

  /** Whether a worker has written to the checkpoint. */
  get hasCheckpoint(): boolean {
    return this.checkpoint?.wasUsed() === true;
  }

  /** Nothing is in flight any more, and the next worker expects an empty record. Throws the errors of opening. */
  renewRecord(): void {
    this.record.discard();
    this.record =
      this.stateDirectory === null ? createUnnamedInFlightFile(this.job.workToken) : openInFlight(this.stateDirectory, this.job);
  }

  /** No worker has been told of them. Throws the errors of closing and removing. */
  remove(): void {
    this.record.discard();
    if (this.checkpoint?.isNew === true) this.checkpoint.remove();
    else this.checkpoint?.close();
  }

  /** The checkpoint stays until the job's end is on the disk. Throws the errors of closing and removing. */
  close(record: "discard" | "keep"): void {
    if (record === "keep" && this.record.wasUsed()) this.record.keep();
    else this.record.discard();
    this.checkpoint?.close();
  }
}

function unlessFull<File>(open: () => File, tellFull: (reason: string) => void): File | undefined {
  try {
    return open();
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && ["ENOSPC", "EDQUOT", "EROFS"].includes(String(cause.code)))) throw cause;
    tellFull(cause.message);
    return undefined;
  }
}
