// The parent's side of one worker process: what starts it, what is heard of it, and the limits it must keep.

import type { FailureCode } from "../errors.ts";
import type { KernelCounts } from "./kernel-counts.ts";
import { launchReady } from "./launch.ts";
import type { ParentMessage, WorkerMessage } from "./protocol.ts";
import type { Credentials, WorkerProcess } from "./spawn.ts";
import { WorkerConnection } from "./worker-connection.ts";
import type { WorkerLimits } from "./worker-limits.ts";

export type FirstMessage = Extract<ParentMessage, { type: "start" | "recover" | "preview" }>;
type StartMessage = Extract<ParentMessage, { type: "start" }>;
/** What a worker is started for: its first message, less what this file adds to it. */
export type Task =
  | (Omit<StartMessage, "identity" | "inFlightFd" | "inFlightPath" | "checkpoint" | "standingAnswers" | "givenAnswers"> & {
      /** Needs WorkerOptions.checkpointFd; left out or null: nothing is logged. */
      readonly checkpoint?: Omit<NonNullable<StartMessage["checkpoint"]>, "fd"> | null;
      readonly standingAnswers?: StartMessage["standingAnswers"];
      readonly givenAnswers?: StartMessage["givenAnswers"];
    })
  | (Omit<Extract<ParentMessage, { type: "recover" }>, "identity" | "inFlightFd" | "checkpointFd" | "keepsPartial" | "removal"> & {
      readonly keepsPartial?: boolean;
      /** Needs WorkerOptions.checkpointFd; left out or null: what was published stays. */
      readonly removal?: Extract<ParentMessage, { type: "recover" }>["removal"];
    })
  | Omit<Extract<ParentMessage, { type: "preview" }>, "identity">;
export type HelloMessage = Extract<WorkerMessage, { type: "hello" }>;
export type ResultMessage = Extract<WorkerMessage, { type: "result" }>;
/** What a listener sees before the end: hello and everything between. */
export type LiveMessage = Exclude<WorkerMessage, { type: "result" | "fatal" }>;

/** What is to differ from the defaults. */
export type WorkerLimitChanges = Partial<WorkerLimits>;

export type WorkerEnd = {
  /** False when the process is still there although it was killed: blocked in the kernel, it may yet finish one call. */
  readonly gone: boolean;
} & (
  | { readonly kind: "result"; readonly result: ResultMessage }
  | { readonly kind: "failed"; readonly code: FailureCode; readonly message: string }
);

/** Where the kernel puts a worker. */
export interface WorkerPlace {
  /** The control group of version 2 that it is in before anything of it runs, absolute; null: where this process is. */
  readonly group: string | null;
  /** Above that of this process, 0 to 19: how far it leaves the processors to others. */
  readonly niceness: number;
  /** Called when no process is there any more, or none that could be ended: it took so much processor time, here what it said included. */
  readonly left: (takenMs: number) => void;
}

export interface WorkerOptions {
  readonly task: Task;
  /** As whom it runs, through setpriv, which needs root; null: a plain child of this process. */
  readonly credentials: Credentials | null;
  /** Left out: where this process is, as its equal. */
  readonly place?: WorkerPlace;
  /** This side's descriptor of the in-flight record; stays the caller's to close. null: a dry run has nothing in flight. */
  readonly inFlightFd: number | null;
  /** Where a worker of our own user may open the record instead; left out or null: it has no name. */
  readonly inFlightPath?: string | null;
  /** This side's descriptor of the job's checkpoint, open for reading and writing; stays the caller's to close. */
  readonly checkpointFd?: number | null;
  readonly limits?: WorkerLimitChanges;
  /** Embedded, the worker is this very program as this very user, and its messages are taken as they are. */
  readonly trusted?: boolean;
  /** Instead of this program itself; tests use it. */
  readonly self?: readonly string[];
  /** A process that was made ready with the same options; left out, or ended meanwhile: a new one. */
  readonly ready?: ReadyProcess;
  readonly onMessage: (message: LiveMessage) => void;
  /** Asked after lines and errors: no more is read of the worker until it resolves, and the worker waits. null: it goes on. */
  readonly pace?: () => Promise<void> | null;
  /** Called exactly once, after the process is gone (or was given up) and its messages are delivered. */
  readonly onEnd: (end: WorkerEnd) => void;
  /** One line of the worker's stderr, at most 1024 bytes, for the log. */
  readonly onStderr: (line: string) => void;
}

/** What decides on the process itself, whatever it is to do. */
export type ProcessOptions = Pick<WorkerOptions, "credentials" | "place" | "inFlightFd" | "checkpointFd" | "self">;

/** A process that waits for its first message. */
export interface ReadyProcess extends Disposable {
  readonly process: WorkerProcess;
  /** As they were before it was started. */
  readonly counts: KernelCounts;
  /** Nobody needs it: ends it, and leaves its place. */
  [Symbol.dispose](): void;
}

export interface WorkerHandle {
  readonly pid: number;
  /** Queues a message; silently nothing once the worker has ended. */
  send(message: Exclude<ParentMessage, FirstMessage>): void;
  /** Ends it at once; `onEnd` follows with this failure, unless its result had come. */
  kill(code: FailureCode, message: string): void;
}

/**
 * Starts a worker. Throws CopyError `worker-start` when the process cannot be made; everything later comes through
 * `onEnd`. It is killed by process group, and only as long as the kernel has not given its number to anybody else.
 */
export function startWorker(options: WorkerOptions): WorkerHandle {
  return new WorkerConnection(options);
}

/** Starts a worker's process whose job will be told later, to startWorker with the same options. Throws as that does. */
export function makeReady(options: ProcessOptions): ReadyProcess {
  return launchReady(options);
}
