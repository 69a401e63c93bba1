// Finds the very byte in which a copy differs from its source, where the source can still be read and is still what was copied.

import { FileHasher, hashBlockBytes } from "../engines/file-hasher.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { BeneathOpener } from "../tree/open.ts";

export interface Stretch {
  /** A multiple of hashBlockBytes. */
  readonly offset: number;
  readonly length: number;
  /** As it was hashed while it was copied. */
  readonly hash: readonly [low: number, high: number];
}

/** The offset of the first differing byte, or null where it cannot be known. `copyFd` may be open with O_DIRECT. */
export function firstDifference(sourcePath: string, copyFd: number, stretch: Stretch): number | null {
  using opener = new BeneathOpener();
  const flags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC;
  const sourceFd = opener.openFollowing(At.AT_FDCWD, sourcePath, flags);
  if (sourceFd < 0) return null;
  try {
    return compare(sourceFd, copyFd, stretch);
  } finally {
    libc.close(sourceFd);
  }
}

function compare(sourceFd: number, copyFd: number, { offset, length, hash }: Stretch): number | null {
  using memory = new NativeMemory(2 * hashBlockBytes);
  using hasher = new FileHasher(null, () => true);
  hasher.beginWith(Math.ceil(length / hashBlockBytes));
  let difference: number | null = null;
  for (let done = 0; done < length; done += hashBlockBytes) {
    const wanted = Math.min(hashBlockBytes, length - done);
    const inSource = readWhole(sourceFd, memory.address, wanted, offset + done);
    // Whole pages for O_DIRECT; past the file's end there is nothing to read.
    const inCopy = libc.pread(copyFd, memory.address + hashBlockBytes, hashBlockBytes, offset + done);
    if (inSource < wanted) return null;
    hasher.take(memory.bytes, 0, wanted, done);
    if (inCopy < 0) return null;
    for (let index = 0; index < wanted && difference === null; index++) {
      if (index >= inCopy || memory.bytes[index] !== memory.bytes[hashBlockBytes + index]) difference = offset + done + index;
    }
  }
  hasher.finish(length);
  // Only what is still as it was copied can say where the copy is wrong.
  return hasher.stretches[0] === hash[0] && hasher.stretches[1] === hash[1] ? difference : null;
}

function readWhole(fd: number, address: number, length: number, offset: number): number {
  let done = 0;
  while (done < length) {
    const read = libc.pread(fd, address + done, length - done, offset + done);
    if (read <= 0) break;
    done += read;
  }
  return done;
}
