// `copyd watch [JOB]`: progress as it happens; of one job until its end, or of all that run.

import type { ArgsDef } from "citty";
import type { ServiceClient } from "../dbus/client.ts";
import { CopyError } from "../errors.ts";
import { hasEnded, type JobView } from "../jobs/api.ts";
import { messageCharset } from "../quote.ts";
import { errorsLostText, jobColumns, jobRow } from "./job-text.ts";
import { errorObject, jobObject, progressObject, resultObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { ProgressDisplay, progressStyle, standardErrorTerminal } from "./progress.ts";
import { commonArgs, jobArgs, statusOfResult, withJob, withService } from "./service-command.ts";
import { tableLines } from "./table.ts";
import { escapeControls } from "./terminal-text.ts";

const args = {
  job: { type: "positional", required: false, valueHint: "JOB", description: "As copyd show takes it; all of yours that run without it" },
  "all-users": jobArgs["all-users"],
  ...commonArgs,
} as const satisfies ArgsDef;

const tableIntervalMs = 1000;

export const watchCommand = named("watch", "Follow a job to its end, or all that run", args, async (given) => {
  const { job } = given;
  const json = given.json === true;
  if (job !== undefined) return withJob({ ...given, job }, (client, found) => watchOne(client, found, { json }));
  if (given["all-users"] === true) throw new CopyError("usage", "--all-users looks for one job: name it, or see copyd jobs --all-users");
  return withService(given, (client) => watchAll(client, { json }));
});

/** Ends with the job's exit status. Ctrl-C ends the watching, not the job. */
async function watchOne(client: ServiceClient, job: JobView, { json }: { readonly json: boolean }): Promise<number> {
  const terminal = standardErrorTerminal((text) => writeText("stderr", text));
  const style = progressStyle(json ? "never" : "always", terminal, process.env, messageCharset(process.env));
  const display = new ProgressDisplay(style, terminal);
  const stop = (): void => {
    display.close();
    process.exit(130);
  };
  process.once("SIGINT", stop);
  try {
    for await (const event of await client.watch(job, { errors: true })) {
      if (event.type === "view") {
        display.update(event.job);
        if (json) writeJson(progressObject(event.job));
      } else if (event.type === "errors") {
        if (json) for (const error of event.errors) writeJson(errorObject(error));
        else display.interrupt(() => writeText("stderr", event.errors.map(({ message }) => `${textOf(message)}\n`).join("")));
      } else if (event.type === "errors-lost") {
        display.interrupt(() => writeText("stderr", `${errorsLostText(event.count)}.\n`));
      } else if (event.type === "back") display.interrupt(() => writeText("stderr", "The service was restarted; the job goes on.\n"));
      else if (event.type === "ended") return tellEnd(event.job, display, json);
    }
    return 1;
  } finally {
    process.off("SIGINT", stop);
    display.close();
  }
}

function tellEnd({ result }: JobView, display: ProgressDisplay, json: boolean): number {
  display.close();
  if (result === null) return 1;
  if (json) writeJson(resultObject(result));
  else writeText("stderr", `${escapeControls(result.message)}\n`);
  return statusOfResult(result);
}

/** The table again every second, over itself on a terminal, until nothing runs any more. */
async function watchAll(client: ServiceClient, { json }: { readonly json: boolean }): Promise<number> {
  const onTerminal = process.stdout.isTTY === true && !json;
  let drawnRows = 0;
  for (;;) {
    const jobs = (await client.list()).filter((job) => !hasEnded(job.state));
    if (json) for (const job of jobs) writeJson(jobObject(job));
    else {
      const width = onTerminal ? (process.stdout.columns ?? 80) - 1 : null;
      const lines =
        jobs.length === 0
          ? []
          : tableLines(
              jobColumns,
              jobs.map((job) => jobRow(job, Date.now() * 1000)),
              width,
            );
      const back = onTerminal && drawnRows > 0 ? `\x1b[${drawnRows}A\x1b[J` : "";
      writeText("stdout", back + lines.map((line) => `${line}\n`).join(""));
      drawnRows = lines.length;
    }
    if (jobs.length === 0) {
      if (!json) writeText("stderr", "No job is waiting or running.\n");
      return 0;
    }
    await Bun.sleep(tableIntervalMs);
  }
}

function textOf(latin1: string): string {
  return escapeControls(Buffer.from(latin1, "latin1").toString("utf8"));
}
