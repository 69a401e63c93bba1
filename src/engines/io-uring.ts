// Several blocks in flight on one ring: one kernel thread writes while this thread and another read.

import { assert } from "../assert.ts";
import { Errno } from "../errno.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { Ring } from "../ffi/ring.ts";
import { Submit } from "../ffi/submission.ts";
import { type CopyControl, type DataCopy, type Engine, failed, stopped } from "./engine.ts";
import type { FileHasher } from "./file-hasher.ts";
import { isUnsupportedErrno } from "./unsupported.ts";

export interface IoUringOptions {
  readonly blockBytes: number;
  readonly depth: number;
  /** "registered" buffers are pinned once; where the kernel refuses (ENOMEM: RLIMIT_MEMLOCK) they are plain all the same. */
  readonly buffers: "registered" | "plain";
  /** Who copies from the page cache: this thread while it submits, kernel threads, both in turn, or whoever has time. */
  readonly reads: "inline" | "async" | "mixed" | "adaptive";
}

/**
 * Measured in bench/engines.md. Where reading is the longer half of a copy (xfs), a kernel thread takes part in it; where writing
 * is (ext4, btrfs, tmpfs), a second reader would only take the processor from the writer: hence "adaptive". Registered buffers
 * save nothing where the data is copied anyway, and were slower everywhere.
 */
const defaults: IoUringOptions = { blockBytes: 512 * 1024, depth: 4, buffers: "plain", reads: "adaptive" };
/** How many observations make up the mind of "adaptive", and how many it takes to change it. */
const maxBalance = 8;
/** One writes (the kernel lets one write to a file at a time), the others read. */
const maxWorkers = { bounded: 3, unbounded: 1 };

/** A slot's block is read whole and then written whole (short reads and writes go on where they stopped); then it is complete. */
const busy = 0;
const complete = 1;

export class IoUring implements Engine {
  readonly name = "io-uring" as const;
  /** Why there is no ring; "" where there is one or nobody asked yet. */
  unavailable = "";
  private readonly options: IoUringOptions;
  /** Gets every byte that was copied, in order. */
  private readonly hasher: FileHasher | null;
  private ring: Ring | undefined;
  private memory: NativeMemory | undefined;
  private isRegistered = false;
  private setupErrno = 0;

  /** The slots, in parallel arrays. Blocks follow each other round the slots, so that the oldest is always at `head`. */
  private readonly state: Int32Array;
  private readonly start: Float64Array;
  /** Bytes wanted, read and written of each slot's block. */
  private readonly wanted: Int32Array;
  private readonly filled: Int32Array;
  private readonly written: Int32Array;
  private head = 0;
  private used = 0;
  private readAt = 0;
  /** Exclusive end of what there is to copy: the range's end, or the lowest offset at which a read gave nothing. */
  private end = 0;
  private error = 0;
  /** Writes in flight; and what they say: above 0 the writer waits for blocks to be read, below it the blocks wait for the writer. */
  private writes = 0;
  private balance = 0;

  constructor(options: Partial<IoUringOptions> = {}, hasher: FileHasher | null = null) {
    this.options = { ...defaults, ...options };
    this.hasher = hasher;
    const { depth } = this.options;
    this.state = new Int32Array(depth);
    this.start = new Float64Array(depth);
    this.wanted = new Int32Array(depth);
    this.filled = new Int32Array(depth);
    this.written = new Int32Array(depth);
  }

  // hot: bench/engines.ts; per block one read, one write, and no allocation.
  copy(copy: DataCopy, control: CopyControl): number {
    const ring = this.ring ?? this.setUp();
    if (ring === undefined) return failed(copy, -this.setupErrno, "destination", "io_uring_setup");
    this.begin(copy);
    while (this.error === 0) {
      this.observe();
      this.startReads(ring, copy);
      if (ring.outstanding === 0) break;
      const waited = ring.submitAndWait(1);
      if (waited < 0 && waited !== -Errno.EBUSY && waited !== -Errno.EAGAIN) this.fail(copy, waited, "destination", "io_uring_enter");
      while (ring.next()) this.completed(ring, copy, ring.tag >>> 1, ring.tag & 1, ring.result);
      if (!this.release(copy, control) && this.error === 0) this.error = stopped;
    }
    this.drain(ring);
    if (this.error !== 0) return this.error;
    copy.sourceEnded = this.end < copy.end;
    return 0;
  }

  /** Besides the usual, whatever keeps a ring from being made. */
  isUnsupported(errno: number): boolean {
    return isUnsupportedErrno(errno) || (this.ring === undefined && errno === this.setupErrno);
  }

  [Symbol.dispose](): void {
    this.ring?.[Symbol.dispose]();
    this.memory?.[Symbol.dispose]();
    this.ring = undefined;
    this.memory = undefined;
  }

  private setUp(): Ring | undefined {
    if (this.setupErrno !== 0) return undefined;
    const { depth, blockBytes, buffers } = this.options;
    const ring = Ring.create(depth * 2, { maxWorkers });
    if (!ring.available) {
      this.unavailable = ring.message;
      this.setupErrno = ring.errno === 0 ? Errno.ENOSYS : ring.errno;
      return undefined;
    }
    const memory = new NativeMemory(depth * blockBytes);
    this.isRegistered = buffers === "registered" && ring.registerBuffers(memory.address, blockBytes, depth) >= 0;
    this.memory = memory;
    this.ring = ring;
    return ring;
  }

  private begin(copy: DataCopy): void {
    this.head = 0;
    this.used = 0;
    this.readAt = copy.offset;
    this.end = copy.end;
    this.error = 0;
    this.writes = 0;
  }

  /** A writer with at most one block to write is about to be idle; one with all blocks but one is the slower half. */
  private observe(): void {
    if (this.writes <= 1 && this.balance < maxBalance) this.balance++;
    else if (this.writes >= this.options.depth - 1 && this.balance > -maxBalance) this.balance--;
  }

  private startReads(ring: Ring, copy: DataCopy): void {
    const { depth, blockBytes } = this.options;
    while (this.used < depth && this.readAt < this.end && this.error === 0) {
      const slot = (this.head + this.used) % depth;
      this.state[slot] = busy;
      this.start[slot] = this.readAt;
      this.wanted[slot] = Math.min(blockBytes, this.end - this.readAt);
      this.filled[slot] = 0;
      this.written[slot] = 0;
      this.readAt += this.wanted[slot] ?? 0;
      this.used++;
      this.read(ring, copy, slot);
    }
  }

  /** Without IOSQE_ASYNC a read of cached data is done by this thread within the submission. */
  private read(ring: Ring, copy: DataCopy, slot: number): void {
    const { reads } = this.options;
    const isShared = reads === "mixed" || (reads === "adaptive" && this.balance > 0);
    const flags = reads === "async" || (isShared && slot % 2 === 1) ? Submit.async : 0;
    const filled = this.filled[slot] ?? 0;
    const address = this.address(slot) + filled;
    const length = (this.wanted[slot] ?? 0) - filled;
    const offset = (this.start[slot] ?? 0) + filled;
    const prepared = this.isRegistered
      ? ring.prepareReadFixed(copy.sourceFd, address, length, offset, slot, slot << 1, flags)
      : ring.prepareRead(copy.sourceFd, address, length, offset, slot << 1, flags);
    if (prepared < 0) this.fail(copy, prepared, "source", "io_uring_enter");
  }

  /** IOSQE_ASYNC: a buffered write would otherwise run in this thread while it submits, and nothing would be parallel. */
  private write(ring: Ring, copy: DataCopy, slot: number): void {
    const written = this.written[slot] ?? 0;
    const address = this.address(slot) + written;
    const length = (this.filled[slot] ?? 0) - written;
    const offset = (this.start[slot] ?? 0) + written;
    const tag = (slot << 1) | 1;
    const prepared = this.isRegistered
      ? ring.prepareWriteFixed(copy.destinationFd, address, length, offset, slot, tag, Submit.async)
      : ring.prepareWrite(copy.destinationFd, address, length, offset, tag, Submit.async);
    if (prepared < 0) this.fail(copy, prepared, "destination", "io_uring_enter");
    this.writes++;
  }

  private completed(ring: Ring, copy: DataCopy, slot: number, isWrite: number, result: number): void {
    if (isWrite === 1) this.writes--;
    const again = result === -Errno.EINTR || result === -Errno.EAGAIN;
    if (this.error !== 0) return;
    if (isWrite === 0) {
      if (result < 0 && !again) this.fail(copy, result, "source", "read");
      else this.afterRead(ring, copy, slot, again ? -1 : result);
    } else if (result <= 0 && !again) this.fail(copy, result === 0 ? -Errno.EIO : result, "destination", "write");
    else this.afterWrite(ring, copy, slot, again ? 0 : result);
  }

  /** `length` -1 means "nothing happened, ask again"; 0 is the source's end. */
  private afterRead(ring: Ring, copy: DataCopy, slot: number, length: number): void {
    let filled = this.filled[slot] ?? 0;
    if (length > 0) {
      filled += length;
      this.filled[slot] = filled;
    }
    if (length === 0) this.end = Math.min(this.end, (this.start[slot] ?? 0) + filled);
    if (length !== 0 && filled < (this.wanted[slot] ?? 0)) this.read(ring, copy, slot);
    else if (filled === 0) this.state[slot] = complete;
    else this.write(ring, copy, slot);
  }

  private afterWrite(ring: Ring, copy: DataCopy, slot: number, length: number): void {
    const written = (this.written[slot] ?? 0) + length;
    this.written[slot] = written;
    if (written < (this.filled[slot] ?? 0)) this.write(ring, copy, slot);
    else this.state[slot] = complete;
  }

  /** Frees finished blocks from the oldest on; only so is everything before copy.offset copied, whatever fails later. */
  private release(copy: DataCopy, control: CopyControl): boolean {
    while (this.used > 0 && this.state[this.head] === complete) {
      const slot = this.head;
      const start = this.start[slot] ?? 0;
      // A block read before the source shrank below it is no longer part of the source.
      const length = Math.max(0, Math.min(this.written[slot] ?? 0, this.end - start));
      // In order, and before the slot is used again; kernel threads write the others meanwhile.
      if (this.hasher !== null && length > 0) this.take(this.hasher, slot, length, start);
      this.head = (this.head + 1) % this.options.depth;
      this.used--;
      if (length > 0) copy.offset = start + length;
      if (length > 0 && !control.advanced(length, "copied")) return false;
    }
    return true;
  }

  private take(hasher: FileHasher, slot: number, length: number, offset: number): void {
    if (this.memory !== undefined) hasher.take(this.memory.bytes, slot * this.options.blockBytes, length, offset);
  }

  /** The buffers and descriptors belong to the kernel until nothing is in flight. */
  private drain(ring: Ring): void {
    while (ring.outstanding > 0) {
      const waited = ring.submitAndWait(1);
      assert(waited === 0 || waited === -Errno.EBUSY || waited === -Errno.EAGAIN, `io_uring_enter fails (${waited}) with work in flight`);
      while (ring.next());
    }
  }

  private address(slot: number): number {
    return (this.memory?.address ?? 0) + slot * this.options.blockBytes;
  }

  private fail(copy: DataCopy, result: number, side: "source" | "destination", syscall: string): void {
    if (this.error === 0) this.error = failed(copy, result, side, syscall);
  }
}
