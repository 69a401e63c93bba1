// What the commands that speak to the service share: their options, the connection, finding a job by the start of its token.

import type { ArgsDef } from "citty";
import type { ListOptions, ServiceClient } from "../dbus/client.ts";
import { CopyError, failures } from "../errors.ts";
import type { JobResult, JobView } from "../jobs/api.ts";
import { connect } from "./service-runner.ts";
import { uidOf, userName } from "./user-names.ts";

/** Starting the service counts. */
const timeoutMs = 25_000;

export const commonArgs = {
  json: { type: "boolean", description: "One JSON object a line on standard output" },
  session: { type: "boolean", description: "The service on the session bus instead of the system's" },
} as const satisfies ArgsDef;

export const jobArgs = {
  job: {
    type: "positional",
    required: true,
    valueHint: "JOB",
    description: "A job's token, or the start of it (see copyd jobs); USER/TOKEN for another user's, which an administrator must allow",
  },
  "all-users": { type: "boolean", description: "Look for the job among everybody's, which an administrator must allow; root may always" },
  ...commonArgs,
} as const satisfies ArgsDef;

/** What the commands that concern one job are given. */
export interface JobArgs {
  readonly job: string;
  readonly "all-users"?: boolean | undefined;
  readonly session?: boolean | undefined;
}

/** Connects, does the work and lets go. Where it `needsLeave`, polkit may ask for a password on this terminal. Throws CopyError. */
export async function withService<Result>(
  { session }: { readonly session?: boolean | undefined },
  work: (client: ServiceClient) => Promise<Result>,
  { needsLeave = false } = {},
): Promise<Result> {
  if (needsLeave && session !== true) {
    const { withTextAgent } = await import("./text-agent.ts");
    return await withTextAgent(() => withService({ session }, work));
  }
  const client = await connect(session === true ? "session" : "system", timeoutMs);
  try {
    return await work(client);
  } finally {
    client.close();
  }
}

/** Connects, finds the job, does the work on it and lets go. Throws CopyError. */
export function withJob<Result>(given: JobArgs, work: (client: ServiceClient, job: JobView) => Promise<Result>): Promise<Result> {
  const needsLeave = given["all-users"] === true || given.job.includes("/");
  return withService(given, async (client) => work(client, await findJob(client, given)), { needsLeave });
}

/**
 * The job with this token, or the only one whose token begins so, of those that are remembered: of ours, of the user's that is named,
 * or of everybody's where they are asked for, by root where there is none of its own. Throws no-such-job or usage.
 */
async function findJob(client: ServiceClient, given: JobArgs): Promise<JobView> {
  const [, user, typed = ""] = /^(?:([^/]+)\/)?(\w{1,48})$/.exec(given.job) ?? [];
  // What cannot be a token is none; the service would complain of the call.
  if (typed === "") throw new CopyError("no-such-job", `there is no job '${given.job}'`);
  const list = (whose: Pick<ListOptions, "uid" | "allUsers">): Promise<JobView[]> =>
    client.list({ ...whose, token: typed, history: true, limit: 100 });
  const mayLookFurther = user === undefined && given.session !== true;
  const wantsAll = mayLookFurther && given["all-users"] === true;
  let found = await list(user === undefined ? { allUsers: wantsAll } : { uid: uidOf(user) });
  if (found.length === 0 && mayLookFurther && !wantsAll && process.geteuid?.() === 0) found = await list({ allUsers: true });
  const exact = found.filter(({ token }) => token === typed);
  const candidates = new Map((exact.length > 0 ? exact : found).map((job) => [`${job.owner.uid}/${job.token}`, job]));
  const [only] = candidates.values();
  if (only === undefined) {
    const hint = user === undefined && !wantsAll ? "; --all-users looks among everybody's" : "";
    throw new CopyError("no-such-job", `there is no job '${given.job}'${process.geteuid?.() === 0 ? "" : hint}`);
  }
  if (candidates.size === 1) return only;
  const isOneUsers = new Set(found.map(({ owner }) => owner.uid)).size === 1;
  const named = [...candidates.values()].slice(0, 10).map(({ owner, token }) => (isOneUsers ? token : `${userName(owner.uid)}/${token}`));
  const more = candidates.size > 10 ? ", ..." : "";
  throw new CopyError("usage", `'${given.job}' may mean ${candidates.size} jobs: ${named.join(", ")}${more}`);
}

export const linesArgs = {
  lines: { type: "string", valueHint: "N", description: "At most so many, the newest (1000)" },
} as const satisfies ArgsDef;

/** How many lines --lines allows. Throws usage. */
export function linesOf(typed: string | undefined): number {
  if (typed === undefined) return 1000;
  if (/^[1-9]\d{0,8}$/.test(typed)) return Number(typed);
  throw new CopyError("usage", `--lines takes a number, not '${typed}'`);
}

/** The exit status that tells what became of a job, as the failure table has it. */
export function statusOfResult({ state, code }: JobResult): number {
  if (state === "completed") return 0;
  return failures[code ?? (state === "cancelled" ? "cancelled" : "internal")].exitStatus;
}
