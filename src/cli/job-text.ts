// Jobs in words: the rows of `copyd jobs`, the facts of `copyd show`.

import { type ByteString, displayText } from "../bytes.ts";
import { failures } from "../errors.ts";
import { hasEnded, type JobView, type Question } from "../jobs/api.ts";
import { questionChoices } from "../worker/protocol.ts";
import { fractionOf } from "./progress-line.ts";
import { aligned, type Column } from "./table.ts";
import { escapeControls, visibleText } from "./terminal-text.ts";
import { localTime } from "./time-text.ts";
import { formatBytes, formatCount, formatDuration, formatRate } from "./units.ts";
import { userName } from "./user-names.ts";

export const jobColumns: readonly Column[] = [
  ...aligned("left", "JOB", "STATE"),
  ...aligned("right", "DONE", "BYTES", "FILES", "RATE", "LEFT", "ERRORS"),
  ...aligned("left", "WHAT"),
];

export function jobRow(job: JobView, nowUs: number): string[] {
  const fraction = fractionOf(job);
  const isRunning = isUnderWay(job);
  return [
    job.token,
    stateText(job),
    fraction === null ? "" : `${Math.floor(fraction * 100)}%`,
    formatBytes(job.bytesDone),
    formatCount(job.filesDone),
    isRunning && job.rate > 0 ? formatRate(job.rate) : "",
    isRunning && job.totalsValid && job.expectedEndTimeUs > nowUs ? formatDuration((job.expectedEndTimeUs - nowUs) / 1e6) : "",
    job.errorCount > 0 ? formatCount(job.errorCount) : "",
    whatOf(job),
  ];
}

function isUnderWay({ state }: JobView): boolean {
  return state === "running" || state === "finishing";
}

/** "running", "queued #2 high". */
function stateText({ state, queuePosition, request }: JobView): string {
  if (hasEnded(state)) return state;
  const place = queuePosition > 0 ? ` #${queuePosition}` : "";
  // An older service may not tell.
  const { priority = "normal" } = request.options;
  return `${state}${place}${priority === "normal" ? "" : ` ${priority}`}`;
}

/** "copy /a/b, /a/c and 12 more -> /d". */
function whatOf({ request, token, group }: JobView): string {
  const shown = request.sources.slice(0, 2).map(visibleText).join(", ");
  const more = request.sources.length - 2;
  return `${request.operation} ${shown}${more > 0 ? ` and ${formatCount(more)} more` : ""} -> ${visibleText(request.destination)}${partText(token, group)}`;
}

/** Of a copy to several destinations, which it is. */
function partText(token: string, group: JobView["group"]): string {
  return group === null ? "" : ` (${group.members.indexOf(token) + 1} of ${group.members.length})`;
}

export function jobFacts(job: JobView): (readonly [string, string])[] {
  const { request, result } = job;
  const facts: (readonly [string, string])[] = [
    ["Job", job.token],
    ["State", hasEnded(job.state) ? job.state : `${job.state} (${job.phase})`],
    ["Waits because", escapeControls(job.waitReason)],
    ["Operation", `${request.operation}${job.asAdmin ? " as administrator" : ""}`],
    ["Owner", userName(job.owner.uid)],
    ...request.sources.map((source): [string, string] => ["Source", visibleText(source)]),
    ["Destination", visibleText(request.destination)],
    ["With", job.group === null ? "" : job.group.members.filter((token) => token !== job.token).join(", ")],
    ["Priority", hasEnded(job.state) ? "" : (request.options.priority ?? "")],
    ["Place in the queue", job.queuePosition > 0 ? String(job.queuePosition) : ""],
    ["Limit", request.options.bandwidthLimit > 0 ? formatRate(request.options.bandwidthLimit) : ""],
    ["Bytes", amountText(job)],
    ["Files", filesText(job)],
    ["Errors", formatCount(job.errorCount)],
    ["Warnings", formatCount(job.warningCount)],
    ["Engine", job.engine],
    ["Created", timeText(job.createdTimeUs)],
    ["Started", timeText(job.startedTimeUs)],
    ["Finished", timeText(job.finishedTimeUs)],
    ["Resumed", job.resumeCount === 0 ? "" : job.resumeCount === 1 ? "once" : `${formatCount(job.resumeCount)} times`],
  ];
  if (!hasEnded(job.state)) {
    // A job that stands still has neither, whatever it had when it stopped.
    if (isUnderWay(job)) facts.push(["Rate", formatRate(job.rate)], ["Expected end", timeText(job.expectedEndTimeUs)]);
    facts.push(["File", visibleText(job.currentFile)]);
  }
  if (job.question !== null) facts.push(["Question", questionText(job.question)]);
  if (result !== null) {
    facts.push(["Result", escapeControls(result.message)], ["Took", formatDuration(result.elapsedUs / 1e6)]);
    if (result.code !== undefined) facts.push(["Code", result.code], ["Advice", failures[result.code].advice]);
    facts.push(...result.reasons.map((reason): [string, string] => ["Why", escapeControls(reason)]));
  }
  return facts.filter(([, value]) => value !== "");
}

/** The question, its figures, and what it takes, on one line. */
export function questionText({ kind, message, neededBytes, freeBytes }: Question): string {
  const figures = neededBytes < 0 ? "" : ` (${formatBytes(neededBytes)} needed, ${formatBytes(Math.max(0, freeBytes))} free)`;
  return `${escapeControls(displayText(message as ByteString)).trim()}${figures} [${questionChoices[kind].join(", ")}]`;
}

function amountText({ bytesDone, bytesTotal, bytesCloned, bytesVerified, totalsValid, state }: JobView): string {
  const total = bytesTotal > 0 && !hasEnded(state) ? ` of ${formatBytes(bytesTotal)}${totalsValid ? "" : " or more"}` : "";
  const cloned = bytesCloned > 0 ? `, ${formatBytes(bytesCloned)} of them cloned` : "";
  const verified = bytesVerified > 0 ? `, ${formatBytes(bytesVerified)} verified` : "";
  return `${formatBytes(bytesDone)}${total}${cloned}${verified}`;
}

function filesText({ filesDone, filesTotal, filesSkipped, totalsValid, state }: JobView): string {
  const total = filesTotal > 0 && !hasEnded(state) ? ` of ${formatCount(filesTotal)}${totalsValid ? "" : " or more"}` : "";
  return `${formatCount(filesDone)}${total}${filesSkipped > 0 ? `, ${formatCount(filesSkipped)} skipped` : ""}`;
}

/** "" for "not yet". */
function timeText(timeUs: number): string {
  return timeUs === 0 ? "" : localTime(timeUs);
}

/** Of errors that were not heard when they came, and beyond what the service keeps. */
export function errorsLostText(count: number): string {
  return `${count} more ${count === 1 ? "error is" : "errors are"} not shown: the service did not keep so many`;
}
