// `copyd show JOB`: everything about one job.

import { jobFacts } from "./job-text.ts";
import { jobObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { jobArgs, withJob } from "./service-command.ts";
import { factLines } from "./table.ts";

export const showCommand = named("show", "Show one job in full", jobArgs, (args) =>
  withJob(args, async (_client, job) => {
    if (args.json === true) writeJson(jobObject(job));
    else writeText("stdout", `${factLines(jobFacts(job)).join("\n")}\n`);
    return 0;
  }),
);
