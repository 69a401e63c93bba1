// --json: one object a line on standard output. The keys are a contract; additions are not breaking, changes are.

import { type ByteString, displayText, toBytes } from "../bytes.ts";
import type { JobResult, JobView, Question } from "../jobs/api.ts";
import { type EntryError, type PlannedOperation, type PreviewSummary, questionChoices } from "../worker/protocol.ts";
import { writeText } from "./output.ts";

export function writeJson(object: Readonly<Record<string, unknown>>): void {
  writeText("stdout", `${JSON.stringify(object)}\n`);
}

/** {"type":"progress", ...}: as the properties of the job on D-Bus, in bytes, files and microseconds. */
export function progressObject(job: JobView): Readonly<Record<string, unknown>> {
  return { type: "progress", ...progressFields(job) };
}

/** `destination`: of which of several, as typed. */
export function errorObject(error: EntryError, destination?: ByteString): Readonly<Record<string, unknown>> {
  return {
    type: error.severity,
    ...(destination !== undefined && nameFields("destination", destination)),
    ...nameFields("path", error.path),
    side: error.side,
    code: error.code,
    errno: error.errno,
    syscall: error.syscall,
    message: textOfBytes(error.message),
    ...(error.offset >= 0 && { offset: error.offset }),
    ...(error.engine !== "" && { engine: error.engine }),
  };
}

/** A line of -v or --debug. */
export function lineObject(line: string): Readonly<Record<string, unknown>> {
  return { type: "line", text: textOfBytes(line) };
}

export function questionObject(question: Question): Readonly<Record<string, unknown>> {
  return {
    type: "question",
    ...nameFields("source", question.source),
    ...nameFields("destination", question.destination),
    kind: question.kind,
    choices: questionChoices[question.kind],
    ...(question.filesystem !== "" && nameFields("filesystem", question.filesystem)),
    ...(question.neededBytes >= 0 && { neededBytes: question.neededBytes }),
    ...(question.freeBytes >= 0 && { freeBytes: question.freeBytes }),
    message: textOfBytes(question.message),
  };
}

/** `destination`: of which of several, as typed; the last result is that of all. */
export function resultObject(result: JobResult, destination?: ByteString): Readonly<Record<string, unknown>> {
  return { type: "result", ...(destination !== undefined && nameFields("destination", destination)), ...result };
}

/** One operation of a dry run. */
export function operationObject({ source, destination, message, code, ...facts }: PlannedOperation): Readonly<Record<string, unknown>> {
  const failure = code === "" ? {} : { code, message: textOfBytes(message) };
  return { type: "operation", ...nameFields("source", source), ...nameFields("destination", destination), ...facts, ...failure };
}

/** A dry run's last object. */
export function summaryObject({ spaceFree, ...summary }: PreviewSummary, destination?: ByteString): Readonly<Record<string, unknown>> {
  return {
    type: "summary",
    ...(destination !== undefined && nameFields("destination", destination)),
    ...summary,
    ...(spaceFree >= 0 && { spaceFree }),
  };
}

/** All of a job, for `jobs` and `show`. */
export function jobObject(job: JobView): Readonly<Record<string, unknown>> {
  const { request } = job;
  return {
    type: "job",
    job: job.token,
    uid: job.owner.uid,
    asAdmin: job.asAdmin,
    ...(job.group !== null && { group: job.group }),
    operation: request.operation,
    ...namesFields("sources", request.sources),
    ...nameFields("destination", request.destination),
    ...progressFields(job),
    priority: request.options.priority,
    bandwidthLimit: request.options.bandwidthLimit,
    createdTimeUs: job.createdTimeUs,
    startedTimeUs: job.startedTimeUs,
    finishedTimeUs: job.finishedTimeUs,
    resumeCount: job.resumeCount,
    result: job.result,
  };
}

function progressFields(job: JobView): Readonly<Record<string, unknown>> {
  return {
    state: job.state,
    ...(job.waitReason !== "" && { waitReason: job.waitReason }),
    ...(job.queuePosition > 0 && { queuePosition: job.queuePosition }),
    phase: job.phase,
    totalsValid: job.totalsValid,
    bytesDone: job.bytesDone,
    bytesTotal: job.bytesTotal,
    bytesCloned: job.bytesCloned,
    bytesVerified: job.bytesVerified,
    bytesToVerify: job.bytesToVerify,
    filesDone: job.filesDone,
    filesTotal: job.filesTotal,
    filesSkipped: job.filesSkipped,
    errorCount: job.errorCount,
    warningCount: job.warningCount,
    rate: job.rate,
    expectedEndTimeUs: job.expectedEndTimeUs,
    ...nameFields("currentFile", job.currentFile),
    engine: job.engine,
  };
}

/**
 * A name as text, and, where it is not UTF-8, its bytes under `...Base64`: JSON has no byte strings, and a name that cannot be
 * opened again is worth little to a program.
 */
export function nameFields(key: string, name: ByteString): Readonly<Record<string, string>> {
  const text = displayText(name);
  if (!text.includes("\ufffd")) return { [key]: text };
  return { [key]: text, [`${key}Base64`]: toBytes(name).toString("base64") };
}

function namesFields(key: string, names: readonly ByteString[]): Readonly<Record<string, readonly string[]>> {
  const texts = names.map(displayText);
  if (!texts.some((text) => text.includes("\ufffd"))) return { [key]: texts };
  return { [key]: texts, [`${key}Base64`]: names.map((name) => toBytes(name).toString("base64")) };
}

function textOfBytes(latin1: string): string {
  return Buffer.from(latin1, "latin1").toString("utf8");
}
