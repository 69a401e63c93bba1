// Jobs that were worked on before and wait: what is in their way is waited for, what former workers left is removed, then they queue.

import type { MountTable } from "../mount-table.ts";
import { hasEnded } from "./api.ts";
import { goesOn, type Job } from "./job.ts";
import type { JobFiles } from "./job-files.ts";
import { Obstacles } from "./obstacles.ts";
import type { JobRun } from "./run.ts";

export interface Returning {
  readonly job: Job;
  /** Whoever works on it at present. */
  readonly run: JobRun | null;
}

export interface ReturnsDependencies<Entry extends Returning> {
  readonly readMounts: () => MountTable;
  readonly files: JobFiles;
  readonly tellWait: (entry: Entry, reason: string) => void;
  /** Starts a run that removes what former workers left. */
  readonly clear: (entry: Entry) => void;
  readonly enqueue: (entry: Entry) => void;
}

export class Returns<Entry extends Returning> {
  private readonly dependencies: ReturnsDependencies<Entry>;
  private readonly obstacles: Obstacles<Entry>;
  private isStopped = false;

  constructor(dependencies: ReturnsDependencies<Entry>) {
    this.dependencies = dependencies;
    this.obstacles = new Obstacles(dependencies.readMounts, dependencies.tellWait, (entry) => this.add(entry, "first clear"));
  }

  /** Jobs that wait for something else than their turn. */
  get size(): number {
    return this.obstacles.size;
  }

  /** A job that no process works on waits for its turn as soon as nothing is in its way. Nothing for one that has ended. */
  add(entry: Entry, how: "first clear" | "just wait"): void {
    const { job } = entry;
    if (this.isStopped || hasEnded(job.state) || entry.run !== null) return;
    // Paused, it waits for its user and for nothing else.
    if (job.state === "paused" ? !this.obstacles.isFree(job) : this.obstacles.hold(entry)) return;
    const hasLeft = job.startedTimeUs !== 0 && how === "first clear" && this.dependencies.files.hasRecord(job);
    if (!goesOn(job) || hasLeft) this.dependencies.clear(entry);
    else if (job.state === "queued") this.dependencies.enqueue(entry);
  }

  /** Whether a job whose turn has come may start; else it waits here. A first start is never held up. */
  admits(entry: Entry): boolean {
    return entry.job.startedTimeUs === 0 || !this.obstacles.hold(entry);
  }

  delete(entry: Entry): void {
    this.obstacles.delete(entry);
  }

  stop(): void {
    this.isStopped = true;
    this.obstacles.stop();
  }
}
