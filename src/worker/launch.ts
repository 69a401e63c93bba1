// How a worker comes to its job: its process, one that was started ahead or made ready or a new one, and its first message. Parent side.

import { CopyError } from "../errors.ts";
import { takeAhead } from "./ahead.ts";
import { kernelCounts } from "./kernel-counts.ts";
import { withNiceness } from "./niceness.ts";
import type { FirstMessage, ProcessOptions, ReadyProcess, WorkerOptions } from "./pool.ts";
import { embeddedFlag, type Identity } from "./protocol.ts";
import {
  checkpointChildFd,
  expectedIdentity,
  inFlightChildFd,
  openOwnBinary,
  selfCommand,
  spawnWorker,
  type WorkerProcess,
  workerCommand,
} from "./spawn.ts";

/** As of makeReady. */
export function launchReady(options: ProcessOptions): ReadyProcess {
  const counts = kernelCounts(options.place?.group ?? null);
  const process = spawn(options, options.credentials === null ? null : expectedIdentity(options.credentials));
  return {
    process,
    counts,
    [Symbol.dispose]() {
      process.kill("SIGKILL");
      options.place?.left(0);
    },
  };
}

export interface Launched {
  readonly process: WorkerProcess;
  readonly first: FirstMessage;
}

/** The process, and what it is to be told first. Throws CopyError `worker-start` when it cannot be made. */
export function launch(options: WorkerOptions, identity: Identity | null): Launched {
  const first = firstMessage(options, identity);
  const ready = options.ready?.process;
  // One that has ended meanwhile is no worse than none.
  if (ready !== undefined && ready.exitCode === null && ready.signalCode === null) return { process: ready, first };
  // Last: one that was taken keeps this process until it ends, and nobody would end it.
  const ahead = mayBeAhead(options) ? takeAhead() : null;
  if (ahead === null) return { process: spawn(options, identity, isEmbedded(options) ? [embeddedFlag] : []), first };
  // It has none of our descriptors, and is this very user.
  return { process: ahead, first: { ...first, inFlightFd: -1, inFlightPath: options.inFlightPath } as FirstMessage };
}

function mayBeAhead(options: WorkerOptions): boolean {
  return isEmbedded(options) && options.self === undefined && options.place?.group == null && options.inFlightPath != null;
}

/** A copy by this process's own child. */
function isEmbedded({ trusted, task, checkpointFd }: WorkerOptions): boolean {
  return trusted === true && task.type === "start" && checkpointFd == null;
}

function firstMessage({ task, checkpointFd }: WorkerOptions, identity: Identity | null): FirstMessage {
  const hasCheckpoint = checkpointFd !== undefined && checkpointFd !== null;
  const inFlightFd = inFlightChildFd;
  switch (task.type) {
    case "preview":
      return { ...task, identity };
    case "recover":
      return {
        ...task,
        identity,
        inFlightFd,
        checkpointFd: hasCheckpoint ? checkpointChildFd : -1,
        keepsPartial: task.keepsPartial ?? false,
        removal: task.removal ?? null,
      };
    case "start": {
      const known = hasCheckpoint ? (task.checkpoint ?? null) : null;
      const checkpoint = known === null ? null : { ...known, fd: checkpointChildFd };
      const { standingAnswers = [], givenAnswers = [] } = task;
      return { ...task, identity, inFlightFd, checkpoint, standingAnswers, givenAnswers };
    }
  }
}

/** Descriptors beyond the three streams: the records that outlive the worker. */
function recordsOf({ inFlightFd, checkpointFd }: ProcessOptions): number[] {
  if (inFlightFd === null) return [];
  return checkpointFd === undefined || checkpointFd === null ? [inFlightFd] : [inFlightFd, checkpointFd];
}

function spawn(options: ProcessOptions, identity: Identity | null, flags: readonly string[] = []): WorkerProcess {
  const records = recordsOf(options);
  const self = options.self ?? selfCommand();
  const binary = identity === null ? null : openOwnBinary(self);
  const command = workerCommand(identity, self, inFlightChildFd + records.length);
  const { group, niceness } = options.place ?? { group: null, niceness: 0 };
  try {
    return spawnWorker(withNiceness(niceness, [...command, ...flags]), {
      identity,
      records: binary === null ? records : [...records, binary],
      cgroup: group ?? undefined,
    });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new CopyError("worker-start", `cannot start the copying process: ${reason}`, {}, cause);
  }
}
