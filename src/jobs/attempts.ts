// How often a job was taken up again after its worker or the service had ended, and whether it may be once more. Pure.

import type { Snapshot } from "../worker/protocol.ts";

export interface Attempts {
  /** Further workers that were started for the job: what people are told. */
  readonly resumed: number;
  /** Workers that died in a row without getting any further. */
  readonly deaths: number;
  readonly deathsInAll: number;
  /** Ends of the service that nobody ordered, in a row, while the job ran and got no further. */
  readonly crashes: number;
  /** How far the job had come when the present worker was started. */
  readonly reached: number;
}

export const noAttempts: Attempts = { resumed: 0, deaths: 0, deathsInAll: 0, crashes: 0, reached: 0 };

/** What kills a worker three times more at the same place will kill the next one, too. */
const maxDeaths = 3;
/** A worker that tells of progress before each of its deaths is not started again for ever. */
const maxDeathsInAll = 100;
/** More than for deaths: a machine that goes up and down says little about the job. */
const maxCrashes = 20;

/** A further worker starts. */
export function resumedOnce(attempts: Attempts, snapshot: Snapshot): Attempts {
  return { ...attempts, resumed: attempts.resumed + 1, reached: amountOf(snapshot) };
}

/** The worker died. */
export function afterDeath(attempts: Attempts, snapshot: Snapshot): Attempts {
  const { deaths, deathsInAll } = afterProgress(attempts, snapshot);
  return { ...attempts, deaths: deaths + 1, deathsInAll: deathsInAll + 1, crashes: 0 };
}

/** The service ended without having stopped the worker. */
export function afterCrash(attempts: Attempts, snapshot: Snapshot): Attempts {
  return { ...attempts, crashes: afterProgress(attempts, snapshot).crashes + 1 };
}

/** Whether a further worker may be started. */
export function mayResume({ deaths, deathsInAll, crashes }: Attempts): boolean {
  return deaths <= maxDeaths && deathsInAll <= maxDeathsInAll && crashes <= maxCrashes;
}

/** How often it was tried, for the reason of a failure; "" where once. */
export function triedText({ deaths, deathsInAll, crashes, resumed }: Attempts): string {
  if (resumed === 0) return "";
  if (deaths > maxDeaths) return ` It was tried ${deaths} times without getting any further.`;
  if (deathsInAll > maxDeathsInAll) return ` It was tried ${resumed + 1} times.`;
  if (crashes > maxCrashes) return ` The service ended ${crashes} times while the job ran and got no further.`;
  return "";
}

function afterProgress(attempts: Attempts, snapshot: Snapshot): Attempts {
  return amountOf(snapshot) > attempts.reached ? { ...attempts, deaths: 0, crashes: 0 } : attempts;
}

/** All that is counted, in one number: it grows with anything that gets done. */
function amountOf({ bytesDone, bytesVerified, filesDone, filesSkipped, directoriesDone }: Snapshot): number {
  return bytesDone + bytesVerified + filesDone + filesSkipped + directoriesDone;
}
