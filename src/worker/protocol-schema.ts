// The schemas of the protocol between a worker and its parent: every message limited in kind, size and range.

import { z } from "zod";
import { policySchema } from "../policy-schema.ts";
import { engineChoices, priorities } from "../request.ts";
import { byteStringSchema, requestSchema } from "../request-schema.ts";
import { answerChoices, maxGivenAnswers, maxLineBytes, maxToldPath, phases, plannedActions, questionKinds } from "./protocol.ts";

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const byteFigure = z.number().int().min(-1).max(Number.MAX_SAFE_INTEGER);
const text = z.string().max(4096);
/** What is known of the job's former worker, if it had one; the descriptor is given by the parent's side of the connection. */
const checkpointSchema = z
  .object({
    /** Descriptor of the job's checkpoint, a regular file that outlives its workers. */
    fd: z.number().int().min(0).max(64),
    /** A former worker of this job ended without a result. */
    isResumed: z.boolean(),
    /** The machine has not been started anew since: what the kernel was given is still there. */
    isSameBoot: z.boolean(),
    /** When the job first started, microseconds since 1970. */
    startedTimeUs: count,
  })
  .strict();
/** Paths below the arguments may be longer than PATH_MAX. */
const longPath = byteStringSchema.refine((path) => path.length <= maxToldPath, "longer than 48 KiB");

export const identitySchema = z
  .object({
    uid: z.number().int().min(0),
    gid: z.number().int().min(0),
    groups: z.array(z.number().int().min(0)).max(65536),
    /** Effective capabilities as a 64-bit mask in hexadecimal: exactly these and no others may be held. */
    capabilities: z.string().regex(/^[0-9a-f]{1,16}$/),
  })
  .strict();

export const parentMessageSchema = z.discriminatedUnion("type", [
  z
    .object({
      type: z.literal("start"),
      request: requestSchema,
      /** Who the worker must be; null in embedded mode, where it is simply the caller's child. */
      identity: identitySchema.nullable(),
      /** "strict": Landlock or fail; "if-available": use it where the kernel has it; "off": embedded mode. */
      sandbox: z.enum(["strict", "if-available", "off"]),
      /** "refuse": links in the arguments are root's, or the job is not begun; for jobs with more rights than their owner's. */
      foreignLinks: z.enum(["follow", "refuse"]).optional(),
      /** Names what is left over after a crash: unpublished files carry it. Letters, digits, "_" and "-". */
      token: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
      /** What the administrator allowed when the job was asked for; left out: everything. */
      policy: policySchema.exactOptional(),
      /** 0: adapt. */
      lanes: z.number().int().min(0).max(64),
      /** Count totals for a percentage while copying. */
      totals: z.boolean(),
      /** Descriptor of the in-flight record, a regular file of inFlightBytes; -1: none. */
      inFlightFd: z.number().int().min(-1).max(64),
      /** Where the worker opens that record itself: one that was started before its job was known has no descriptor of it. */
      inFlightPath: z.string().exactOptional(),
      /** Another number in another boot, for that record; left out: it does not outlive this one. */
      boot: z.number().int().min(0).max(0xffffffff).exactOptional(),
      /** null: nothing is logged, and nothing can be resumed. */
      checkpoint: checkpointSchema.nullable(),
      /** What was answered "for all" to a former worker: a resumed job does not ask again. */
      standingAnswers: z.array(z.object({ kind: z.enum(questionKinds), choice: z.enum(answerChoices) }).strict()).max(8),
      /** Answers about single conflicts that no former worker has said to have taken, with the numbers of its questions. */
      givenAnswers: z
        .array(z.object({ question: count, source: longPath, destination: longPath, choice: z.enum(answerChoices) }).strict())
        .max(maxGivenAnswers),
    })
    .strict(),
  /** Remove what a dead worker's in-flight record names; same identity and sandbox as the worker that died. */
  z
    .object({
      type: z.literal("recover"),
      request: requestSchema,
      identity: identitySchema.nullable(),
      sandbox: z.enum(["strict", "if-available", "off"]),
      foreignLinks: z.enum(["follow", "refuse"]).optional(),
      token: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
      inFlightFd: z.number().int().min(0).max(64),
      /** As the dead worker's, unless the machine was off since. */
      boot: z.number().int().min(0).max(0xffffffff).exactOptional(),
      /** Descriptor of the job's checkpoint; -1: it had none. */
      checkpointFd: z.number().int().min(-1).max(64),
      /** Partial files that the checkpoint names stay, for the job will go on; else they are removed as well. */
      keepsPartial: z.boolean(),
      /**
       * What the job has published goes as well; null: it stays. The result's snapshot counts it: filesDone and bytesDone are what was
       * removed, filesSkipped what was left in the job's own directories.
       */
      removal: checkpointSchema.pick({ isSameBoot: true, startedTimeUs: true }).nullable(),
    })
    .strict(),
  /** Say what a copy would do, and do nothing. */
  z
    .object({
      type: z.literal("preview"),
      request: requestSchema,
      identity: identitySchema.nullable(),
      sandbox: z.enum(["strict", "if-available", "off"]),
      policy: policySchema.exactOptional(),
      /** Operations, and bytes of their paths, beyond which they are counted only. */
      maxOperations: count,
      maxBytes: count,
    })
    .strict(),
  z.object({ type: z.literal("cancel") }).strict(),
  /** Orderly stop: as cancel, but all that is needed to go on later stays. Ends with the outcome "interrupted". */
  z.object({ type: z.literal("stop") }).strict(),
  z.object({ type: z.literal("pause") }).strict(),
  z.object({ type: z.literal("resume") }).strict(),
  z.object({ type: z.literal("set-options"), bandwidthLimit: count.optional(), priority: z.enum(priorities).optional() }).strict(),
  z
    .object({
      type: z.literal("answer"),
      question: count,
      choice: z.enum(answerChoices),
      forAll: z.boolean(),
    })
    .strict(),
]);

export const snapshotSchema = z
  .object({
    phase: z.enum(phases),
    paused: z.boolean(),
    totalsValid: z.boolean(),
    bytesTotal: count,
    bytesDone: count,
    /** Bytes shared with the source by cloning: on the same medium, so they prove nothing about it. */
    bytesCloned: count,
    /** Of the bytes copied, those that the flush at the end would have to wait for now; 0 where the job ends without one. */
    bytesUnflushed: count.default(0),
    /** Bytes read back and compared, of those that are to be: as many as bytesTotal where the job verifies, else 0. */
    bytesVerified: count,
    bytesToVerify: count,
    /** Files, symlinks and special files; directories are counted apart. */
    filesTotal: count,
    filesDone: count,
    filesSkipped: count,
    directoriesDone: count,
    errorCount: count,
    warningCount: count,
    currentFile: longPath,
    /** The engine that moved the latest bytes, for the Engine property. */
    engine: z.enum(engineChoices),
    lanes: z.number().int().min(0).max(64),
  })
  .strict();

export const entryErrorSchema = z
  .object({
    /** The entry it happened to: a source path, or a destination path where `side` says so. */
    path: longPath,
    side: z.enum(["source", "destination"]),
    /** A FailureCode; unknown ones are refused by the parent. */
    code: z.string().max(64),
    /** Positive errno or 0. */
    errno: z.number().int().min(0).max(4095),
    syscall: z.string().max(32),
    /** Whole sentence as GNU cp would print it after "cp: ", with names quoted by quoteName(), as latin1 bytes without newline. */
    message: z.string().max(16384),
    severity: z.enum(["error", "warning"]),
    engine: z.string().max(32),
    offset: z.number().int().min(-1).max(Number.MAX_SAFE_INTEGER),
  })
  .strict();

/** What would be done to one entry. */
export const plannedOperationSchema = z
  .object({
    action: z.enum(plannedActions),
    /** "unknown" where it failed before anybody could look. */
    object: z.enum(["file", "directory", "symlink", "special", "unknown"]),
    source: longPath,
    destination: longPath,
    /** To be copied; 0 for what is no file, and for a second name of one. */
    bytes: count,
    /** A second name of an inode, which would be linked to the first one's copy. */
    isHardLink: z.boolean(),
    /** A FailureCode and a sentence as of an error; "" unless the action is "fail". */
    code: z.string().max(64),
    message: z.string().max(16384),
  })
  .strict();

/** The totals of a dry run; all entries count, listed or not. */
export const previewSummarySchema = z
  .object({
    counts: z.record(z.enum(plannedActions), count),
    /** What would be made or replaced. */
    files: count,
    directories: count,
    bytes: count,
    /** Entries in whose place something stands, directories that are merged aside. */
    conflicts: count,
    /** Bytes that the destination must have free at most: clones and holes need less. */
    spaceNeeded: count,
    /** -1: not known. */
    spaceFree: z.number().min(-1),
    listed: count,
    /** False when it was stopped before the end. */
    isWhole: z.boolean(),
  })
  .strict();

export const workerMessageSchema = z.discriminatedUnion("type", [
  /** First message: who the worker found itself to be, and what serves. Sent before anything is opened. */
  z
    .object({
      type: z.literal("hello"),
      pid: z.number().int().min(1),
      identity: identitySchema,
      landlockAbi: z.number().int().min(0).max(1000),
    })
    .strict(),
  z.object({ type: z.literal("snapshot"), snapshot: snapshotSchema }).strict(),
  z.object({ type: z.literal("errors"), errors: z.array(entryErrorSchema).max(256) }).strict(),
  /** Lines for -v and --debug, in GNU's words, as latin1 bytes without newline. */
  z.object({ type: z.literal("lines"), lines: z.array(z.string().max(maxLineBytes)).max(256) }).strict(),
  z
    .object({
      type: z.literal("question"),
      question: count,
      kind: z.enum(questionKinds),
      source: longPath,
      destination: longPath,
      /** Where the trouble is: a mount point; "" for a conflict. */
      filesystem: longPath,
      /** Bytes that are needed there and bytes that are free; -1 where it is not a matter of bytes, or not known. */
      neededBytes: byteFigure,
      freeBytes: byteFigure,
      /** The prompt as GNU cp prints it after "cp: ", ending in "? ": `overwrite 'y'? `; latin1 bytes. */
      message: z.string().max(16384),
    })
    .strict(),
  /** The question needs no answer any more: the job goes on by itself, or has taken the one that it was given. */
  z.object({ type: z.literal("question-over"), question: count }).strict(),
  /** Of a dry run: what would be done, and then once the totals. */
  z.object({ type: z.literal("operations"), operations: z.array(plannedOperationSchema).max(256) }).strict(),
  z.object({ type: z.literal("preview"), summary: previewSummarySchema }).strict(),
  /** Last message. The parent derives the job's final state from it and from its own count of errors. */
  z
    .object({
      type: z.literal("result"),
      outcome: z.enum(["completed", "failed", "cancelled", "interrupted"]),
      snapshot: snapshotSchema,
      /** Files per engine. */
      engines: z.partialRecord(z.enum(engineChoices), count).optional(),
      /** Why this engine and number of lanes; shown by --debug and `copyd show`. */
      reasons: z.array(text).max(32),
      /** Nothing of what it copied from or to is open any more: whoever unmounts that need not wait for the process to be gone. */
      holdsNothing: z.literal(true).optional(),
    })
    .strict(),
  /** The worker refuses to run or gives up as a whole; nothing follows. */
  z.object({ type: z.literal("fatal"), code: z.string().max(64), message: text }).strict(),
]);
