// One worker process and the conversation with it: started, understood, watched, and ended when it misbehaves.
//
// Whatever the worker sends is hostile input: its user may have replaced it. It ends in messages of the schema or in the
// worker's death, never in an exception here.

import { CopyError, type FailureCode, isFailureCode } from "../errors.ts";
import { Allowance } from "./allowance.ts";
import { hasMessageShape } from "./frame-shape.ts";
import { FrameTurns } from "./frame-turns.ts";
import { type KernelCounts, kernelCounts } from "./kernel-counts.ts";
import { type Launched, launch } from "./launch.ts";
import { lowerSession } from "./niceness.ts";
import type { FirstMessage, HelloMessage, ResultMessage, WorkerHandle, WorkerOptions } from "./pool.ts";
import {
  encodeFrame,
  FrameDecoder,
  type Identity,
  maxParentFrameBytes,
  maxWorkerFrameBytes,
  type ParentMessage,
  ProtocolViolation,
  trustingParser,
  type WorkerMessage,
} from "./protocol.ts";
import { expectedIdentity, identityProblem, sameIdentity, type WorkerProcess } from "./spawn.ts";
import { LineCutter } from "./stderr-lines.ts";
import { defaultWorkerLimits, type WorkerLimits } from "./worker-limits.ts";

interface ChunkReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}

const maxStderrLineBytes = 1024;
/** Beyond this many lines a worker's stderr is read and dropped. */
const maxStderrLines = 200;
/** A worker that lets this much pile up unread does not listen. The first message is not counted. */
const maxUnreadBytes = 1024 * 1024;
/** Silence is counted in ticks rather than by a clock: a parent that was itself stopped must not blame the worker. */
const ticksOfSilence = 4;
/** After the exit, what is still in the pipe is read this long; a stray child of the worker could hold it open for ever. */
const drainTimeoutMs = 1000;

/** The kernel's own limit is one in 100 ms. */
const sessionRetryMs = 30;

/** Of all workers of this process. */
const frameTurns = new FrameTurns();

export class WorkerConnection implements WorkerHandle {
  readonly pid: number;
  private readonly options: WorkerOptions;
  private readonly limits: WorkerLimits;
  private readonly process: WorkerProcess;
  private readonly stdout: ChunkReader;
  private readonly stderr: ChunkReader;
  private readonly identity: Identity | null;
  private readonly timers = new Set<ReturnType<typeof setTimeout>>();
  private readonly messages: Allowance;
  private readonly bytes: Allowance;
  private readonly countsBefore: KernelCounts;
  private hello = false;
  private result: ResultMessage | null = null;
  private failure: { code: FailureCode; message: string } | null = null;
  private ended = false;
  private killed = false;
  private silentTicks = 0;
  /** It is we who do not read. */
  private isPaced = false;
  private hasSaid = false;
  private unreadBytes = 0;
  /** What it took to understand the worker. */
  private understoodMs = 0;
  /** What it said on standard error that tells most: a runtime that fails says its error first and its version last. */
  private complaint = "";

  constructor(options: WorkerOptions) {
    this.options = options;
    this.limits = { ...defaultWorkerLimits, ...options.limits };
    this.identity = options.credentials === null ? null : expectedIdentity(options.credentials);
    this.messages = new Allowance(this.limits.messagesPerSecond, this.limits.messageBurst);
    this.bytes = new Allowance(this.limits.bytesPerSecond, this.limits.bytesPerSecond);
    this.countsBefore = options.ready?.counts ?? countsOf(options);
    let launched: Launched;
    try {
      launched = launch(options, this.identity);
    } catch (cause) {
      options.place?.left(0);
      throw startFailure(cause, options, this.countsBefore);
    }
    this.process = launched.process;
    this.pid = this.process.pid;
    this.stdout = this.process.stdout.getReader();
    this.stderr = this.process.stderr.getReader();
    this.write(launched.first, "first");
    this.giveWay();
    void this.readMessages();
    void this.readStderr();
    if (this.limits.silenceTimeoutMs !== Number.POSITIVE_INFINITY) this.watchSilence();
  }

  send(message: Exclude<ParentMessage, FirstMessage>): void {
    if (!this.ended && this.isAlive()) this.write(message, "later");
  }

  kill(code: FailureCode, message: string): void {
    this.fail(code, message);
  }

  private write(message: ParentMessage, position: "first" | "later"): void {
    const frame = encodeFrame(message);
    if (position === "later") this.unreadBytes += frame.length;
    if (this.unreadBytes > maxUnreadBytes) {
      this.fail("worker-silent", "The copying process does not read what it is told.");
      return;
    }
    // A dead worker's pipe takes nothing (EPIPE, thrown or rejected); its exit tells, so a failure here adds no fact.
    const taken = (): void => {
      this.unreadBytes = 0;
    };
    const ignored = (): void => undefined;
    try {
      const written = this.process.stdin.write(frame);
      if (written instanceof Promise) written.catch(ignored);
      const flushed = this.process.stdin.flush();
      if (flushed instanceof Promise) flushed.then(taken, ignored);
      else taken();
    } catch {
      ignored();
    }
  }

  private async readMessages(): Promise<void> {
    const drained = this.process.exited.then(() => this.after(drainTimeoutMs, () => abandon(this.stdout)));
    try {
      const decoder = await decoderFor(this.options);
      for (;;) {
        const { done, value } = await this.stdout.read();
        if (done || value === undefined) break;
        if (this.failure !== null || this.result !== null) continue;
        decoder.add(value);
        await this.receive(decoder);
        const waitMs = this.bytes.take(value.length);
        if (waitMs > 0) await Bun.sleep(waitMs);
        await this.keepPace();
      }
    } catch (cause) {
      this.fail(...faultOf(cause));
    }
    // The pipe is closed: an honest worker exits now.
    if (this.isAlive()) this.after(this.limits.exitTimeoutMs, () => this.killGroup());
    await this.process.exited;
    await drained;
    this.finish("gone");
  }

  /** Whoever hears of lines and errors may be slower than the worker, and what is not taken would have to be kept or dropped. */
  private async keepPace(): Promise<void> {
    const isTaken = this.hasSaid ? (this.options.pace?.() ?? null) : null;
    this.hasSaid = false;
    if (isTaken === null) return;
    this.isPaced = true;
    await isTaken;
    this.isPaced = false;
    this.silentTicks = 0;
  }

  private async receive(decoder: FrameDecoder<WorkerMessage>): Promise<void> {
    const { trusted } = this.options;
    while (this.failure === null && this.result === null) {
      // Who has no other users' calls to answer need not take turns.
      const turn = trusted === true ? null : frameTurns.take();
      if (turn !== null) await turn;
      try {
        // It may have been ended while it waited for its turn.
        if (this.failure !== null || this.result !== null || !this.receiveOne(decoder)) return;
      } catch (cause) {
        this.fail(...faultOf(cause));
      } finally {
        if (trusted !== true) this.understoodMs += frameTurns.done();
      }
    }
  }

  /** False when there is no whole message. */
  private receiveOne(decoder: FrameDecoder<WorkerMessage>): boolean {
    const message = decoder.next();
    if (message === null) return false;
    this.silentTicks = 0;
    this.handle(message);
    return true;
  }

  private handle(message: WorkerMessage): void {
    if (this.messages.take(1) > 0) throw new ProtocolViolation("more messages than allowed");
    if (message.type === "fatal") {
      if (!isFailureCode(message.code)) throw new ProtocolViolation("an unknown failure code");
      this.fail(message.code, message.message);
      return;
    }
    if (message.type === "hello") this.meet(message);
    else if (!this.hello) throw new ProtocolViolation(`"${message.type}" before "hello"`);
    if (message.type === "errors" && !message.errors.every((error) => isFailureCode(error.code))) {
      throw new ProtocolViolation("an unknown failure code");
    }
    if (message.type === "lines" || message.type === "errors") this.hasSaid = true;
    if (message.type !== "result") {
      this.options.onMessage(message);
      return;
    }
    this.result = message;
    // By contract nothing follows and nothing is in flight. A runtime with threads takes milliseconds to end in good order.
    this.killGroup();
    // Only its memory is still to be given back. Embedded, who started it may have nobody to wait for it in our place: it is waited for.
    if (message.holdsNothing === true && this.options.trusted !== true) this.finish("still-there");
  }

  private meet(message: HelloMessage): void {
    if (this.hello) throw new ProtocolViolation('a second "hello"');
    this.hello = true;
    if (this.identity === null) return;
    if (message.pid !== this.pid) throw new CopyError("worker-identity", "The copying process is not the one that was started.");
    if (!sameIdentity(message.identity, this.identity)) {
      throw new CopyError("worker-identity", "The copying process found itself to be somebody else.");
    }
    const problem = identityProblem(this.pid, this.identity);
    if (problem !== null) throw new CopyError("worker-identity", `The copying process does not run as the caller: ${problem}.`);
  }

  private async readStderr(): Promise<void> {
    const lines = new LineCutter(maxStderrLineBytes);
    let count = 0;
    try {
      for (;;) {
        const { done, value } = await this.stderr.read();
        if (done || value === undefined) return;
        for (const line of lines.push(value)) {
          if (!isError(this.complaint)) this.complaint = line;
          if (count++ < maxStderrLines) this.options.onStderr(line);
        }
      }
    } catch (cause) {
      this.fail(...faultOf(cause));
    }
  }

  /** What `spawn` did for the process, for its session. */
  private giveWay(): void {
    const niceness = this.options.place?.niceness ?? 0;
    if (niceness === 0 || !this.isAlive() || lowerSession(this.pid, niceness)) return;
    this.after(sessionRetryMs, () => this.giveWay());
  }

  private watchSilence(): void {
    this.after(this.limits.silenceTimeoutMs / ticksOfSilence, () => {
      if (this.failure !== null || this.result !== null) return;
      if (!this.isPaced && ++this.silentTicks >= ticksOfSilence) {
        const seconds = Math.round(this.limits.silenceTimeoutMs / 1000);
        this.fail("worker-silent", `The copying process has not answered for ${seconds} s and was stopped.`);
        return;
      }
      this.watchSilence();
    });
  }

  /** The first failure stands, and nothing after a result is one. Kills in any case. */
  private fail(code: FailureCode, message: string): void {
    if (this.failure === null && this.result === null) this.failure = { code, message };
    this.killGroup();
  }

  private killGroup(): void {
    if (this.killed) return;
    this.killed = true;
    if (this.isAlive()) {
      try {
        process.kill(-this.pid, "SIGKILL");
      } catch {
        // The group is not there yet or not any more; the process itself is ours as long as it has not been waited for.
        this.process.kill("SIGKILL");
      }
    }
    this.after(this.limits.killTimeoutMs, () => this.finish("still-there"));
  }

  /** Its number is its own until it has been waited for, which these two show. */
  private isAlive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  private finish(how: "gone" | "still-there"): void {
    if (this.ended) return;
    this.ended = true;
    for (const timer of this.timers) clearTimeout(timer);
    abandon(this.stdout);
    abandon(this.stderr);
    const processorUs = this.process.resourceUsage()?.cpuTime.total ?? 0;
    this.options.place?.left(Number(processorUs) / 1000 + this.understoodMs);
    const gone = how === "gone";
    if (this.result !== null) this.options.onEnd({ gone, kind: "result", result: this.result });
    else this.options.onEnd({ gone, kind: "failed", ...(this.failure ?? this.unexpectedExit()) });
  }

  private unexpectedExit(): { code: FailureCode; message: string } {
    const { exitCode, signalCode } = this.process;
    const how = signalCode === null ? `with status ${exitCode}` : `by ${signalCode}`;
    const complaint = this.complaint === "" ? "" : ` (${this.complaint})`;
    const error = isError(this.complaint) ? complaint : "";
    const counts = countsOf(this.options);
    if (signalCode === "SIGKILL" && counts.memoryKills > this.countsBefore.memoryKills) {
      const message = "The kernel ended the copying process, for the memory that it may have was used up.";
      return { code: "worker-out-of-memory", message };
    }
    if (counts.processRefusals > this.countsBefore.processRefusals) return { code: "worker-too-many-processes", message: tooManyProcesses };
    // One that was killed may do better another time; one that ended by itself will end so again.
    const code = signalCode === null ? "worker-start" : "worker-died";
    if (!this.hello) return { code, message: `The copying process ended ${how} before it began${complaint}.` };
    return { code: "worker-died", message: `The copying process ended unexpectedly ${how}${error}.` };
  }

  private after(delayMs: number, action: () => void): void {
    if (this.ended) return;
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      action();
    }, delayMs);
    this.timers.add(timer);
  }
}

function countsOf({ place }: WorkerOptions): KernelCounts {
  return kernelCounts(place?.group ?? null);
}

const tooManyProcesses = "The kernel refused the copying process a thread or to start at all: the user's copies have as many as they may.";

/** Of a process that could not be made: named where the kernel counted that it refused it. */
function startFailure(cause: unknown, options: WorkerOptions, before: KernelCounts): unknown {
  if (countsOf(options).processRefusals <= before.processRefusals) return cause;
  return new CopyError("worker-too-many-processes", tooManyProcesses, {}, cause);
}

/** What Bun says of an error that nobody caught, or of its own. */
function isError(line: string): boolean {
  return /^(error|panic)\b/.test(line);
}

/** Reads no more; a stray child of the worker could hold the pipe open for ever. Harmless on a stream that has ended. */
function abandon(reader: ChunkReader): void {
  reader.cancel().catch(() => undefined);
}

/** zod is loaded only by those who need it. */
async function decoderFor({ trusted }: WorkerOptions): Promise<FrameDecoder<WorkerMessage>> {
  if (trusted === true) return new FrameDecoder(trustingParser<WorkerMessage>(), maxParentFrameBytes);
  const { workerMessageSchema } = await import("./protocol-schema.ts");
  return new FrameDecoder<WorkerMessage>(workerMessageSchema, maxWorkerFrameBytes, hasMessageShape);
}

/** How a fault met while reading a worker is named. */
function faultOf(cause: unknown): [FailureCode, string] {
  if (cause instanceof CopyError) return [cause.code, cause.message];
  if (cause instanceof ProtocolViolation) return ["worker-protocol", `The copying process broke the protocol: ${cause.message}.`];
  return ["internal", `The service failed while it read from the copying process: ${cause instanceof Error ? cause.message : cause}`];
}
