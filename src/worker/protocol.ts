// The protocol between a worker and its parent: framed JSON over two pipes.
//
// A frame is a 32-bit little-endian length and that many bytes of UTF-8 JSON. Byte strings travel as latin1 characters.
// What a worker sends is hostile input to the daemon (the user it runs as may ptrace it), so the daemon parses it by the schemas
// in protocol-schema.ts. The worker trusts its parent, which could do anything to it anyway: a schema there would protect
// nobody, and building one takes longer than copying a small file.

import type { z } from "zod";
import type { ByteString } from "../bytes.ts";
import type {
  entryErrorSchema,
  identitySchema,
  parentMessageSchema,
  plannedOperationSchema,
  previewSummarySchema,
  snapshotSchema,
  workerMessageSchema,
} from "./protocol-schema.ts";

/** Worker to parent: to understand so much takes some 20 ms, during which nobody is answered; more in one frame is a protocol violation. */
export const maxWorkerFrameBytes = 1024 * 1024;
/**
 * Bytes of one line of -v. Three names of PATH_MAX fit, however they must be quoted (five bytes for one, at the most); the names of
 * what lies deeper than a path reaches have no end.
 */
export const maxLineBytes = 64 * 1024;
/**
 * Characters of a path that a worker tells; longer ones are cut. Three of them and a message, each byte escaped, fit into a frame; what the
 * kernel takes as a path is 4096.
 */
export const maxToldPath = 48 * 1024;
/** Parent to worker: a request with the largest list of sources that embedded mode accepts (ARG_MAX is 2 MiB by default). */
export const maxParentFrameBytes = 64 * 1024 * 1024;
/** The worker sends a snapshot (its heartbeat) this often, milliseconds. */
export const snapshotIntervalMs = 100;

/** Argument of a worker that its own user starts and nothing confines. */
export const embeddedFlag = "--embedded";
/** Instead of it: the job is probably one small file, for which no lane is started ahead. */
export const embeddedFileFlag = "--embedded-file";
/** What a device takes whole before it makes anybody wait: such a file the worker's main thread may copy. Bytes. */
export const maxLoneBytes = 64 * 1024;

/** Size of the in-flight record: 64 KiB for each of at most 64 lanes. */
export const inFlightBytes = 64 * 64 * 1024;
/** More than a checkpoint ever has: its log ends at 160 MiB (checkpoint-layout.ts). */
export const maxCheckpointBytes = 256 * 1024 * 1024;

export const phases = ["scanning", "copying", "flushing", "verifying"] as const;
/** What a job may ask, and what it may be answered. "space": the destination is full; "space-low": it will be, by the totals. */
export const questionKinds = ["conflict", "space", "space-low", "device"] as const;
export type QuestionKind = (typeof questionKinds)[number];
export const answerChoices = ["overwrite", "skip", "rename", "newer", "abort", "retry", "continue"] as const;
export type AnswerChoice = (typeof answerChoices)[number];
export const questionChoices: Readonly<Record<QuestionKind, readonly AnswerChoice[]>> = {
  conflict: ["overwrite", "skip", "rename", "newer", "abort"],
  space: ["retry", "skip", "abort"],
  "space-low": ["retry", "continue", "abort"],
  device: ["retry", "skip", "abort"],
};
/** A worker's lanes ask one after the other, so more than one is rarely under way. */
export const maxGivenAnswers = 32;
/** What a dry run can foresee. "merge": a directory is there already. "ask": the copy would ask. */
export const plannedActions = ["create", "overwrite", "merge", "skip", "rename", "ask", "fail"] as const;
export type PlannedAction = (typeof plannedActions)[number];
export type Phase = (typeof phases)[number];

export type Identity = Readonly<z.infer<typeof identitySchema>>;
export type ParentMessage = z.infer<typeof parentMessageSchema>;
export type Snapshot = Readonly<z.infer<typeof snapshotSchema>>;
export type EntryError = Readonly<z.infer<typeof entryErrorSchema>>;
export type PlannedOperation = Readonly<z.infer<typeof plannedOperationSchema>>;
export type PreviewSummary = Readonly<z.infer<typeof previewSummarySchema>>;
export type WorkerMessage = z.infer<typeof workerMessageSchema>;

/** Of a worker that has done nothing yet, or copies nothing: a recovery's, a dry run's. */
export const emptySnapshot: Snapshot = Object.freeze({
  phase: "scanning",
  paused: false,
  totalsValid: false,
  bytesTotal: 0,
  bytesDone: 0,
  bytesCloned: 0,
  bytesUnflushed: 0,
  bytesVerified: 0,
  bytesToVerify: 0,
  filesTotal: 0,
  filesDone: 0,
  filesSkipped: 0,
  directoriesDone: 0,
  errorCount: 0,
  warningCount: 0,
  currentFile: "" as ByteString,
  engine: "auto",
  lanes: 0,
});

/** One message as a frame. */
export function encodeFrame(message: ParentMessage | WorkerMessage): Uint8Array {
  const body = Buffer.from(JSON.stringify(message), "utf8");
  const frame = Buffer.allocUnsafe(4 + body.length);
  frame.writeUInt32LE(body.length, 0);
  body.copy(frame, 4);
  return frame;
}

/** How a frame's JSON becomes a message; throws where it is none. */
export interface MessageParser<Message> {
  parse(value: unknown): Message;
}

/** For the worker, of its parent; and for an embedded parent, of its own child. */
export function trustingParser<Message>(): MessageParser<Message> {
  return { parse: (value) => value as Message };
}

/** Cuts a byte stream into messages. Throws a ProtocolViolation for a frame too long, not JSON, or not of the schema. */
export class FrameDecoder<Message> {
  /** What has come and was not taken: joined only when it holds a whole frame. */
  private chunks: Uint8Array[] = [];
  private bytes = 0;
  /** Bytes that the first whole thing takes: its length, or, once that is known, all of it. */
  private needed = 4;
  private readonly parser: MessageParser<Message>;
  private readonly maxFrameBytes: number;
  private readonly mayBeMessage: (body: Uint8Array) => boolean;

  /** `mayBeMessage`: looks at a frame before it is parsed, which may take long. */
  constructor(parser: MessageParser<Message>, maxFrameBytes: number, mayBeMessage: (body: Uint8Array) => boolean = () => true) {
    this.parser = parser;
    this.maxFrameBytes = maxFrameBytes;
    this.mayBeMessage = mayBeMessage;
  }

  /** Bytes in, whole messages out; a partial frame waits for more, never holding more than one frame's limit. */
  push(chunk: Uint8Array): Message[] {
    this.add(chunk);
    const messages: Message[] = [];
    for (let message = this.next(); message !== null; message = this.next()) messages.push(message);
    return messages;
  }

  /** Bytes in, for `next`. */
  add(chunk: Uint8Array): void {
    this.chunks.push(chunk);
    this.bytes += chunk.length;
  }

  /** The next whole message; null: there is none before more bytes come. */
  next(): Message | null {
    if (this.bytes < this.needed) return null;
    const joined = this.joined();
    const length = joined.readUInt32LE(0);
    if (length > this.maxFrameBytes) throw new ProtocolViolation(`a frame of ${length} bytes exceeds ${this.maxFrameBytes}`);
    this.needed = 4 + length;
    if (this.bytes < this.needed) return null;
    const message = this.parse(joined.subarray(4, this.needed));
    this.chunks = [joined.subarray(this.needed)];
    this.bytes -= this.needed;
    this.needed = 4;
    return message;
  }

  private joined(): Buffer {
    const [only] = this.chunks;
    if (this.chunks.length === 1 && only instanceof Buffer) return only;
    const joined = Buffer.concat(this.chunks, this.bytes);
    this.chunks = [joined];
    return joined;
  }

  private parse(body: Buffer): Message {
    if (!this.mayBeMessage(body)) throw new ProtocolViolation(`a frame of ${body.length} bytes holds more values than a message`);
    try {
      return this.parser.parse(JSON.parse(body.toString("utf8")));
    } catch (cause) {
      throw new ProtocolViolation(`a frame of ${body.length} bytes is not a message`, { cause });
    }
  }
}

/** The other side broke the protocol; the connection is over. */
export class ProtocolViolation extends Error {
  override readonly name = "ProtocolViolation";
}
