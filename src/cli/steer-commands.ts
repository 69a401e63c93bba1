// `copyd cancel`, `pause`, `resume`, `forget`, `limit` and `priority`: one call each.

import type { ArgsDef, ParsedArgs } from "citty";
import type { ServiceClient } from "../dbus/client.ts";
import { CopyError } from "../errors.ts";
import type { JobView, OptionChanges, Scope } from "../jobs/api.ts";
import { priorities } from "../request.ts";
import { bytesOf } from "./byte-count.ts";
import { writeJson } from "./json-lines.ts";
import { type NamedCommand, named } from "./named-command.ts";
import { commonArgs, type JobArgs, jobArgs, withJob } from "./service-command.ts";

const groupArgs = {
  ...jobArgs,
  group: { type: "boolean", description: "Also the jobs of the same copy to other destinations (--also)" },
} as const satisfies ArgsDef;

const cancelArgs = {
  ...groupArgs,
  remove: {
    type: "boolean",
    description: "Remove what the job has finished; not for moves, nor what was changed since or was there before",
  },
} as const satisfies ArgsDef;

export const cancelCommand = steer(
  "cancel",
  "Stop a job; what is finished stays, unless it is to be removed",
  cancelArgs,
  (client, job, scope, { remove }) => client.cancel(job, scope, remove === true ? "remove" : "keep"),
);
export const pauseCommand = steer("pause", "Stop a job for a while", groupArgs, (client, job, scope) => client.pause(job, scope));
export const resumeCommand = steer("resume", "Let a paused job go on", groupArgs, (client, job, scope) => client.resume(job, scope));
export const forgetCommand = steer("forget", "Remove an ended job from the list and the history", jobArgs, (client, job) =>
  client.forget(job),
);

const limitArgs = {
  job: jobArgs.job,
  rate: { type: "positional", required: true, valueHint: "RATE", description: "Bytes a second, as 500K, 20M or 1.5G; 0 for no limit" },
  "all-users": jobArgs["all-users"],
  ...commonArgs,
} as const satisfies ArgsDef;

export const limitCommand: NamedCommand = {
  ...named("limit", "Limit how many bytes a second a job moves", limitArgs, (args) =>
    change(args, "limit", () => ({ bandwidthLimit: rateOf(args.rate) })),
  ),
  takesNumbers: true,
};

/** Where a waiting job can be moved. */
export const places = ["first", "last"] as const;
const priorityArgs = {
  job: jobArgs.job,
  priority: {
    type: "positional",
    required: true,
    valueHint: "PRIORITY",
    description: `${priorities.join(", ")}; or first or last, to move a waiting job before or behind your others of its priority`,
  },
  "all-users": jobArgs["all-users"],
  ...commonArgs,
} as const satisfies ArgsDef;

export const priorityCommand = named("priority", "Change a job's priority, or its place among your waiting jobs", priorityArgs, (args) =>
  change(args, "priority", () => priorityOf(args.priority)),
);

type SteerArgs = typeof jobArgs;
type Act = (client: ServiceClient, job: JobView, scope: Scope, given: ParsedArgs<SteerArgs>) => Promise<void>;

function steer(name: string, description: string, args: SteerArgs, act: Act): NamedCommand {
  return named(name, description, args, (given) =>
    withJob(given, async (client, job) => {
      await act(client, job, given.group === true ? "group" : "job", given);
      if (given.json === true) writeJson({ type: name, job: job.token });
      return 0;
    }),
  );
}

/** What is wrong with the arguments is said before the service is asked anything. */
function change(args: JobArgs & { readonly json?: boolean | undefined }, type: string, read: () => OptionChanges): Promise<number> {
  const changes = read();
  return withJob(args, async (client, job) => {
    await client.setOptions(job, changes);
    if (args.json === true) writeJson({ type, job: job.token, ...changes });
    return 0;
  });
}

function rateOf(typed: string): number {
  const bytes = bytesOf(typed);
  if (bytes !== null) return bytes;
  if (typed.startsWith("-")) throw new CopyError("usage", `RATE must be 0 or more, not '${typed}'; 0 is no limit`);
  throw new CopyError("usage", `RATE is a number of bytes a second like 500K, 20M or 1.5G, or 0 for no limit, not '${typed}'`);
}

function priorityOf(typed: string): OptionChanges {
  const priority = priorities.find((known) => known === typed);
  if (priority !== undefined) return { priority };
  const position = places.find((known) => known === typed);
  if (position !== undefined) return { position };
  throw new CopyError("usage", `PRIORITY is ${priorities.join(", ")}, first or last, not '${typed}'`);
}
