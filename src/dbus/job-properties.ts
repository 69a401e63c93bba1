// A job as its properties on the bus: one encoder for each property of the contract, and what changed between two views.

import { failures, isFailureCode } from "../errors.ts";
import type { JobResult, JobView, Question } from "../jobs/api.ts";
import { type EntryError, questionChoices } from "../worker/protocol.ts";
import { contract, type JobProperty, jobInterface } from "./contract.ts";
import { jobPath } from "./object-path.ts";
import { encodeOptions, pathBytes } from "./option-keys.ts";
import { Variant } from "./values.ts";

/** Sources told as a property; SourceCount says how many there are. */
export const maxToldSources = 32;

type Read = (job: JobView) => unknown;

const readers: Readonly<Record<JobProperty, Read>> = {
  Operation: ({ request }) => request.operation,
  OwnerUid: ({ owner }) => owner.uid,
  AsAdmin: ({ asAdmin }) => asAdmin,
  GroupToken: ({ group }) => group?.token ?? "",
  Group: ({ owner, group }) => group?.members.map((token) => jobPath(owner.uid, token)) ?? [],
  Sources: ({ request }) => request.sources.slice(0, maxToldSources).map(pathBytes),
  SourceCount: ({ request }) => request.sources.length,
  Destination: ({ request }) => pathBytes(request.destination),
  Options: toldOptions,
  Priority: ({ request }) => request.options.priority,
  CreatedTime: ({ createdTimeUs }) => count(createdTimeUs),
  StartedTime: ({ startedTimeUs }) => count(startedTimeUs),
  FinishedTime: ({ finishedTimeUs }) => count(finishedTimeUs),
  State: ({ state }) => state,
  WaitReason: ({ waitReason }) => text(waitReason),
  QueuePosition: ({ queuePosition }) => queuePosition,
  TotalsValid: ({ totalsValid }) => totalsValid,
  BytesTotal: ({ bytesTotal }) => count(bytesTotal),
  BytesDone: ({ bytesDone }) => count(bytesDone),
  FilesTotal: ({ filesTotal }) => count(filesTotal),
  FilesDone: ({ filesDone }) => count(filesDone),
  FilesSkipped: ({ filesSkipped }) => count(filesSkipped),
  BytesCloned: ({ bytesCloned }) => count(bytesCloned),
  BytesVerified: ({ bytesVerified }) => count(bytesVerified),
  BytesToVerify: ({ bytesToVerify }) => count(bytesToVerify),
  ErrorCount: ({ errorCount }) => count32(errorCount),
  WarningCount: ({ warningCount }) => count32(warningCount),
  Rate: ({ rate }) => count(rate),
  ExpectedEndTime: ({ expectedEndTimeUs }) => count(expectedEndTimeUs),
  CurrentFile: ({ currentFile }) => pathBytes(currentFile),
  Phase: ({ phase }) => phase,
  Engine: ({ engine }) => engine,
  ResumeCount: ({ resumeCount }) => count32(resumeCount),
  Question: ({ question }) => encodeQuestion(question),
  Result: ({ result }) => encodeResult(result),
  Cancelable: ({ cancelable }) => cancelable,
  Pausable: ({ pausable }) => pausable,
};

const propertyNames = Object.keys(readers) as JobProperty[];
const types = contract[jobInterface].properties;
const changing = propertyNames.filter((name) => types[name].emits === "true");

export function jobProperty(job: JobView, name: JobProperty): Variant {
  return new Variant(types[name].type, readers[name](job));
}

export function isJobProperty(name: string): name is JobProperty {
  return Object.hasOwn(readers, name);
}

/** All properties, for GetAll, ListJobs and InterfacesAdded; or those wanted. */
export function jobProperties(job: JobView, wanted: readonly JobProperty[] = propertyNames): Map<string, Variant> {
  return new Map(wanted.map((name) => [name, jobProperty(job, name)]));
}

/** The properties whose values differ, with their new values. */
export function changedProperties(before: JobView, after: JobView): Map<string, Variant> {
  const changed = new Map<string, Variant>();
  for (const name of changing) {
    // Some fifty values, which hardly ever change.
    if (name === "Options" && before.request.options === after.request.options) continue;
    const value = readers[name](after);
    if (!isSame(readers[name](before), value)) changed.set(name, new Variant(types[name].type, value));
  }
  return changed;
}

/** Roughly the bytes that a job's properties take in a reply. */
export function weightOf({ request, currentFile }: JobView): number {
  const { include, exclude } = request.options;
  const texts = [...request.sources.slice(0, maxToldSources), request.destination, currentFile, ...include, ...exclude];
  return texts.reduce((sum, text) => sum + text.length + 8, 2500);
}

export function encodeResult(result: JobResult | null): Map<string, Variant> {
  const dict = new Map<string, Variant>();
  if (result === null) return dict;
  dict.set("state", new Variant("s", result.state));
  dict.set("message", new Variant("s", text(result.message)));
  if (result.code !== undefined) {
    dict.set("code", new Variant("s", result.code));
    dict.set("advice", new Variant("s", failures[result.code].advice));
  }
  for (const [key, value] of [
    ["bytes-done", result.bytesDone],
    ["bytes-cloned", result.bytesCloned],
    ["files-done", result.filesDone],
    ["files-skipped", result.filesSkipped],
    ["elapsed", result.elapsedUs],
  ] as const) {
    dict.set(key, new Variant("t", count(value)));
  }
  dict.set("error-count", new Variant("u", count32(result.errorCount)));
  dict.set("warning-count", new Variant("u", count32(result.warningCount)));
  dict.set("resume-count", new Variant("u", count32(result.resumeCount)));
  dict.set("reasons", new Variant("as", result.reasons.map(text)));
  const engines = Object.entries(result.engines).map(([engine, files]) => [engine, count(files)] as const);
  dict.set("engines", new Variant("a{st}", new Map(engines)));
  return dict;
}

/** One entry of GetErrors: (ayussa{sv}). */
export function encodeEntryError(error: EntryError): unknown[] {
  const messageBytes = Buffer.from(error.message, "latin1");
  const details = new Map([
    ["severity", new Variant("s", error.severity)],
    ["side", new Variant("s", error.side)],
    ["syscall", new Variant("s", text(error.syscall))],
    ["engine", new Variant("s", text(error.engine))],
    ["offset", new Variant("x", error.offset)],
    ["message-bytes", new Variant("ay", messageBytes)],
  ]);
  if (isFailureCode(error.code)) details.set("advice", new Variant("s", failures[error.code].advice));
  return [pathBytes(error.path), error.errno, text(error.code), text(messageBytes.toString("utf8")), details];
}

function toldOptions({ request }: JobView): Map<string, Variant> {
  // The names as typed may be as long as a command line, and only the worker needs them.
  return new Map([...encodeOptions(request.options)].filter(([key]) => !key.startsWith("names-")));
}

function encodeQuestion(question: Question | null): Map<string, Variant> {
  if (question === null) return new Map();
  const dict = new Map([
    ["id", new Variant("u", question.id)],
    ["kind", new Variant("s", question.kind)],
    ["source", new Variant("ay", pathBytes(question.source))],
    ["destination", new Variant("ay", pathBytes(question.destination))],
    ["message", new Variant("s", text(Buffer.from(question.message, "latin1").toString("utf8")))],
    ["choices", new Variant("as", questionChoices[question.kind])],
  ]);
  if (question.filesystem !== "") dict.set("filesystem", new Variant("ay", pathBytes(question.filesystem)));
  if (question.neededBytes >= 0) dict.set("needed", new Variant("t", count(question.neededBytes)));
  if (question.freeBytes >= 0) dict.set("free", new Variant("t", count(question.freeBytes)));
  return dict;
}

/** Numbers of a worker's or an estimate's making, fit for `t`: whole, not negative. */
function count(value: number): number {
  return Number.isFinite(value) ? Math.max(0, Math.round(value)) : 0;
}

function count32(value: number): number {
  return Math.min(0xffff_ffff, count(value));
}

/** Text fit for `s`: no NUL, no lone surrogate. */
export function text(value: string): string {
  return value.toWellFormed().replaceAll("\0", "?");
}

function isSame(before: unknown, after: unknown): boolean {
  if (Buffer.isBuffer(before) && Buffer.isBuffer(after)) return before.equals(after);
  // Question and Result: made anew at each reading.
  if (before instanceof Map && after instanceof Map) return Bun.deepEquals(before, after);
  return before === after;
}
