// A file in the state directory that is there exactly while jobs wait or run. copyd-resume.service looks for it when the machine starts.
//
// Paused jobs do not count: they wait for their users, not for a machine.

import { closeSync, fsyncSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import type { Jobs } from "../jobs/api.ts";
import { log } from "../log.ts";

const fileName = "unfinished";
/** A job that takes longer is worth a sync: a power cut must find the marker. */
const syncDelayMs = 1_000;

export class UnfinishedMarker implements Disposable {
  private readonly directory: string;
  private readonly jobs: Pick<Jobs, "counts" | "on">;
  /** null: as a former service left it. */
  private isThere: boolean | null = null;
  private isKept = false;
  private timer: Timer | undefined;

  /** Follows the jobs from now on, until `settle`. */
  constructor(directory: string, jobs: Pick<Jobs, "counts" | "on">) {
    this.directory = directory;
    this.jobs = jobs;
    jobs.on("added", () => this.follow());
    jobs.on("changed", (_job, urgent) => urgent && this.follow());
    jobs.on("ended", () => this.follow());
    this.follow();
  }

  /** At the service's end: whether jobs are left that are to go on by themselves. */
  settle(isUnfinished: boolean): void {
    this.isKept = true;
    this.set(isUnfinished);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
  }

  private follow(): void {
    if (this.isKept) return;
    const { active, queued } = this.jobs.counts();
    this.set(active + queued > 0);
  }

  private set(wanted: boolean): void {
    if (wanted === this.isThere) return;
    clearTimeout(this.timer);
    const path = join(this.directory, fileName);
    try {
      if (!wanted) rmSync(path, { force: true });
      else {
        closeSync(openSync(path, "a", 0o600));
        this.timer = setTimeout(() => this.sync(path), syncDelayMs);
        this.timer.unref();
      }
      this.isThere = wanted;
    } catch (cause) {
      log.warning("the marker of unfinished jobs cannot be kept", { path, reason: cause instanceof Error ? cause.message : String(cause) });
    }
  }

  private sync(path: string): void {
    try {
      for (const each of [path, this.directory]) {
        const fd = openSync(each, "r");
        fsyncSync(fd);
        closeSync(fd);
      }
    } catch (cause) {
      // Then the next start is somebody's call, as ever.
      log.warning("the marker of unfinished jobs is not on the disk", { reason: cause instanceof Error ? cause.message : String(cause) });
    }
  }
}
