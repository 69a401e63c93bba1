// Jobs as rows of the store, and back: what is read is parsed like any other input.

import { z } from "zod";
import type { ByteString } from "../bytes.ts";
import { isFailureCode } from "../errors.ts";
import { policySchema } from "../policy-schema.ts";
import { engineChoices } from "../request.ts";
import { byteStringSchema, optionsSchema, requestSchema } from "../request-schema.ts";
import { answerChoices, questionKinds } from "../worker/protocol.ts";
import { entryErrorSchema, snapshotSchema } from "../worker/protocol-schema.ts";
import { jobStates } from "./api.ts";
import { noAttempts } from "./attempts.ts";
import { activities, type Job } from "./job.ts";

export type JobRow = {
  readonly id: number;
  readonly uid: number;
  readonly token: string;
  readonly state: string;
  readonly created_us: number;
  readonly started_us: number;
  readonly finished_us: number;
  /** Written once: it may be long. */
  readonly request: string;
  /** All of the job that changes, and what is only read together with it. */
  readonly record: string;
};

/** What of a row changes in the course of the job, and its number. */
export type ChangingJobRow = Pick<JobRow, "id" | "state" | "started_us" | "finished_us" | "record">;

const code = z.string().refine(isFailureCode);
const outcome = z.enum(["completed", "failed", "cancelled"]);
const engines = z.partialRecord(z.enum(engineChoices), z.number());
const question = z.object({
  id: z.number(),
  kind: z.enum(questionKinds),
  source: byteStringSchema,
  destination: byteStringSchema,
  // A former version's questions were of conflicts only.
  filesystem: byteStringSchema.default("" as ByteString),
  neededBytes: z.number().default(-1),
  freeBytes: z.number().default(-1),
  message: z.string(),
});
const result = z.object({
  state: outcome,
  code: code.exactOptional(),
  message: z.string(),
  bytesDone: z.number(),
  bytesCloned: z.number(),
  filesDone: z.number(),
  filesSkipped: z.number(),
  errorCount: z.number(),
  warningCount: z.number(),
  elapsedUs: z.number(),
  resumeCount: z.number().default(0),
  reasons: z.array(z.string()),
  engines,
});
const workerFailure = z.object({ code, message: z.string(), mayGoOn: z.boolean().default(false) });
const removal = z.union([
  z.enum(["none", "asked"]),
  z.object({ files: z.number(), bytes: z.number(), left: z.number() }),
  z.object({ failure: workerFailure }),
]);
const recordSchema = z.object({
  workToken: z.string(),
  owner: z.object({ uid: z.number(), gid: z.number(), groups: z.array(z.number()) }),
  asAdmin: z.boolean(),
  group: z
    .object({ token: z.string(), destinations: z.array(byteStringSchema) })
    .nullable()
    .default(null),
  companions: z.array(z.string()).default([]),
  policy: policySchema.exactOptional(),
  options: optionsSchema.nullable(),
  order: z.number().exactOptional(),
  progress: z.object({
    snapshot: snapshotSchema,
    rate: z.number(),
    expectedEndTimeUs: z.number(),
    sampledTimeUs: z.number(),
    smoothedBytes: z.number(),
    smoothedWork: z.number(),
    weight: z.number(),
    flush: z
      .object({ smoothedBytes: z.number(), weight: z.number(), movedTimeUs: z.number() })
      .default({ smoothedBytes: 0, weight: 0, movedTimeUs: 0 }),
  }),
  errorCount: z.number(),
  warningCount: z.number(),
  firstError: entryErrorSchema.nullable(),
  question: question.nullable(),
  pauseRequested: z.boolean(),
  cancelRequested: z.boolean(),
  removal: removal.default("none"),
  // What has a default or may be missing came later: records of older versions are read as well.
  activity: z.enum(activities).exactOptional(),
  stopRequested: z.boolean().default(false),
  attempts: z
    .object({ resumed: z.number(), deaths: z.number(), deathsInAll: z.number(), crashes: z.number(), reached: z.number() })
    .default(noAttempts),
  bootId: z.string().default(""),
  mounts: z.array(z.object({ point: z.string(), type: z.string(), source: z.string() })).default([]),
  process: z.object({ pid: z.number(), startTime: z.string() }).nullable().default(null),
  standingAnswers: z.array(z.object({ kind: question.shape.kind, choice: z.enum(answerChoices) })).default([]),
  givenAnswers: z
    .array(z.object({ question: z.number(), source: byteStringSchema, destination: byteStringSchema, choice: z.enum(answerChoices) }))
    .default([]),
  claim: z.object({ outcome: z.enum([...outcome.options, "interrupted"]), engines, reasons: z.array(z.string()) }).nullable(),
  workerFailure: workerFailure.nullable(),
  result: result.nullable(),
});

export function jobToRow(job: Job): JobRow {
  const { owner, token, request, createdTimeUs } = job;
  return { ...jobToChangingRow(job), uid: owner.uid, token, created_us: createdTimeUs, request: JSON.stringify(request) };
}

export function jobToChangingRow(job: Job): ChangingJobRow {
  const { id, token: _, state, request, options, createdTimeUs: __, startedTimeUs, finishedTimeUs, hold: ___, ...rest } = job;
  const record = { ...rest, options: options === request.options ? null : options };
  return { id, state, started_us: startedTimeUs, finished_us: finishedTimeUs, record: JSON.stringify(record) };
}

/** null for a row that no version of copyd wrote so. */
export function jobFromRow(row: JobRow): Job | null {
  try {
    const request = requestSchema.parse(JSON.parse(row.request));
    const { options, order, ...record } = recordSchema.parse(JSON.parse(row.record));
    return {
      ...record,
      hold: "none",
      activity: record.activity ?? (row.started_us !== 0 && row.finished_us === 0 ? "working" : "none"),
      id: row.id,
      token: row.token,
      state: z.enum(jobStates).parse(row.state),
      createdTimeUs: row.created_us,
      startedTimeUs: row.started_us,
      finishedTimeUs: row.finished_us,
      request,
      options: options ?? request.options,
      order: order ?? row.id,
    };
  } catch {
    // The caller reports it by number; why exactly one field is wrong would not help anybody to mend it.
    return null;
  }
}
