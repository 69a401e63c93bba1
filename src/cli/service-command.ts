// What the commands that speak to the service share: their options, the connection, finding a job by the start of its token.

import type { ArgsDef } from "citty";
import type { ServiceClient } from "../dbus/client.ts";
import { CopyError, failures } from "../errors.ts";
import type { JobResult, JobView } from "../jobs/api.ts";
import { connect } from "./service-runner.ts";

/** Starting the service counts. */
const timeoutMs = 25_000;

export const commonArgs = {
  json: { type: "boolean", description: "One JSON object a line on standard output" },
  session: { type: "boolean", description: "The service on the session bus instead of the system's" },
} as const satisfies ArgsDef;

export const jobArgs = {
  job: { type: "positional", required: true, valueHint: "JOB", description: "A job's token, or the start of it (see copyd jobs)" },
  ...commonArgs,
} as const satisfies ArgsDef;

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

/** The job with this token, or the only one of ours whose token begins so, of those that are remembered. Throws no-such-job or usage. */
export async function findJob(client: ServiceClient, typed: string): Promise<JobView> {
  // What cannot be a token is none; the service would complain of the call.
  const found = /^\w{1,48}$/.test(typed) ? await client.list({ token: typed, history: true, limit: 100 }) : [];
  const exact = found.findLast(({ token }) => token === typed);
  const [only] = found;
  if (exact !== undefined) return exact;
  if (only === undefined) throw new CopyError("no-such-job", `there is no job '${typed}'`);
  const tokens = [...new Set(found.map(({ token }) => token))];
  if (tokens.length === 1) return found.at(-1) ?? only;
  const named = tokens.slice(0, 10).join(", ");
  throw new CopyError("usage", `'${typed}' may mean ${tokens.length} jobs: ${named}${tokens.length > 10 ? ", ..." : ""}`);
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
