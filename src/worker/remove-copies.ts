// The end of a cancel that takes back what the job has published: removes, below its arguments' places, what its checkpoint knows.
//
// An entry goes only when it is the very inode that was noted when it was made, as it was then (inode, size, mtime, time of birth); a
// directory only when it was born since the job began and nothing is left in it. What was changed since, what somebody has put there,
// and what was there before and was written into stays. The sources are not looked at: they may be unmounted, or gone.

import { isTemporaryOf } from "../engines/publish.ts";
import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena, NativeMemory, viewOf } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { JobRequest } from "../request.ts";
import { isDotOrDotDot, nameString, recordLength, recordName } from "../tree/dirents.ts";
import { BeneathOpener } from "../tree/open.ts";
import { serialName } from "../tree/plan.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";
import { HeadWord, Placement, pageBytes } from "./checkpoint-layout.ts";
import { copyKeyOf } from "./checkpoint-log.ts";
import { baseName, parentOf, stripSlashes } from "./destination.ts";
import { KnownCopies } from "./known-copies.ts";
import { LostTemporaries } from "./lost-temporaries.ts";
import { joinPath } from "./reporter.ts";
import { clockSlackUs } from "./resumption.ts";
import { batchBytes } from "./shared.ts";

const directoryFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NOFOLLOW | Open.O_NONBLOCK | Open.O_CLOEXEC;
const listFlags = directoryFlags & ~Open.O_NOFOLLOW;
const pathFlags = Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC;
const ownerMayAll = 0o700;

interface OpenDirectory {
  readonly fd: number;
  readonly name: string;
  readonly device: number;
  /** Made by this job, or by somebody since it began. */
  readonly isOwn: boolean;
  readonly subdirectories: string[];
}

export class CopyRemover implements Disposable {
  /** What was removed; and what stays in directories that the job has made. */
  files = 0;
  bytes = 0;
  left = 0;
  private readonly request: JobRequest;
  private readonly isGuarded: boolean;
  private readonly isInto: boolean;
  private readonly bornSinceUs: number;
  private readonly known: readonly KnownCopies[];
  private readonly batch = new NativeMemory(batchBytes);
  private readonly arena = new Arena(16 * 1024);
  private readonly opener = new BeneathOpener();
  private readonly stat = new Stat(this.arena.allocate(layout.statx.size)).withBirth();
  private readonly empty = this.arena.cstring("");
  private readonly lost: LostTemporaries | null;

  /** `isGuarded`: the destination's path has no link in it, and none is followed. */
  constructor(
    request: JobRequest,
    checkpoint: CheckpointMemory | null,
    { isGuarded, token }: { readonly isGuarded: boolean; readonly token: string },
  ) {
    this.request = request;
    this.isGuarded = isGuarded;
    const head = checkpoint === null ? null : new Uint32Array(viewOf(checkpoint.head, pageBytes));
    this.isInto = head?.[HeadWord.placement] === Placement.into;
    this.bornSinceUs = (checkpoint?.startedTimeUs ?? Number.POSITIVE_INFINITY) - clockSlackUs;
    const tables = [checkpoint?.known ?? null, checkpoint?.doubtful ?? null];
    this.known = tables.flatMap((table) => (table === null ? [] : [new KnownCopies(table)]));
    // No worker is left, and what was known to be in flight is gone.
    const isTemporary = (name: string): boolean => isTemporaryOf(token, name);
    const options = { isTemporary, isInUse: () => false, mayGoOn: () => true, bornSinceUs: this.bornSinceUs };
    this.lost = checkpoint?.isSameBoot === false ? new LostTemporaries(options) : null;
  }

  /** Yields now and then, so that whoever drives it can tell of it, or stop. */
  *run(): Generator<void> {
    const { sources, options } = this.request;
    const places = sources.map((_, argument) => this.placeOf(argument));
    for (const parent of new Set(places.map(parentOf))) {
      const names = new Set(places.filter((place) => parentOf(place) === parent).map(baseName));
      const fd = this.openNamed(parent);
      if (fd < 0) continue;
      this.lost?.removeFrom(fd);
      const wanted = options.onConflict === "rename" || options.onConflict === "ask" ? this.withSerialNames(parent, names) : names;
      for (const name of wanted) yield* this.removeArgument(fd, name);
      libc.close(fd);
      if (options.gnu.parents) this.removeParents(parent);
    }
  }

  [Symbol.dispose](): void {
    this.batch[Symbol.dispose]();
    this.arena[Symbol.dispose]();
    this.opener[Symbol.dispose]();
    this.lost?.[Symbol.dispose]();
  }

  /** As Destination.placeOf, by what the first worker noted: what it looked at then is another thing now. */
  private placeOf(argument: number): string {
    const { destination, sources, options } = this.request;
    if (!this.isInto) return stripSlashes(destination);
    const typed = options.gnu.names?.sources[argument] ?? "";
    if (options.gnu.parents) return joinPath(destination, stripSlashes(typed).replace(/^\/+/, ""));
    const name = baseName(sources[argument] ?? "");
    return joinPath(destination, name === "" || name === ".." ? "." : name);
  }

  /** And of what is there `x (2)` and the like: arguments that found their names taken. */
  private withSerialNames(parent: string, names: ReadonlySet<string>): ReadonlySet<string> {
    const fd = this.openNamed(parent, listFlags);
    if (fd < 0) return names;
    const all = new Set(names);
    for (const name of this.namesIn(fd)) {
      const serial = Number(/ \((\d{1,3})\)/.exec(name)?.[1] ?? 0);
      const isOne = (base: string): boolean => serialName(base, serial, "file") === name || serialName(base, serial, "directory") === name;
      if (serial > 1 && [...names].some(isOne)) all.add(name);
    }
    libc.close(fd);
    return all;
  }

  private *removeArgument(parentFd: number, name: string): Generator<void> {
    // What was there before the job is none of its own, and not counted.
    if (this.removeName(parentFd, name, { isInOwn: false }) !== "directory") return;
    const stack: OpenDirectory[] = [];
    yield* this.enter(stack, parentFd, name);
    for (let directory = stack.at(-1); directory !== undefined; directory = stack.at(-1)) {
      const subdirectory = directory.subdirectories.pop();
      if (subdirectory !== undefined) {
        yield* this.enter(stack, directory.fd, subdirectory);
        continue;
      }
      stack.pop();
      libc.close(directory.fd);
      if (directory.isOwn && name !== ".") this.removeDirectory(stack.at(-1)?.fd ?? parentFd, directory.name);
    }
  }

  private *enter(stack: OpenDirectory[], parentFd: number, name: string): Generator<void> {
    const above = stack.at(-1);
    const fd = this.arena.withString(name, (address) => libc.openat(parentFd, address, directoryFlags, 0));
    const status = fd < 0 ? fd : this.stat.ofDescriptor(fd, this.empty);
    // Another filesystem's, or a snapshot of this one, whose inodes have the numbers of ours.
    const isMount = status === 0 && above !== undefined && this.stat.device !== above.device;
    if (status < 0 || isMount) {
      if (above?.isOwn === true) this.left++;
      if (fd >= 0) libc.close(fd);
      return;
    }
    const isOwn = this.isBornSince("no");
    const directory = { fd, name, device: this.stat.device, isOwn, subdirectories: [] as string[] };
    stack.push(directory);
    if (isOwn && (this.stat.permissions & ownerMayAll) !== ownerMayAll) libc.fchmod(fd, this.stat.permissions | ownerMayAll);
    this.lost?.removeFrom(fd);
    for (const entry of this.namesIn(fd)) {
      if (this.removeName(fd, entry, { isInOwn: isOwn }) === "directory") directory.subdirectories.push(entry);
      yield;
    }
  }

  private removeName(directoryFd: number, name: string, { isInOwn }: { readonly isInOwn: boolean }): "directory" | "looked at" {
    return this.arena.withString(name, (address) => {
      const { stat } = this;
      const status = stat.ofName(directoryFd, address);
      if (status === 0 && stat.type === Mode.S_IFDIR) return "directory";
      const isRemoved = status === 0 && this.isCopy() && libc.unlinkat(directoryFd, address, 0) === 0;
      if (isRemoved) {
        this.files++;
        // Its other names go as well, and the last takes the bytes.
        if (stat.type === Mode.S_IFREG && stat.linkCount === 1) this.bytes += stat.size;
      } else if (status !== -Errno.ENOENT && (isInOwn || (status === 0 && this.isBornSince("no")))) this.left++;
      return "looked at";
    });
  }

  private isCopy(): boolean {
    const [low, high] = copyKeyOf(this.stat);
    // cp writes into files that were there before: their inodes are somebody else's.
    const isOwn = this.isBornSince(this.request.options.gnu.inPlace ? "no" : "yes");
    return isOwn && this.known.some((copies) => copies.find(low, high, 0, 0) !== "none");
  }

  /** `unknown`: what to say where the filesystem keeps no times of birth. */
  private isBornSince(unknown: "yes" | "no"): boolean {
    return this.stat.knowsBirth ? this.stat.birthTimeUs >= this.bornSinceUs : unknown === "yes";
  }

  private removeDirectory(parentFd: number, name: string): "removed" | "stays" {
    const result = this.arena.withString(name, (address) => libc.unlinkat(parentFd, address, At.AT_REMOVEDIR));
    // What keeps it was counted by itself.
    if (result < 0 && result !== -Errno.ENOTEMPTY && result !== -Errno.EEXIST) this.left++;
    return result === 0 ? "removed" : "stays";
  }

  /** The directories of --parents, deepest first. */
  private removeParents(deepest: string): void {
    const destination = stripSlashes(this.request.destination);
    for (let path = deepest; path.length > destination.length; path = parentOf(path)) {
      const fd = this.openNamed(parentOf(path));
      const isOwn =
        fd >= 0 && this.arena.withString(baseName(path), (address) => this.stat.ofName(fd, address)) === 0 && this.isBornSince("no");
      const outcome = isOwn ? this.removeDirectory(fd, baseName(path)) : "stays";
      if (fd >= 0) libc.close(fd);
      if (outcome === "stays") return;
    }
  }

  // An entry that is removed while its directory is read is reported or gone.
  private *namesIn(fd: number): Generator<string> {
    for (;;) {
      const length = libc.getdents64(fd, this.batch.address, batchBytes);
      if (length <= 0) return;
      for (let offset = 0; offset < length; offset += recordLength(this.batch.bytes, offset)) {
        const at = recordName(offset);
        if (!isDotOrDotDot(this.batch.bytes, at)) yield nameString(this.batch.bytes, at);
      }
    }
  }

  private openNamed(path: string, flags = pathFlags): number {
    const { opener } = this;
    return this.isGuarded ? opener.openWithoutLinks(At.AT_FDCWD, path, flags) : opener.openFollowing(At.AT_FDCWD, path, flags);
  }
}
