// `copyd jobs`: the jobs there are, and, of those that have ended, as many as are remembered.

import type { ArgsDef, ParsedArgs } from "citty";
import type { ListOptions, ServiceClient } from "../dbus/client.ts";
import { CopyError } from "../errors.ts";
import { hasEnded, jobStates } from "../jobs/api.ts";
import { jobColumns, jobRow } from "./job-text.ts";
import { jobObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { commonArgs, linesArgs, linesOf, withService } from "./service-command.ts";
import { aligned, tableLines, tableWidth } from "./table.ts";
import { periodArgs, periodOf } from "./time-text.ts";
import { userName } from "./user-names.ts";

const args = {
  all: { type: "boolean", alias: "a", description: "Also those that have ended, as far back as they are remembered" },
  "all-users": { type: "boolean", description: "Everybody's, which an administrator must allow" },
  ...periodArgs({ since: "With --all, those asked for from this time on", until: "With --all, those asked for until this time" }),
  ...linesArgs,
  ...commonArgs,
} as const satisfies ArgsDef;

/** What a row shows. The options of a job are most of what there is to tell of it. */
const shown = [
  "State",
  "QueuePosition",
  "GroupToken",
  "Group",
  "Priority",
  "Phase",
  "TotalsValid",
  "BytesTotal",
  "BytesDone",
  "BytesVerified",
  "BytesToVerify",
  "FilesTotal",
  "FilesDone",
  "FilesSkipped",
  "Rate",
  "ExpectedEndTime",
  "ErrorCount",
  "CreatedTime",
  "Operation",
  "Sources",
  "SourceCount",
  "Destination",
] as const;

const userColumn = aligned("left", "USER");

const goingOn = jobStates.filter((state) => !hasEnded(state));

export const jobsCommand = named("jobs", "List your jobs", args, async (given) => {
  const isPeriod = given.since !== undefined || given.until !== undefined;
  if (isPeriod && given.all !== true) throw new CopyError("usage", "--since and --until go with --all");
  return await withService(given, (client) => list(client, given), { needsLeave: given["all-users"] === true });
});

async function list(client: ServiceClient, given: ParsedArgs<typeof args>): Promise<number> {
  const nowMs = Date.now();
  const allUsers = given["all-users"] === true;
  const { until, ...period } = periodOf(given, nowMs);
  const options: ListOptions = {
    allUsers,
    ...(given.json !== true && { properties: shown }),
    ...(given.all === true ? { history: true } : { states: goingOn }),
    ...period,
    ...(until !== undefined && { before: until }),
  };
  const jobs = await client.listAll(options, linesOf(given.lines));
  if (given.json === true) {
    for (const job of jobs) writeJson(jobObject(job));
    return 0;
  }
  if (jobs.length === 0) {
    writeText("stderr", given.all === true ? "There are no jobs.\n" : "No job is waiting or running; --all shows those that have ended.\n");
    return 0;
  }
  const rows = jobs.map((job) => jobRow(job, nowMs * 1000).toSpliced(1, 0, ...(allUsers ? [userName(job.owner.uid)] : [])));
  const columns = jobColumns.toSpliced(1, 0, ...(allUsers ? userColumn : []));
  writeText("stdout", `${tableLines(columns, rows, tableWidth()).join("\n")}\n`);
  return 0;
}
