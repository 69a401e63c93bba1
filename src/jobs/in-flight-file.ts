// The file in which a worker records what it has in flight, made and kept by the parent so that it outlives the worker.

import { closeSync, fchmodSync, fstatSync, ftruncateSync, openSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inFlightBytes } from "../worker/protocol.ts";

/** Owns the descriptor; `discard` or `keep` closes it. */
export interface InFlightFile {
  readonly fd: number;
  /** null: it has no name. */
  readonly path: string | null;
  /** True when a worker has ever written to it: there may be something to recover. */
  wasUsed(): boolean;
  /** Nothing is in flight any more: closes and removes it. */
  discard(): void;
  /** Closes it and leaves it (if it has a name) for whoever recovers later. */
  keep(): void;
}

/** A fresh record called `name` in `directory`. Throws the errors of open and ftruncate. */
export function createInFlightFile(directory: string, name: string): InFlightFile {
  const path = join(directory, name);
  const fd = openSync(path, "wx+", 0o600);
  // A worker that was started ahead opens it by its name, whatever umask its user likes.
  fchmodSync(fd, 0o600);
  return owned(fd, path);
}

/** The record that a former run of the service left, or null where there is none. */
export function reopenInFlightFile(directory: string, name: string): InFlightFile | null {
  const path = join(directory, name);
  try {
    return owned(openSync(path, "r+"), path);
  } catch (cause) {
    if (cause instanceof Error && "code" in cause && cause.code === "ENOENT") return null;
    throw cause;
  }
}

/** A record without a name, in memory where there is a place for that: for the embedded mode, which nobody continues. */
export function createUnnamedInFlightFile(name: string): InFlightFile {
  for (const directory of ["/dev/shm", tmpdir()]) {
    const path = join(directory, `.copyd-${process.pid}-${name}`);
    try {
      const fd = openSync(path, "wx+", 0o600);
      unlinkSync(path);
      return owned(fd, null);
    } catch (cause) {
      if (directory === tmpdir()) throw cause;
    }
  }
  throw new Error("unreachable: the loop returns or throws");
}

function owned(fd: number, path: string | null): InFlightFile {
  // Sparse: it costs what is used.
  ftruncateSync(fd, inFlightBytes);
  return {
    fd,
    path,
    // Blocks are allocated (or reserved) by the first write; reading 4 MiB of holes would say no more.
    wasUsed: () => fstatSync(fd).blocks > 0,
    discard: () => {
      closeSync(fd);
      // Gone already when another copyd swept up after the same dead process.
      if (path !== null) rmSync(path, { force: true });
    },
    keep: () => closeSync(fd),
  };
}
