// Small files of a medium: those that come next in a lane's directory are asked for while it copies those before them.
//
// The medium's answer is what such files wait for, once each. posix_fadvise(2) asks and does not wait, so a lane has as many requests
// in flight as files ahead. Nothing is handed on: the file is closed again, and whoever copies it opens it anew and looks at it then.

import { blockBytes } from "../engines/read-write.ts";
import { DirentType, Fadvise, libc, Open } from "../ffi/libc.ts";
import { MediumReads } from "../ffi/medium-reads.ts";
import { recordLength, recordName, recordType } from "../tree/dirents.ts";
import type { Directory } from "./directory.ts";
import type { LaneContext } from "./lane-context.ts";
import { Counter, Word } from "./shared.ts";
import type { WorkList } from "./work-list.ts";

/** Measured: bench/cold.md. */
const depth = 16;
/** Entries between two looks at where the bytes come from. */
const lookEvery = 16;
/** Files of which half or more comes from the medium are cold. */
const coldShare = 0.5;
/** As the file itself is opened later: what stands there by then may be a FIFO. */
const openFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC | Open.O_NOFOLLOW;

export class ReadAhead {
  private readonly context: LaneContext;
  private readonly work: WorkList;
  private readonly mediumReads = new MediumReads();
  private readonly counters: number;
  /** Whether the job reads what it comes to, and may leave it in the page cache. */
  private readonly mayAsk: boolean;
  private readonly overwrites: boolean;
  private isCold = false;
  private wasCold = false;
  private untilLook = lookEvery;
  private bytesBefore = 0;
  private sourceFd = -1;
  /** In the batch: the record to be asked for next, and the end. */
  private next = 0;
  private end = 0;
  /** Records asked for and not yet come to; other lanes may have taken some of them. */
  private readonly asked = new Int32Array(depth);
  private head = 0;
  private used = 0;

  /** `selectsAll`: no entry is left out by its name. */
  constructor(context: LaneContext, work: WorkList, selectsAll: boolean) {
    const { options, policy } = context;
    this.context = context;
    this.work = work;
    // Before the policy has been asked for a file, nothing touches it.
    this.mayAsk = selectsAll && policy === null && options.gnu.make === "copy" && options.cache === "keep";
    this.overwrites = options.onConflict === "overwrite";
    this.counters = context.shared.counters(context.lane);
  }

  /** A batch of `length` bytes of names was read. */
  begin(directory: Directory, length: number): void {
    this.sourceFd = directory.fields.sourceFd;
    this.next = 0;
    // What stands at the destination may be a reason to leave a file alone.
    this.end = this.mayAsk && (directory.isMade || this.overwrites) ? length : 0;
    this.used = 0;
  }

  /** Before the record at `offset` is copied. hot: */
  reached(offset: number): void {
    if (--this.untilLook === 0) this.look();
    if (this.isCold) this.ask(offset);
  }

  /** For --debug and the job's result. */
  reasons(): string[] {
    return this.wasCold ? [`small files came from the medium: each lane asks for ${depth} ahead`] : [];
  }

  private look(): void {
    this.untilLook = lookEvery;
    const bytes = this.context.shared.floats[this.counters + Counter.bytesDone] ?? 0;
    const medium = this.mediumReads.take();
    // To open a file behind a network takes as long as to read it; and what is cloned is not read.
    this.isCold = this.end > 0 && medium > (bytes - this.bytesBefore) * coldShare && this.context.copier.readsLocally;
    if (this.isCold && !this.wasCold) {
      this.wasCold = true;
      Atomics.store(this.context.shared.words, Word.readsAhead, 1);
    }
    this.bytesBefore = bytes;
  }

  private ask(offset: number): void {
    const { batch } = this.work;
    while (this.used > 0 && (this.asked[this.head] ?? 0) <= offset) {
      this.head = (this.head + 1) % depth;
      this.used--;
    }
    if (this.next <= offset) this.next = offset + recordLength(batch, offset);
    while (this.used < depth && this.next < this.end) {
      const at = this.next;
      this.next += recordLength(batch, at);
      if (recordType(batch, at) !== DirentType.REG) continue;
      this.askFor(this.work.batchAddress + recordName(at));
      this.asked[(this.head + this.used) % depth] = at;
      this.used++;
    }
  }

  /** What fails here fails again where it is told. */
  private askFor(name: number): void {
    const fd = libc.openat(this.sourceFd, name, openFlags, 0);
    if (fd < 0) return;
    libc.posixFadvise(fd, 0, blockBytes, Fadvise.WILLNEED);
    libc.close(fd);
  }
}
