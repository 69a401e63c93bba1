// One connection to a bus: authentication, sending, calls with a time-out, and the news that the connection has ended.

import type { Socket } from "bun";
import { parseBusAddress } from "./address.ts";
import {
  type DecodeLimits,
  defaultDecodeLimits,
  encodeMessage,
  type Message,
  MessageFlag,
  type MessageHeader,
  MessageReader,
  MessageType,
  type OutgoingMessage,
} from "./codec.ts";
import type { RawCall } from "./fair-calls.ts";
import type { WireValue } from "./values.ts";

export const driver = { name: "org.freedesktop.DBus", path: "/org/freedesktop/DBus" } as const;

/** Whoever has much to say waits while more than this has not been taken: far below what is dropped. */
const crowdedBytes = 1024 * 1024;
/** A bus that takes nothing must not stop the copies: then signals are dropped, and whoever misses them asks. */
const maxTakingMs = 2_000;
/** Signals are dropped, rather than held, while the bus has not taken this much from us. */
const maxQueuedSignalBytes = 8 * 1024 * 1024;
/** A bus that takes nothing while this much waits is broken: the connection ends. */
const maxQueuedBytes = 128 * 1024 * 1024;

/** An error reply, or what stands for one when there was none: `...Error.NoReply`, `...Error.Disconnected`. */
export class BusError extends Error {
  override readonly name = "BusError";
  readonly dbusName: string;

  constructor(dbusName: string, message: string) {
    super(message);
    this.dbusName = dbusName;
  }
}

export interface Call {
  readonly destination: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature?: string;
  readonly body?: readonly WireValue[];
  readonly flags?: number;
}

export interface ConnectOptions {
  /** For authentication, Hello and connecting together. */
  readonly timeoutMs?: number;
  readonly limits?: DecodeLimits;
  /** Called for each socket that is tried, before the bus has answered anything: what it sends is read right after Hello. */
  readonly greet?: (connection: BusConnection) => void;
}

interface PendingCall {
  readonly destination: string;
  readonly resolve: (reply: Message) => void;
  readonly reject: (error: BusError) => void;
  readonly timer: Timer | undefined;
}

/** An open connection to a bus, with its unique name. Opened by `connectBus`; whoever opened it closes it. */
export class BusConnection {
  uniqueName = "";
  /** How much has come from the bus: whether it still says anything. */
  heardBytes = 0;
  /** Resolves, never rejects, with the reason when the connection has ended, whoever ended it. */
  readonly closed: Promise<string>;
  private readonly socket: Socket;
  private readonly pending = new Map<number, PendingCall>();
  private readonly resolveClosed: (reason: string) => void;
  private readonly output: Buffer[] = [];
  private queuedBytes = 0;
  private serial = 0;
  private ended = false;
  private readonly waiting = new Set<() => void>();
  private messageListener: (message: Message) => void = () => {};
  private callListener: ((call: RawCall) => void) | null = null;
  private refusedListener: (header: MessageHeader, reason: "malformed" | "too-large") => void = () => {};

  constructor(socket: Socket) {
    this.socket = socket;
    const { promise, resolve } = Promise.withResolvers<string>();
    this.closed = promise;
    this.resolveClosed = resolve;
  }

  /** Calls and signals go here; replies go to whoever called. The listener must not throw. */
  onMessage(listener: (message: Message) => void): void {
    this.messageListener = listener;
  }

  /** Calls go here from now on, undecoded, instead of to `onMessage`. The listener must not throw. */
  onCall(listener: (call: RawCall) => void): void {
    this.callListener = listener;
  }

  /** For `connectBus`: a call whose body waits to be decoded. */
  receiveCall(call: RawCall): void {
    if (this.callListener !== null) {
      this.callListener(call);
      return;
    }
    const message = call.decode();
    if (typeof message === "string") this.refuse(call.header, message);
    else this.messageListener(message);
  }

  /** Messages that were dropped although their header could be read. */
  onRefused(listener: (header: MessageHeader, reason: "malformed" | "too-large") => void): void {
    this.refusedListener = listener;
  }

  /** Sends and returns the serial, or 0 when the connection has ended or the signal had to be dropped. */
  send(message: OutgoingMessage): number {
    if (this.ended) return 0;
    if (message.type === MessageType.signal && this.queuedBytes > maxQueuedSignalBytes) return 0;
    this.serial = this.serial >= 0xffff_ffff ? 1 : this.serial + 1;
    this.write(encodeMessage(message, this.serial));
    return this.serial;
  }

  /** A call and its reply. Rejects with a BusError: the reply's, or NoReply after the time-out (0: none), or Disconnected. */
  call(call: Call, timeoutMs: number): Promise<Message> {
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const serial = this.send({ type: MessageType.call, ...call });
    if (serial === 0) {
      reject(new BusError(`${driver.name}.Error.Disconnected`, "the connection to the bus has ended"));
      return promise;
    }
    const timer = timeoutMs > 0 ? setTimeout(() => this.expire(serial, call, timeoutMs), timeoutMs) : undefined;
    this.pending.set(serial, { destination: call.destination, resolve, reject, timer });
    return promise;
  }

  /** A call to the bus itself. */
  callDriver(member: string, signature: string, body: readonly WireValue[], timeoutMs = 10_000): Promise<Message> {
    return this.call({ destination: driver.name, path: driver.path, interface: driver.name, member, signature, body }, timeoutMs);
  }

  /** Ends the connection once what was sent has been handed to the kernel. */
  close(): void {
    if (this.ended) return;
    this.flush();
    this.socket.end();
    this.finish("closed");
  }

  get isOpen(): boolean {
    return !this.ended;
  }

  /** Bytes that were sent and that the kernel has not taken yet. */
  get backlogBytes(): number {
    return this.queuedBytes;
  }

  /** null while the bus takes what is sent; else resolves when it has taken most of it, or in two seconds. */
  untilTaken(): Promise<void> | null {
    if (this.ended || this.queuedBytes <= crowdedBytes) return null;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(() => go(), maxTakingMs);
    const go = (): void => {
      clearTimeout(timer);
      this.waiting.delete(go);
      resolve();
    };
    this.waiting.add(go);
    return promise;
  }

  /** Ends the connection now, whatever the other side does or does not. */
  abandon(reason: string): void {
    // First: the socket's own end says less.
    this.finish(reason);
    this.socket.terminate();
  }

  /** For `connectBus`: a decoded message. */
  receive(message: Message): void {
    if (message.type !== MessageType.return && message.type !== MessageType.error) {
      this.messageListener(message);
      return;
    }
    const serial = message.replySerial ?? 0;
    const pending = this.pending.get(serial);
    // Only the bus may answer for the bus. Others answer under their unique names, which the bus itself has checked.
    if (pending === undefined || (pending.destination === driver.name && message.sender !== driver.name)) return;
    this.settle(serial, pending, () => {
      if (message.type === MessageType.return) pending.resolve(message);
      else pending.reject(new BusError(message.errorName ?? "", typeof message.body[0] === "string" ? message.body[0] : ""));
    });
  }

  /** For `connectBus`: a dropped message. A reply that cannot be read fails its call. */
  refuse(header: MessageHeader, reason: "malformed" | "too-large"): void {
    const pending = header.replySerial === undefined ? undefined : this.pending.get(header.replySerial);
    if (pending === undefined) {
      this.refusedListener(header, reason);
    } else {
      const error = new BusError(`${driver.name}.Error.InconsistentMessage`, `the reply is ${reason}`);
      this.settle(header.replySerial ?? 0, pending, () => pending.reject(error));
    }
  }

  /** For `connectBus`: the kernel takes bytes again. */
  flush(): void {
    for (let first = this.output[0]; first !== undefined; first = this.output[0]) {
      const written = Math.max(0, this.socket.write(first));
      this.queuedBytes -= written;
      if (this.queuedBytes <= crowdedBytes) this.release();
      if (written < first.length) {
        this.output[0] = first.subarray(written);
        return;
      }
      this.output.shift();
    }
  }

  /** For `connectBus`: the connection has ended. */
  finish(reason: string): void {
    if (this.ended) return;
    this.ended = true;
    this.output.length = 0;
    this.release();
    for (const [serial, pending] of [...this.pending]) {
      const error = new BusError(`${driver.name}.Error.Disconnected`, `the connection to the bus has ended: ${reason}`);
      this.settle(serial, pending, () => pending.reject(error));
    }
    this.resolveClosed(reason);
  }

  private release(): void {
    for (const go of [...this.waiting]) go();
  }

  private write(bytes: Buffer): void {
    this.output.push(bytes);
    this.queuedBytes += bytes.length;
    if (this.output.length === 1) this.flush();
    if (this.queuedBytes > maxQueuedBytes) {
      this.abandon("the bus does not read");
    }
  }

  private expire(serial: number, call: Call, timeoutMs: number): void {
    const pending = this.pending.get(serial);
    if (pending === undefined) return;
    const message = `${call.member} got no reply from ${call.destination} within ${timeoutMs} ms`;
    this.settle(serial, pending, () => pending.reject(new BusError(`${driver.name}.Error.NoReply`, message)));
  }

  private settle(serial: number, pending: PendingCall, how: () => void): void {
    this.pending.delete(serial);
    clearTimeout(pending.timer);
    how();
  }
}

/**
 * Connects to the first socket of an address that answers, authenticates as our uid (EXTERNAL) and says Hello.
 * Rejects with a BusError `...Error.NoServer` when there is no such bus, at once, or NoReply when it is silent.
 */
export async function connectBus(address: string, options: ConnectOptions = {}): Promise<BusConnection> {
  const timeoutMs = options.timeoutMs ?? 10_000;
  const failures: string[] = [];
  for (const { socket } of parseBusAddress(address)) {
    try {
      return await openBus(socket, timeoutMs, options);
    } catch (error) {
      failures.push(error instanceof Error ? error.message : String(error));
    }
  }
  throw new BusError(`${driver.name}.Error.NoServer`, failures.join("; ") || `no unix socket in the address '${address}'`);
}

async function openBus(
  socketPath: string,
  timeoutMs: number,
  { limits = defaultDecodeLimits, greet = () => undefined }: ConnectOptions,
): Promise<BusConnection> {
  const authenticated = Promise.withResolvers<void>();
  let line = Buffer.alloc(0);
  let connection: BusConnection | undefined;
  let reader: MessageReader | undefined;
  const end = (reason: string): void => {
    connection?.finish(reason);
    authenticated.reject(new Error(reason));
  };
  const socket = await Bun.connect({
    unix: socketPath,
    socket: {
      data(open, chunk) {
        let rest = chunk;
        if (reader === undefined) {
          line = Buffer.concat([line, chunk]);
          const end = line.indexOf("\r\n");
          if (end < 0) return;
          reader = readerAfter(line, limits, authenticated, () => connection);
          rest = line.subarray(end + 2);
        }
        if (connection !== undefined) connection.heardBytes += chunk.length;
        try {
          reader.push(rest);
        } catch (error) {
          // First: the socket's own end says less.
          end(error instanceof Error ? error.message : String(error));
          open.terminate();
        }
      },
      drain: () => connection?.flush(),
      close: () => end("the bus closed the connection"),
      error: (_open, error) => end(error.message),
    },
  });
  connection = new BusConnection(socket);
  const timer = setTimeout(() => end(`the bus did not authenticate us within ${timeoutMs} ms`), timeoutMs);
  try {
    // All at once: each answer that is waited for is a turn of three processes.
    socket.write(`\0AUTH EXTERNAL ${Buffer.from(String(process.getuid?.() ?? 0)).toString("hex")}\r\nBEGIN\r\n`);
    const greeted = connection.callDriver("Hello", "", [], timeoutMs);
    greet(connection);
    const [hello] = await Promise.all([greeted, authenticated.promise]);
    connection.uniqueName = String(hello.body[0]);
    return connection;
  } catch (error) {
    socket.terminate();
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

/** The server's answer to AUTH: messages follow it, or the authentication has failed. */
function readerAfter(
  line: Buffer,
  limits: DecodeLimits,
  authenticated: PromiseWithResolvers<void>,
  connection: () => BusConnection | undefined,
): MessageReader {
  if (line.toString("latin1").startsWith("OK ")) authenticated.resolve();
  else authenticated.reject(new Error("the bus refused to authenticate us"));
  return new MessageReader(limits, {
    message: (message) => connection()?.receive(message),
    call: (header, bytes, decode) => connection()?.receiveCall({ header, bytes, decode }),
    refused: (header, reason) => connection()?.refuse(header, reason),
  });
}

/** A method call that expects a reply. */
export function wantsReply(header: MessageHeader): boolean {
  return header.type === MessageType.call && (header.flags & MessageFlag.noReplyExpected) === 0;
}
