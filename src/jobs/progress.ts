// How far a job has come, how fast and until when: merges the worker's snapshots so that nothing ever runs backwards. Pure.

import { emptySnapshot, type Phase, phases, type Snapshot } from "../worker/protocol.ts";

/** The rate forgets with this time constant: quick enough to show a slow patch, slow enough to be read. */
const smoothingUs = 3_000_000;
/** So does that of the device: the kernel writes back by fits and starts. */
const flushSmoothingUs = 10_000_000;
/** A device that has taken nothing for longer than this is not being written to. */
const lumpUs = 2_000_000;
/** What a file costs beside its bytes, in bytes: creating one takes about as long as writing this much. Weighs the expected end. */
const fileCostBytes = 64 * 1024;
/** Below this much smoothed history a rate is noise, and no end is foretold. */
const minWeight = 0.05;

export interface Progress {
  /** The worker's latest snapshot, merged: counters only grow, the phase only advances. */
  readonly snapshot: Snapshot;
  /** Bytes a second, smoothed; 0 while paused. */
  readonly rate: number;
  /** Microseconds of CLOCK_REALTIME; 0 while nothing can be foretold. */
  readonly expectedEndTimeUs: number;
  /** When the smoothing below was last fed. */
  readonly sampledTimeUs: number;
  readonly smoothedBytes: number;
  readonly smoothedWork: number;
  /** How much history the smoothed values hold, 0 to 1: they are divided by it. */
  readonly weight: number;
  readonly flush: FlushRate;
}

/** What the device has taken out of the page cache a second, smoothed as the others. */
export interface FlushRate {
  readonly smoothedBytes: number;
  readonly weight: number;
  /** When it last took something. */
  readonly movedTimeUs: number;
}

const noFlush: FlushRate = { smoothedBytes: 0, weight: 0, movedTimeUs: 0 };

/** Progress of a job that starts (or is created) now. */
export function startProgress(nowUs: number): Progress {
  return {
    snapshot: emptySnapshot,
    rate: 0,
    expectedEndTimeUs: 0,
    sampledTimeUs: nowUs,
    smoothedBytes: 0,
    smoothedWork: 0,
    weight: 0,
    flush: noFlush,
  };
}

/**
 * Progress of a job that is taken up again: what was done until then stays shown, and the new worker's counters take over when they
 * pass it. Errors are found again.
 */
export function resumeProgress({ snapshot }: Progress, nowUs: number): Progress {
  return { ...startProgress(nowUs), snapshot: { ...snapshot, phase: "scanning", paused: false, errorCount: 0, warningCount: 0 } };
}

/** Progress while nobody works on it. */
export function restingProgress(progress: Progress): Progress {
  return { ...progress, rate: 0, expectedEndTimeUs: 0, snapshot: { ...progress.snapshot, bytesUnflushed: 0, paused: false, lanes: 0 } };
}

/** Progress after one more snapshot. A clock that was set back costs one sample, nothing else. */
export function advanceProgress(previous: Progress, claimed: Snapshot, nowUs: number): Progress {
  const snapshot = mergeSnapshots(previous.snapshot, claimed);
  const elapsedUs = nowUs - previous.sampledTimeUs;
  if (snapshot.paused || previous.snapshot.paused || elapsedUs <= 0) {
    const rate = snapshot.paused ? 0 : previous.rate;
    return { ...previous, snapshot, rate, expectedEndTimeUs: 0, sampledTimeUs: nowUs };
  }
  const flush = advanceFlush(previous, snapshot, nowUs);
  // A flush and reading back have rates of their own.
  const isNew = snapshot.phase !== previous.snapshot.phase && isLate(snapshot.phase);
  const { smoothedBytes: oldBytes, smoothedWork: oldWork, weight: oldWeight } = isNew ? startProgress(nowUs) : previous;
  const bytes = bytesMoved(previous.snapshot, snapshot);
  const work = workOf(bytes, handled(snapshot) - handled(previous.snapshot));
  const kept = Math.exp(-elapsedUs / smoothingUs);
  const smoothedBytes = oldBytes * kept + ((bytes * 1e6) / elapsedUs) * (1 - kept);
  const smoothedWork = oldWork * kept + ((work * 1e6) / elapsedUs) * (1 - kept);
  const weight = oldWeight * kept + (1 - kept);
  const workRate = weight < minWeight ? 0 : smoothedWork / weight;
  const flushRate = flush.weight < minWeight ? 0 : flush.smoothedBytes / flush.weight;
  return {
    snapshot,
    rate: Math.round(smoothedBytes / weight),
    expectedEndTimeUs: expectedEnd(snapshot, { workRate, flushRate }, previous.expectedEndTimeUs, nowUs),
    sampledTimeUs: nowUs,
    smoothedBytes,
    smoothedWork,
    weight,
    flush,
  };
}

/**
 * Progress after the worker's last word. What was counted for files that failed in the middle has been taken back by then: the
 * counters are those of what lies on disk, also where the bar had been further.
 */
export function endProgress(previous: Progress, claimed: Snapshot, nowUs: number): Progress {
  const progress = advanceProgress(previous, { ...claimed, paused: false }, nowUs);
  const { bytesDone, bytesCloned, filesDone, filesSkipped, directoriesDone } = claimed;
  return { ...progress, snapshot: { ...progress.snapshot, bytesDone, bytesCloned, filesDone, filesSkipped, directoriesDone } };
}

/** The later of two snapshots, with what may not shrink kept: a worker that lies cannot make a bar run backwards. */
function mergeSnapshots(previous: Snapshot, claimed: Snapshot): Snapshot {
  const bytesDone = Math.max(previous.bytesDone, claimed.bytesDone);
  const bytesVerified = Math.max(previous.bytesVerified, claimed.bytesVerified);
  const filesDone = Math.max(previous.filesDone, claimed.filesDone);
  const filesSkipped = Math.max(previous.filesSkipped, claimed.filesSkipped);
  // Valid totals stand: only what was really done beyond them (a source that grew) moves them.
  const totals = previous.totalsValid ? previous : claimed;
  return {
    phase: laterPhase(previous.phase, claimed.phase),
    paused: claimed.paused,
    totalsValid: previous.totalsValid || claimed.totalsValid,
    bytesTotal: Math.max(totals.bytesTotal, bytesDone),
    bytesDone,
    bytesCloned: Math.max(previous.bytesCloned, claimed.bytesCloned),
    bytesUnflushed: Math.min(claimed.bytesUnflushed, bytesDone),
    bytesVerified,
    bytesToVerify: Math.max(totals.bytesToVerify, bytesVerified),
    filesTotal: Math.max(totals.filesTotal, Math.min(filesDone + filesSkipped, Number.MAX_SAFE_INTEGER)),
    filesDone,
    filesSkipped,
    directoriesDone: Math.max(previous.directoriesDone, claimed.directoriesDone),
    errorCount: Math.max(previous.errorCount, claimed.errorCount),
    warningCount: Math.max(previous.warningCount, claimed.warningCount),
    currentFile: claimed.currentFile,
    engine: claimed.engine,
    lanes: claimed.lanes,
  };
}

function laterPhase(one: Phase, other: Phase): Phase {
  return phases.indexOf(one) > phases.indexOf(other) ? one : other;
}

/** What went from or to a device: copied, read back, and, while the job waits for nothing else, flushed. */
function bytesMoved(before: Snapshot, now: Snapshot): number {
  const moved = now.bytesDone + now.bytesVerified - before.bytesDone - before.bytesVerified;
  return now.phase === "flushing" ? moved + Math.max(0, before.bytesUnflushed - now.bytesUnflushed) : moved;
}

function handled(snapshot: Snapshot): number {
  return snapshot.filesDone + snapshot.filesSkipped;
}

function workOf(bytes: number, files: number): number {
  return bytes + files * fileCostBytes;
}

function isLate(phase: Phase): boolean {
  return phase === "flushing" || phase === "verifying";
}

/** How fast the device takes what is in the page cache. While the kernel holds everything back, nothing is learnt. */
function advanceFlush({ flush, snapshot: before, sampledTimeUs }: Progress, now: Snapshot, nowUs: number): FlushRate {
  const bytes = Math.max(0, onDevice(now) - onDevice(before));
  const movedTimeUs = bytes > 0 ? nowUs : flush.movedTimeUs;
  // Devices finish by lumps: a moment without any is the device's.
  if (nowUs - movedTimeUs > lumpUs) return flush;
  const elapsedUs = nowUs - sampledTimeUs;
  const kept = Math.exp(-elapsedUs / flushSmoothingUs);
  const smoothedBytes = flush.smoothedBytes * kept + ((bytes * 1e6) / elapsedUs) * (1 - kept);
  return { smoothedBytes, weight: flush.weight * kept + (1 - kept), movedTimeUs };
}

function onDevice({ bytesDone, bytesCloned, bytesUnflushed }: Snapshot): number {
  return bytesDone - bytesCloned - bytesUnflushed;
}

/** Bytes a second; 0: not known. */
interface Rates {
  readonly workRate: number;
  readonly flushRate: number;
}

function expectedEnd(snapshot: Snapshot, rates: Rates, formerEndUs: number, nowUs: number): number {
  if (!snapshot.totalsValid) return 0;
  const seconds = secondsLeft(snapshot, rates);
  // A phase that has just begun has no rate yet: what was foretold before it stands.
  if (seconds === null) return isLate(snapshot.phase) && formerEndUs > nowUs ? formerEndUs : 0;
  const end = nowUs + seconds * 1e6;
  return end > Number.MAX_SAFE_INTEGER ? 0 : Math.round(end);
}

/** Until the job's end, what comes after the copying included; null: nothing to go by. */
function secondsLeft(snapshot: Snapshot, { workRate, flushRate }: Rates): number | null {
  const { phase, bytesUnflushed } = snapshot;
  const toVerify = Math.max(0, snapshot.bytesToVerify - snapshot.bytesVerified);
  if (phase === "verifying") return workRate > 0 ? toVerify / workRate : null;
  if (phase === "flushing") {
    const left = bytesUnflushed + toVerify;
    return left > 0 && flushRate > 0 ? left / flushRate : null;
  }
  if (workRate <= 0) return null;
  const bytesLeft = snapshot.bytesTotal - snapshot.bytesDone;
  const copying = workOf(bytesLeft, Math.max(0, snapshot.filesTotal - handled(snapshot))) / workRate;
  // Reading from a device is taken to be about as fast as writing to it.
  const readingBack = toVerify / (flushRate > 0 ? Math.min(workRate, flushRate) : workRate);
  return Math.max(copying, flushing(snapshot, bytesLeft, copying, { workRate, flushRate })) + readingBack;
}

/** Until the device has everything: it writes while the rest is copied. */
function flushing({ bytesUnflushed, bytesDone, bytesCloned }: Snapshot, bytesLeft: number, copying: number, rates: Rates): number {
  if (bytesUnflushed === 0) return 0;
  if (rates.flushRate <= 0) return copying + bytesUnflushed / rates.workRate;
  const written = bytesDone > 0 ? 1 - bytesCloned / bytesDone : 1;
  return (bytesUnflushed + bytesLeft * written) / rates.flushRate;
}
