// liburing as C declares it, loaded once per thread. Where there is none, that is a value: the other engines serve.
//
// Only exported functions of liburing 2.3 are named; what its header inlines (preparing an SQE, reading a CQE) is done in ring.ts.
// liburing returns -errno by itself and its struct io_uring is part of the soname-2 ABI, so a newer liburing.so.2 serves as well.

import { dlopen, type Pointer } from "bun:ffi";

const soname = "liburing.so.2";

const declarations = {
  io_uring_queue_init_params: { args: ["u32", "ptr", "ptr"], returns: "i32" },
  io_uring_queue_exit: { args: ["ptr"], returns: "void" },
  io_uring_submit: { args: ["ptr"], returns: "i32" },
  io_uring_submit_and_wait: { args: ["ptr", "u32"], returns: "i32" },
  io_uring_submit_and_wait_timeout: { args: ["ptr", "ptr", "u32", "ptr", "ptr"], returns: "i32" },
  io_uring_get_events: { args: ["ptr"], returns: "i32" },
  io_uring_register_buffers: { args: ["ptr", "ptr", "u32"], returns: "i32" },
  io_uring_unregister_buffers: { args: ["ptr"], returns: "i32" },
  io_uring_register_files: { args: ["ptr", "ptr", "u32"], returns: "i32" },
  io_uring_unregister_files: { args: ["ptr"], returns: "i32" },
  io_uring_register_iowq_max_workers: { args: ["ptr", "ptr"], returns: "i32" },
  io_uring_get_probe_ring: { args: ["ptr"], returns: "ptr" },
  io_uring_free_probe: { args: ["ptr"], returns: "void" },
} as const;

type Symbols = ReturnType<typeof dlopen<typeof declarations>>["symbols"];

/** Each call takes addresses as numbers and returns a value >= 0, or -errno. `ring` is the address of a struct io_uring. */
export interface Liburing {
  readonly available: true;
  queueInitParams(entries: number, ring: number, params: number): number;
  queueExit(ring: number): void;
  submit(ring: number): number;
  submitAndWait(ring: number, count: number): number;
  /** `cqe` is the address of a pointer it may set; `timeout` of a struct __kernel_timespec. -ETIME when the time is over. */
  submitAndWaitTimeout(ring: number, cqe: number, count: number, timeout: number): number;
  /** Has the kernel post what it holds back (deferred work, an overflown queue). */
  getEvents(ring: number): number;
  registerBuffers(ring: number, iovecs: number, count: number): number;
  unregisterBuffers(ring: number): number;
  registerFiles(ring: number, fds: number, count: number): number;
  unregisterFiles(ring: number): number;
  /** `workers` is the address of two unsigned: bounded and unbounded; 0 leaves one as it is and both are set to what was before. */
  registerIowqMaxWorkers(ring: number, workers: number): number;
  /** Address of a struct io_uring_probe that freeProbe() takes back; 0 where the kernel cannot say. */
  getProbe(ring: number): number;
  freeProbe(probe: number): void;
}

export interface NoLiburing {
  readonly available: false;
  /** What dlopen(3) said. */
  readonly message: string;
}

let loaded: Liburing | NoLiburing | undefined;

/** liburing, or why it is not to be had. Never throws; the library stays open for as long as the thread lives. */
export function loadLiburing(): Liburing | NoLiburing {
  loaded ??= open();
  return loaded;
}

function open(): Liburing | NoLiburing {
  let symbols: Symbols;
  try {
    symbols = dlopen(soname, declarations).symbols;
  } catch (error) {
    return { available: false, message: error instanceof Error ? error.message : String(error) };
  }
  return wrap(symbols);
}

/** bun:ffi brands pointers; here they are numbers. */
function at(address: number): Pointer {
  return address as Pointer;
}

function wrap(c: Symbols): Liburing {
  return {
    available: true,
    queueInitParams: (entries, ring, params) => c.io_uring_queue_init_params(entries, at(ring), at(params)),
    queueExit: (ring) => c.io_uring_queue_exit(at(ring)),
    submit: (ring) => c.io_uring_submit(at(ring)),
    submitAndWait: (ring, count) => c.io_uring_submit_and_wait(at(ring), count),
    submitAndWaitTimeout: (ring, cqe, count, timeout) => c.io_uring_submit_and_wait_timeout(at(ring), at(cqe), count, at(timeout), null),
    getEvents: (ring) => c.io_uring_get_events(at(ring)),
    registerBuffers: (ring, iovecs, count) => c.io_uring_register_buffers(at(ring), at(iovecs), count),
    unregisterBuffers: (ring) => c.io_uring_unregister_buffers(at(ring)),
    registerFiles: (ring, fds, count) => c.io_uring_register_files(at(ring), at(fds), count),
    unregisterFiles: (ring) => c.io_uring_unregister_files(at(ring)),
    registerIowqMaxWorkers: (ring, workers) => c.io_uring_register_iowq_max_workers(at(ring), at(workers)),
    getProbe: (ring) => Number(c.io_uring_get_probe_ring(at(ring)) ?? 0),
    freeProbe: (probe) => c.io_uring_free_probe(at(probe)),
  };
}
