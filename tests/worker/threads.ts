// Shared memory as a worker's lanes have it, and threads that work over it.

import { libc, Mmap } from "../../src/ffi/libc.ts";
import { maxLanes, Shared, type SharedMemory, slotBytes, slotsPerLane } from "../../src/worker/shared.ts";
import { laneBytes } from "../../src/worker/work-list.ts";
import type { ThreadAnswer, ThreadTask } from "./lane-thread.ts";

export interface LaneMemory extends Disposable {
  readonly memory: SharedMemory;
  readonly shared: Shared;
  /** Address of the lanes' batches and name arenas. */
  readonly lanes: number;
}

export function laneMemory(): LaneMemory {
  const [slotsLength, lanesLength] = [maxLanes * slotsPerLane * slotBytes, maxLanes * laneBytes];
  const [slots, lanes] = [reserve(slotsLength), reserve(lanesLength)];
  const memory = { buffer: Shared.allocate(), slots, inFlight: 0, checkpoint: null, ranges: null };
  return {
    memory,
    shared: new Shared(memory),
    lanes,
    [Symbol.dispose]() {
      libc.munmap(slots, slotsLength);
      libc.munmap(lanes, lanesLength);
    },
  };
}

/** Runs a task in a thread of its own; resolves with its answer. */
export function inThread<Kind extends ThreadTask["kind"]>(
  task: Extract<ThreadTask, { kind: Kind }>,
): Promise<Extract<ThreadAnswer, { kind: Kind }>> {
  const worker = new Worker(new URL("./lane-thread.ts", import.meta.url).href);
  return new Promise((resolve, reject) => {
    worker.onmessage = (event: { readonly data: Extract<ThreadAnswer, { kind: Kind }> }) => {
      resolve(event.data);
      worker.terminate();
    };
    worker.onerror = (event: { readonly message: string }) => reject(new Error(event.message));
    worker.postMessage(task);
  });
}

function reserve(bytes: number): number {
  const flags = Mmap.MAP_PRIVATE | Mmap.MAP_ANONYMOUS | Mmap.MAP_NORESERVE;
  const address = libc.mmap(0, bytes, Mmap.PROT_READ | Mmap.PROT_WRITE, flags, -1, 0);
  if (address < 0) throw new Error(`mmap of ${bytes} bytes: errno ${-address}`);
  return address;
}
