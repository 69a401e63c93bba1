// `copyd errors JOB`: what could not be copied, and what can be done about it.

import { failures, isFailureCode } from "../errors.ts";
import { errorObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { jobArgs, withJob } from "./service-command.ts";
import { escapeControls } from "./terminal-text.ts";

export const errorsCommand = named("errors", "List what a job could not copy", jobArgs, (args) =>
  withJob(args, async (client, job) => {
    const codes = new Set<string>();
    for (let offset = 0; ; ) {
      const errors = await client.errors(job, offset);
      if (errors.length === 0) break;
      offset += errors.length;
      for (const error of errors) {
        codes.add(error.code);
        if (args.json === true) writeJson(errorObject(error));
        else writeText("stdout", `${error.severity}: ${escapeControls(Buffer.from(error.message, "latin1").toString("utf8"))}\n`);
      }
    }
    if (args.json === true) return 0;
    if (codes.size === 0) writeText("stderr", "There are no errors.\n");
    for (const code of codes) if (isFailureCode(code)) writeText("stderr", `${code}: ${failures[code].advice}\n`);
    return 0;
  }),
);
