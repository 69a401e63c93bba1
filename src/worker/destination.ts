// What the destination of a job is (a directory to copy into, or a name), and the final path of each argument.

import { Errno } from "../errno.ts";
import { At, Mode } from "../ffi/libc.ts";
import { Placement } from "./checkpoint-layout.ts";
import type { LaneContext } from "./lane-context.ts";
import { type FailureFacts, joinPath } from "./reporter.ts";

/** Of a lane, or of whoever has none. */
type DestinationContext = Pick<LaneContext, "request" | "options" | "destinationStat" | "arena" | "log" | "resumption"> & {
  readonly reporter: { fail(facts: FailureFacts): void };
};

export class Destination {
  /** It is an existing directory, and the arguments go into it. */
  isDirectory = false;
  /** Why a name that ends in a slash cannot be a file's: the errno of looking at it; 0 for any other name. */
  slashErrno = 0;
  private readonly context: DestinationContext;

  constructor(context: DestinationContext) {
    this.context = context;
  }

  /** Looks at it. False: it cannot be, and that was reported. */
  resolve(): boolean {
    const { request, options, destinationStat, arena, reporter } = this.context;
    const status = arena.withString(request.destination, (address) => destinationStat.ofTarget(At.AT_FDCWD, address));
    const isDirectory = status === 0 && destinationStat.type === Mode.S_IFDIR;
    if (request.destination.endsWith("/") && !isDirectory) this.slashErrno = status < 0 ? -status : Errno.ENOTDIR;
    if (options.target === "exact" && request.sources.length === 1) return true;
    this.isDirectory = isDirectory && !this.wasMadeByJob();
    const { log } = this.context;
    if (log !== null) log.placement = this.isDirectory ? Placement.into : Placement.exact;
    const mustBe = options.target === "directory" || request.sources.length > 1;
    if (this.isDirectory || !mustBe) return true;
    const errno = status < 0 ? -status : Errno.ENOTDIR;
    const place = { argument: 0, path: "", destinationRoot: request.destination };
    const what = options.gnu.names === null ? "the destination %d" : options.target === "directory" ? "target directory %d" : "target %d";
    const code = errno === Errno.ENOENT ? ("destination-not-found" as const) : ("destination-not-directory" as const);
    reporter.fail({ place, side: "destination", errno, syscall: "statx", what, code });
    return false;
  }

  // A resumed job finds the directory that it has itself become; the question was settled when it began.
  private wasMadeByJob(): boolean {
    const { log, resumption, arena, request, options } = this.context;
    if (resumption === null || options.target === "directory" || request.sources.length > 1) return false;
    if (log !== null && log.placement !== Placement.unknown) return log.placement === Placement.exact;
    return !arena.withString(request.destination, (address) => resumption.isOlderThanJob(At.AT_FDCWD, address));
  }

  /** The final absolute path of an argument. What has no name of its own ("/", ".", "..") goes into the destination as ".". */
  placeOf(argument: number): string {
    const { request, options } = this.context;
    if (!this.isDirectory) return stripSlashes(request.destination);
    const typed = options.gnu.names?.sources[argument] ?? "";
    if (options.gnu.parents) return joinPath(request.destination, stripSlashes(typed).replace(/^\/+/, ""));
    const name = baseName(request.sources[argument] ?? "");
    return joinPath(request.destination, name === "" || name === ".." ? "." : name);
  }
}

export function stripSlashes(path: string): string {
  const stripped = path.replace(/\/+$/, "");
  return stripped === "" ? "/" : stripped;
}

/** The last component; "" for "/". */
export function baseName(path: string): string {
  const stripped = path.replace(/\/+$/, "");
  return stripped.slice(stripped.lastIndexOf("/") + 1);
}

/** The directory that a path lies in, as it is spelt. */
export function parentOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
