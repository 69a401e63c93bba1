// How far a job has come, how fast and until when: merges the worker's snapshots so that nothing ever runs backwards. Pure.

import { emptySnapshot, type Phase, phases, type Snapshot } from "../worker/protocol.ts";

/** The rate forgets with this time constant: quick enough to show a slow patch, slow enough to be read. */
const smoothingUs = 3_000_000;
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
}

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
  return { ...progress, rate: 0, expectedEndTimeUs: 0, snapshot: { ...progress.snapshot, paused: false, lanes: 0 } };
}

/** Progress after one more snapshot. A clock that was set back costs one sample, nothing else. */
export function advanceProgress(previous: Progress, claimed: Snapshot, nowUs: number): Progress {
  const snapshot = mergeSnapshots(previous.snapshot, claimed);
  const elapsedUs = nowUs - previous.sampledTimeUs;
  if (snapshot.paused || previous.snapshot.paused || elapsedUs <= 0) {
    const rate = snapshot.paused ? 0 : previous.rate;
    return { ...previous, snapshot, rate, expectedEndTimeUs: 0, sampledTimeUs: nowUs };
  }
  const bytes = bytesMoved(snapshot) - bytesMoved(previous.snapshot);
  const work = workOf(bytesMoved(snapshot), handled(snapshot)) - workOf(bytesMoved(previous.snapshot), handled(previous.snapshot));
  const kept = Math.exp(-elapsedUs / smoothingUs);
  const smoothedBytes = previous.smoothedBytes * kept + ((bytes * 1e6) / elapsedUs) * (1 - kept);
  const smoothedWork = previous.smoothedWork * kept + ((work * 1e6) / elapsedUs) * (1 - kept);
  const weight = previous.weight * kept + (1 - kept);
  const workRate = weight < minWeight ? 0 : smoothedWork / weight;
  return {
    snapshot,
    rate: Math.round(smoothedBytes / weight),
    expectedEndTimeUs: expectedEnd(snapshot, workRate, nowUs),
    sampledTimeUs: nowUs,
    smoothedBytes,
    smoothedWork,
    weight,
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

/** Read back counts as much as copied: both are the device's time. */
function bytesMoved(snapshot: Snapshot): number {
  return snapshot.bytesDone + snapshot.bytesVerified;
}

function handled(snapshot: Snapshot): number {
  return snapshot.filesDone + snapshot.filesSkipped;
}

function workOf(bytes: number, files: number): number {
  return bytes + files * fileCostBytes;
}

function expectedEnd(snapshot: Snapshot, workRate: number, nowUs: number): number {
  if (snapshot.phase === "flushing" || !snapshot.totalsValid || workRate <= 0) return 0;
  const bytesLeft = snapshot.bytesTotal - snapshot.bytesDone + Math.max(0, snapshot.bytesToVerify - snapshot.bytesVerified);
  const filesLeft = Math.max(0, snapshot.filesTotal - handled(snapshot));
  const end = nowUs + (workOf(bytesLeft, filesLeft) / workRate) * 1e6;
  return end > Number.MAX_SAFE_INTEGER ? 0 : Math.round(end);
}
