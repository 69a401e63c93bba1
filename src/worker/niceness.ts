// How a worker is made to leave the processors to others, from outside: it is its user's, who need not want that.

import { existsSync, writeFileSync } from "node:fs";

/** By its full path, as setpriv is. */
const nicePath = ["/usr/bin/nice", "/bin/nice"].find((path) => existsSync(path));

/** The command with this niceness, from its first moment; 0, or a machine without nice(1): the command as it is. */
export function withNiceness(niceness: number, command: readonly string[]): string[] {
  return niceness === 0 || nicePath === undefined ? [...command] : [nicePath, "-n", String(niceness), ...command];
}

/**
 * The same for the session that a process leads: where the kernel shares the processors out among sessions (sched(7), "The autogroup
 * feature"), a niceness counts only within one. False when it is to be tried again: the kernel takes ten of these a second.
 */
export function lowerSession(leader: number, niceness: number): boolean {
  try {
    writeFileSync(`/proc/${leader}/autogroup`, String(niceness));
    return true;
  } catch (cause) {
    // Without sessions of this kind, or gone: there is nothing to be done.
    return !(cause instanceof Error && "code" in cause && cause.code === "EAGAIN");
  }
}
