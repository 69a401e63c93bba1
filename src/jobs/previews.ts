// Dry runs: a worker of the caller says what a copy would do. How many run at once, for whom, and how long each may take.

import { CopyError } from "../errors.ts";
import type { Policy } from "../policy.ts";
import type { JobRequest } from "../request.ts";
import { type LiveMessage, startWorker, type WorkerEnd } from "../worker/pool.ts";
import type { PreviewSummary } from "../worker/protocol.ts";
import type { Caller, Preview, PreviewOptions } from "./api.ts";
import { requireAllowed } from "./job-policy.ts";
import type { RunSettings } from "./run-settings.ts";
import type { JobStore } from "./store.ts";

const unwanted = "Nobody waits for the dry run any more.";

export interface PreviewLimits {
  readonly maxPreviews: number;
  readonly maxPreviewsPerUser: number;
  readonly previewTimeoutMs: number;
}

export class Previews {
  private readonly settings: RunSettings;
  private readonly limits: PreviewLimits;
  private readonly store: JobStore | null;
  private readonly byUser = new Map<number, number>();
  private readonly running = new Set<() => void>();
  /** By user, who of those that wait was the last to come: one after the other, lest all start in the moment in which a rest ends. */
  private readonly lastTurns = new Map<number, Promise<void>>();
  private readonly idle: (() => void)[] = [];

  /** `store` knows how fast users' jobs were; null: nobody does. */
  constructor(settings: RunSettings, limits: PreviewLimits, store: JobStore | null) {
    this.settings = settings;
    this.limits = limits;
    this.store = store;
  }

  /** As Jobs.preview. */
  async run(caller: Caller, request: JobRequest, options: PreviewOptions): Promise<Preview> {
    if (request.operation === "move" || request.options.gnu.parents) {
      throw new CopyError("not-supported", "a dry run foresees copies only, and those without `parents`");
    }
    const { policy = [] } = requireAllowed(this.settings.policyFor(caller), request);
    const own = this.byUser.get(caller.uid) ?? 0;
    if (own >= this.limits.maxPreviewsPerUser || this.running.size >= this.limits.maxPreviews) {
      throw new CopyError("limits-exceeded", "too many dry runs are under way");
    }
    const { promise, resolve, reject } = Promise.withResolvers<PreviewSummary>();
    let end = (): void => reject(new CopyError("cancelled", unwanted));
    const stop = (): void => end();
    this.running.add(stop);
    this.byUser.set(caller.uid, own + 1);
    options.signal.addEventListener("abort", stop, { once: true });
    if (options.signal.aborted) stop();
    try {
      const start = (): void => {
        end = this.start(caller, request, policy, options, resolve, reject);
      };
      // As with jobs: who has one dry run made after the other is not held up.
      await Promise.race([promise, own === 0 ? start() : this.startRested(caller.uid, promise, start)]);
      const summary = await promise;
      const rate = this.store?.rateOf(caller.uid) ?? 0;
      return { summary, expectedTimeUs: rate > 0 ? Math.round((summary.bytes / rate) * 1e6) : null };
    } finally {
      options.signal.removeEventListener("abort", stop);
      this.running.delete(stop);
      const left = (this.byUser.get(caller.uid) ?? 1) - 1;
      if (left > 0) this.byUser.set(caller.uid, left);
      else this.byUser.delete(caller.uid);
      if (this.running.size === 0) for (const tell of this.idle.splice(0)) tell();
    }
  }

  /** Ends all of them; resolves when no worker is left. */
  async stop(): Promise<void> {
    if (this.running.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.idle.push(resolve);
    for (const stop of this.running) stop();
    await promise;
  }

  /** Starts after those of the same user that came before, and after the rest that what they took has made necessary. */
  private async startRested(uid: number, ended: Promise<unknown>, start: () => void): Promise<void> {
    const former = this.lastTurns.get(uid);
    const turn = Promise.withResolvers<void>();
    this.lastTurns.set(uid, turn.promise);
    try {
      await Promise.race([ended, former]);
      const rested = Promise.withResolvers<void>();
      setTimeout(rested.resolve, Math.ceil(this.settings.places.restMs(uid))).unref();
      await Promise.race([ended, rested.promise]);
      start();
    } finally {
      turn.resolve();
      if (this.lastTurns.get(uid) === turn.promise) this.lastTurns.delete(uid);
    }
  }

  private start(
    { uid, gid, groups }: Caller,
    request: JobRequest,
    policy: Policy,
    { maxOperations, maxBytes, onOperations }: PreviewOptions,
    resolve: (summary: PreviewSummary) => void,
    reject: (error: CopyError) => void,
  ): () => void {
    const { settings } = this;
    let summary: PreviewSummary | null = null;
    let listed = 0;
    let timer: ReturnType<typeof setTimeout>;
    const onMessage = (message: LiveMessage): void => {
      if (message.type === "preview") summary = message.summary;
      if (message.type !== "operations") return;
      // The worker was told the limit; whether it keeps it is its user's to say.
      const wanted = message.operations.slice(0, maxOperations - listed);
      listed += wanted.length;
      if (wanted.length > 0) onOperations(wanted);
    };
    const onEnd = (end: WorkerEnd): void => {
      clearTimeout(timer);
      if (end.kind === "failed") reject(new CopyError(end.code, end.message));
      else if (summary === null) reject(new CopyError("worker-protocol", "the looking process ended without a summary"));
      else resolve(summary);
    };
    const worker = startWorker({
      task: { type: "preview", request, policy, sandbox: settings.sandbox, maxOperations, maxBytes },
      credentials: settings.mode === "system" ? { uid, gid, groups } : null,
      place: settings.places.enter(uid),
      inFlightFd: null,
      limits: settings.workerLimits,
      trusted: settings.mode === "embedded",
      ...(settings.self === null ? {} : { self: settings.self }),
      onMessage,
      onEnd,
      onStderr: (line) => settings.log.warning("worker says", { uid, line }),
    });
    // Told to stop, it says what it has found; what does not listen, hangs in a filesystem.
    timer = setTimeout(() => {
      worker.send({ type: "cancel" });
      timer = setTimeout(() => worker.kill("worker-silent", "The dry run took too long and did not stop."), settings.cancelTimeoutMs);
    }, this.limits.previewTimeoutMs);
    return () => worker.kill("cancelled", unwanted);
  }
}
