// `copyd cp --dry-run`: what a copy would do, one line for each operation and a summary; nothing is made.
//
// By a worker of our own, whether there is a service or not: it is ours to look at our files, and nothing is left to be done later.

import type { ByteString } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import type { AlsoTo } from "../jobs/api.ts";
import { memberRequests } from "../jobs/group.ts";
import { createJobs } from "../jobs/jobs.ts";
import { type MessageCharset, quoteName } from "../quote.ts";
import type { JobRequest } from "../request.ts";
import type { PlannedAction, PlannedOperation, PreviewSummary } from "../worker/protocol.ts";
import { ownIdentity } from "./embedded-runner.ts";
import { UsageError } from "./getopt.ts";
import { operationObject, summaryObject, writeJson } from "./json-lines.ts";
import { OutputLost, writeBytes, writeText } from "./output.ts";
import { typedDestinations } from "./runner.ts";
import { formatBytes, formatCount } from "./units.ts";

interface DryRunStyle {
  readonly json: boolean;
  readonly charset: MessageCharset;
}

/** Exit status as cp's would be: 1 when something would fail. Several destinations come one after the other. */
export async function runDry(request: JobRequest, alsoTo: readonly AlsoTo[], style: DryRunStyle): Promise<number> {
  const typed = typedDestinations(request, alsoTo);
  let status = 0;
  for (const [index, one] of memberRequests(request, alsoTo).entries()) {
    const destination = alsoTo.length === 0 ? undefined : typed[index];
    if (destination !== undefined && !style.json) writeBytes("stdout", `to ${quoteName(destination, style.charset)}:\n`);
    status = Math.max(status, await runOne(one, style, destination));
  }
  return status;
}

async function runOne(request: JobRequest, { json, charset }: DryRunStyle, destination: ByteString | undefined): Promise<number> {
  if (request.options.gnu.parents) throw new UsageError("--dry-run cannot be combined with --parents", { tryHelp: false });
  const jobs = createJobs({ mode: "embedded" });
  const interruption = new AbortController();
  let lost: OutputLost | null = null;
  const interrupt = (): void => interruption.abort();
  process.once("SIGINT", interrupt);
  process.once("SIGTERM", interrupt);
  try {
    const { summary } = await jobs.preview(ownIdentity(), request, {
      maxOperations: Number.MAX_SAFE_INTEGER,
      maxBytes: Number.MAX_SAFE_INTEGER,
      signal: interruption.signal,
      onOperations: (operations) => {
        try {
          tell(operations, json, charset);
        } catch (error) {
          // Not thrown at who reads from the worker: it is no fault of theirs.
          if (!(error instanceof OutputLost)) throw error;
          lost = error;
          interruption.abort();
        }
      },
    });
    if (lost !== null) throw lost;
    if (json) writeJson(summaryObject(summary, destination));
    else writeText("stdout", summaryText(summary));
    return summary.counts.fail > 0 || !summary.isWhole ? 1 : 0;
  } catch (error) {
    if (lost !== null) throw lost;
    if (error instanceof CopyError && error.code === "cancelled") return error.failure.exitStatus;
    throw error;
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
    await jobs.shutdown();
  }
}

function tell(operations: readonly PlannedOperation[], json: boolean, charset: MessageCharset): void {
  if (json) {
    for (const operation of operations) writeJson(operationObject(operation));
    return;
  }
  for (const operation of operations) writeBytes("stdout", `${lineOf(operation, charset)}\n`);
}

/** Latin1 bytes: "create     'a' -> 'b'", and for what would fail its message. */
function lineOf({ action, source, destination, message }: PlannedOperation, charset: MessageCharset): string {
  const quote = (path: ByteString): string => quoteName(path, charset);
  const what = message === "" ? `${quote(source)} -> ${quote(destination)}` : message;
  return `${action.padEnd(10)} ${what}`;
}

function summaryText({ counts, files, directories, bytes, spaceNeeded, spaceFree }: PreviewSummary): string {
  const actions = Object.entries(counts) as [PlannedAction, number][];
  const told = actions.filter(([, count]) => count > 0).map(([action, count]) => `${formatCount(count)} ${action}`);
  const space = spaceFree < 0 ? "" : `, ${formatBytes(spaceFree)} free${spaceNeeded > spaceFree ? ": NOT ENOUGH" : ""}`;
  const total = `${formatCount(files)} file${files === 1 ? "" : "s"}, ${formatCount(directories)} director${directories === 1 ? "y" : "ies"}, ${formatBytes(bytes)}${space}`;
  return `${told.length === 0 ? "nothing to do" : told.join(", ")}\n${total}\n`;
}
