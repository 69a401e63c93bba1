// Messages to bytes and bytes to messages: dbus-next's marshalling behind a small, typed interface that no input can break.
//
// The other side of the wire chooses the bytes. A message that cannot be decoded is reported as refused, with what its header
// says, so that a call can be answered; the stream goes on with the next one.

import { marshall, type RawHeader, unmarshallBody, unmarshallHeader } from "dbus-next/lib/message.js";
import type { WireValue } from "./values.ts";

export const MessageType = { call: 1, return: 2, error: 3, signal: 4 } as const;
export type MessageTypeCode = (typeof MessageType)[keyof typeof MessageType];

export const MessageFlag = { noReplyExpected: 1, noAutoStart: 2, allowInteractiveAuthorization: 4 } as const;

export interface MessageHeader {
  readonly type: MessageTypeCode;
  readonly flags: number;
  readonly serial: number;
  readonly path?: string;
  readonly interface?: string;
  readonly member?: string;
  readonly errorName?: string;
  readonly replySerial?: number;
  readonly destination?: string;
  /** The sender's unique name, set by the bus; "" on a connection without one. */
  readonly sender: string;
  readonly signature: string;
}

export interface Message extends MessageHeader {
  readonly body: readonly WireValue[];
}

/** What may be sent: the connection gives the serial, the bus the sender. */
export type OutgoingMessage = Omit<Message, "serial" | "sender" | "flags" | "signature" | "body"> & {
  readonly flags?: number;
  readonly signature?: string;
  readonly body?: readonly WireValue[];
};

export interface DecodeLimits {
  /** Longest message that is taken, bytes; a longer one is skipped without holding it. */
  readonly maxMessageBytes: number;
  /** Most values (array elements, struct fields, dict keys) in one message: an empty array is four bytes there, a hundred here. */
  readonly maxValues: number;
}

export const defaultDecodeLimits: DecodeLimits = { maxMessageBytes: 16 * 1024 * 1024, maxValues: 512 * 1024 };

export interface MessageSink {
  readonly message: (message: Message) => void;
  /** Left out: calls come as any message. Else their bodies are decoded when, and if, somebody wants them. */
  readonly call?: (header: MessageHeader, bytes: number, decode: () => Message | "malformed" | "too-large") => void;
  /** A message that was dropped although its header could be read. */
  readonly refused: (header: MessageHeader, reason: "malformed" | "too-large") => void;
}

/** The stream itself is out of step: no message boundary can be found any more. The connection is over. */
export class StreamBroken extends Error {
  override readonly name = "StreamBroken";
}

/** A message as bytes. Throws for a body that is not of its signature: a programmer's error, nothing is sent. */
export function encodeMessage(message: OutgoingMessage, serial: number): Buffer {
  return marshall({ ...message, serial });
}

const fixedBytes = 16;
/** The fields name a sender, a path and so on; the bus allows far more than anybody needs. */
const maxFieldsBytes = 64 * 1024;
/** The specification's limit for one message, 128 MiB. */
const maxStreamMessageBytes = 128 * 1024 * 1024;

/** Cuts the byte stream of a connection into messages. */
export class MessageReader {
  private chunks: Buffer[] = [];
  private held = 0;
  private needed = fixedBytes;
  private toSkip = 0;
  private readonly limits: DecodeLimits;
  private readonly sink: MessageSink;
  /** Messages dropped because not even their header could be read. */
  dropped = 0;

  constructor(limits: DecodeLimits, sink: MessageSink) {
    this.limits = limits;
    this.sink = sink;
  }

  /** Takes the next bytes. Throws StreamBroken, after which nothing more may be pushed. */
  push(chunk: Buffer): void {
    const wanted = this.skip(chunk);
    if (wanted.length === 0) return;
    this.chunks.push(wanted);
    this.held += wanted.length;
    if (this.held < this.needed) return;
    let buffer = this.chunks.length === 1 ? wanted : Buffer.concat(this.chunks, this.held);
    for (;;) {
      this.needed = fixedBytes;
      if (buffer.length < fixedBytes) break;
      const frame = this.frameOf(buffer);
      if (buffer.length < frame.heldBytes) {
        this.needed = frame.heldBytes;
        break;
      }
      this.deliver(buffer.subarray(0, frame.heldBytes), frame);
      this.toSkip = frame.totalBytes - frame.heldBytes;
      buffer = this.skip(buffer.subarray(frame.heldBytes));
    }
    this.chunks = buffer.length === 0 ? [] : [buffer];
    this.held = buffer.length;
  }

  private skip(chunk: Buffer): Buffer {
    const skipped = Math.min(this.toSkip, chunk.length);
    this.toSkip -= skipped;
    return skipped === 0 ? chunk : chunk.subarray(skipped);
  }

  private frameOf(buffer: Buffer): Frame {
    const little = buffer[0] === 0x6c;
    if (!little && buffer[0] !== 0x42) throw new StreamBroken("a message begins with an unknown byte order");
    const bodyBytes = little ? buffer.readUInt32LE(4) : buffer.readUInt32BE(4);
    const fieldsBytes = little ? buffer.readUInt32LE(12) : buffer.readUInt32BE(12);
    const headerBytes = fixedBytes + Math.ceil(fieldsBytes / 8) * 8;
    const totalBytes = headerBytes + bodyBytes;
    if (totalBytes > maxStreamMessageBytes) throw new StreamBroken(`a message of ${totalBytes} bytes exceeds what D-Bus allows`);
    if (fieldsBytes > maxFieldsBytes) return { totalBytes, heldBytes: fixedBytes, take: "nothing" };
    if (totalBytes > this.limits.maxMessageBytes) return { totalBytes, heldBytes: headerBytes, take: "header" };
    return { totalBytes, heldBytes: totalBytes, take: "all" };
  }

  private deliver(bytes: Buffer, frame: Frame): void {
    const raw = frame.take === "nothing" ? undefined : this.readHeader(bytes);
    if (raw === undefined) {
      this.dropped++;
      return;
    }
    const header = headerOf(raw);
    if (frame.take === "header") {
      this.sink.refused(header, "too-large");
      return;
    }
    if (header.type === MessageType.call && this.sink.call !== undefined) {
      // A copy: a small message must not hold the large piece of the stream that it came in.
      const kept = Buffer.from(bytes);
      this.sink.call(header, bytes.length, () => {
        const body = this.readBody(kept, raw);
        return typeof body === "string" ? body : { ...header, body };
      });
      return;
    }
    const body = this.readBody(bytes, raw);
    if (typeof body === "string") this.sink.refused(header, body);
    else this.sink.message({ ...header, body });
  }

  private readHeader(bytes: Buffer): RawHeader | undefined {
    try {
      const raw = unmarshallHeader(bytes, this.limits);
      return hasRequiredFields(raw) ? raw : undefined;
    } catch {
      // Whatever is wrong with it, the answer is the same: nobody can be told, so it is dropped and counted.
      return undefined;
    }
  }

  private readBody(bytes: Buffer, raw: RawHeader): unknown[] | "malformed" | "too-large" {
    try {
      return unmarshallBody(bytes, raw, this.limits);
    } catch (error) {
      // The caller hears no more than that; which of its bytes were wrong is its own affair.
      return error instanceof Error && error.message === tooManyValues ? "too-large" : "malformed";
    }
  }
}

/** What the patched decoder throws when `maxValues` is reached. */
const tooManyValues = "Message holds too many values";

interface Frame {
  readonly totalBytes: number;
  /** Bytes to gather before the message can be delivered; the rest is skipped. */
  readonly heldBytes: number;
  readonly take: "all" | "header" | "nothing";
}

function hasRequiredFields(raw: RawHeader): boolean {
  switch (raw.type) {
    case MessageType.call:
      return raw.path !== undefined && raw.member !== undefined;
    case MessageType.return:
      return raw.replySerial !== undefined;
    case MessageType.error:
      return raw.replySerial !== undefined && raw.errorName !== undefined;
    case MessageType.signal:
      return raw.path !== undefined && raw.member !== undefined && raw.interface !== undefined;
    default:
      return false;
  }
}

function headerOf(raw: RawHeader): MessageHeader {
  return {
    type: raw.type as MessageTypeCode,
    flags: raw.flags,
    serial: raw.serial,
    sender: raw.sender ?? "",
    signature: raw.signature ?? "",
    ...(raw.path !== undefined && { path: raw.path }),
    ...(raw.interface !== undefined && { interface: raw.interface }),
    ...(raw.member !== undefined && { member: raw.member }),
    ...(raw.errorName !== undefined && { errorName: raw.errorName }),
    ...(raw.replySerial !== undefined && { replySerial: raw.replySerial }),
    ...(raw.destination !== undefined && { destination: raw.destination }),
  };
}
