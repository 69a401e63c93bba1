// `copyd jobs`: the jobs there are.

import type { ArgsDef } from "citty";
import { hasEnded } from "../jobs/api.ts";
import { jobColumns, jobRow } from "./job-text.ts";
import { jobObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { commonArgs, withService } from "./service-command.ts";
import { tableLines } from "./table.ts";

const args = {
  all: { type: "boolean", alias: "a", description: "Also those that have ended" },
  "all-users": { type: "boolean", description: "Everybody's, which an administrator must allow" },
  ...commonArgs,
} as const satisfies ArgsDef;

export const jobsCommand = named("jobs", "List your jobs", args, (given) =>
  withService(given, async (client) => {
    const jobs = (await client.list({ allUsers: given["all-users"] === true })).filter((job) => given.all === true || !hasEnded(job.state));
    if (given.json === true) {
      for (const job of jobs) writeJson(jobObject(job));
      return 0;
    }
    if (jobs.length === 0) {
      writeText(
        "stderr",
        given.all === true ? "There are no jobs.\n" : "No job is waiting or running; --all shows those that have ended.\n",
      );
      return 0;
    }
    const width = process.stdout.isTTY === true ? (process.stdout.columns ?? 80) : null;
    const rows = jobs.map((job) => jobRow(job, Date.now() * 1000));
    writeText("stdout", `${tableLines(jobColumns, rows, width).join("\n")}\n`);
    return 0;
  }),
);
