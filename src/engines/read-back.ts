// Reads a file back from its medium rather than from the page cache, which would only say what was written (rule 27).
//
// O_DIRECT where the filesystem has it. Elsewhere the pages are dropped stretch by stretch and mincore(2) must agree that they are
// gone. tmpfs has no medium: there the page cache is the file.

import { Errno } from "../errno.ts";
import { Fadvise, libc, Mmap, Open } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import type { FileHasher } from "./file-hasher.ts";

/** direct, dropped: past the page cache. memory: there is no medium. cached: the pages could not be dropped, so nothing is proved. */
export type ReadBackWay = "direct" | "dropped" | "memory" | "cached";

/** One read, and one proof that its pages are gone. */
const readBytes = 1024 * 1024;
const pageBytes = 4096;
const F_GETFL = 3;
const F_SETFL = 4;
const TMPFS_MAGIC = 0x01021994;
const RAMFS_MAGIC = 0x858458f6;

export class ReadBack {
  /** How the latest file was read, at worst. */
  way: ReadBackWay = "direct";
  /** How far it was read: after a failure, the page that cannot be. */
  offset = 0;
  /** Page-aligned, as O_DIRECT wants it; the last page is for statfs and mincore. */
  private readonly memory = new NativeMemory(readBytes + pageBytes);
  private readonly goOn: (bytes: number) => boolean;
  private readonly mayBeDirect: boolean;
  private step = readBytes;

  /**
   * `goOn` is told what was read, waits as pause and limits want it, and is false when the job was cancelled. `direct: "never"` is
   * what a filesystem without O_DIRECT makes of it.
   */
  constructor(goOn: (bytes: number) => boolean, { direct = "if-possible" }: { readonly direct?: "if-possible" | "never" } = {}) {
    this.goOn = goOn;
    this.mayBeDirect = direct === "if-possible";
  }

  /**
   * Hashes [0, length) of a file open for reading, beginning with the stretches that `hasher` was set to. Returns the bytes that there
   * were (fewer where the file is shorter), `null` when cancelled, or -errno of a read.
   */
  // hot: once a file, then once a MiB.
  read(fd: number, length: number, hasher: FileHasher): number | null {
    this.offset = 0;
    this.step = readBytes;
    if (length > 0) this.way = this.prepare(fd);
    while (this.offset < length) {
      const read = this.readAt(fd, this.offset, length);
      if (read < 0) return read;
      if (read === 0) break;
      const bytes = Math.min(read, length - this.offset);
      hasher.take(this.memory.bytes, 0, bytes, this.offset);
      this.offset += bytes;
      if (!this.goOn(bytes)) return null;
    }
    return hasher.finish(this.offset) ? this.offset : null;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }

  private prepare(fd: number): ReadBackWay {
    if (isInMemory(fd, this.memory)) return "memory";
    // Also for O_DIRECT: some filesystems serve it from the cache where they cannot do otherwise (compressed extents of btrfs).
    libc.posixFadvise(fd, 0, 0, Fadvise.DONTNEED);
    const flags = libc.fcntl(fd, F_GETFL, 0);
    if (this.mayBeDirect && flags >= 0 && libc.fcntl(fd, F_SETFL, flags | Open.O_DIRECT) >= 0) return "direct";
    // Nothing is to be read ahead: it would have to be dropped again to be proved.
    libc.posixFadvise(fd, 0, 0, Fadvise.RANDOM);
    return "dropped";
  }

  private readAt(fd: number, offset: number, length: number): number {
    for (;;) {
      if (this.way === "dropped") this.drop(fd, offset, Math.min(readBytes, length - offset));
      const read = libc.pread(fd, this.memory.address, this.step, offset);
      if (read >= 0) return this.afterDirect(fd, read, offset + read >= length);
      if (read === -Errno.EINVAL && this.way === "direct") this.turnDirectOff(fd);
      // Checksums of the filesystem or the medium itself: page by page up to the one that is wrong.
      else if (read === -Errno.EIO && this.step > pageBytes) this.step = pageBytes;
      else if (read !== -Errno.EINTR) return read;
    }
  }

  /** A short read in the middle leaves an offset that O_DIRECT does not take. */
  private afterDirect(fd: number, read: number, isEnd: boolean): number {
    if (this.way === "direct" && !isEnd && read % pageBytes !== 0) this.turnDirectOff(fd);
    return read;
  }

  private turnDirectOff(fd: number): void {
    const flags = libc.fcntl(fd, F_GETFL, 0);
    libc.fcntl(fd, F_SETFL, flags & ~Open.O_DIRECT);
    this.way = "dropped";
  }

  private drop(fd: number, offset: number, length: number): void {
    const start = offset - (offset % pageBytes);
    const bytes = length + offset - start;
    // The whole file each time: a large folio that reaches beyond the stretch would not be dropped by part of it.
    libc.posixFadvise(fd, 0, 0, Fadvise.DONTNEED);
    if (!this.isResident(fd, start, bytes)) return;
    // Dirty, or on its way: once it is written it can go.
    libc.fdatasync(fd);
    libc.posixFadvise(fd, 0, 0, Fadvise.DONTNEED);
    if (this.isResident(fd, start, bytes)) this.way = "cached";
  }

  /** mincore tells whoever may write the file the truth, and everybody else "all of it" (Linux 5.2). */
  private isResident(fd: number, start: number, length: number): boolean {
    const address = libc.mmap(0, length, Mmap.PROT_READ, Mmap.MAP_SHARED, fd, start);
    if (address < 0) return true;
    const answer = libc.mincore(address, length, this.memory.address + readBytes);
    libc.munmap(address, length);
    if (answer < 0) return true;
    const pages = Math.ceil(length / pageBytes);
    for (let page = 0; page < pages; page++) if (((this.memory.bytes[readBytes + page] ?? 1) & 1) === 1) return true;
    return false;
  }
}

/** True on filesystems that are the page cache. `scratch` holds struct statfs, whose first word is the type. */
function isInMemory(fd: number, scratch: NativeMemory): boolean {
  if (libc.fstatfs(fd, scratch.address) < 0) return false;
  const type = scratch.u32[0] ?? 0;
  return type === TMPFS_MAGIC || type === RAMFS_MAGIC;
}
