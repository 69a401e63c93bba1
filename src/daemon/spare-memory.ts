// Gives memory back in quiet moments: what many jobs have left on the heap, and the code that was compiled for them.
//
// A collection alone gives nothing back (bench/start.md); without its compiled code, the first job afterwards takes some 12 ms longer.
// So it happens only when there is something to gain, and when nobody waits.

import { readFileSync } from "node:fs";
import type { Jobs } from "../jobs/api.ts";

/** Nothing has run or waited for so long. */
const quietMs = 1_000;
/** More than after the last time, in bytes: what some twenty jobs leave. */
const spareBytes = 8 * 1024 * 1024;

export class SpareMemory implements Disposable {
  private readonly jobs: Pick<Jobs, "counts" | "on">;
  private timer: Timer | undefined;
  /** What this process has of its own once it has given back what it can. */
  private leastBytes = ownBytes();

  /** Follows the jobs from now on. */
  constructor(jobs: Pick<Jobs, "counts" | "on">) {
    this.jobs = jobs;
    jobs.on("ended", () => this.wait(() => this.look()));
  }

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
  }

  private wait(then: () => void): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(then, quietMs);
    this.timer.unref();
  }

  private look(): void {
    const { active, queued } = this.jobs.counts();
    if (active + queued > 0 || ownBytes() - this.leastBytes < spareBytes) return;
    // It does so when the runtime is idle, a moment later.
    Bun.shrink();
    this.wait(() => {
      this.leastBytes = ownBytes();
    });
  }
}

/** Anonymous memory of this process; 0 where it cannot be told, and nothing is given back. */
function ownBytes(): number {
  const kibibytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1];
  return Number(kibibytes ?? 0) * 1024;
}
