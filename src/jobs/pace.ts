// Holds back those jobs of a fan-out that are far ahead, so that what one has read is still in the page cache when the last comes to it.
// Pure: time is an argument.
//
// A job that makes no progress for a while holds up nobody; then the source may be read from its medium a second time.

import { isMoving, type Job } from "./job.ts";

export interface PaceLimits {
  /** Bytes by which one job of a fan-out may be ahead of the last, and an eighth of the memory at most; 0: as far as it gets. */
  readonly fanOutWindow: number;
  /** How long the others wait for one that makes no progress. */
  readonly fanOutPatienceMs: number;
}

/** Of the memory, what the page cache may be counted on to keep of the sources: the copies go through it as well. */
const cacheShare = 1 / 8;

/** How far a job had come when it last got on, and when that was. */
interface Step {
  readonly bytes: number;
  readonly files: number;
  readonly timeUs: number;
}

export class Pace {
  private readonly limits: PaceLimits;
  private readonly steps = new Map<number, Step>();

  private readonly memoryBytes: number;

  /** The limits may change at any time. */
  constructor(limits: PaceLimits, memoryBytes: number) {
    this.limits = limits;
    this.memoryBytes = memoryBytes;
  }

  /** Which of these jobs of one fan-out are to be held now, by number. Asked whenever one got on, and every now and then. */
  held(members: readonly Job[], nowUs: number): ReadonlySet<number> {
    const reading = members.filter(isReading);
    for (const job of reading) this.note(job, nowUs);
    for (const job of members) if (!reading.includes(job)) this.steps.delete(job.id);
    const window = Math.min(this.limits.fanOutWindow, this.memoryBytes * cacheShare);
    const awaited = reading.filter((job) => job.hold !== "none" || this.isGettingOn(job, nowUs));
    const last = Math.min(...awaited.map(bytesOf));
    const held = reading.filter((job) => window > 0 && bytesOf(job) > last + (job.hold === "held" ? window / 2 : window));
    return new Set(held.map(({ id }) => id));
  }

  private note(job: Job, nowUs: number): void {
    const { filesDone, filesSkipped } = job.progress.snapshot;
    const step = { bytes: bytesOf(job), files: filesDone + filesSkipped, timeUs: nowUs };
    const before = this.steps.get(job.id);
    // A clock that was set back begins anew.
    const isSame = before !== undefined && before.bytes === step.bytes && before.files === step.files && before.timeUs <= nowUs;
    if (!isSame || job.hold !== "none") this.steps.set(job.id, step);
  }

  private isGettingOn(job: Job, nowUs: number): boolean {
    const step = this.steps.get(job.id);
    return step !== undefined && nowUs - step.timeUs < this.limits.fanOutPatienceMs * 1000;
  }
}

/** True while what the job reads may serve others: it copies, and nobody has stopped it. */
function isReading(job: Job): boolean {
  const { phase } = job.progress.snapshot;
  const isCopying = job.activity === "working" && (phase === "scanning" || phase === "copying");
  return isCopying && isMoving(job) && !job.pauseRequested && !job.cancelRequested && !job.stopRequested && job.claim === null;
}

function bytesOf({ progress: { snapshot } }: Job): number {
  return snapshot.bytesDone;
}
