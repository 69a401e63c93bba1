// Ctrl-C, SIGTERM, SIGHUP and Ctrl-Z while a job runs: the first asks it to end in good order, the second does not wait.

import { readFileSync } from "node:fs";
import { constants } from "node:os";

export interface InterruptionListener {
  readonly cancel: () => void;
  readonly pause: () => void;
  readonly resume: () => void;
}

const fatal = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** Long enough for the worker to hear of the pause before this process is stopped. */
const pauseMs = 50;

export interface Interruption {
  /** The exit status that the signal caught asks for, or null. */
  readonly status: () => number | null;
  readonly stop: () => void;
}

/** Listens until stopped. Signals that whoever started us ignores (nohup, background jobs of scripts) stay ignored. */
export function catchInterruptions(listener: InterruptionListener): Interruption {
  const ignored = ignoredSignals();
  const installed: (readonly [NodeJS.Signals, () => void])[] = [];
  const on = (signal: NodeJS.Signals, action: () => void): void => {
    if (ignored(signal)) return;
    process.on(signal, action);
    installed.push([signal, action]);
  };
  let status: number | null = null;
  for (const signal of fatal) {
    on(signal, () => {
      const first = status === null;
      status = 128 + constants.signals[signal];
      // The worker notices that its parent is gone and stops by itself; what it had in flight was never published.
      if (!first) process.exit(status);
      listener.cancel();
    });
  }
  // The worker is in a session of its own, so that Ctrl-C cannot kill it; Ctrl-Z does not reach it either.
  let stopping: ReturnType<typeof setTimeout> | undefined;
  on("SIGTSTP", () => {
    listener.pause();
    clearTimeout(stopping);
    stopping = setTimeout(() => process.kill(process.pid, "SIGSTOP"), pauseMs);
  });
  on("SIGCONT", () => {
    clearTimeout(stopping);
    listener.resume();
  });
  return {
    status: () => status,
    stop: () => {
      for (const [signal, action] of installed) process.off(signal, action);
    },
  };
}

function ignoredSignals(): (signal: NodeJS.Signals) => boolean {
  const mask = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1] ?? "0";
  const bits = BigInt(`0x${mask}`);
  return (signal) => ((bits >> BigInt(constants.signals[signal] - 1)) & 1n) === 1n;
}
