// How the leader names a source to the kernel: by its path; guarded, by its last name from its own directory, opened without any link.

import { libc, Open, syscallNumbers } from "../ffi/libc.ts";
import { baseName, parentOf, stripSlashes } from "./destination.ts";
import type { LaneContext } from "./lane-context.ts";

/**
 * The name of a source relative to AT_FDCWD, or -errno. Guarded, its directory becomes the working directory: what is done with the
 * name then is done there, wherever the path may lead meanwhile. Only the leader names sources, one after the other.
 */
export function nameOfSource(context: LaneContext, argument: number): string | number {
  const guarded = context.guardedSources?.[argument];
  if (guarded === undefined) return context.request.sources[argument] ?? "";
  const path = stripSlashes(guarded);
  const fd = context.openNamed(parentOf(path), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC);
  if (fd < 0) return fd;
  const entered = libc.syscall(syscallNumbers.fchdir, fd);
  libc.close(fd);
  return entered < 0 ? entered : baseName(path) || ".";
}
