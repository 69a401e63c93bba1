// `copyd wait JOB`: nothing until the job has ended, then its exit status.

import { CopyError } from "../errors.ts";
import { resultObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { jobArgs, statusOfResult, withJob } from "./service-command.ts";
import { escapeControls } from "./terminal-text.ts";

export const waitCommand = named("wait", "Wait for a job's end; the exit status is the job's", jobArgs, (args) =>
  withJob(args, async (client, job) => {
    const { result } = await client.wait(job);
    if (result === null) throw new CopyError("no-answer", "the service does not tell what became of the job");
    if (args.json === true) writeJson(resultObject(result));
    else if (result.state !== "completed") writeText("stderr", `${escapeControls(result.message)}\n`);
    return statusOfResult(result);
  }),
);
