// What the jobs room offers the D-Bus service and the CLI's embedded mode: the types both sides agree on.

import type { ByteString } from "../bytes.ts";
import type { FailureCode } from "../errors.ts";
import type { EngineChoice, JobRequest } from "../request.ts";
import type { AnswerChoice, EntryError, Phase, PlannedOperation, PreviewSummary, QuestionKind } from "../worker/protocol.ts";

/** Who asks, as the bus (or, embedded, the kernel) says; never as the caller says. */
export interface Caller {
  readonly uid: number;
  /** The primary gid from the user database; it is among `groups`. */
  readonly gid: number;
  /** All groups including the primary one. */
  readonly groups: readonly number[];
}

export const jobStates = ["queued", "scanning", "running", "paused", "question", "finishing", "completed", "failed", "cancelled"] as const;
export type JobState = (typeof jobStates)[number];

/** True for the states that nothing leaves. */
export function hasEnded(state: JobState): boolean {
  return state === "completed" || state === "failed" || state === "cancelled";
}

export interface Question {
  readonly id: number;
  readonly kind: QuestionKind;
  readonly source: ByteString;
  readonly destination: ByteString;
  /** Where the trouble is: a mount point; "" for a conflict. */
  readonly filesystem: ByteString;
  /** Needed and free there; -1: not known, or not a matter of bytes. */
  readonly neededBytes: number;
  readonly freeBytes: number;
  /** The prompt without the program's name, as in the worker's message: latin1 bytes, ending in "? ". */
  readonly message: string;
}

/** What a job came to; `code` is absent for a completed job. */
export interface JobResult {
  readonly state: "completed" | "failed" | "cancelled";
  readonly code?: FailureCode;
  /** One sentence for a person. */
  readonly message: string;
  readonly bytesDone: number;
  readonly bytesCloned: number;
  readonly filesDone: number;
  readonly filesSkipped: number;
  readonly errorCount: number;
  readonly warningCount: number;
  /** Microseconds from start to end. */
  readonly elapsedUs: number;
  /** How often the job was taken up again after its process or the service had ended. */
  readonly resumeCount: number;
  /** Why these engines and lanes. */
  readonly reasons: readonly string[];
  /** Files by engine. */
  readonly engines: Readonly<Partial<Record<EngineChoice, number>>>;
}

/** Of one reading. Each is a process of its own; whoever needs more copies on from one of the copies. */
export const maxDestinations = 8;

/** TOKEN for the first, TOKEN_2, TOKEN_3 and so on for the others. */
export function memberToken(token: string, index: number): string {
  return index === 0 ? token : `${token}_${index + 1}`;
}

/** A further destination, and how it was typed where there is a command line. */
export interface AlsoTo {
  readonly destination: ByteString;
  readonly typed?: ByteString;
}

/** The jobs of one fan-out: each copies the same to a destination of its own. */
export interface GroupView {
  /** The first job's. */
  readonly token: string;
  /** The tokens of all, in the order of the destinations asked for. They may have been forgotten. */
  readonly members: readonly string[];
}

/** A job as seen from outside at one moment; an immutable snapshot. Times are microseconds of CLOCK_REALTIME, 0 is "not yet". */
export interface JobView {
  readonly token: string;
  readonly owner: Caller;
  readonly asAdmin: boolean;
  /** null: it is alone. */
  readonly group: GroupView | null;
  readonly request: JobRequest;
  /** Connections whose last one's end is to be its own, by the names that the service gave them. */
  readonly companions: readonly string[];
  readonly state: JobState;
  /** Why it waits, while queued: a sentence without its stop; "" where its turn just comes. */
  readonly waitReason: string;
  /** Which of its owner's jobs it is in the queue, from 1; 0 while it does not wait there. */
  readonly queuePosition: number;
  readonly phase: Phase;
  readonly createdTimeUs: number;
  readonly startedTimeUs: number;
  readonly finishedTimeUs: number;
  readonly totalsValid: boolean;
  readonly bytesTotal: number;
  readonly bytesDone: number;
  readonly bytesCloned: number;
  /** Read back off the medium and compared, of what is to be: bytesTotal where the job verifies hashes, else 0. */
  readonly bytesVerified: number;
  readonly bytesToVerify: number;
  readonly filesTotal: number;
  readonly filesDone: number;
  readonly filesSkipped: number;
  readonly errorCount: number;
  readonly warningCount: number;
  /** Bytes a second, smoothed over the last seconds. */
  readonly rate: number;
  readonly expectedEndTimeUs: number;
  readonly currentFile: ByteString;
  readonly engine: EngineChoice;
  readonly question: Question | null;
  readonly resumeCount: number;
  readonly result: JobResult | null;
  readonly cancelable: boolean;
  readonly pausable: boolean;
}

/** Which jobs are looked for. null: whatever it is. */
export interface JobQuery {
  readonly uid: number | null;
  /** Also those that ended so long ago that they are no objects any more. */
  readonly history: boolean;
  readonly states: readonly JobState[] | null;
  /** How the token begins. */
  readonly token: string | null;
  /** Made at this time or later, and before that time, microseconds of CLOCK_REALTIME; no two jobs are made at the same one. */
  readonly sinceUs: number | null;
  readonly beforeUs: number | null;
  /** At most so many, the newest. */
  readonly limit: number;
}

export const statisticsKeys = ["day", "user", "source", "destination"] as const;
export const statisticsOrders = ["latest", "largest", "longest", "slowest", "busiest"] as const;

/** Ended jobs put together by a key. Times are those of the jobs' ends, microseconds of CLOCK_REALTIME. */
export interface StatisticsQuery {
  readonly by: (typeof statisticsKeys)[number];
  readonly uid: number | null;
  readonly sinceUs: number | null;
  readonly untilUs: number | null;
  readonly order: (typeof statisticsOrders)[number];
  readonly limit: number;
}

export interface StatisticsRow {
  /** A day of the machine's own as 2026-11-22, a uid in digits, a job's destination or its first source. */
  readonly key: ByteString;
  readonly jobs: number;
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  readonly files: number;
  readonly bytes: number;
  readonly errors: number;
  /** Of all the jobs, one after the other. */
  readonly elapsedUs: number;
}

/** What may change while a job waits or runs. */
export interface OptionChanges {
  readonly bandwidthLimit?: number;
  readonly priority?: JobRequest["options"]["priority"];
  /** Before or behind its owner's other waiting jobs of the same priority. */
  readonly position?: "first" | "last";
}

export interface JobsEvents {
  readonly added: (job: JobView) => void;
  /** Forgotten, by its owner or by time. */
  readonly removed: (job: JobView) => void;
  /** Anything in the view changed; `urgent` for state changes and questions, which are not to be coalesced. */
  readonly changed: (job: JobView, urgent: boolean) => void;
  readonly ended: (job: JobView) => void;
  /** -v and --debug lines as latin1 bytes; embedded mode prints them. */
  readonly lines: (job: JobView, lines: readonly string[]) => void;
  /** All of them, also those beyond what is kept; `offset`: how many this run of the job had before. */
  readonly errors: (job: JobView, errors: readonly EntryError[], offset: number) => void;
}

export interface PreviewOptions {
  /** Operations, and bytes of their paths, that are told at most; all are counted. */
  readonly maxOperations: number;
  readonly maxBytes: number;
  /** Ends it: nobody wants to know any more. */
  readonly signal: AbortSignal;
  readonly onOperations: (operations: readonly PlannedOperation[]) => void;
}

export interface Preview {
  readonly summary: PreviewSummary;
  /** Microseconds that the copy would take by the rate of the owner's last jobs; null where there are none to go by. */
  readonly expectedTimeUs: number | null;
}

export interface SubmitOptions {
  /** With root's rights instead of the caller's. */
  readonly asAdmin?: boolean;
  /** A connection that the job is to end with; kept with the job. */
  readonly companion?: string;
  /** Several times what one user may have waiting: an administrator allows it. */
  readonly beyondLimits?: boolean;
  /** Further destinations: a job for each, which share one reading of the sources. Copies only. */
  readonly alsoTo?: readonly AlsoTo[];
}

/** What becomes of what a cancelled job has finished. */
export type Published = "keep" | "remove";

/** Whom a wish is for: one job, or all of its fan-out. */
export type Scope = "job" | "group";

/**
 * The jobs of all users. Authorization by ownership is the service's: it looks a job up by the caller's uid before it calls.
 * Every method throws CopyError with the codes named.
 */
export interface Jobs {
  /**
   * Queues a job and returns at once; with several destinations a job for each, of which this is the first, all or none. The same
   * uid, token and request give the existing job. Throws job-exists, limits-exceeded, shutting-down, and for several destinations
   * not-supported, bad-option, invalid-arguments.
   */
  submit(caller: Caller, token: string | null, request: JobRequest, options?: SubmitOptions): JobView;
  /**
   * Says what a copy would do, and does nothing. Throws not-supported for what cannot be foreseen, limits-exceeded, shutting-down,
   * cancelled (by the signal), and what keeps the worker from it.
   */
  preview(caller: Caller, request: JobRequest, options: PreviewOptions): Promise<Preview>;
  /** Also a job that ended long ago, as long as it is remembered. */
  get(uid: number, token: string): JobView | undefined;
  /** Own jobs, or everybody's for null, as far as they are objects; newest last. */
  list(uid: number | null): readonly JobView[];
  /** Newest last. */
  /** The jobs of its fan-out that are still objects, itself included; none for a job that is alone. */
  group(job: JobView): readonly JobView[];
  search(query: JobQuery): readonly JobView[];
  statistics(query: StatisticsQuery): readonly StatisticsRow[];
  /**
   * invalid-state when it has ended; of a fan-out those that can be are steered, and it is refused when none can. `published`: what
   * becomes of its copies; not-supported for what cannot be taken back: moves, and jobs that make links.
   */
  cancel(job: JobView, scope?: Scope, published?: Published): void;
  pause(job: JobView, scope?: Scope): void;
  resume(job: JobView, scope?: Scope): void;
  /** invalid-state when it has ended, or is to change its place and does not wait. */
  setOptions(job: JobView, changes: OptionChanges): void;
  /** Keeps a further connection that the job, if it has not ended, is to end with. */
  accompany(job: JobView, companion: string): void;
  /** invalid-state for another question than the one asked, invalid-arguments for a choice that it does not offer. */
  answer(job: JobView, question: number, choice: AnswerChoice, forAll: boolean): void;
  errors(job: JobView, offset: number, limit: number): readonly EntryError[];
  /** Drops an ended job; invalid-state when it has not ended. */
  forget(job: JobView): void;
  on<Name extends keyof JobsEvents>(event: Name, listener: JobsEvents[Name]): void;
  counts(): { readonly active: number; readonly queued: number };
  /** Refuses new jobs, stops the workers and resolves when all have ended. With a store, the next service takes the jobs up again. */
  shutdown(): Promise<void>;
}
