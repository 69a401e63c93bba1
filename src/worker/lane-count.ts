// How many lanes a job gets: two where there is more than one core, and more while the lanes wait for the medium instead of working.
//
// A pure function of measurements, ten times a second. Creating files is the kernel's work, so lanes beyond the cores only contend,
// unless they sleep: behind a slow or cold source each sleeping lane is one more request in flight. A lane that waits for a
// processor which somebody else uses sleeps not: the kernel's count of preemptions tells the two apart.

/** One lane costs 5 to 6 MB. With seven, a copy without the service was measured at 96 MB (PSS); see bench/cold.md. */
const mostLanes = 7;
/** Lanes that sleep more than this share of their time wait for the medium. */
const sleepingShare = 0.5;
/** Beyond this there is nothing to lose by more lanes but their memory, and the next step is a large one. */
const mostlySleeping = 0.85;
/**
 * What an involuntary context switch costs a lane before it has a processor again, seconds: a slice of the scheduler's, taken large. Who
 * sleeps and wakes two hundred times a second is made to leave a processor now and then, too, and has lost little by it.
 */
const lostBySwitch = 0.004;
/** Measurements before another decision: a third of a second. */
const settleTicks = 3;
/** Lanes that move more than this share of what the job may move sleep for the limit's sake, and wait for no medium. */
const limitedShare = 0.5;
/** Small files of which half or more comes from the medium: their lanes wait for it, once for each file. */
const coldShare = 0.5;
const coldFileBytes = 1024 * 1024;
/** Nor does it tell much then how often a lane leaves its processor: for those who read for it. */
const coldSleepingShare = 0.25;
/** Seven were no faster than five before a disk (bench/cold.md), and five take less memory. */
const coldLanes = 5;
/** Lanes that have files opened ahead wait for little more than what a file's attributes are: bench/cold.md. */
const aheadLanes = 4;
/** A doubling that brings less than this was not worth it, and is the last. */
const worthwhileGain = 1.15;

export interface LaneMeasurement {
  /** Seconds since the measurement before. */
  readonly seconds: number;
  /** Processor seconds that the whole worker used in that time. */
  readonly busySeconds: number;
  /** How often a thread of the worker was made to leave its processor (getrusage(2), ru_nivcsw) in that time. */
  readonly preemptions: number;
  /** Files and directories finished in that time. */
  readonly entries: number;
  readonly bytes: number;
  /** Bytes that came from a medium for it (getrusage(2), ru_inblock), metadata and what was read ahead included. */
  readonly mediumBytes: number;
  /** The lanes ask for files ahead, so that few of them have as much in flight as many. */
  readonly readsAhead: boolean;
  /** Or have them opened and read ahead, since the source answers slowly. */
  readonly opensAhead: boolean;
  /** Bytes a second that the job may move; 0 for no limit. */
  readonly limit: number;
}

export class LaneCount {
  /** How it came to the number, for --debug and `copyd show`. */
  reason: string;
  private readonly isFixed: boolean;
  private readonly cores: number;
  private ticks = 0;
  private seconds = 0;
  private busySeconds = 0;
  private preemptions = 0;
  private work = 0;
  private bytes = 0;
  private entries = 0;
  private mediumBytes = 0;
  private workRateBefore = 0;
  private isSettled = false;

  /** `asked`: 0 to adapt. `whyInOrder`: why one lane must do it all, or null. */
  constructor(asked: number, whyInOrder: string | null, cores: number) {
    this.isFixed = asked > 0 || whyInOrder !== null;
    this.cores = cores;
    this.asked = whyInOrder === null ? asked : 1;
    this.reason = whyInOrder ?? (asked > 0 ? `${asked} lanes as asked` : "");
  }

  private readonly asked: number;

  /** How many a job gets that has lasted long enough to deserve more than one. */
  first(): number {
    if (this.isFixed) return this.asked;
    const lanes = Math.min(4, Math.max(2, this.cores));
    this.reason = `${lanes} lanes on ${this.cores} cores`;
    return lanes;
  }

  /** The number of lanes from now on, given what `lanes` lanes just did. */
  next(lanes: number, measured: LaneMeasurement): number {
    if (this.isFixed || this.isSettled) return lanes;
    this.ticks++;
    this.seconds += measured.seconds;
    this.busySeconds += measured.busySeconds;
    this.preemptions += measured.preemptions;
    this.bytes += measured.bytes;
    this.entries += measured.entries;
    this.mediumBytes += measured.mediumBytes;
    // An entry is worth about what 64 KiB are.
    this.work += measured.entries + measured.bytes / 65536;
    const isCold = this.mediumBytes > this.bytes * coldShare && this.bytes < this.entries * coldFileBytes;
    const needsMore = isCold && lanes < coldLanes && !measured.readsAhead;
    // Whether they wait is known already, and of what for.
    const isClear = needsMore || (measured.opensAhead && lanes < aheadLanes);
    if ((this.ticks < settleTicks && !isClear) || this.seconds <= 0) return lanes;
    // In a window of several ticks: a limited lane moves nothing in one and a whole step in the next.
    if (measured.limit > 0 && this.bytes > measured.limit * this.seconds * limitedShare) {
      this.reset();
      return lanes;
    }
    const share = this.busySeconds / (this.seconds * lanes);
    const rate = this.work / this.seconds;
    const asleep = 1 - share - (this.preemptions * lostBySwitch) / (this.seconds * lanes);
    const grew = this.workRateBefore === 0 || rate > this.workRateBefore * worthwhileGain;
    this.reset();
    if (needsMore && share < 1 - coldSleepingShare) {
      this.reason = `${coldLanes} lanes, since small files come from the medium, and ${lanes} were busy only ${Math.round(share * 100)} % of the time`;
      return coldLanes;
    }
    // The kernel's threads that open for them are made to leave their processors all the time: preemptions tell nothing.
    if (measured.opensAhead) {
      if (lanes >= aheadLanes || share > sleepingShare) return lanes;
      this.reason = `${aheadLanes} lanes, since the source answers slowly, and ${lanes} were busy only ${Math.round(share * 100)} % of the time`;
      return aheadLanes;
    }
    // Busy with copying, or in a queue for processors that others use.
    if (asleep < sleepingShare || rate === 0) return lanes;
    if (!grew || lanes >= mostLanes) this.isSettled = true;
    if (this.isSettled) return lanes;
    this.workRateBefore = rate;
    const more = Math.min(mostLanes, lanes * (asleep > mostlySleeping ? 4 : 2));
    this.reason = `${more} lanes, since ${lanes} were busy only ${Math.round(share * 100)} % of the time`;
    return more;
  }

  private reset(): void {
    this.ticks = 0;
    this.seconds = 0;
    this.busySeconds = 0;
    this.preemptions = 0;
    this.work = 0;
    this.bytes = 0;
    this.entries = 0;
    this.mediumBytes = 0;
  }
}
