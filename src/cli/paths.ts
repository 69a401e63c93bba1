// From names as typed to the absolute byte paths that a request holds, without resolving links or dots.

import { readlinkSync } from "node:fs";
import { type ByteString, byteString, byteStringFromText } from "../bytes.ts";
import { maxPathBytes } from "../request.ts";

/** The directory that /proc/0 would be: there is never a process 0, so what lies in it is never found (ENOENT). */
const nowhere = "/proc/0";
/** No filesystem of Linux has names of more than 255 bytes (ENAMETOOLONG). */
const nameTooLong = "/".padEnd(1 + 256, "x");

/**
 * The path to open for a name as typed: joined to the working directory with "/" and otherwise left alone, since `..` after
 * a link, doubled and trailing slashes all mean something to the kernel. What the kernel would refuse as typed but would take
 * once joined (the empty name, one longer than PATH_MAX, a name in a deleted directory) becomes a path that it refuses for
 * the same reason.
 */
export function absolutePath(typed: ByteString, workingDirectory: ByteString | null): ByteString {
  if (typed === "") return `${nowhere}/empty` as ByteString;
  if (typed.length > maxPathBytes) return nameTooLong as ByteString;
  if (typed.startsWith("/")) return asOurs(typed);
  if (workingDirectory === null) return `${nowhere}/deleted` as ByteString;
  const joined = workingDirectory === "/" ? `/${typed}` : `${workingDirectory}/${typed}`;
  if (joined.length <= maxPathBytes) return joined as ByteString;
  // What lies so deep has no path, but we have a descriptor of where we are: the kernel's limit is for one path, not for depth.
  const below = `${ours}/cwd/${typed}`;
  return (below.length > maxPathBytes ? nameTooLong : below) as ByteString;
}

/**
 * /dev/stdin, /dev/fd/N and /proc/self mean this process, whose open files the caller chose; to the worker, which opens them,
 * they would mean the worker.
 */
function asOurs(path: ByteString): ByteString {
  const match = /^\/+(?:dev\/+(?:std(in|out|err)$|fd(?=\/|$))|proc\/+self(?=\/|$))/.exec(path);
  if (match === null) return path;
  const stream = match[1] === undefined ? -1 : ["in", "out", "err"].indexOf(match[1]);
  const start = stream >= 0 ? `${ours}/fd/${stream}` : match[0].includes("proc") ? ours : `${ours}/fd`;
  return (start + path.slice(match[0].length)) as ByteString;
}

const ours = `/proc/${process.pid}`;

/** True for what `absolutePath` made of a name that means this process. */
export function isOfThisProcess(path: ByteString): boolean {
  return path === ours || path.startsWith(`${ours}/`);
}

/** True for what is reached through our working directory: it lies too deep for a path of its own, or was typed so. */
export function isThroughWorkingDirectory(path: ByteString): boolean {
  return path === `${ours}/cwd` || path.startsWith(`${ours}/cwd/`);
}

/** The working directory as bytes; null when it has been deleted. */
export function workingDirectory(): ByteString | null {
  try {
    const path = process.cwd();
    if (!path.includes("\ufffd")) return byteStringFromText(path);
  } catch {
    return null;
  }
  const bytes = readlinkSync("/proc/self/cwd", { encoding: "buffer" });
  return byteString(bytes);
}

/** Without trailing slashes, as --strip-trailing-slashes has it; "/" stays. */
export function stripTrailingSlashes(path: ByteString): ByteString {
  let end = path.length;
  while (end > 1 && path.charAt(end - 1) === "/") end--;
  return path.slice(0, end) as ByteString;
}
