// A source that was mounted again: its directories are opened anew by their paths, in the place of descriptors of what has gone.

import { layout } from "../ffi/layout.ts";
import { At, libc, Open, Seek } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { BeneathOpener } from "../tree/open.ts";
import type { Directory } from "./directory.ts";
import type { LaneContext } from "./lane-context.ts";

const openFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NONBLOCK | Open.O_CLOEXEC;

/**
 * True when the directory's source was opened anew and is the same: the same path below the same argument, the same inode or, where a
 * filesystem numbers them anew, the same time of change. The descriptor keeps its number, so every lane that works there has it; its
 * place in the list of entries is kept. Only sources: at the destination another filesystem must never be written to by mistake.
 */
export function reopenSource({ request, options, guardedSources }: LaneContext, { fields, stat }: Directory): boolean {
  if (fields.sourceFd < 0 || options.symlinks === "follow" || guardedSources !== null) return false;
  using opener = new BeneathOpener();
  using arena = new Arena(8 * 1024 + layout.statx.size);
  const found = new Stat(arena.allocate(layout.statx.size));
  const argumentFlags = options.symlinks === "copy" ? openFlags | Open.O_NOFOLLOW : openFlags;
  const top = libc.openat(At.AT_FDCWD, arena.cstring(request.sources[fields.argument] ?? ""), argumentFlags, 0);
  if (top < 0) return false;
  const fd = opener.open(top, fields.path, openFlags);
  libc.close(top);
  if (fd < 0) return false;
  const isSame = found.ofDescriptor(fd, arena.cstring("")) === 0 && isSameDirectory(stat, found, options.oneFileSystem);
  const position = libc.lseek(fields.sourceFd, 0, Seek.CUR);
  const isPlaced = isSame && (position <= 0 || libc.lseek(fd, position, Seek.SET) === position);
  const replaced = isPlaced && libc.dup3(fd, fields.sourceFd, Open.O_CLOEXEC) >= 0;
  libc.close(fd);
  return replaced;
}

function isSameDirectory(known: Stat, found: Stat, oneFileSystem: boolean): boolean {
  // Its filesystem may have another number now, by which -x would take all that is below for another one.
  if (oneFileSystem && known.device !== found.device) return false;
  if (known.inodeLow === found.inodeLow && known.inodeHigh === found.inodeHigh) return true;
  return known.mtimeSeconds === found.mtimeSeconds && known.mtimeNanoseconds === found.mtimeNanoseconds;
}
