// The protocol between a worker and its parent: framed JSON over two pipes, every message parsed and limited on both sides.
//
// A frame is a 32-bit little-endian length and that many bytes of UTF-8 JSON. Byte strings travel as latin1 characters.
// What a worker sends is hostile input to the daemon: the user it runs as may ptrace it.

import { z } from "zod";
import { byteStringSchema, engineChoices, priorities, requestSchema } from "../request.ts";

/** Worker to parent: a batch of at most 256 errors fits; more in one frame is a protocol violation. */
export const maxWorkerFrameBytes = 4 * 1024 * 1024;
/** Parent to worker: a request with the largest list of sources that embedded mode accepts (ARG_MAX is 2 MiB by default). */
export const maxParentFrameBytes = 64 * 1024 * 1024;
/** The worker sends a snapshot (its heartbeat) this often, milliseconds. */
export const snapshotIntervalMs = 100;

/** Size of the in-flight record: 64 KiB for each of at most 64 lanes. */
export const inFlightBytes = 64 * 64 * 1024;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const text = z.string().max(4096);
/** Paths below the arguments may be longer than PATH_MAX. */
const longPath = byteStringSchema.refine((path) => path.length <= 1024 * 1024, "longer than 1 MiB");

export const identitySchema = z
  .object({
    uid: z.number().int().min(0),
    gid: z.number().int().min(0),
    groups: z.array(z.number().int().min(0)).max(65536),
    /** Effective capabilities as a 64-bit mask in hexadecimal: exactly these and no others may be held. */
    capabilities: z.string().regex(/^[0-9a-f]{1,16}$/),
  })
  .strict();
export type Identity = Readonly<z.infer<typeof identitySchema>>;

export const parentMessageSchema = z.discriminatedUnion("type", [
  z
    .object({
      type: z.literal("start"),
      request: requestSchema,
      /** Who the worker must be; null in embedded mode, where it is simply the caller's child. */
      identity: identitySchema.nullable(),
      /** "strict": Landlock or fail; "if-available": use it where the kernel has it; "off": embedded mode. */
      sandbox: z.enum(["strict", "if-available", "off"]),
      /** Names what is left over after a crash: unpublished files carry it. Letters, digits, "_" and "-". */
      token: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
      /** 0: adapt. */
      lanes: z.number().int().min(0).max(64),
      /** Count totals for a percentage while copying. */
      totals: z.boolean(),
      /** Descriptor of the in-flight record, a regular file of inFlightBytes; -1: none. */
      inFlightFd: z.number().int().min(-1).max(64),
    })
    .strict(),
  /** Remove what a dead worker's in-flight record names; same identity and sandbox as the worker that died. */
  z
    .object({
      type: z.literal("recover"),
      request: requestSchema,
      identity: identitySchema.nullable(),
      sandbox: z.enum(["strict", "if-available", "off"]),
      token: z.string().regex(/^[A-Za-z0-9_-]{1,64}$/),
      inFlightFd: z.number().int().min(0).max(64),
    })
    .strict(),
  z.object({ type: z.literal("cancel") }).strict(),
  z.object({ type: z.literal("pause") }).strict(),
  z.object({ type: z.literal("resume") }).strict(),
  z.object({ type: z.literal("set-options"), bandwidthLimit: count.optional(), priority: z.enum(priorities).optional() }).strict(),
  z
    .object({
      type: z.literal("answer"),
      question: count,
      choice: z.enum(["overwrite", "skip", "rename", "newer", "abort"]),
      forAll: z.boolean(),
    })
    .strict(),
]);
export type ParentMessage = z.infer<typeof parentMessageSchema>;

export const phases = ["scanning", "copying", "flushing", "verifying"] as const;
export type Phase = (typeof phases)[number];

export const snapshotSchema = z
  .object({
    phase: z.enum(phases),
    paused: z.boolean(),
    totalsValid: z.boolean(),
    bytesTotal: count,
    bytesDone: count,
    /** Bytes shared with the source by cloning: on the same medium, so they prove nothing about it. */
    bytesCloned: count,
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
export type Snapshot = Readonly<z.infer<typeof snapshotSchema>>;

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
export type EntryError = Readonly<z.infer<typeof entryErrorSchema>>;

export const workerMessageSchema = z.discriminatedUnion("type", [
  /** First message: who the worker found itself to be, and what serves. Sent before anything is opened. */
  z
    .object({
      type: z.literal("hello"),
      pid: z.number().int().min(1),
      identity: identitySchema,
      landlockAbi: z.number().int().min(0).max(1000),
      ioUring: text,
    })
    .strict(),
  z.object({ type: z.literal("snapshot"), snapshot: snapshotSchema }).strict(),
  z.object({ type: z.literal("errors"), errors: z.array(entryErrorSchema).max(256) }).strict(),
  /** Lines for -v and --debug, in GNU's words, as latin1 bytes without newline. */
  z.object({ type: z.literal("lines"), lines: z.array(z.string().max(64 * 1024)).max(256) }).strict(),
  z
    .object({
      type: z.literal("question"),
      question: count,
      kind: z.enum(["conflict"]),
      source: longPath,
      destination: longPath,
      /** The prompt as GNU cp prints it after "cp: ", ending in "? ": `overwrite 'y'? `; latin1 bytes. */
      message: z.string().max(16384),
    })
    .strict(),
  /** Last message. The parent derives the job's final state from it and from its own count of errors. */
  z
    .object({
      type: z.literal("result"),
      outcome: z.enum(["completed", "failed", "cancelled"]),
      snapshot: snapshotSchema,
      /** Files per engine. */
      engines: z.partialRecord(z.enum(engineChoices), count).optional(),
      /** Why this engine and number of lanes; shown by --debug and `copyd show`. */
      reasons: z.array(text).max(32),
    })
    .strict(),
  /** The worker refuses to run or gives up as a whole; nothing follows. */
  z.object({ type: z.literal("fatal"), code: z.string().max(64), message: text }).strict(),
]);
export type WorkerMessage = z.infer<typeof workerMessageSchema>;

/** One message as a frame. */
export function encodeFrame(message: ParentMessage | WorkerMessage): Uint8Array {
  const body = Buffer.from(JSON.stringify(message), "utf8");
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, 4);
  return frame;
}

/** Cuts a byte stream into messages. Throws a ProtocolViolation for a frame too long, not JSON, or not of the schema. */
export class FrameDecoder<Message> {
  private pending: Buffer = Buffer.alloc(0);
  private readonly schema: { parse(value: unknown): Message };
  private readonly maxFrameBytes: number;

  constructor(schema: { parse(value: unknown): Message }, maxFrameBytes: number) {
    this.schema = schema;
    this.maxFrameBytes = maxFrameBytes;
  }

  /** Bytes in, whole messages out; a partial frame waits for more, never holding more than one frame's limit. */
  push(chunk: Uint8Array): Message[] {
    this.pending = this.pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.pending, chunk]);
    const messages: Message[] = [];
    let at = 0;
    while (this.pending.length - at >= 4) {
      const length = this.pending.readUInt32LE(at);
      if (length > this.maxFrameBytes) throw new ProtocolViolation(`a frame of ${length} bytes exceeds ${this.maxFrameBytes}`);
      if (this.pending.length - at - 4 < length) break;
      messages.push(this.parse(this.pending.subarray(at + 4, at + 4 + length)));
      at += 4 + length;
    }
    this.pending = this.pending.subarray(at);
    return messages;
  }

  private parse(body: Buffer): Message {
    try {
      return this.schema.parse(JSON.parse(body.toString("utf8")));
    } catch (cause) {
      throw new ProtocolViolation(`a frame of ${body.length} bytes is not a message`, { cause });
    }
  }
}

/** The other side broke the protocol; the connection is over. */
export class ProtocolViolation extends Error {
  override readonly name = "ProtocolViolation";
}
