// One lane's lines of a copy's manifest: named from the destination, so that the sum programs check it there.

import type { HashMethod } from "../engines/hash.ts";
import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { stripSlashes } from "./destination.ts";
import type { LaneContext } from "./lane-context.ts";
import { manifestLine } from "./manifest.ts";
import { type EntryPlace, joinPath } from "./reporter.ts";
import { Word } from "./shared.ts";

export class LaneManifest {
  private readonly context: LaneContext;
  private readonly method: HashMethod;
  private readonly memory = new NativeMemory(64 * 1024);
  private used = 0;

  constructor(context: LaneContext, method: HashMethod) {
    this.context = context;
    this.method = method;
  }

  /** A file and its digest. */
  add(place: EntryPlace, digest: Uint8Array): void {
    const line = manifestLine(this.method, Buffer.from(digest).toString("hex"), this.nameOf(place));
    if (this.used + line.length > this.memory.length) this.flush();
    if (line.length > this.memory.length) {
      this.fail(-Errno.ENAMETOOLONG);
      return;
    }
    for (let index = 0; index < line.length; index++) this.memory.bytes[this.used + index] = line.charCodeAt(index);
    this.used += line.length;
  }

  /** Whole lines in one append, so that those of other lanes come between and never into them. */
  flush(): void {
    let written = 0;
    while (written < this.used && !this.hasFailed) {
      const fd = Atomics.load(this.context.shared.words, Word.manifestFd);
      const result = libc.write(fd, this.memory.address + written, this.used - written);
      if (result > 0) written += result;
      else if (result !== -Errno.EINTR) this.fail(result === 0 ? -Errno.EIO : result);
    }
    this.used = 0;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }

  /** From the destination where that is a directory, else from the directory that it is in. */
  private nameOf({ destinationRoot, destinationPath, path }: EntryPlace): string {
    const destination = stripSlashes(this.context.request.destination);
    const below = destinationPath ?? path;
    if (destinationRoot !== destination) return joinPath(destinationRoot, below).slice(destination.length).replace(/^\/+/, "");
    return below === "" ? destination.slice(destination.lastIndexOf("/") + 1) : below;
  }

  private get hasFailed(): boolean {
    return Atomics.load(this.context.shared.words, Word.manifestFailed) === 1;
  }

  /** Told once, by whoever fails first; the leader then drops the file. */
  private fail(result: number): void {
    if (Atomics.exchange(this.context.shared.words, Word.manifestFailed, 1) === 1) return;
    reportManifest(this.context, result);
  }
}

/** The manifest could not be written: an error of the job, which did its copying all the same. */
export function reportManifest({ reporter, options }: LaneContext, result: number): void {
  const place = { argument: 0, path: "", destinationRoot: options.manifest };
  const what = `cannot write the manifest ${reporter.quote(options.manifest)}`;
  reporter.fail({ place, side: "destination", errno: -result, syscall: "write", what });
}
