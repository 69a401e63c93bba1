// A job's workers, driven directly as the service drives them: started, killed, swept up after, and started again with its checkpoint.

import { closeSync, ftruncateSync, openSync, readdirSync, readFileSync } from "node:fs";
import { requestSchema } from "../../src/request-schema.ts";
import { type LiveMessage, startWorker, type WorkerEnd, type WorkerHandle } from "../../src/worker/pool.ts";
import { inFlightBytes, type ParentMessage } from "../../src/worker/protocol.ts";
import { selfCommand } from "../../src/worker/spawn.ts";

export interface RunOptions {
  /** Decides when it is killed: called again and again while it runs. */
  readonly killWhen?: (worker: WorkerHandle) => boolean;
  /** Comes between the decision and the kill; the worker runs on. */
  readonly beforeKill?: () => Promise<void>;
  /** As killWhen, but it is told to stop in order. */
  readonly stopWhen?: (worker: WorkerHandle) => boolean;
  readonly isSameBoot?: boolean;
  readonly lanes?: number;
  /** Whether somebody sees how far it is: then it keeps to what the device can write. */
  readonly isWatched?: boolean;
  /** A command that the worker is started by, as strace. */
  readonly under?: readonly string[];
  readonly onMessage?: (message: LiveMessage, worker: WorkerHandle) => void;
  readonly givenAnswers?: Extract<ParentMessage, { type: "start" }>["givenAnswers"];
  readonly standingAnswers?: readonly { readonly kind: "conflict"; readonly choice: "overwrite" | "skip" | "rename" | "newer" }[];
}

export interface RunOutcome {
  readonly end: WorkerEnd;
  /** What its workers' threads wrote by system calls that copy, as /proc/PID/io counted it last. */
  readonly writtenBytes: number;
  /** Messages of errors. */
  readonly errors: readonly string[];
  readonly questions: number;
}

export class ResumableJob implements Disposable {
  readonly request: ReturnType<typeof requestSchema.parse>;
  readonly inFlightPath: string;
  readonly checkpointPath: string;
  writtenBytes = 0;
  runs = 0;
  /** Another number: the machine was off. */
  boot = 1;
  private inFlightFd: number;
  private checkpointFd: number;
  private startedTimeUs: number;

  /** `directory` holds its records; the request is as for requestSchema. */
  constructor(directory: string, request: unknown) {
    this.request = requestSchema.parse(request);
    this.inFlightPath = `${directory}/in-flight`;
    this.checkpointPath = `${directory}/checkpoint`;
    this.inFlightFd = openSync(this.inFlightPath, "w+");
    ftruncateSync(this.inFlightFd, inFlightBytes);
    this.checkpointFd = openSync(this.checkpointPath, "w+");
    this.startedTimeUs = 0;
  }

  /** Runs a worker to its end, resumed if there was one before, and sweeps up after one that died. */
  async run(options: RunOptions = {}): Promise<RunOutcome> {
    const isResumed = this.runs++ > 0;
    if (!isResumed) this.startedTimeUs = Date.now() * 1000;
    const { startedTimeUs } = this;
    const messages: LiveMessage[] = [];
    const ended = Promise.withResolvers<WorkerEnd>();
    const worker = startWorker({
      task: {
        type: "start",
        request: this.request,
        sandbox: "off",
        token: "resumable",
        boot: this.boot,
        lanes: options.lanes ?? 0,
        totals: options.isWatched ?? false,
        checkpoint: { isResumed, isSameBoot: options.isSameBoot ?? true, startedTimeUs },
        standingAnswers: [...(options.standingAnswers ?? [])],
        givenAnswers: options.givenAnswers ?? [],
      },
      credentials: null,
      inFlightFd: this.inFlightFd,
      checkpointFd: this.checkpointFd,
      ...(options.under === undefined ? {} : { self: [...options.under, ...selfCommand()] }),
      onMessage: (message) => {
        messages.push(message);
        options.onMessage?.(message, worker);
      },
      onEnd: ended.resolve,
      onStderr: (line) => console.error(line),
    });
    const writtenBytes = await this.watch(worker, ended.promise, options);
    const end = await ended.promise;
    this.writtenBytes += writtenBytes;
    if (end.kind === "failed") await this.recover({ keepsPartial: true });
    const errors = messages.flatMap((message) => (message.type === "errors" ? message.errors.map((error) => error.message) : []));
    return { end, writtenBytes, errors, questions: messages.filter(({ type }) => type === "question").length };
  }

  /** What the service does after a worker's death. */
  async recover(what: { readonly keepsPartial: boolean; readonly removesCopies?: { readonly isSameBoot: boolean } }): Promise<WorkerEnd> {
    const { keepsPartial, removesCopies } = what;
    const removal = removesCopies === undefined ? null : { ...removesCopies, startedTimeUs: this.startedTimeUs };
    const ended = Promise.withResolvers<WorkerEnd>();
    startWorker({
      task: { type: "recover", request: this.request, sandbox: "off", token: "resumable", boot: this.boot, keepsPartial, removal },
      credentials: null,
      inFlightFd: this.inFlightFd,
      checkpointFd: this.checkpointFd,
      onMessage: () => undefined,
      onEnd: ended.resolve,
      onStderr: (line) => console.error(line),
    });
    return ended.promise;
  }

  /** Lets go of the records, as a medium that is unmounted wants it. */
  close(): void {
    closeSync(this.inFlightFd);
    closeSync(this.checkpointFd);
    this.inFlightFd = -1;
    this.checkpointFd = -1;
  }

  /** Opens the records that are under their names now: another machine's, or this one's after a power cut. */
  reopen(): void {
    this.inFlightFd = openSync(this.inFlightPath, "r+");
    this.checkpointFd = openSync(this.checkpointPath, "r+");
    ftruncateSync(this.inFlightFd, inFlightBytes);
  }

  [Symbol.dispose](): void {
    if (this.checkpointFd < 0) return;
    closeSync(this.inFlightFd);
    closeSync(this.checkpointFd);
  }

  private async watch(worker: WorkerHandle, end: Promise<WorkerEnd>, { killWhen, beforeKill, stopWhen }: RunOptions): Promise<number> {
    let isOver = false;
    let written = 0;
    let isStopped = false;
    void end.then(() => {
      isOver = true;
    });
    while (!isOver) {
      written = Math.max(written, writtenBy(worker.pid));
      if (killWhen?.(worker) === true) {
        await beforeKill?.();
        // Its counters go with it: stopped first, they are read whole.
        signal(worker.pid, "SIGSTOP");
        written = Math.max(written, writtenBy(worker.pid));
        signal(worker.pid, "SIGKILL");
        break;
      }
      if (!isStopped && stopWhen?.(worker) === true) {
        isStopped = true;
        worker.send({ type: "stop" });
      }
      await Bun.sleep(0);
    }
    return written;
  }
}

/** Ends the worker so long after it has begun to work, milliseconds. */
export function killedAfter(delayMs: number): Required<Pick<RunOptions, "onMessage" | "killWhen">> {
  let untilMs = Number.POSITIVE_INFINITY;
  return {
    onMessage: ({ type }) => {
      if (type === "hello") untilMs = performance.now() + delayMs;
    },
    killWhen: () => performance.now() > untilMs,
  };
}

/** Ends the worker at the `when`th of its only lane's calls of this name; needs strace. */
export function killedAt(call: string, when: number): Required<Pick<RunOptions, "under" | "lanes">> {
  return { under: ["strace", "-f", "-qq", "-o", "/dev/null", "-e", `inject=${call}:signal=KILL:when=${when}`], lanes: 1 };
}

/** Entries below a directory; 0 where there is none, or it goes while it is read. */
export function countBelow(path: string): number {
  try {
    return readdirSync(path, { recursive: true }).length;
  } catch {
    return 0;
  }
}

/** Bytes that a process has written by write(2) and its like; 0 where it is gone. */
export function writtenBy(pid: number): number {
  try {
    return Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

function signal(pid: number, name: "SIGSTOP" | "SIGKILL"): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone already: it was faster.
  }
}
