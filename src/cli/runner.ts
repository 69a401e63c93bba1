// What cp and mv need of whoever runs their job: this process itself (embedded) or the service. Both satisfy one interface.

import type { ByteString } from "../bytes.ts";
import type { AlsoTo, JobResult, JobView, Question } from "../jobs/api.ts";
import type { JobRequest } from "../request.ts";
import type { AnswerChoice, EntryError } from "../worker/protocol.ts";

export interface RunListener {
  /** The job as it is now; some times a second, and at once when its state changes. */
  readonly changed: (job: JobView) => void;
  /** Lines of -v and --debug, latin1 bytes without newline. */
  readonly lines: (lines: readonly string[]) => void;
  /** In the order in which they happened, each once, all of them before the end. With several destinations: of which, as typed. */
  readonly errors: (errors: readonly EntryError[], destination?: ByteString) => void;
  /** One of several destinations has come to its end. */
  readonly memberEnded: (result: JobResult, destination: ByteString) => void;
  /** So many more were not kept by the service for as long as it took to ask for them. */
  readonly errorsLost: (count: number) => void;
  /** The service that runs the job had gone and is there again. */
  readonly serviceIsBack: () => void;
  /** Once for each question; the job waits for the answer. */
  readonly question: (question: Question) => void;
}

export type Answer = Extract<AnswerChoice, "overwrite" | "skip" | "retry" | "continue" | "abort">;

/** A job on its way. Whoever started it closes it. */
export interface RunningJob {
  /** Never rejects for what happens to the copy; a lost service does reject it, with CopyError. */
  readonly ended: Promise<JobResult>;
  /** Asks it to end soon and in good order; what is finished stays. Harmless after the end. */
  cancel(): void;
  /** Stops reading and writing until `resume`; harmless when it cannot be. */
  pause(): void;
  resume(): void;
  answer(question: number, answer: Answer): void;
  /** Lets go of connections and processes. After the end, or in place of it. */
  close(): Promise<void>;
}

export interface RunOptions {
  /** 0: adapt. Only the embedded mode is told; the service decides for itself. */
  readonly lanes: number;
  /** Count what there is to copy, for a percentage. Embedded mode only; the service always does. */
  readonly totals: boolean;
  /** A job for each of these beside the request's own destination, told as one. */
  readonly alsoTo: readonly AlsoTo[];
}

/** The destinations as typed, for messages. */
export function typedDestinations(request: JobRequest, alsoTo: readonly AlsoTo[]): ByteString[] {
  const first = request.options.gnu.names?.destination ?? request.destination;
  return [first, ...alsoTo.map(({ destination, typed }) => typed ?? destination)];
}

/** Starts a job. Throws CopyError when it is not taken. */
export type Runner = (request: JobRequest, listener: RunListener, options: RunOptions) => Promise<RunningJob>;

/** Calls `ask` for each question of a job's views once, though every view repeats it. */
export function newQuestions(ask: (question: Question) => void): (job: JobView) => void {
  let asked = -1;
  let resumed = 0;
  return ({ question, resumeCount }) => {
    // Whoever goes on with a job counts its questions anew.
    if (resumeCount !== resumed) asked = -1;
    resumed = resumeCount;
    if (question === null || question.id <= asked) return;
    asked = question.id;
    ask(question);
  };
}
