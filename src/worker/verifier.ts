// Verification (rule 27): notes each published file with its hash and, after a flush, reads it back off the medium and compares.

import { type FileHasher, hashBlockBytes } from "../engines/file-hasher.ts";
import { hashMethodOf, maxDigestBytes } from "../engines/hash.ts";
import { ReadBack, type ReadBackWay } from "../engines/read-back.ts";
import { Errno } from "../errno.ts";
import type { FailureCode } from "../errors.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Stat } from "../ffi/stat.ts";
import { CopiedList } from "./copied-set.ts";
import { firstDifference } from "./difference.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext, PublishedFiles } from "./lane-context.ts";
import { LaneManifest } from "./lane-manifest.ts";
import { type EntryPlace, joinPath } from "./reporter.ts";
import { Counter, Word } from "./shared.ts";
import { type PublishedFile, VerifyList, type VerifyRecord } from "./verify-list.ts";

/** O_NONBLOCK: a FIFO that took a file's place must not hang the lane. */
const readFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC;

const noDigest = new Uint8Array(0);
const unreadable = "error reading %d back";

/** "different" was reported. */
type Verdict = "same" | "different" | "stopped";

/** One lane's verification: of what this lane published. */
export class Verifier implements PublishedFiles {
  private readonly context: LaneContext;
  /** The copier's own: between two files it is free. null: only lengths are compared. */
  private readonly hasher: FileHasher | null;
  private readonly list = new VerifyList();
  private readonly manifest: LaneManifest | null;
  private readonly readBack: ReadBack;
  /** Of the file just published, and of one that is read back. */
  private readonly stat: Stat;
  private readonly backStat: Stat;
  private readonly ways = new Set<ReadBackWay>();
  private cloned = 0;
  /** The directory that the latest record's argument lies in, and a descriptor of it. */
  private rootPath = "";
  private rootFd = -1;
  private isPending = false;

  constructor(context: LaneContext) {
    this.context = context;
    this.hasher = context.hasher;
    const method = hashMethodOf(context.options);
    this.manifest = context.options.manifest === "" || method === null ? null : new LaneManifest(context, method);
    this.stat = new Stat(context.arena.allocate(layout.statx.size));
    this.backStat = new Stat(context.arena.allocate(layout.statx.size));
    this.readBack = new ReadBack((bytes) => {
      context.count(Counter.bytesVerified, bytes);
      return context.control.mayRead(bytes);
    });
  }

  /** Notes a file that the copier has just finished, by its open descriptor. */
  note(entry: Entry, fd: number, how: "new" | "in-place"): void {
    const { context, stat } = this;
    if (context.options.gnu.attributesOnly) return;
    const { place } = entry;
    const status = stat.ofDescriptor(fd, context.empty);
    const sourceKey = CopiedList.keyOf(context.sourceStat);
    if (status < 0) this.fail({ place, sourceKey }, -status, "statx", "cannot verify %d");
    // cp writes into devices, which give back something else or nothing.
    if (status < 0 || stat.type !== Mode.S_IFREG) return;
    const { length, cloned } = context.copier;
    const file = { place, stat, length, kind: how, isCloned: cloned > 0, sourceKey, hasher: this.hasher };
    this.append(file, fd);
  }

  noteFinished(entry: Entry, sourceFd: number): void {
    const { context, stat, hasher } = this;
    if (context.options.gnu.attributesOnly) return;
    const { place } = entry;
    const { sourceStat } = context;
    const sourceKey = CopiedList.keyOf(sourceStat);
    const fd = libc.openat(entry.directory.fields.destinationFd, entry.name, readFlags, 0);
    const status = fd < 0 ? fd : stat.ofDescriptor(fd, context.empty);
    hasher?.begin(sourceStat.size);
    const read = status < 0 ? status : (hasher?.takeFrom(sourceFd, sourceStat.size) ?? 0);
    if (status < 0) this.fail({ place, sourceKey }, -status, "statx", "cannot verify %d");
    else if (read < 0) this.fail({ place, sourceKey }, -read, "read", "cannot read %s again to verify %d");
    else if (stat.type === Mode.S_IFREG && hasher?.finish(sourceStat.size) !== false) {
      const isInPlace = context.options.gnu.inPlace;
      const kind = isInPlace ? "in-place" : "new";
      this.append({ place, stat, length: sourceStat.size, kind, isCloned: false, sourceKey, hasher }, fd);
    }
    context.close(fd);
  }

  /** A manifest has every name; for verification the first one is enough. */
  noteLink(entry: Entry): void {
    const { context, stat } = this;
    if (this.manifest === null || context.sourceStat.type !== Mode.S_IFREG) return;
    const file = { place: entry.place, stat, length: 0, kind: "link", isCloned: false, sourceKey: [0, 0], hasher: null } as const;
    this.append(file, entry.directory.fields.destinationFd);
  }

  /** Verifies what is on the list. To be called after the flush, and once. */
  finish(): void {
    this.verifyList();
    this.manifest?.flush();
    this.setPending(false);
  }

  /** How it was done, for the job's result. */
  reasons(): string[] {
    const reasons: string[] = [];
    if (this.ways.has("direct") || this.ways.has("dropped")) reasons.push("verified past the page cache");
    if (this.ways.has("memory")) reasons.push("verified in memory: tmpfs has no medium");
    if (this.ways.has("cached")) reasons.push("verified from the page cache: this filesystem does not let it be dropped");
    if (this.cloned > 0) reasons.push("clones were compared, but share the medium with their sources");
    return reasons;
  }

  [Symbol.dispose](): void {
    if (this.rootFd >= 0) libc.close(this.rootFd);
    this.list[Symbol.dispose]();
    this.manifest?.[Symbol.dispose]();
    this.readBack[Symbol.dispose]();
  }

  /** Adds to the list; verifies what is on it first where it is full. `fd` is on the filesystem to flush then. */
  private append(file: PublishedFile, fd: number): void {
    this.setPending(true);
    if (this.list.add(file)) return;
    if (this.context.options.verify !== "none") this.flush(fd, file.place);
    // What the hasher holds is this file's, and the list's files need the hasher.
    const kept = this.hasher?.save();
    this.verifyList();
    if (kept !== undefined) this.hasher?.restore(kept);
    if (!this.list.add(file)) this.fail(file, Errno.ENAMETOOLONG, "", "cannot verify %d");
  }

  /** What is on the device only then may be read back. */
  private flush(fd: number, place: EntryPlace): void {
    const result = libc.syncfs(fd);
    if (result === 0) return;
    const what = "cannot flush the filesystem of %d";
    this.context.reporter.fail({ place, side: "destination", errno: -result, syscall: "syncfs", what, code: "flush-failed" });
  }

  private verifyList(): void {
    const { control } = this.context;
    for (let record = this.list.recordAt(0); record !== null && control.mayGoOn(); record = this.list.recordAt(record.next)) {
      this.context.finishing = record.place;
      if (this.verify(record) !== "same" || this.manifest === null) continue;
      const digest = record.kind === "link" ? (this.hasher?.digest ?? noDigest) : this.list.bytes.subarray(record.digestByte);
      this.manifest.add(record.place, digest.subarray(0, this.hasher?.digestBytes ?? 0));
    }
    this.context.finishing = null;
    this.list.clear();
  }

  private verify(record: VerifyRecord): Verdict {
    // Without verification the manifest says what was copied, and only further names have yet to be hashed.
    if (this.context.options.verify === "none" && record.kind !== "link") return "same";
    const fd = this.open(record);
    if (fd < 0) return this.fail(record, -fd, "openat", "cannot open %d to verify it");
    const verdict = record.kind === "link" ? this.hashLink(record, fd) : this.verifyOpen(record, fd);
    libc.close(fd);
    return verdict;
  }

  private verifyOpen(record: VerifyRecord, fd: number): Verdict {
    const { list, backStat: stat, hasher } = this;
    const status = stat.ofDescriptor(fd, this.context.empty);
    if (status < 0) return this.fail(record, -status, "statx", "cannot stat %d to verify it");
    if (!list.isSameFile(record, stat)) {
      return this.fail(record, 0, "statx", "%d was changed after it had been copied and before it was verified", "destination-changed");
    }
    if (stat.size !== record.length) return this.mismatch(record, Math.min(stat.size, record.length), "exact");
    if (hasher === null || this.context.options.verify === "size") return "same";
    if (record.isCloned) this.cloned++;
    hasher.beginWith(record.stretchBlocks);
    const read = this.readBack.read(fd, record.length, hasher);
    if (read === null) return "stopped";
    // A checksum that does not fit, or a medium that fails: what was written is not there.
    if (read === -Errno.EIO) return this.fail(record, Errno.EIO, "read", unreadable, "verify-mismatch", this.readBack.offset);
    if (read < 0) return this.fail(record, -read, "read", unreadable);
    if (record.length > 0) this.ways.add(this.readBack.way);
    return this.compare(record, hasher, fd, read);
  }

  private hashLink(record: VerifyRecord, fd: number): Verdict {
    const { backStat: stat, hasher } = this;
    if (hasher === null || stat.ofDescriptor(fd, this.context.empty) < 0 || stat.type !== Mode.S_IFREG) {
      return this.fail(record, 0, "statx", "%d was replaced after it had been copied", "destination-changed");
    }
    hasher.begin(stat.size);
    const result = hasher.takeFrom(fd, stat.size);
    if (result < 0) return this.fail(record, -result, "read", unreadable);
    return hasher.finish(stat.size) ? "same" : "stopped";
  }

  private compare(record: VerifyRecord, hasher: FileHasher, fd: number, read: number): Verdict {
    const { list } = this;
    for (let stretch = 0; stretch < record.stretchCount; stretch++) {
      const at = record.stretchWord + stretch * 2;
      const isEqual = list.words[at] === hasher.stretches[stretch * 2] && list.words[at + 1] === hasher.stretches[stretch * 2 + 1];
      if (isEqual && stretch < hasher.stretchCount) continue;
      const offset = stretch * record.stretchBlocks * hashBlockBytes;
      const exact = firstDifference(this.sourcePath(record), fd, {
        offset,
        length: Math.min(record.stretchBlocks * hashBlockBytes, record.length - offset),
        hash: [list.words[at] ?? 0, list.words[at + 1] ?? 0],
      });
      return this.mismatch(record, exact ?? offset, exact === null ? "stretch" : "exact");
    }
    if (read < record.length) return this.mismatch(record, read, "exact");
    for (let index = 0; index < maxDigestBytes && index < hasher.digestBytes; index++) {
      if (list.bytes[record.digestByte + index] !== hasher.digest[index]) return this.mismatch(record, 0, "stretch");
    }
    return "same";
  }

  // Below the directory that the user named, no link is followed: what is there now need not be what was made.
  private open(record: VerifyRecord): number {
    const { destinationRoot, path, destinationPath } = record.place;
    const cut = destinationRoot.lastIndexOf("/");
    const rootPath = cut <= 0 ? "/" : destinationRoot.slice(0, cut);
    const { opener, arena, options } = this.context;
    if (rootPath !== this.rootPath || this.rootFd < 0) {
      if (this.rootFd >= 0) libc.close(this.rootFd);
      const mark = arena.mark();
      this.rootFd = libc.openat(At.AT_FDCWD, arena.cstring(rootPath), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
      this.rootPath = rootPath;
      arena.reset(mark);
      if (this.rootFd < 0) return this.rootFd;
    }
    const below = joinPath(destinationRoot.slice(cut + 1), destinationPath ?? path);
    const follows = record.kind === "in-place" || options.gnu.keepDirectorySymlink;
    const open = (flags: number): number =>
      follows ? opener.openFollowing(this.rootFd, below, flags) : opener.open(this.rootFd, below, flags);
    // Looking at a copy must not change its access time; only the owner may ask for that.
    const fd = open(readFlags | Open.O_NOATIME);
    return fd === -Errno.EPERM ? open(readFlags) : fd;
  }

  private sourcePath({ place }: VerifyRecord): string {
    return joinPath(this.context.request.sources[place.argument] ?? "", place.path);
  }

  private mismatch(record: VerifyRecord, offset: number, precision: "exact" | "stretch"): "different" {
    const where = precision === "exact" ? `at byte ${offset}` : `after byte ${offset}`;
    const method = this.context.options.verify;
    const what = `%d is not what was copied: the first difference is ${where} (${method})`;
    return this.fail(record, 0, "read", what, "verify-mismatch", offset);
  }

  /** A move keeps the source of what is not proved. */
  private fail(
    file: { readonly place: EntryPlace; readonly sourceKey: readonly [low: number, high: number] },
    errno: number,
    syscall: string,
    what: string,
    code?: FailureCode,
    offset?: number,
  ): "different" {
    this.context.copied?.revoke(file.sourceKey);
    this.context.reporter.fail({
      place: file.place,
      side: "destination",
      errno,
      syscall,
      what,
      ...(code === undefined ? {} : { code }),
      ...(offset === undefined ? {} : { offset }),
    });
    return "different";
  }

  /** The leader waits for every lane that has something to verify. */
  private setPending(isPending: boolean): void {
    if (this.isPending === isPending) return;
    this.isPending = isPending;
    const { words } = this.context.shared;
    Atomics.add(words, Word.verifying, isPending ? 1 : -1);
    Atomics.notify(words, Word.verifying);
  }
}
