// The files of a job that outlive its workers, in the service's state directory: the record of what is in flight, and the checkpoint.
//
// The record goes when nothing is in flight, the checkpoint when the job's end is on the disk: a job whose end a power cut takes
// back must still find what it had done.

import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInFlightFile, type InFlightFile, reopenInFlightFile } from "./in-flight-file.ts";
import type { Job } from "./job.ts";
import type { JobsLog } from "./log.ts";

type Named = Pick<Job, "owner" | "workToken">;

/** This side's descriptor of a checkpoint; whoever opened it closes it. */
export interface CheckpointFile {
  readonly fd: number;
  /** No worker has ever had it. */
  readonly isNew: boolean;
  /** Whether a worker has written to it. */
  wasUsed(): boolean;
  close(): void;
  /** Closes and removes one that no worker has been told of. */
  remove(): void;
}

const inFlightPrefix = "in-flight-";
const checkpointPrefix = "checkpoint-";
/** A little later than the end of a batch of small jobs, which then cost one sync of the store together. */
const retireDelayMs = 5_000;

export function inFlightName({ owner, workToken }: Named): string {
  return `${inFlightPrefix}${owner.uid}-${workToken}`;
}

/** The job's record, a former worker's where there is one. Throws the errors of opening. */
export function openInFlight(directory: string, job: Named): InFlightFile {
  makeAgain(directory);
  return reopenInFlightFile(directory, inFlightName(job)) ?? createInFlightFile(directory, inFlightName(job));
}

/** Throws the errors of opening. */
export function openCheckpoint(directory: string, job: Named): CheckpointFile {
  makeAgain(directory);
  const path = join(directory, checkpointName(job));
  const isNew = !existsSync(path);
  const fd = openSync(path, isNew ? "wx+" : "r+", 0o600);
  const close = (): void => closeSync(fd);
  const remove = (): void => {
    close();
    rmSync(path, { force: true });
  };
  return { fd, isNew, wasUsed: () => fstatSync(fd).size > 0, close, remove };
}

/** Moves the files of all jobs, whose store is lost, into a directory of their own. Throws the errors of renaming. */
export function setFilesAside(directory: string, into: string, log: JobsLog): void {
  const names = readdirSync(directory).filter((name) => name.startsWith(inFlightPrefix) || name.startsWith(checkpointPrefix));
  if (names.length === 0) return;
  mkdirSync(into, { mode: 0o700 });
  for (const name of names) renameSync(join(directory, name), join(into, name));
  log.error("what unfinished jobs had done is set aside, for their store is lost", { aside: into, files: names.length });
}

/** Somebody may have removed the service's directory under it. */
function makeAgain(directory: string): void {
  if (!existsSync(directory)) mkdirSync(directory, { recursive: true, mode: 0o700 });
}

export class JobFiles {
  private readonly directory: string | null;
  /** Sees to it that the ends of jobs are on the disk; null: they are kept nowhere. */
  private readonly makeDurable: (() => boolean) | null;
  private readonly log: JobsLog;
  private readonly retired = new Set<string>();
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(directory: string | null, makeDurable: (() => boolean) | null, log: JobsLog) {
    this.directory = directory;
    this.makeDurable = makeDurable;
    this.log = log;
  }

  /** Whether a worker of the job may have left something in flight. */
  hasRecord(job: Named): boolean {
    return this.hasFile(inFlightName(job));
  }

  /** The job has ended: its checkpoint goes as soon as nothing can take that back. */
  retire(job: Named): void {
    if (this.directory === null) return;
    this.retired.add(checkpointName(job));
    if (this.makeDurable === null) this.removeRetired();
    else if (this.timer === undefined) {
      this.timer = setTimeout(() => this.removeRetired(), retireDelayMs);
      this.timer.unref();
    }
  }

  /**
   * At the start: removes the checkpoints of jobs that have ended, and names the records of such jobs. Nothing where the store does not
   * know all jobs: what it does not name may be what one of them goes on by.
   */
  sweep(unfinished: readonly Named[], store: { readonly knowsAll: boolean }): readonly string[] {
    if (this.directory === null || !store.knowsAll) return [];
    const known = new Set(unfinished.flatMap((job) => [inFlightName(job), checkpointName(job)]));
    const others = readdirSync(this.directory).filter((name) => !known.has(name));
    for (const name of others) if (name.startsWith(checkpointPrefix) || this.isUnusedRecord(name)) this.remove(name);
    return others.filter((name) => name.startsWith(inFlightPrefix) && this.hasFile(name));
  }

  /** Made for a job that the former service did not live to store. */
  private isUnusedRecord(name: string): boolean {
    if (this.directory === null || !name.startsWith(inFlightPrefix)) return false;
    return statSync(join(this.directory, name), { throwIfNoEntry: false })?.blocks === 0;
  }

  private hasFile(name: string): boolean {
    return this.directory !== null && existsSync(join(this.directory, name));
  }

  /** At the service's end: what has ended needs nothing any more. */
  stop(): void {
    clearTimeout(this.timer);
    if (this.retired.size > 0) this.removeRetired();
  }

  private removeRetired(): void {
    this.timer = undefined;
    // Where the store cannot be written, they stay for the next start.
    if (this.makeDurable?.() === false) return;
    for (const name of this.retired) this.remove(name);
    this.retired.clear();
  }

  private remove(name: string): void {
    try {
      if (this.directory !== null) rmSync(join(this.directory, name), { force: true });
    } catch (cause) {
      this.log.warning("a file of an ended job cannot be removed", {
        name,
        reason: cause instanceof Error ? cause.message : String(cause),
      });
    }
  }
}

function checkpointName({ owner, workToken }: Named): string {
  return `${checkpointPrefix}${owner.uid}-${workToken}`;
}
