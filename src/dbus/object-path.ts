// The object paths of jobs: /org/copyd/Copyd1/jobs/u<UID>/<token>, there and back.

import { rootPath } from "./contract.ts";

export const jobsPath = `${rootPath}/jobs`;

/** Characters that an object path may have, so that a token is its last element as it stands. */
export function isToken(text: string): boolean {
  return /^[A-Za-z0-9_]{1,48}$/.test(text);
}

export function jobPath(uid: number, token: string): string {
  return `${userPath(uid)}/${token}`;
}

/** The node above all jobs of a user. */
export function userPath(uid: number): string {
  return `${jobsPath}/u${uid}`;
}

export interface JobAddress {
  readonly uid: number;
  readonly token: string;
}

/** Which job a path means, if it has the form of one. */
export function parseJobPath(path: string): JobAddress | undefined {
  if (!path.startsWith(`${jobsPath}/u`)) return undefined;
  const match = /^(0|[1-9][0-9]{0,9})\/([A-Za-z0-9_]{1,48})$/.exec(path.slice(jobsPath.length + 2));
  return match === null ? undefined : { uid: Number(match[1]), token: match[2] ?? "" };
}
