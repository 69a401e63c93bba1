// The jobs of `cp --also` told as one: one progress, one question at a time, each error with its destination, and one result.

import { type ByteString, displayText } from "../bytes.ts";
import { hasEnded, type JobResult, type JobState, type JobView, type Question } from "../jobs/api.ts";
import { phases } from "../worker/protocol.ts";
import type { Answer, RunListener, RunningJob } from "./runner.ts";

/** A question of one of the jobs, under a number of ours. */
interface Asked {
  readonly member: number;
  readonly question: Question;
  readonly id: number;
}

export class FanOut {
  private readonly listener: RunListener;
  /** As typed. */
  private readonly destinations: readonly ByteString[];
  private readonly views = new Map<number, JobView>();
  private readonly questions: Asked[] = [];
  private asked: Asked | null = null;
  private lastQuestion = 0;
  private jobs: readonly RunningJob[] = [];

  constructor(listener: RunListener, destinations: readonly ByteString[]) {
    this.listener = listener;
    this.destinations = destinations;
  }

  /** For whoever runs the job of one destination. */
  member(index: number): RunListener {
    const { listener } = this;
    const destination = this.destinations[index] ?? ("" as ByteString);
    return {
      changed: (job) => this.changed(index, job),
      lines: listener.lines,
      errors: (errors) => listener.errors(errors, destination),
      errorsLost: listener.errorsLost,
      // Every job hears of it; once is enough.
      serviceIsBack: () => (index === 0 ? listener.serviceIsBack() : undefined),
      question: (question) => {
        this.questions.push({ member: index, question, id: ++this.lastQuestion });
        this.askNext();
      },
      memberEnded: listener.memberEnded,
    };
  }

  /** The jobs as one; `close` lets go of what they share. */
  running(jobs: readonly RunningJob[], close: () => Promise<void>): RunningJob {
    this.jobs = jobs;
    const all =
      (action: (job: RunningJob) => void): (() => void) =>
      () =>
        jobs.forEach(action);
    return {
      ended: this.ended(jobs),
      cancel: all((job) => job.cancel()),
      pause: all((job) => job.pause()),
      resume: all((job) => job.resume()),
      answer: (id, answer) => this.answer(id, answer),
      close,
    };
  }

  private async ended(jobs: readonly RunningJob[]): Promise<JobResult> {
    const results = await Promise.all(
      jobs.map(async (job, index) => {
        const result = await job.ended;
        this.listener.memberEnded(result, this.destinations[index] ?? ("" as ByteString));
        return result;
      }),
    );
    return mergedResult(results, this.destinations);
  }

  private changed(index: number, job: JobView): void {
    this.views.set(index, job);
    // It went on by itself, or somebody else has answered; what is asked about a conflict waits for its answer in any case.
    const { asked } = this;
    const isOver = asked?.member === index && asked.question.kind !== "conflict" && job.question?.id !== asked.question.id;
    if (isOver) this.asked = null;
    this.listener.changed(mergedView([...this.views.values()], this.asked));
    if (isOver) this.askNext();
  }

  private askNext(): void {
    while (this.asked === null) {
      const next = this.questions.shift();
      if (next === undefined) return;
      // The view that brought a question came before it.
      const open = this.views.get(next.member)?.question;
      if (open?.id !== next.question.id) continue;
      this.asked = next;
      this.listener.question({ ...next.question, id: next.id });
    }
  }

  private answer(id: number, answer: Answer): void {
    const { asked } = this;
    if (asked?.id !== id) return;
    this.asked = null;
    this.jobs[asked.member]?.answer(asked.question.id, answer);
    this.askNext();
  }
}

/** What most deserves to be shown of several states. */
const byWeight: readonly JobState[] = [
  "running",
  "scanning",
  "question",
  "paused",
  "finishing",
  "queued",
  "failed",
  "cancelled",
  "completed",
];

/** Sums, the least advanced phase, the latest end. */
export function mergedView(views: readonly JobView[], asked: { readonly question: Question; readonly id: number } | null): JobView {
  const open = views.filter(({ state }) => !hasEnded(state));
  const shown = open[0] ?? views[0];
  if (shown === undefined) throw new Error("there is a view of at least one job");
  const sum = (value: (view: JobView) => number): number => views.reduce((total, view) => total + value(view), 0);
  // What a failed job has not done will not be done any more.
  const total = (view: JobView, whole: number, done: number): number => (hasEnded(view.state) ? done : whole);
  return {
    ...shown,
    state: byWeight.find((state) => views.some((view) => view.state === state)) ?? shown.state,
    phase: phases.find((phase) => open.some((view) => view.phase === phase)) ?? shown.phase,
    totalsValid: views.every(({ totalsValid, state }) => totalsValid || hasEnded(state)),
    bytesTotal: sum((view) => total(view, view.bytesTotal, view.bytesDone)),
    bytesDone: sum(({ bytesDone }) => bytesDone),
    bytesCloned: sum(({ bytesCloned }) => bytesCloned),
    bytesVerified: sum(({ bytesVerified }) => bytesVerified),
    bytesToVerify: sum((view) => total(view, view.bytesToVerify, view.bytesVerified)),
    filesTotal: sum((view) => total(view, view.filesTotal, view.filesDone + view.filesSkipped)),
    filesDone: sum(({ filesDone }) => filesDone),
    filesSkipped: sum(({ filesSkipped }) => filesSkipped),
    errorCount: sum(({ errorCount }) => errorCount),
    warningCount: sum(({ warningCount }) => warningCount),
    rate: open.reduce((total_, { rate }) => total_ + rate, 0),
    expectedEndTimeUs: Math.max(0, ...open.map(({ expectedEndTimeUs }) => expectedEndTimeUs)),
    question: asked === null ? null : { ...asked.question, id: asked.id },
    result: null,
  };
}

/** Failed when one failed, else cancelled when one was; each failure's sentence with its destination. */
export function mergedResult(results: readonly JobResult[], destinations: readonly ByteString[]): JobResult {
  const failed = results.filter(({ state }) => state === "failed");
  // A process that failed says nothing of entries, and is to be told in any case.
  const worst = failed.find(({ code }) => code?.startsWith("worker-")) ?? failed[0] ?? results.find(({ state }) => state === "cancelled");
  const sum = (value: (result: JobResult) => number): number => results.reduce((total, result) => total + value(result), 0);
  const sentences = results.flatMap(({ state, message }, index) =>
    state === "failed" ? [`to ${displayText(destinations[index] ?? ("" as ByteString))}: ${message}`] : [],
  );
  const engines: Record<string, number> = {};
  for (const result of results) {
    for (const [engine, files] of Object.entries(result.engines)) engines[engine] = (engines[engine] ?? 0) + files;
  }
  return {
    state: worst?.state ?? "completed",
    ...(worst?.code !== undefined && { code: worst.code }),
    message: sentences.length > 0 ? sentences.join(" ") : ((worst ?? results[0])?.message ?? ""),
    bytesDone: sum(({ bytesDone }) => bytesDone),
    bytesCloned: sum(({ bytesCloned }) => bytesCloned),
    filesDone: sum(({ filesDone }) => filesDone),
    filesSkipped: sum(({ filesSkipped }) => filesSkipped),
    errorCount: sum(({ errorCount }) => errorCount),
    warningCount: sum(({ warningCount }) => warningCount),
    elapsedUs: Math.max(...results.map(({ elapsedUs }) => elapsedUs)),
    resumeCount: sum(({ resumeCount }) => resumeCount),
    reasons: [...new Set(results.flatMap(({ reasons }) => reasons))],
    engines,
  };
}
