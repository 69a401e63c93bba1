// What a worker process must keep to, with the reason for each limit.

export interface WorkerLimits {
  /** A worker that sends nothing for this long is killed: it hangs, perhaps in the kernel on a dead device. */
  readonly silenceTimeoutMs: number;
  /** Messages a second on the long run, and at once. Beyond, it is killed: an honest one batches. */
  readonly messagesPerSecond: number;
  readonly messageBurst: number;
  /** Bytes a second that are read from it; beyond, it is made to wait, as an honest one with many errors may have to. */
  readonly bytesPerSecond: number;
  /** How long it may take to exit after it has closed its end of the pipe before it is killed. */
  readonly exitTimeoutMs: number;
  /** How long a killed process may stay (blocked in the kernel) before it is given up. */
  readonly killTimeoutMs: number;
}

export const defaultWorkerLimits: WorkerLimits = {
  silenceTimeoutMs: 30_000,
  messagesPerSecond: 1000,
  messageBurst: 4000,
  bytesPerSecond: 64 * 1024 * 1024,
  exitTimeoutMs: 2000,
  killTimeoutMs: 5000,
};
