// Following one job from a client: its views, lines and errors as one sequence that ends when the job has ended.

import type { CopyError } from "../errors.ts";
import { hasEnded, type JobView } from "../jobs/api.ts";
import type { EntryError } from "../worker/protocol.ts";
import { fateUnknown } from "./client-errors.ts";
import { type ErrorBatch, viewFromProperties } from "./client-views.ts";
import type { JobAddress } from "./object-path.ts";
import type { Variant, VariantDict } from "./values.ts";

export type JobEvent =
  /** The job as it is now. */
  | { readonly type: "view"; readonly job: JobView }
  /** Lines of -v and --debug, latin1 bytes. */
  | { readonly type: "lines"; readonly lines: readonly string[] }
  /** Errors and warnings of entries, each once, in their order and among the lines; only where they were asked for. */
  | { readonly type: "errors"; readonly errors: readonly EntryError[] }
  /** So many did not come, and the service no longer has them. */
  | { readonly type: "errors-lost"; readonly count: number }
  /** The service had gone and is there again; the job goes on. */
  | { readonly type: "back" }
  /** The last event. */
  | { readonly type: "ended"; readonly job: JobView };

export interface WatchOptions {
  readonly lines?: boolean;
  readonly errors?: boolean;
}

/** Errors of the job from an offset on; none when there are no more. */
export type FetchErrors = (address: JobAddress, offset: number) => Promise<readonly EntryError[]>;

/**
 * One job being followed: an async iterable of its events, for one reader. It fails with CopyError when the service has gone
 * for good or the job with it. Views are coalesced: a slow reader gets the newest, not all.
 */
export class JobWatch implements AsyncIterable<JobEvent> {
  readonly address: JobAddress;
  readonly options: WatchOptions;
  private readonly fetchErrors: FetchErrors;
  private properties: Map<string, Variant>;
  /** What signals have told since all properties were asked for, for each time that is under way. */
  private readonly toldMeanwhile = new Set<Set<string>>();
  /** Lines and errors that the reader has not had yet, in the order in which they came. */
  private said: Said[] = [];
  private isChanged = true;
  private failure: CopyError | null = null;
  private isClosed = false;
  private errorsSeen = 0;
  /** Whether what there was before the subscription has been asked for. */
  private hasBegun = false;
  /** A job that is resumed finds its errors again, which were told already. */
  private readonly errorsTold = new Set<string>();
  private resumeCount = 0;
  private hasReturned = false;
  private wake: () => void = () => {};

  constructor(address: JobAddress, properties: VariantDict, options: WatchOptions, fetchErrors: FetchErrors) {
    this.address = address;
    this.properties = new Map(properties);
    this.options = options;
    this.fetchErrors = fetchErrors;
  }

  /** The job as last told. */
  get job(): JobView {
    return viewFromProperties(this.address, this.properties);
  }

  /** True when there is nothing more to hear. */
  get isOver(): boolean {
    return this.isClosed || this.failure !== null || hasEnded(this.job.state);
  }

  /** Ends the sequence early, for a reader that waits in it. */
  close(): void {
    this.isClosed = true;
    this.wake();
  }

  /**
   * For the client, around the call that asks for all properties. A signal that came right behind the reply is read before whoever
   * awaits the reply runs: what signals told meanwhile stands, lest the end of the job be overwritten by what was before it.
   */
  async refresh(ask: () => Promise<VariantDict>): Promise<void> {
    const told = new Set<string>();
    this.toldMeanwhile.add(told);
    const all = await ask().finally(() => this.toldMeanwhile.delete(told));
    this.update(new Map([...all].filter(([name]) => !told.has(name))));
  }

  /** For the client: properties that changed. */
  update(properties: VariantDict): void {
    for (const [name, value] of properties) {
      this.properties.set(name, value);
      for (const told of this.toldMeanwhile) told.add(name);
    }
    this.isChanged = true;
    this.wake();
  }

  /** For the client: the service that had gone is there again. */
  isBack(): void {
    this.hasReturned = true;
    this.wake();
  }

  /** For the client: lines of the job. */
  say(lines: readonly string[]): void {
    const last = this.said.at(-1);
    if (last?.type === "lines") for (const line of lines) last.lines.push(line);
    else this.said.push({ type: "lines", lines: [...lines] });
    this.wake();
  }

  /** For the client: errors of the job. */
  tell(batch: ErrorBatch): void {
    if (this.options.errors !== true) return;
    this.said.push({ type: "errors", batch });
    this.wake();
  }

  /** For the client: the job cannot be followed any more. */
  fail(error: CopyError): void {
    // The job need not be lost with the service that tells of it.
    const isUntold = error.code === "no-service" || error.code === "shutting-down";
    this.failure ??= isUntold ? fateUnknown(error) : error;
    this.wake();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<JobEvent, void, undefined> {
    for (;;) {
      if (this.isClosed) return;
      const { job } = this;
      const { isChanged, said } = this;
      this.isChanged = false;
      this.said = [];
      if (this.hasReturned && !hasEnded(job.state)) yield { type: "back" };
      this.hasReturned = false;
      for (const part of said) {
        if (part.type === "lines") yield part;
        else yield* this.errorsOf(part.batch);
      }
      if (isChanged) {
        yield* this.missedErrors(job);
        const ended = hasEnded(job.state) && job.result !== null;
        yield { type: ended ? "ended" : "view", job };
        if (ended) return;
      }
      if (this.failure !== null) throw this.failure;
      if (!this.isChanged && this.said.length === 0 && !this.hasReturned && !this.isClosed) await this.news();
    }
  }

  private news(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.wake = resolve;
    return promise;
  }

  /** What a signal told, after what was missed before it, and less what is known already. */
  private async *errorsOf({ resumeCount, offset, errors }: ErrorBatch): AsyncGenerator<JobEvent, void, undefined> {
    // Of a run before the one that is known: found again by this one.
    if (resumeCount < this.resumeCount) return;
    this.beginRun(resumeCount);
    yield* this.fetchUpTo(offset);
    const fresh = errors.slice(this.errorsSeen - offset);
    this.errorsSeen += fresh.length;
    yield* this.untold(fresh);
  }

  /**
   * Signals tell; asked for are those before the first of them, at the beginning and after the service was away, and those behind
   * the last, which may have been dropped on the way.
   */
  private async *missedErrors(job: JobView): AsyncGenerator<JobEvent, void, undefined> {
    const isNewRun = job.resumeCount > this.resumeCount;
    if (this.options.errors !== true || (this.hasBegun && !isNewRun && !hasEnded(job.state))) return;
    this.hasBegun = true;
    if (isNewRun) this.beginRun(job.resumeCount);
    yield* this.fetchUpTo(job.errorCount + job.warningCount);
  }

  private beginRun(resumeCount: number): void {
    if (resumeCount !== this.resumeCount) this.errorsSeen = 0;
    this.resumeCount = resumeCount;
  }

  private async *fetchUpTo(count: number): AsyncGenerator<JobEvent, void, undefined> {
    while (this.errorsSeen < count) {
      const listed = (await this.fetchErrors(this.address, this.errorsSeen)).slice(0, count - this.errorsSeen);
      // The service keeps so many and counts the rest.
      if (listed.length === 0) {
        yield { type: "errors-lost", count: count - this.errorsSeen };
        this.errorsSeen = count;
        return;
      }
      this.errorsSeen += listed.length;
      yield* this.untold(listed);
    }
  }

  private *untold(listed: readonly EntryError[]): Generator<JobEvent, void, undefined> {
    const errors = this.resumeCount === 0 ? listed : listed.filter((error) => !this.errorsTold.has(keyOf(error)));
    for (const error of errors) this.errorsTold.add(keyOf(error));
    if (errors.length > 0) yield { type: "errors", errors };
  }
}

type Said = { readonly type: "lines"; readonly lines: string[] } | { readonly type: "errors"; readonly batch: ErrorBatch };

function keyOf({ path, message }: EntryError): string {
  return `${path}\0${message}`;
}
