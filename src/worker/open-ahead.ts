// A slow source: the files that come next in a lane's directory are opened, looked at and read while it copies those before them.
//
// Behind a network or FUSE every call waits for an answer, and a file takes six. A ring has as many calls in flight as files ahead, by
// threads of the kernel, which cost no memory of ours as lanes do. What it opened is handed on: some such filesystems forget at each
// open what they have read. Whatever fails here is dropped, and fails again where it is told.

import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, DirentType, libc, Open } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { Ring } from "../ffi/ring.ts";
import { Stat } from "../ffi/stat.ts";
import { Submit } from "../ffi/submission.ts";
import { recordName, recordType } from "../tree/dirents.ts";
import { descriptorLimit } from "./descriptor-limit.ts";
import type { Directory } from "./directory.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { Float, Word } from "./shared.ts";
import type { WorkList } from "./work-list.ts";

/** Files that a lane has open, or is opening, beside the one that it copies. Measured: bench/cold.md. */
const depth = 16;
/** How much of each is read: nearly all small files whole. */
const readBytes = 128 * 1024;
/** An open takes some 10 microseconds where nobody is waited for. Milliseconds. */
const slowMs = 0.3;
/** So many in a row: one may have waited for a processor. */
const slowOpens = 4;
/** Files of which it is found out whether what was read of them stays in the page cache. */
const proofs = 4;
/** Where fewer descriptors than this are allowed, none are held ahead. */
const fewDescriptors = 4096;
/** Kernel threads for one lane: opening takes one for each file, closing some more. */
const maxWorkers = { bounded: depth + 8, unbounded: 1 };
/** How long a lane that waits for an answer does not look whether the job was cancelled; and how long, at its end, it waits at all. */
const lookMs = 50;
const endMs = 1000;
/** As the file itself is opened otherwise: what stands there by now may be a FIFO. */
const openFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC | Open.O_NOFOLLOW;

/** What a completion is of: in the lowest bits of its tag, above them the place. */
const Step = { open: 0, look: 1, read: 2, lookAgain: 3, close: 4 } as const;
const stepBits = 3;

/** What a place holds: nothing that anybody wants; a file that is to be handed on; one that came to nothing, until its turn has passed. */
const Place = { free: 0, wanted: 1, failed: 2 } as const;

export class OpenAhead {
  private readonly context: LaneContext;
  private readonly work: WorkList;
  /** Whether the job reads whatever it comes to, and may leave it in the page cache. */
  private readonly mayAsk: boolean;
  private readonly overwrites: boolean;
  private readonly words: Int32Array;
  private ring: Ring | null = null;
  private memory: NativeMemory | null = null;
  private cannot = false;
  private mayWatch = false;
  private isOn = false;
  private slowInARow = 0;
  private proofsLeft = proofs;
  private unkept = 0;
  private sourceFd = -1;
  /** Entries of the batch that were taken for this lane, in order: the record, and the place that it is opened in, -1 for none. */
  private readonly offsets = new Int32Array(depth);
  private readonly queued = new Int32Array(depth);
  private head = 0;
  private used = 0;
  /** Of each place: its descriptor, completions that are still to come, and what is in it. */
  private readonly fds = new Int32Array(depth).fill(-1);
  private readonly pending = new Int32Array(depth);
  private readonly states = new Int32Array(depth);
  private stats: readonly Stat[] = [];
  /** The place of the entry at hand. */
  private current = -1;

  /** `selectsAll`: no entry is left out by its name. */
  constructor(context: LaneContext, work: WorkList, selectsAll: boolean) {
    const { options, policy, shared } = context;
    this.context = context;
    this.work = work;
    this.words = shared.words;
    // Before the policy has been asked for a file, nothing touches it.
    this.mayAsk = selectsAll && policy === null && options.gnu.make === "copy" && options.cache === "keep";
    this.overwrites = options.onConflict === "overwrite";
  }

  /** A batch of names was read. */
  begin(directory: Directory): void {
    this.sourceFd = directory.fields.sourceFd;
    // What stands at the destination may be a reason to leave a file alone; and who may move little is not to read ahead.
    const isUnlimited = this.context.shared.floats[Float.bandwidthLimit] === 0;
    this.mayWatch = this.mayAsk && !this.cannot && isUnlimited && (directory.isMade || this.overwrites);
    this.isOn = this.mayWatch && this.slowDevice === (directory.stat.device | 0) && this.setUp();
  }

  /** Offset of the next record to be copied, or -1 when the batch is used up or the job is cancelled. hot: */
  takeEntry(): number {
    return this.ring === null ? this.work.takeEntry() : this.takeOpened(this.ring);
  }

  /** Whether it is still to be found out how long the source takes. hot: */
  get isWatching(): boolean {
    return this.mayWatch && !this.isOn && this.context.copier.readsFromAfar;
  }

  /** Opens an entry as openat(2) does, and takes the time. */
  openTimed({ directory, sourceName }: Entry, flags: number): number {
    const before = performance.now();
    const fd = libc.openat(directory.fields.sourceFd, sourceName, flags, 0);
    this.slowInARow = performance.now() - before > slowMs ? this.slowInARow + 1 : 0;
    if (this.slowInARow < slowOpens) return fd;
    this.slowInARow = 0;
    Atomics.store(this.words, Word.slowDevice, directory.stat.device | 0);
    this.isOn = directory.fields.sourceFd === this.sourceFd && this.setUp();
    return fd;
  }

  /**
   * The descriptor of the entry that takeEntry() gave, which is the caller's to close(), with its state before it was read in
   * context.sourceStat. -1: it was not opened, or has changed since.
   */
  take(): number {
    const place = this.current;
    if (place < 0) return -1;
    this.current = -1;
    this.states[place] = Place.free;
    const fd = this.fds[place] ?? -1;
    const before = this.stats[place];
    if (fd < 0 || before === undefined) return -1;
    this.fds[place] = -1;
    const { afterStat, sourceStat, empty } = this.context;
    // The answer is the ring's, as long as the kernel believes it. What changed in between might be torn in the page cache.
    if (afterStat.ofDescriptor(fd, empty) < 0 || !before.isUnchanged(afterStat)) {
      this.close(fd);
      return -1;
    }
    if (this.proofsLeft > 0 && before.size > 0) this.prove(fd);
    sourceStat.bytes.set(before.bytes);
    return fd;
  }

  /** Closes a file that was read, without waiting for the server, whom some filesystems ask. hot: */
  close(fd: number): void {
    const { ring } = this;
    if (ring === null) {
      libc.close(fd);
      return;
    }
    this.reap(ring);
    this.closeLater(ring, fd);
    // Else it goes with what is opened next.
    if (this.used === 0) ring.submit();
  }

  /** The rest of the batch is not wanted. */
  drop(): void {
    this.release();
    for (; this.used > 0; this.used--) {
      this.current = this.queued[this.head] ?? -1;
      this.head = (this.head + 1) % depth;
      this.release();
    }
  }

  /** At the end of the lane. A server that does not answer is not waited for: the process ends soon. */
  end(): void {
    const { ring } = this;
    if (ring === null) return;
    this.drop();
    const deadline = performance.now() + (this.context.control.isCancelled ? lookMs : endMs);
    while (ring.outstanding > 0 && performance.now() < deadline) {
      ring.submitAndWait(1, lookMs);
      this.reap(ring);
    }
    this.ring = null;
    if (ring.outstanding > 0) return;
    ring[Symbol.dispose]();
    this.memory?.[Symbol.dispose]();
  }

  /** For --debug and the job's result. */
  reasons(): string[] {
    return this.memory === null ? [] : [`the source answers slowly: each lane has ${depth} files opened ahead`];
  }

  private get slowDevice(): number {
    return Atomics.load(this.words, Word.slowDevice);
  }

  /** Makes the ring. False: there is none to be had, and lanes serve alone. */
  private setUp(): boolean {
    if (this.ring !== null) return true;
    if (this.cannot) return false;
    const ring = descriptorLimit() >= fewDescriptors ? Ring.create(depth * 4, { maxWorkers }) : null;
    if (ring === null || !ring.available) {
      this.cannot = true;
      return false;
    }
    const memory = new NativeMemory((depth + 1) * layout.statx.size + readBytes);
    this.stats = Array.from({ length: depth }, (_, place) => new Stat(memory.address + place * layout.statx.size));
    this.ring = ring;
    this.memory = memory;
    Atomics.store(this.words, Word.opensAhead, 1);
    return true;
  }

  private takeOpened(ring: Ring): number {
    this.release();
    this.reap(ring);
    if (this.isOn) this.fill(ring);
    const isEmpty = this.used === 0;
    const place = isEmpty ? -1 : (this.queued[this.head] ?? -1);
    const offset = isEmpty ? -1 : (this.offsets[this.head] ?? -1);
    if (!isEmpty) {
      this.head = (this.head + 1) % depth;
      this.used--;
    }
    this.current = place;
    if (ring.unsubmitted > 0) ring.submit();
    // Also where no place is free: what nobody opens ahead is copied all the same.
    if (isEmpty) return this.work.takeEntry();
    return this.waitFor(ring, place) ? offset : -1;
  }

  /** Takes entries for this lane as far as there are places, and has the files among them opened. */
  private fill(ring: Ring): void {
    const { batch } = this.work;
    for (let place = 0; place < depth && this.used < depth; place++) {
      if (this.states[place] !== Place.free || this.pending[place] !== 0) continue;
      const offset = this.work.takeEntry();
      if (offset < 0) return;
      const isAsked = recordType(batch, offset) === DirentType.REG && this.ask(ring, place, this.work.batchAddress + recordName(offset));
      const last = (this.head + this.used++) % depth;
      this.offsets[last] = offset;
      this.queued[last] = isAsked ? place : -1;
    }
  }

  private ask(ring: Ring, place: number, name: number): boolean {
    if (ring.prepareOpenat(this.sourceFd, name, openFlags, 0, tagOf(place, Step.open), Submit.async) < 0) return false;
    this.pending[place] = 1;
    this.states[place] = Place.wanted;
    return true;
  }

  /** Until all is known of the file in a place. False when the job was cancelled meanwhile. */
  private waitFor(ring: Ring, place: number): boolean {
    while (place >= 0 && (this.pending[place] ?? 0) > 0) {
      if (this.context.control.isCancelled) return false;
      const waited = ring.submitAndWait(1, lookMs);
      this.reap(ring);
      if (waited >= 0 || waited === -Errno.ETIME || waited === -Errno.EINTR) continue;
      this.release();
      break;
    }
    return true;
  }

  // hot:
  private reap(ring: Ring): void {
    while (ring.next()) {
      const step = ring.tag & ((1 << stepBits) - 1);
      if (step === Step.close) continue;
      const place = ring.tag >>> stepBits;
      this.pending[place] = (this.pending[place] ?? 0) - 1;
      if (step === Step.open && ring.result >= 0) this.opened(ring, place, ring.result);
      if (step === Step.look && ring.result < 0 && this.states[place] === Place.wanted) this.states[place] = Place.failed;
      if (this.pending[place] === 0 && this.states[place] !== Place.wanted) this.letGo(ring, place);
    }
  }

  /** It is looked at before it is read, for its state and its time of access, and afterwards, so that the lane finds the answer there. */
  private opened(ring: Ring, place: number, fd: number): void {
    const { memory, context } = this;
    this.fds[place] = fd;
    if (this.states[place] !== Place.wanted || memory === null) return;
    if (ring.reserve(3) < 0) {
      this.states[place] = Place.failed;
      return;
    }
    const scratch = memory.address + depth * layout.statx.size;
    const { hardLink, async } = Submit;
    const keepsRead = this.unkept < proofs;
    const { AT_EMPTY_PATH } = At;
    this.pending[place] = keepsRead ? 3 : 1;
    const flags = keepsRead ? hardLink | async : async;
    ring.prepareStatx(fd, context.empty, AT_EMPTY_PATH, memory.address + place * layout.statx.size, tagOf(place, Step.look), flags);
    if (!keepsRead) return;
    ring.prepareRead(fd, scratch + layout.statx.size, readBytes, 0, tagOf(place, Step.read), hardLink | async);
    ring.prepareStatx(fd, context.empty, AT_EMPTY_PATH, scratch, tagOf(place, Step.lookAgain), async);
  }

  /** Files that bypass the page cache would be read twice. */
  private prove(fd: number): void {
    if (this.memory === null) return;
    this.proofsLeft--;
    const before = performance.now();
    libc.pread(fd, this.memory.address + (depth + 1) * layout.statx.size, 1, 0);
    if (performance.now() - before > slowMs) this.unkept++;
  }

  /** The entry at hand is done, or not wanted: what is open in its place is closed, now or when it is. */
  private release(): void {
    const place = this.current;
    this.current = -1;
    if (place < 0) return;
    this.states[place] = Place.free;
    if (this.pending[place] === 0 && this.ring !== null) this.letGo(this.ring, place);
  }

  private letGo(ring: Ring, place: number): void {
    const fd = this.fds[place] ?? -1;
    this.fds[place] = -1;
    if (fd >= 0) this.closeLater(ring, fd);
  }

  private closeLater(ring: Ring, fd: number): void {
    if (ring.prepareClose(fd, Step.close, Submit.async) < 0) libc.close(fd);
  }
}

function tagOf(place: number, step: number): number {
  return (place << stepBits) | step;
}
