// In-flight records of embedded jobs outlive them: what a cp and its worker, both killed, left half-made is removed by the next one.
//
// The service knows its jobs from its store. Embedded jobs have none, so each keeps its record in a directory of the user's own in
// memory, under a name that says which process it belongs to. After a reboot the record is gone, or, where that directory is on a disk,
// not believed; a file that was being written then may be short in any case, as with every program that does not sync.

import { chmodSync, lstatSync, mkdirSync, readdirSync, readSync } from "node:fs";
import { join } from "node:path";
import type { JobRequest } from "../request.ts";
import { startWorker } from "../worker/pool.ts";
import { inFlightBytes } from "../worker/protocol.ts";
import { type InFlightFile, reopenInFlightFile } from "./in-flight-file.ts";
import { bootNumber, startTimeOf } from "./process-identity.ts";

const recordPattern = /^in-flight-(\d+)-(\d+)-([A-Za-z0-9_-]{1,64})$/;
/** Each lane's record begins with a state word, zero while nothing is unfinished. */
const laneRecordBytes = 64 * 1024;
const recoverTimeoutMs = 10_000;

/** The directory for this user's records, made when missing; null where there is none that only this user can write to. */
export function ownRecordDirectory(environment: Readonly<Record<string, string | undefined>> = process.env): string | null {
  const uid = process.geteuid?.() ?? -1;
  const runtime = environment.XDG_RUNTIME_DIR ?? "";
  const candidates = [...(runtime.startsWith("/") ? [join(runtime, "copyd")] : []), `/dev/shm/copyd-${uid}`];
  return candidates.find((path) => isOwn(path, uid)) ?? null;
}

/** The name of a record of this very process. */
export function recordName(token: string): string {
  return `in-flight-${process.pid}-${startTimeOf(process.pid)}-${token}`;
}

/**
 * Removes what dead processes left unfinished, and their records. `request`: any; a recovery without a sandbox opens only what the
 * record names. Costs one look into the directory when there is nothing to do. Failures leave the record for the next time.
 */
export async function removeLeftOvers(directory: string, request: JobRequest): Promise<void> {
  for (const name of namesIn(directory)) {
    const [, pid = "", time = "", token = ""] = recordPattern.exec(name) ?? [];
    if (token === "" || startTimeOf(Number(pid)) === time) continue;
    const file = open(directory, name);
    if (file !== null) await sweep(file, request, token);
  }
}

async function sweep(file: InFlightFile, request: JobRequest, token: string): Promise<void> {
  try {
    if (!hasUnfinished(file) || (await recover(file, request, token))) file.discard();
    else file.keep();
  } catch {
    // What is left over must never keep a new copy from being made: the record stays for the next time.
  }
}

function isOwn(path: string, uid: number): boolean {
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (cause) {
    if (!(cause instanceof Error && "code" in cause && cause.code === "EEXIST")) return false;
  }
  // /dev/shm is everybody's: somebody else may have been first.
  const found = lstatSync(path);
  if (!found.isDirectory() || found.uid !== uid || (found.mode & 0o077) !== 0) return false;
  // Made under an umask that denies its own user.
  if ((found.mode & 0o700) !== 0o700) chmodSync(path, 0o700);
  return true;
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    // Removed meanwhile by a session's end: then nothing is left over.
    return [];
  }
}

function open(directory: string, name: string): InFlightFile | null {
  try {
    return reopenInFlightFile(directory, name);
  } catch {
    // Another copyd is at it, or it is not ours to open.
    return null;
  }
}

function hasUnfinished(file: InFlightFile): boolean {
  const word = Buffer.alloc(4);
  for (let at = 0; at < inFlightBytes; at += laneRecordBytes) {
    if (readSync(file.fd, word, 0, 4, at) === 4 && word.readUInt32LE(0) !== 0) return true;
  }
  return false;
}

function recover(file: InFlightFile, request: JobRequest, token: string): Promise<boolean> {
  return new Promise((resolve) => {
    const worker = startWorker({
      task: { type: "recover", request, sandbox: "off", token, boot: bootNumber() },
      credentials: null,
      inFlightFd: file.fd,
      trusted: true,
      onMessage: () => undefined,
      onStderr: () => undefined,
      onEnd: (end) => {
        clearTimeout(timer);
        resolve(end.kind === "result" && end.result.outcome === "completed");
      },
    });
    const timer = setTimeout(() => worker.kill("worker-silent", "recovery took too long"), recoverTimeoutMs);
  });
}
