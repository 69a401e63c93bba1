// `copyd jobs`: the jobs there are, and, of those that have ended, as many as are remembered.

import type { ArgsDef, ParsedArgs } from "citty";
import type { ListOptions, ServiceClient } from "../dbus/client.ts";
import { hasEnded, jobStates } from "../jobs/api.ts";
import { jobColumns, jobRow } from "./job-text.ts";
import { jobObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { commonArgs, linesOf, withService } from "./service-command.ts";
import { type Column, tableLines } from "./table.ts";
import { timeOf } from "./time-text.ts";
import { userName } from "./user-names.ts";

const args = {
  all: { type: "boolean", alias: "a", description: "Also those that have ended, as far back as they are remembered" },
  "all-users": { type: "boolean", description: "Everybody's, which an administrator must allow" },
  since: {
    type: "string",
    valueHint: "TIME",
    description: 'With --all, those asked for from this time on: 2026-11-22, "2026-11-22 14:30", today, or 90s, 15m, 2h, 7d ago',
  },
  until: { type: "string", valueHint: "TIME", description: "With --all, those asked for until this time" },
  lines: { type: "string", valueHint: "N", description: "At most so many, the newest (1000)" },
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

const userColumn: Column = { title: "USER", align: "left" };

const goingOn = jobStates.filter((state) => !hasEnded(state));

export const jobsCommand = named("jobs", "List your jobs", args, (given) =>
  withService(given, (client) => list(client, given), { needsLeave: given["all-users"] === true }),
);

async function list(client: ServiceClient, given: ParsedArgs<typeof args>): Promise<number> {
  const nowMs = Date.now();
  const allUsers = given["all-users"] === true;
  const options: ListOptions = {
    allUsers,
    ...(given.json !== true && { properties: shown }),
    ...(given.all === true ? { history: true } : { states: goingOn }),
    ...(given.since !== undefined && { since: timeOf("--since", given.since, nowMs) * 1000 }),
    ...(given.until !== undefined && { before: timeOf("--until", given.until, nowMs) * 1000 }),
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
  const width = process.stdout.isTTY === true ? (process.stdout.columns ?? 80) : null;
  const rows = jobs.map((job) => jobRow(job, nowMs * 1000).toSpliced(1, 0, ...(allUsers ? [userName(job.owner.uid)] : [])));
  const columns = jobColumns.toSpliced(1, 0, ...(allUsers ? [userColumn] : []));
  writeText("stdout", `${tableLines(columns, rows, width).join("\n")}\n`);
  return 0;
}
