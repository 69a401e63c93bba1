// One io_uring of one thread: its life, submission, waiting, and completions taken one by one without allocating anything.
//
// Lifetimes: the ring owns struct io_uring; whoever prepares an operation owns the memory it names and keeps it until the
// completion was taken or the ring disposed of. Dispose cancels and drains first: after it nothing is in flight. A ring is
// used and disposed of by the thread that made it (SINGLE_ISSUER), and made after privileges were dropped: it captures them.

import { assert } from "../assert.ts";
import { Errno } from "../errno.ts";
import { constants, layout } from "./layout.ts";
import { type Liburing, loadLiburing } from "./liburing.ts";
import { NativeMemory, viewOf } from "./memory.ts";
import { type KernelFacts, type RingUnavailable, readKernelFacts, tooOld, whyNoRing, withoutLiburing } from "./ring-unavailable.ts";
import { SubmissionQueue } from "./submission.ts";

export interface RingOptions {
  /** Entries of the completion queue, which is also how much may be outstanding; twice the submission entries otherwise. */
  readonly completionEntries?: number;
  /** Most kernel threads that serve this thread's rings: `bounded` for files, `unbounded` for pipes. 0: the kernel's default. */
  readonly maxWorkers?: { readonly bounded: number; readonly unbounded: number };
  /** Sets of IORING_SETUP_* to try in turn, going on at EINVAL; for tests of the fallback. */
  readonly setupFlags?: readonly number[];
  /** Reads what tells one EPERM from another; for tests. */
  readonly kernelFacts?: () => KernelFacts;
}

const at = layout.io_uring;
const setup = constants.setup;
const needsEnter = constants.ringFlags.IORING_SQ_CQ_OVERFLOW | constants.ringFlags.IORING_SQ_TASKRUN;
const needed =
  constants.features.IORING_FEAT_NODROP | constants.features.IORING_FEAT_EXT_ARG | constants.features.IORING_FEAT_SUBMIT_STABLE;

/** Best first: completions handled by this thread when it waits (6.1), at its next system call (5.19), by an interrupt. */
const setupLadder: readonly number[] = [
  setup.IORING_SETUP_SUBMIT_ALL | setup.IORING_SETUP_SINGLE_ISSUER | setup.IORING_SETUP_DEFER_TASKRUN | setup.IORING_SETUP_TASKRUN_FLAG,
  setup.IORING_SETUP_SUBMIT_ALL | setup.IORING_SETUP_COOP_TASKRUN | setup.IORING_SETUP_TASKRUN_FLAG,
  setup.IORING_SETUP_SUBMIT_ALL,
  0,
];

// The ring's page: struct io_uring, then what single calls need.
const paramsOffset = 256;
const timeoutOffset = 384;
const cqeOffset = 400;
const workersOffset = 408;
assert(at.size <= paramsOffset && paramsOffset + layout.io_uring_params.size <= timeoutOffset, "the ring's page is cut rightly");

/** Beside the tag in completions that nobody asked for. */
const internalMark = 1;
/** How long a cancellation of all is left to end them. */
const cancelAgainMs = 10;

export class Ring extends SubmissionQueue {
  readonly available = true;
  readonly completionEntries: number;
  /** IORING_SETUP_* the kernel accepted. */
  readonly setupFlags: number;
  /** Of the completion that next() took: its operation's tag, and a value >= 0 or -errno. */
  tag = 0;
  result = 0;

  private readonly liburing: Liburing;
  private readonly page: NativeMemory;
  private readonly cqes: Int32Array;
  private readonly kernelHead: Uint32Array;
  private readonly kernelTail: Uint32Array;
  private readonly kernelFlags: Uint32Array;
  private head = 0;
  private disposed = false;

  /** A ring of `entries` submissions (a power of two is best), or why there is none. Never throws for the kernel's no. */
  static create(entries: number, options: RingOptions = {}): Ring | RingUnavailable {
    const liburing = loadLiburing();
    if (!liburing.available) return withoutLiburing(liburing.message);
    const facts = options.kernelFacts ?? readKernelFacts;
    const page = new NativeMemory(4096);
    const errno = initialize(liburing, page, entries, options);
    if (errno < 0) {
      page[Symbol.dispose]();
      return whyNoRing(-errno, facts());
    }
    if (((page.u32[at.features / 4] ?? 0) & needed) !== needed) {
      liburing.queueExit(page.address);
      page[Symbol.dispose]();
      return tooOld(facts());
    }
    const ring = new Ring(liburing, page);
    if (options.maxWorkers !== undefined) ring.limitWorkers(options.maxWorkers.bounded, options.maxWorkers.unbounded);
    return ring;
  }

  private constructor(liburing: Liburing, page: NativeMemory) {
    const params = layout.io_uring_params;
    const sqEntries = page.u32[(paramsOffset + params.sq_entries) / 4] ?? 0;
    const cqEntries = page.u32[(paramsOffset + params.cq_entries) / 4] ?? 0;
    super({
      sqes: new Uint32Array(viewOf(pointerAt(page, at.sq_sqes), sqEntries * layout.io_uring_sqe.size)),
      tail: page.u32.subarray(at.sq_sqe_tail / 4, at.sq_sqe_tail / 4 + 1),
      kernelHead: wordAt(page, at.sq_khead),
      entries: sqEntries,
      maxOutstanding: cqEntries,
    });
    this.liburing = liburing;
    this.page = page;
    this.completionEntries = cqEntries;
    this.setupFlags = page.u32[at.flags / 4] ?? 0;
    this.cqes = new Int32Array(viewOf(pointerAt(page, at.cq_cqes), cqEntries * layout.io_uring_cqe.size));
    this.kernelHead = wordAt(page, at.cq_khead);
    this.kernelTail = wordAt(page, at.cq_ktail);
    this.kernelFlags = wordAt(page, at.sq_kflags);
  }

  submit(): number {
    while (this.unsubmitted > 0) {
      const submitted = this.liburing.submit(this.page.address);
      if (submitted < 0 && submitted !== -Errno.EINTR) return submitted;
    }
    return 0;
  }

  /**
   * Submits everything prepared and waits until `count` completions are ready to be taken, or `timeoutMs` is over (-1: never).
   * 0, -ETIME, or the -errno of a failed submission. Signals do not end the wait.
   */
  submitAndWait(count: number, timeoutMs = -1): number {
    assert(count <= this.outstandingCount, "nobody waits for more completions than there are operations");
    const deadline = timeoutMs < 0 ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    while (this.unsubmitted > 0 || this.ready < count) {
      const leftMs = deadline - performance.now();
      if (leftMs <= 0 && this.unsubmitted === 0) return -Errno.ETIME;
      const returned = timeoutMs < 0 ? this.liburing.submitAndWait(this.page.address, count) : this.waitFor(count, Math.max(leftMs, 0));
      if (returned < 0 && returned !== -Errno.EINTR && returned !== -Errno.ETIME) return returned;
    }
    return 0;
  }

  /** Completions that next() would give without asking the kernel. */
  get ready(): number {
    return (Atomics.load(this.kernelTail, 0) - this.head) >>> 0;
  }

  /** Takes one completion into `tag` and `result`; false when none is ready. Never waits. // hot: once per operation */
  next(): boolean {
    if (this.head === Atomics.load(this.kernelTail, 0) && !this.fetch()) return false;
    const cqe = (this.head & (this.completionEntries - 1)) * 4;
    this.tag = (this.cqes[cqe] ?? 0) >>> 0;
    this.result = this.cqes[cqe + 2] ?? 0;
    this.head = (this.head + 1) >>> 0;
    // The store publishes the slot as free; the loads above are done by then.
    Atomics.store(this.kernelHead, 0, this.head);
    this.outstandingCount--;
    return true;
  }

  /**
   * Registers `count` buffers of `length` bytes that lie one behind the other at `address`, for the fixed reads and writes.
   * 0 or -errno: ENOMEM where RLIMIT_MEMLOCK is used up, and plain reads and writes serve instead.
   */
  registerBuffers(address: number, length: number, count: number): number {
    using iovecs = new NativeMemory(count * layout.iovec.size);
    const words = new BigUint64Array(iovecs.u32.buffer, 0, count * 2);
    for (let index = 0; index < count; index++) {
      words[index * 2] = BigInt(address + index * length);
      words[index * 2 + 1] = BigInt(length);
    }
    return this.liburing.registerBuffers(this.page.address, iovecs.address, count);
  }

  unregisterBuffers(): number {
    return this.liburing.unregisterBuffers(this.page.address);
  }

  /** Registers descriptors: Submit.fixedFile then means an index into them. 0 or -errno. */
  registerFiles(fds: readonly number[]): number {
    using memory = new NativeMemory(fds.length * 4);
    memory.u32.set(fds);
    return this.liburing.registerFiles(this.page.address, memory.address, fds.length);
  }

  unregisterFiles(): number {
    return this.liburing.unregisterFiles(this.page.address);
  }

  /** Whether the kernel knows an operation (constants.operations). */
  supports(operation: number): boolean {
    const address = this.liburing.getProbe(this.page.address);
    if (address === 0) return false;
    const header = new Uint8Array(viewOf(address, layout.io_uring_probe.size));
    const lastOperation = header[layout.io_uring_probe.last_op] ?? 0;
    const entry = layout.io_uring_probe.ops + operation * layout.io_uring_probe_op.size + layout.io_uring_probe_op.flags;
    const flags = operation > lastOperation ? 0 : (new Uint8Array(viewOf(address + entry, 1))[0] ?? 0);
    this.liburing.freeProbe(address);
    return (flags & constants.operationFlags.IO_URING_OP_SUPPORTED) !== 0;
  }

  /** As RingOptions.maxWorkers. 0 or -errno; EINVAL before Linux 5.15. */
  limitWorkers(bounded: number, unbounded: number): number {
    this.page.u32[workersOffset / 4] = bounded;
    this.page.u32[workersOffset / 4 + 1] = unbounded;
    return this.liburing.registerIowqMaxWorkers(this.page.address, this.page.address + workersOffset);
  }

  /** Forgets what was not submitted, cancels what can be cancelled, waits for the rest, and only then lets go of the ring. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.dropUnsubmitted();
    this.drain();
    this.disposed = true;
    this.liburing.queueExit(this.page.address);
    this.page[Symbol.dispose]();
  }

  private drain(): void {
    while (this.next());
    // Reads and writes of files end by themselves; those of pipes may not. Again and again: a request that a worker takes up and lays aside
    // in the moment of a cancellation is missed by it. Before Linux 5.19 this answers EINVAL and we wait.
    for (let isDue = true; this.outstandingCount > 0; ) {
      if (isDue) this.prepareCancelAll(internalMark);
      const waited = this.submitAndWait(1, cancelAgainMs);
      isDue = waited === -Errno.ETIME;
      assert(isDue || waited === 0 || waited === -Errno.EAGAIN, `a ring is disposed of by the thread that made it (${waited})`);
      while (this.next());
    }
  }

  /** Has the kernel post what it holds back for this thread. True when a completion is ready then. */
  private fetch(): boolean {
    if ((Atomics.load(this.kernelFlags, 0) & needsEnter) === 0) return false;
    this.liburing.getEvents(this.page.address);
    return this.ready > 0;
  }

  private waitFor(count: number, timeoutMs: number): number {
    const timeout = timeoutOffset / 4;
    this.page.u32[timeout] = Math.floor(timeoutMs / 1000);
    this.page.u32[timeout + 1] = 0;
    this.page.u32[timeout + 2] = Math.floor((timeoutMs % 1000) * 1e6);
    this.page.u32[timeout + 3] = 0;
    const { address } = this.page;
    return this.liburing.submitAndWaitTimeout(address, address + cqeOffset, count, address + timeoutOffset);
  }
}

/** Makes the ring in the page with the best set of flags the kernel knows. 0 or -errno. */
function initialize(liburing: Liburing, page: NativeMemory, entries: number, options: RingOptions): number {
  const params = layout.io_uring_params;
  const common = setup.IORING_SETUP_CLAMP | (options.completionEntries === undefined ? 0 : setup.IORING_SETUP_CQSIZE);
  let returned = -Errno.EINVAL;
  for (const flags of options.setupFlags ?? setupLadder) {
    page.bytes.fill(0);
    page.u32[(paramsOffset + params.flags) / 4] = flags | common;
    page.u32[(paramsOffset + params.cq_entries) / 4] = options.completionEntries ?? 0;
    returned = liburing.queueInitParams(entries, page.address, page.address + paramsOffset);
    if (returned !== -Errno.EINVAL) return returned;
  }
  return returned;
}

/** The pointer that struct io_uring holds at an offset. */
function pointerAt(page: NativeMemory, offset: number): number {
  return (page.u32[offset / 4] ?? 0) + (page.u32[offset / 4 + 1] ?? 0) * 2 ** 32;
}

/** The 32-bit word that such a pointer leads to. */
function wordAt(page: NativeMemory, offset: number): Uint32Array {
  return new Uint32Array(viewOf(pointerAt(page, offset), 4));
}
