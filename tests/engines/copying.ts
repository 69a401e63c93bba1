// Copies one file with a FileCopier as a lane would, and says what came of it.

import type { EngineOptions } from "../../src/engines/chooser.ts";
import type { CopyControl } from "../../src/engines/engine.ts";
import { FileCopier } from "../../src/engines/file-copier.ts";
import { At, libc, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { Stat } from "../../src/ffi/stat.ts";
import type { EngineName } from "../../src/request.ts";

export const defaultOptions: EngineOptions = { engine: "auto", reflink: "auto", sparse: "auto", cache: "keep" };

export interface CopyOutcome {
  /** 0, `stopped` or -errno. */
  readonly result: number;
  readonly failedSide: "source" | "destination";
  readonly failedSyscall: string;
  readonly failedOffset: number;
  readonly isEngineUnavailable: boolean;
  readonly engine: EngineName;
  readonly copied: number;
  readonly cloned: number;
  readonly length: number;
  readonly reasons: readonly string[];
}

const always: CopyControl = { advanced: () => true };

/** Opens both as a lane does (the destination new, write-only), copies, closes. Throws where a file cannot be opened. */
export function copyOne(
  source: string,
  destination: string,
  options: Partial<EngineOptions> = {},
  control: CopyControl = always,
): CopyOutcome {
  using copier = new FileCopier({ ...defaultOptions, ...options }, control);
  return copyWith(copier, source, destination);
}

export function copyWith(copier: FileCopier, source: string, destination: string): CopyOutcome {
  using arena = new Arena(16384);
  const sourceFd = opened(arena, source, Open.O_RDONLY);
  const destinationFd = opened(arena, destination, Open.O_WRONLY | Open.O_CREAT | Open.O_TRUNC);
  try {
    const sourceStat = statOf(arena, sourceFd);
    const destinationStat = statOf(arena, destinationFd);
    const first = copier.copyFile(sourceFd, destinationFd, sourceStat, destinationStat.device);
    const hasGrown = copier.endsBySize && statOf(arena, sourceFd).size > sourceStat.size;
    const result = first === 0 && hasGrown ? copier.readRest() : first;
    const { failedSide, failedSyscall, failedOffset, isEngineUnavailable, engine, copied, cloned, length } = copier;
    const reasons = copier.reasons();
    return { result, failedSide, failedSyscall, failedOffset, isEngineUnavailable, engine, copied, cloned, length, reasons };
  } finally {
    libc.close(sourceFd);
    libc.close(destinationFd);
  }
}

/** fstat of a descriptor; the arena keeps the structure. */
export function statOf(arena: Arena, fd: number): Stat {
  const stat = new Stat(arena.allocate(256));
  const result = stat.ofDescriptor(fd, arena.cstring(""));
  if (result < 0) throw new Error(`statx: errno ${-result}`);
  return stat;
}

export function opened(arena: Arena, path: string, flags: number, mode = 0o600): number {
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(Buffer.from(path).toString("latin1")), flags | Open.O_CLOEXEC, mode);
  if (fd < 0) throw new Error(`open ${path}: errno ${-fd}`);
  return fd;
}
