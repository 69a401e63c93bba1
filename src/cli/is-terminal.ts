// Whether a descriptor is a terminal, without loading what node:tty brings along (1.7 ms) where it is none.

import { fstatSync } from "node:fs";

/** Of /dev/null and its like, as the kernel packs it for user space. */
const memoryMajor = 1;

export function isTerminal(fd: number): boolean {
  return mayBeTerminal(fd) && process.getBuiltinModule("node:tty").isatty(fd);
}

function mayBeTerminal(fd: number): boolean {
  try {
    const status = fstatSync(fd);
    return status.isCharacterDevice() && ((status.rdev >>> 8) & 0xfff) !== memoryMajor;
  } catch {
    // Closed: cp may be started so.
    return false;
  }
}
