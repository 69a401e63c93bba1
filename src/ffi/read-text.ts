// A small file's text by libc, as of those in /proc, for threads that need nothing else of node:fs: loading that takes a millisecond in each.

import { Errno } from "../errno.ts";
import { At, libc, Open } from "./libc.ts";
import { Arena } from "./memory.ts";

const readBytes = 16 * 1024;
/** What the kernel takes as a path. */
const maxPathBytes = 4096;

/** Bytes as latin1 characters, up to the end of the file, which a size does not tell there; null where it cannot be read. `path` as bytes, too. */
export function readText(path: string): string | null {
  if (path.length >= maxPathBytes) return null;
  using arena = new Arena(readBytes + maxPathBytes);
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(path), Open.O_RDONLY | Open.O_CLOEXEC, 0);
  if (fd < 0) return null;
  arena.reset(0);
  const address = arena.allocate(readBytes);
  let text = "";
  let got = -Errno.EINTR;
  while (got > 0 || got === -Errno.EINTR) {
    got = libc.read(fd, address, readBytes);
    if (got > 0) text += Buffer.from(arena.memory.bytes.buffer, arena.memory.bytes.byteOffset, got).toString("latin1");
  }
  libc.close(fd);
  return got < 0 ? null : text;
}
