// The arguments of an administrator's job without the links in them: root's links are followed here, and anybody else's refuse the job.
//
// The paths that come out of this have no link in them, and are opened so that none may have appeared since (RESOLVE_NO_SYMLINKS).
// Who can rename directories above may still lead such a path to another directory of their own; they could have named that one.

import type { ByteString } from "../bytes.ts";
import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { quoteName } from "../quote.ts";
import type { JobRequest } from "../request.ts";
import { BeneathOpener } from "../tree/open.ts";

/** As the kernel's own limit for one path. */
const maxLinks = 40;
const maxTargetBytes = 4096;
const pathFlags = Open.O_PATH | Open.O_NOFOLLOW | Open.O_CLOEXEC;

export interface GuardedPaths {
  /** Where the sources are found; what is made of them is still named after the request's own. */
  readonly sources: readonly ByteString[];
  readonly destination: ByteString;
}

export interface Refusal {
  /** One sentence for a person. */
  readonly problem: string;
}

/** The paths of the arguments without links, or why there are none. What is not there stays as it was named. */
export function guardedPaths(request: JobRequest): GuardedPaths | Refusal {
  using resolver = new Resolver();
  const { options } = request;
  const follows = options.symlinks !== "copy";
  const sources: ByteString[] = [];
  for (const source of request.sources) {
    const found = resolver.resolve(source, follows);
    if (typeof found !== "string") return found;
    sources.push(found);
  }
  const destination = resolver.resolve(request.destination, options.target !== "exact");
  if (typeof destination !== "string") return destination;
  return { sources, destination };
}

/** The request as the lanes get it. The last names of sources have been followed where that was asked for: links there now are new. */
export function guardedRequest(request: JobRequest, { destination }: GuardedPaths): JobRequest {
  return { ...request, destination, options: { ...request.options, symlinks: "copy" } };
}

class Resolver implements Disposable {
  private readonly opener = new BeneathOpener();
  private readonly arena = new Arena(32 * 1024);
  private readonly stat = new Stat(this.arena.allocate(layout.statx.size));
  private readonly empty = this.arena.cstring("");
  private readonly target = this.arena.allocate(maxTargetBytes);

  /** The path without links in it but perhaps its last name. */
  resolve(path: ByteString, followsLast: boolean): ByteString | Refusal {
    const done: string[] = [];
    const ahead = namesOf(path).reverse();
    // A name with a slash behind it is what it leads to.
    const isLastFollowed = followsLast || /\/\.?$/.test(path);
    let links = 0;
    for (let name = ahead.pop(); name !== undefined; name = ahead.pop()) {
      if (name === "..") done.pop();
      if (name === "..") continue;
      done.push(name);
      const link = ahead.length === 0 && !isLastFollowed ? null : this.linkAt(`/${done.join("/")}`);
      if (link === null) continue;
      if (typeof link !== "string") return link;
      if (++links > maxLinks) return { problem: `too many symbolic links in ${quoted(path)}` };
      if (link.startsWith("/")) done.length = 0;
      else done.pop();
      ahead.push(...namesOf(link).reverse());
    }
    // What ends in a slash must be a directory: it stays so.
    const end = path.endsWith("/") && done.length > 0 ? "/" : "";
    return `/${done.join("/")}${end}` as ByteString;
  }

  [Symbol.dispose](): void {
    this.opener[Symbol.dispose]();
    this.arena[Symbol.dispose]();
  }

  /** Where the link at a path leads, if there is one and it is root's; null for anything else, and for nothing. */
  private linkAt(path: string): string | Refusal | null {
    const fd = this.opener.openWithoutLinks(At.AT_FDCWD, path, pathFlags);
    // Missing names are made, or reported, by the copy itself.
    if (fd < 0) return fd === -Errno.ELOOP ? { problem: `${quoted(path)} was replaced by a symbolic link meanwhile` } : null;
    try {
      if (this.stat.ofDescriptor(fd, this.empty) < 0 || this.stat.type !== Mode.S_IFLNK) return null;
      const { uid } = this.stat;
      if (uid !== 0) return { problem: `${quoted(path)} is a symbolic link of user ${uid}, which an administrator's copy does not follow` };
      const length = libc.readlinkat(fd, this.empty, this.target, maxTargetBytes);
      const at = this.target - this.arena.memory.address;
      return length > 0 ? Buffer.from(this.arena.memory.bytes.subarray(at, at + length)).toString("latin1") : null;
    } finally {
      libc.close(fd);
    }
  }
}

function namesOf(path: string): string[] {
  return path.split("/").filter((name) => name !== "" && name !== ".");
}

/** As text: what is told goes into a message as it is. */
function quoted(path: string): string {
  return Buffer.from(quoteName(path as ByteString), "latin1").toString("utf8");
}
