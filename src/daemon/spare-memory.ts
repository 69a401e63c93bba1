// Gives memory back in quiet moments: what jobs have left on the heap, with the code that was compiled for them, and the program's own code.
//
// A collection alone gives nothing back (bench/start.md); without its compiled code, the first job afterwards takes some 12 ms longer.
// So it happens only when there is something to gain, and when nobody waits, or only for a job that lasts.

import { readFileSync } from "node:fs";
import { CodeReleaser } from "../code-releaser.ts";
import type { Jobs } from "../jobs/api.ts";

/** Nothing has run or waited for so long. Milliseconds. */
const quietMs = 1_000;
/** More than after the last time, in bytes: what some twenty jobs leave. */
const spareBytes = 8 * 1024 * 1024;
/** No job has begun for so long, and one runs: it will last, and its memory counts together with this. Milliseconds. */
const lastingMs = 850;
const spareWhileBusyBytes = 2 * 1024 * 1024;

/** How long the runtime may take until it is idle and has shrunk. Milliseconds. */
const shrunkMs = 500;

export class SpareMemory implements Disposable {
  private readonly jobs: Pick<Jobs, "counts" | "on">;
  private timer: Timer | undefined;
  private code: CodeReleaser | null = null;
  private readonly own: () => number;
  /** What this process has of its own once it has given back what it can. */
  private leastBytes: number;

  /** Follows the jobs from now on. `own`: bytes that this process has of its own. */
  constructor(jobs: Pick<Jobs, "counts" | "on">, own = ownBytes) {
    this.jobs = jobs;
    this.own = own;
    this.leastBytes = own();
    jobs.on("changed", (job, isUrgent) => {
      if (isUrgent && job.state === "running") this.begun();
    });
    jobs.on("ended", () => this.ended());
  }

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
    this.code?.[Symbol.dispose]();
  }

  /** Where one short job follows another, this comes to nothing. */
  private begun(): void {
    this.code?.[Symbol.dispose]();
    this.code = new CodeReleaser();
    this.wait(lastingMs, () => this.look());
  }

  private ended(): void {
    if (this.jobs.counts().active === 0) {
      this.code?.[Symbol.dispose]();
      this.code = null;
    }
    this.wait(quietMs, () => this.look());
  }

  private wait(milliseconds: number, then: () => void): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(then, milliseconds).unref();
  }

  private look(): void {
    const isBusy = this.jobs.counts().active > 0;
    if (this.own() - this.leastBytes < (isBusy ? spareWhileBusyBytes : spareBytes)) return;
    // It does so when the runtime is idle, a moment later.
    Bun.shrink();
    this.wait(shrunkMs, () => {
      this.leastBytes = this.own();
    });
  }
}

/** Anonymous memory of this process; 0 where it cannot be told, and nothing is given back. */
function ownBytes(): number {
  const kibibytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
  return Number(kibibytes ?? 0) * 1024;
}
