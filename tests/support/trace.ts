// What strace wrote of several threads, a line for each call.

import { readFileSync } from "node:fs";

/**
 * The lines of `strace -f -o PATH`, as "THREAD call(arguments) = result". A call during which another thread's was written, and that
 * strace therefore split ("<unfinished ...>" and "<... call resumed>"), is whole again and stands where it began.
 */
export function readTrace(path: string): string[] {
  const lines: string[] = [];
  const unfinished = new Map<string, number>();
  for (const line of readFileSync(path, "latin1").split("\n")) {
    const thread = line.slice(0, line.indexOf(" "));
    const rest = /^\d+ +<\.\.\. \w+ resumed>(.*)$/.exec(line)?.[1];
    const begun = unfinished.get(thread);
    if (rest !== undefined && begun !== undefined) {
      lines[begun] += rest;
      unfinished.delete(thread);
      continue;
    }
    if (line.endsWith(" <unfinished ...>")) unfinished.set(thread, lines.length);
    lines.push(line.replace(/ <unfinished \.\.\.>$/, ""));
  }
  return lines;
}
