// What the service tells a client, read back into the types of the jobs room. Whatever is missing reads as "not yet".

import { type ByteString, byteString } from "../bytes.ts";
import { type FailureCode, isFailureCode } from "../errors.ts";
import { type GroupView, type JobResult, type JobState, type JobView, jobStates, type Question } from "../jobs/api.ts";
import { type EngineChoice, type JobRequest, priorities } from "../request.ts";
import { type EntryError, type Phase, questionKinds } from "../worker/protocol.ts";
import type { JobAddress } from "./object-path.ts";
import { optionsAsTold } from "./option-keys.ts";
import { asVariantDict, dictValue, type VariantDict, type WireValue } from "./values.ts";

/**
 * A job's properties as a view. The request has the first 32 sources only, and the owner's groups are not told: gid -1.
 */
export function viewFromProperties({ uid, token }: JobAddress, properties: VariantDict): JobView {
  const text = (name: string): string => dictValue(properties, name, "s") ?? "";
  const number = (name: string): number => Number(dictValue(properties, name, "t") ?? dictValue(properties, name, "u") ?? 0);
  const flag = (name: string): boolean => dictValue(properties, name, "b") ?? false;
  const dict = (name: string): VariantDict => asVariantDict(properties.get(name)?.value);
  const state = jobStates.find((known) => known === text("State")) ?? "queued";
  return {
    token,
    owner: { uid, gid: -1, groups: [] },
    asAdmin: flag("AsAdmin"),
    group: groupFrom(text("GroupToken"), properties.get("Group")?.value),
    request: requestFrom(properties),
    companions: [],
    state,
    waitReason: text("WaitReason"),
    queuePosition: number("QueuePosition"),
    phase: (text("Phase") || "scanning") as Phase,
    createdTimeUs: number("CreatedTime"),
    startedTimeUs: number("StartedTime"),
    finishedTimeUs: number("FinishedTime"),
    totalsValid: flag("TotalsValid"),
    bytesTotal: number("BytesTotal"),
    bytesDone: number("BytesDone"),
    bytesCloned: number("BytesCloned"),
    bytesVerified: number("BytesVerified"),
    bytesToVerify: number("BytesToVerify"),
    filesTotal: number("FilesTotal"),
    filesDone: number("FilesDone"),
    filesSkipped: number("FilesSkipped"),
    errorCount: number("ErrorCount"),
    warningCount: number("WarningCount"),
    rate: number("Rate"),
    expectedEndTimeUs: number("ExpectedEndTime"),
    currentFile: pathFrom(properties.get("CurrentFile")?.value),
    engine: (text("Engine") || "auto") as EngineChoice,
    question: questionFrom(dict("Question")),
    resumeCount: number("ResumeCount"),
    result: resultFrom(dict("Result"), state),
    cancelable: flag("Cancelable"),
    pausable: flag("Pausable"),
  };
}

/** One entry of GetErrors. */
export function entryErrorFrom(value: WireValue): EntryError {
  const [path, errno, code, message, details] = value as readonly [Buffer, number, string, string, VariantDict];
  const bytes = dictValue(details, "message-bytes", "ay");
  return {
    path: pathFrom(path),
    side: dictValue(details, "side", "s") === "destination" ? "destination" : "source",
    code,
    errno,
    syscall: dictValue(details, "syscall", "s") ?? "",
    message: bytes === undefined ? Buffer.from(message, "utf8").toString("latin1") : bytes.toString("latin1"),
    severity: dictValue(details, "severity", "s") === "warning" ? "warning" : "error",
    engine: dictValue(details, "engine", "s") ?? "",
    offset: Number(details.get("offset")?.value ?? -1),
  };
}

/** Errors as one signal tells them. */
export interface ErrorBatch {
  /** Which run of the job they are of: each finds its errors anew. */
  readonly resumeCount: number;
  /** How many of the run were told before. */
  readonly offset: number;
  readonly errors: readonly EntryError[];
}

/** The body of the signal Errors. */
export function errorBatchFrom([resumeCount, offset, errors]: readonly WireValue[]): ErrorBatch {
  return {
    resumeCount: Number(resumeCount),
    offset: Number(offset),
    errors: (errors as readonly WireValue[]).map(entryErrorFrom),
  };
}

/** A path as the service sends it, with a NUL at its end. */
export function pathFrom(value: WireValue): ByteString {
  if (!Buffer.isBuffer(value)) return "" as ByteString;
  return byteString(value.at(-1) === 0 ? value.subarray(0, -1) : value);
}

function requestFrom(properties: VariantDict): JobRequest {
  const options = optionsAsTold(asVariantDict(properties.get("Options")?.value));
  const priority = priorities.find((known) => known === dictValue(properties, "Priority", "s")) ?? options.priority;
  const sources = properties.get("Sources")?.value;
  return {
    operation: dictValue(properties, "Operation", "s") === "move" ? "move" : "copy",
    sources: Array.isArray(sources) ? sources.map(pathFrom) : [],
    destination: pathFrom(properties.get("Destination")?.value),
    options: { ...options, priority },
  };
}

function groupFrom(token: string, paths: WireValue | undefined): GroupView | null {
  if (token === "" || !Array.isArray(paths)) return null;
  return { token, members: paths.map((path) => String(path)).map((path) => path.slice(path.lastIndexOf("/") + 1)) };
}

function questionFrom(dict: VariantDict): Question | null {
  const id = dictValue(dict, "id", "u");
  if (id === undefined) return null;
  return {
    id,
    kind: questionKinds.find((kind) => kind === dictValue(dict, "kind", "s")) ?? "conflict",
    source: pathFrom(dict.get("source")?.value),
    destination: pathFrom(dict.get("destination")?.value),
    filesystem: pathFrom(dict.get("filesystem")?.value ?? new Uint8Array(0)),
    neededBytes: Number(dictValue(dict, "needed", "t") ?? -1),
    freeBytes: Number(dictValue(dict, "free", "t") ?? -1),
    message: Buffer.from(dictValue(dict, "message", "s") ?? "", "utf8").toString("latin1"),
  };
}

function resultFrom(dict: VariantDict, state: JobState): JobResult | null {
  if (dict.size === 0 || (state !== "completed" && state !== "failed" && state !== "cancelled")) return null;
  const number = (key: string): number => Number(dictValue(dict, key, "t") ?? dictValue(dict, key, "u") ?? 0);
  const engines = dict.get("engines")?.value;
  const code = dictValue(dict, "code", "s");
  return {
    state,
    ...(code !== undefined && { code: knownCode(code) }),
    message: dictValue(dict, "message", "s") ?? "",
    bytesDone: number("bytes-done"),
    bytesCloned: number("bytes-cloned"),
    filesDone: number("files-done"),
    filesSkipped: number("files-skipped"),
    errorCount: number("error-count"),
    warningCount: number("warning-count"),
    elapsedUs: number("elapsed"),
    resumeCount: number("resume-count"),
    reasons: dictValue(dict, "reasons", "as") ?? [],
    engines: engines instanceof Map ? Object.fromEntries([...engines].map(([name, files]) => [name, Number(files)])) : {},
  };
}

/** A newer service may know failures that this client does not. */
function knownCode(code: string): FailureCode {
  return isFailureCode(code) ? code : "io-error";
}
