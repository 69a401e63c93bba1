// `copyd show JOB`: everything about one job.

import { jobFacts } from "./job-text.ts";
import { jobObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { findJob, jobArgs, withService } from "./service-command.ts";
import { factLines } from "./table.ts";

export const showCommand = named("show", "Show one job in full", jobArgs, (args) =>
  withService(args, async (client) => {
    const job = await findJob(client, args.job);
    if (args.json === true) writeJson(jobObject(job));
    else writeText("stdout", `${factLines(jobFacts(job)).join("\n")}\n`);
    return 0;
  }),
);
