// A worker of this very program that is started before anybody knows its job, so that its runtime starts while ours still loads. Parent side.
//
// It waits for its first message, and ends when it gets none: by dropAhead(), or with the pipe to a parent that has ended.

import { embeddedFileFlag, embeddedFlag } from "./protocol.ts";
import { selfCommand, spawnWorker, type WorkerProcess } from "./spawn.ts";

let ahead: WorkerProcess | null = null;

/**
 * Starts an embedded worker for whoever asks first. It gets no descriptors: of those, nobody knows yet. `likely`: what its job will
 * probably be, which decides what it loads at once; it does any other as well, somewhat later.
 */
export function startAhead(likely: "one small file" | "more"): void {
  try {
    const flag = likely === "more" ? embeddedFlag : embeddedFileFlag;
    ahead = spawnWorker([...selfCommand(), flag], { identity: null, records: [] });
  } catch {
    // Whoever needs a worker will find out the reason, and tell it.
    return;
  }
  // A command that turns out to need none ends without it.
  ahead.unref();
}

/** The worker that was started ahead, which is the caller's from now on; null where there is none, or it has died. */
export function takeAhead(): WorkerProcess | null {
  const taken = ahead;
  ahead = null;
  if (taken === null || taken.exitCode !== null || taken.signalCode !== null) return null;
  taken.ref();
  return taken;
}

/** Nobody will need it any more. */
export function dropAhead(): void {
  ahead?.kill("SIGKILL");
  ahead = null;
}
