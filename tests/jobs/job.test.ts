// The job's state machine: each rule by example, and the invariants over random sequences of events.

import { expect, test } from "bun:test";
import type { ByteString } from "../../src/bytes.ts";
import { CopyError } from "../../src/errors.ts";
import { hasEnded, jobStates } from "../../src/jobs/api.ts";
import { advance, type Job, newJob } from "../../src/jobs/job.ts";
import type { JobEvent } from "../../src/jobs/job-events.ts";
import { viewOf } from "../../src/jobs/job-view.ts";
import { type EntryError, emptySnapshot, phases, type Snapshot } from "../../src/worker/protocol.ts";
import { testCaller, testQuestion, testRequest } from "../support/jobs.ts";

const started: JobEvent = { type: "started", bootId: "boot", mounts: [] };
const workerEnded: JobEvent = { type: "worker-ended" };

function job(...events: readonly JobEvent[]): Job {
  const fresh = newJob({ id: 1, token: "t", workToken: "w", owner: testCaller, asAdmin: false, request: testRequest("well") }, 1000);
  return events.reduce((before, event, index) => advance(before, event, 2000 + index * 1000), fresh);
}

function snapshot(changes: Partial<Snapshot> = {}): JobEvent {
  return { type: "snapshot", snapshot: { ...emptySnapshot, ...changes } };
}

function errors(...severities: readonly EntryError["severity"][]): JobEvent {
  return { type: "errors", errors: severities.map((severity) => error(severity)) };
}

function error(severity: EntryError["severity"], code = "source-unreadable"): EntryError {
  const message = "cannot open 'f\xc3\xbc': Permission denied";
  return { path: "/f" as ByteString, side: "source", code, errno: 13, syscall: "openat", message, severity, engine: "", offset: -1 };
}

function result(outcome: "completed" | "failed" | "cancelled" | "interrupted", changes: Partial<Snapshot> = {}): JobEvent {
  return { type: "result", claim: { outcome, engines: {}, reasons: [] }, snapshot: { ...emptySnapshot, ...changes } };
}

function codeOf(before: Job, event: JobEvent): string {
  try {
    advance(before, event, 9000);
  } catch (cause) {
    return cause instanceof CopyError ? cause.code : String(cause);
  }
  return "allowed";
}

test("the worker's phases are the job's states", () => {
  expect(job().state).toBe("queued");
  expect(job(started).state).toBe("scanning");
  expect(job(started, snapshot({ phase: "copying" })).state).toBe("running");
  expect(job(started, snapshot({ phase: "copying", paused: true })).state).toBe("paused");
  expect(job(started, snapshot({ phase: "flushing" })).state).toBe("finishing");
  expect(job(started, snapshot({ phase: "verifying" })).state).toBe("finishing");
  expect(viewOf(job(started, snapshot({ phase: "flushing" }))).pausable).toBe(false);
  expect(viewOf(job(started, snapshot({ phase: "verifying" }))).pausable).toBe(true);
  expect(job(started, { type: "question", question: testQuestion }).state).toBe("question");
  expect(job(started, result("completed")).state).toBe("finishing");
  expect(job(started, result("completed"), workerEnded).state).toBe("completed");
});

test("a worker's last word does not end the job: its death does", () => {
  const claimed = job(started, result("completed"));
  expect(viewOf(claimed).result).toBeNull();
  expect(viewOf(advance(claimed, workerEnded, 9000)).result?.state).toBe("completed");
});

const died: JobEvent = { type: "worker-failed", failure: { code: "worker-died", message: "It died.", mayGoOn: true } };

test("a job whose worker dies waits to go on, with what was done and without the errors, which are found again", () => {
  const done = { phase: "copying", totalsValid: true, bytesTotal: 100, bytesDone: 60, filesTotal: 9, filesDone: 4 } as const;
  const dead = job(started, snapshot(done), errors("error", "warning"), died);
  expect(viewOf(dead)).toMatchObject({ state: "queued", result: null, pausable: true });
  const waiting = advance(dead, workerEnded, 9000);
  expect(viewOf(waiting)).toMatchObject({ state: "queued", bytesDone: 60, rate: 0, resumeCount: 0, startedTimeUs: 2000 });
  const again = advance(waiting, { type: "started", bootId: "another", mounts: [] }, 10_000);
  expect(viewOf(again)).toMatchObject({ state: "scanning", bytesDone: 60, bytesTotal: 100, totalsValid: true, filesDone: 4 });
  expect(viewOf(again)).toMatchObject({ errorCount: 0, warningCount: 0, resumeCount: 1, startedTimeUs: 2000 });
  expect([again.bootId, again.firstError]).toEqual(["boot", null]);
  const ended = [snapshot({ ...done, bytesDone: 70 }), result("completed", { bytesDone: 100, filesDone: 9 }), workerEnded];
  const last = ended.reduce((before, event, index) => advance(before, event, 11_000 + index), again);
  expect(last.result).toMatchObject({ state: "completed", bytesDone: 100, resumeCount: 1, elapsedUs: 9002 });
});

test("three further workers are started without progress between them, then the job fails and says how often it was tried", () => {
  let now = job(started, snapshot({ bytesDone: 5 }));
  for (const resumed of [0, 1, 2, 3]) {
    expect(now.attempts.resumed).toBe(resumed);
    now = [died, workerEnded].reduce((before, event) => advance(before, event, 9000), now);
    if (resumed < 3) now = advance(now, started, 9000);
  }
  expect(now.result).toMatchObject({ state: "failed", code: "worker-died", resumeCount: 3 });
  expect(now.result?.message).toBe("It died. It was tried 4 times without getting any further.");
});

test("a worker that gets further than the one before it is followed by others", () => {
  let now = job(started);
  for (let bytesDone = 1; bytesDone <= 20; bytesDone++) {
    now = [snapshot({ bytesDone }), died, workerEnded, started].reduce((before, event) => advance(before, event, 9000), now);
    expect(now.state).toBe("scanning");
  }
  expect(now.attempts).toMatchObject({ resumed: 20, deaths: 1, deathsInAll: 20 });
});

test("an orderly stop keeps what a job is: one that ran waits, a paused one stays paused, one that asked will ask again", () => {
  const stop: JobEvent = { type: "stop-requested" };
  const end = [result("interrupted"), workerEnded];
  expect(viewOf(job(started, snapshot({ bytesDone: 7 }), stop, ...end))).toMatchObject({ state: "queued", bytesDone: 7 });
  expect(job(started, { type: "pause-requested" }, snapshot({ paused: true }), stop, ...end).state).toBe("paused");
  const asking = job(started, { type: "question", question: testQuestion }, stop, ...end);
  expect([asking.state, asking.question]).toEqual(["queued", null]);
  // Too late, too slow, or both.
  expect(job(started, stop, result("completed"), workerEnded).state).toBe("completed");
  expect(job(started, stop, died, workerEnded).state).toBe("queued");
  expect(job(started, { type: "cancel-requested" }, stop, ...end).result).toMatchObject({ state: "cancelled", code: "cancelled" });
});

test("answers for all stand for the workers to come, the last one of a kind", () => {
  const answer = (choice: "skip" | "overwrite", forAll: boolean): JobEvent => ({ type: "answered", question: 7, choice, forAll });
  const ask: JobEvent = { type: "question", question: testQuestion };
  expect(job(started, ask, answer("skip", false)).standingAnswers).toEqual([]);
  const all = job(started, ask, answer("skip", true), ask, answer("overwrite", true));
  expect(all.standingAnswers).toEqual([{ kind: "conflict", choice: "overwrite" }]);
});

test("an answer that the question does not take is refused, and the question stays open", () => {
  const asking = job(started, { type: "question", question: testQuestion });
  const answer: JobEvent = { type: "answered", question: 7, choice: "retry", forAll: false };
  expect(() => advance(asking, answer, 9000)).toThrow("question 7 takes overwrite, skip, rename, newer, abort, not retry");
  expect(asking.state).toBe("question");
});

test("a job that waits to go on can be cancelled, and ends once its remains are removed", () => {
  const cancelled = job(started, died, workerEnded, { type: "cancel-requested" });
  expect(viewOf(cancelled)).toMatchObject({ cancelable: true, result: null });
  const cleared = advance(advance(cancelled, { type: "clearing" }, 9000), workerEnded, 9000);
  expect(cleared.result).toMatchObject({ state: "cancelled", code: "cancelled" });
});

test("a service that ends without an order loses no job: they go on, or end as they were about to", () => {
  expect(job(started, { type: "service-lost" }, workerEnded).state).toBe("queued");
  expect(job(started, { type: "pause-requested" }, { type: "service-lost" }, workerEnded).state).toBe("paused");
  expect(job(started, result("completed"), { type: "service-lost" }, workerEnded).state).toBe("completed");
  expect(job(started, { type: "cancel-requested" }, { type: "service-lost" }, workerEnded).state).toBe("cancelled");
  const waiting = job({ type: "pause-requested" });
  expect(advance(waiting, { type: "service-lost" }, 9000)).toBe(waiting);
});

const outcomes: readonly (readonly [what: string, events: readonly JobEvent[], state: string, code: string | undefined])[] = [
  ["nothing went wrong", [result("completed")], "completed", undefined],
  ["only warnings", [errors("warning"), result("completed")], "completed", undefined],
  ["an error was received and success is claimed", [errors("error"), result("completed")], "failed", "source-unreadable"],
  ["an error is claimed and none was received", [result("completed", { errorCount: 1 })], "failed", "worker-protocol"],
  ["an error was claimed once and is denied later", [snapshot({ errorCount: 1 }), result("completed")], "failed", "worker-protocol"],
  ["failure is claimed without an error", [result("failed")], "failed", "worker-protocol"],
  ["no result came", [], "failed", "worker-died"],
  ["cancelled as asked", [{ type: "cancel-requested" }, result("cancelled")], "cancelled", "cancelled"],
  [
    "cancelled by an answer",
    [{ type: "question", question: testQuestion }, { type: "answered", question: 7, choice: "abort", forAll: false }, result("cancelled")],
    "cancelled",
    "cancelled",
  ],
  ["cancelled though nobody asked", [result("cancelled")], "failed", "worker-died"],
  ["cancelled too late", [{ type: "cancel-requested" }, result("completed")], "completed", undefined],
  ["cancelled after errors", [errors("error"), { type: "cancel-requested" }, result("cancelled")], "cancelled", "cancelled"],
  [
    "the worker failed",
    [{ type: "worker-failed", failure: { code: "worker-silent", message: "x", mayGoOn: false } }],
    "failed",
    "worker-silent",
  ],
  [
    "the worker failed while it was cancelled",
    [{ type: "cancel-requested" }, { type: "worker-failed", failure: { code: "worker-silent", message: "x", mayGoOn: false } }],
    "failed",
    "worker-silent",
  ],
  [
    "a result after the worker's failure",
    [{ type: "worker-failed", failure: { code: "worker-protocol", message: "x", mayGoOn: false } }, result("completed")],
    "failed",
    "worker-protocol",
  ],
];

for (const [what, events, state, code] of outcomes) {
  test(`the outcome when ${what}: ${state}`, () => {
    const ended = job(started, ...events, workerEnded);
    expect(ended.state).toBe(state as Job["state"]);
    expect(ended.result?.code).toBe(code as undefined);
    expect(ended.result?.message.length).toBeGreaterThan(0);
  });
}

test("messages for people are UTF-8, not the bytes of names", () => {
  expect(job(started, errors("error"), result("failed"), workerEnded).result?.message).toBe("cannot open 'fü': Permission denied");
});

test("a job that waits can be paused, resumed and cancelled without a worker", () => {
  expect(job({ type: "pause-requested" }).state).toBe("paused");
  expect(codeOf(job({ type: "pause-requested" }), started)).toBe("invalid-state");
  expect(job({ type: "pause-requested" }, { type: "resume-requested" }).state).toBe("queued");
  const cancelled = job({ type: "cancel-requested" });
  expect(viewOf(cancelled)).toMatchObject({ state: "cancelled", startedTimeUs: 0, cancelable: false, pausable: false });
  expect(cancelled.result?.elapsedUs).toBe(0);
});

test("a flushing or cancelled job cannot be paused, an ended one takes no request at all", () => {
  expect(codeOf(job(started, snapshot({ phase: "flushing" })), { type: "pause-requested" })).toBe("invalid-state");
  expect(codeOf(job(started, { type: "cancel-requested" }), { type: "pause-requested" })).toBe("invalid-state");
  const ended = job(started, result("completed"), workerEnded);
  const requests: readonly JobEvent[] = [
    { type: "pause-requested" },
    { type: "resume-requested" },
    { type: "cancel-requested" },
    { type: "options-changed", bandwidthLimit: 1 },
    { type: "answered", question: 7, choice: "skip", forAll: false },
    started,
  ];
  for (const request of requests) expect(codeOf(ended, request)).toBe("invalid-state");
});

test("a request whose goal is reached changes nothing", () => {
  const running = job(started, snapshot({ phase: "copying" }));
  expect(advance(running, { type: "resume-requested" }, 9000)).toBe(running);
  expect(advance(running, { type: "options-changed", bandwidthLimit: 0 }, 9000)).toBe(running);
  const paused = job({ type: "pause-requested" });
  expect(advance(paused, { type: "pause-requested" }, 9000)).toBe(paused);
});

test("a pause counts also while the worker has yet to say that the one before it is over", () => {
  const asked = { type: "pause-requested" } as const;
  const resumed = job(started, snapshot({ phase: "copying" }), asked, snapshot({ paused: true }), { type: "resume-requested" });
  expect(resumed.state).toBe("paused");
  // The next service is to find it paused.
  expect(advance(resumed, asked, 9000)).toMatchObject({ state: "paused", pauseRequested: true });
});

test("changed options show in the view, and the request that tokens are compared with stays", () => {
  const changed = job(started, { type: "options-changed", bandwidthLimit: 5, priority: "low" });
  expect(viewOf(changed).request.options).toMatchObject({ bandwidthLimit: 5, priority: "low" });
  expect(changed.request.options).toMatchObject({ bandwidthLimit: 0, priority: "normal" });
});

test("what a worker says out of turn is ignored", () => {
  const said = [
    snapshot({ bytesDone: 5 }),
    errors("error"),
    { type: "question", question: testQuestion } as const,
    result("completed"),
    workerEnded,
  ];
  const queued = job();
  for (const event of said) expect(advance(queued, event, 9000)).toBe(queued);
  const ended = job(started, result("completed"), workerEnded);
  for (const event of said) expect(advance(ended, event, 9000)).toBe(ended);
});

test("over random events the invariants hold", () => {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  const random = generator(seed);
  try {
    for (let round = 0; round < 3000; round++) walk(random);
  } catch (cause) {
    console.error(`TEST_SEED=${seed} repeats this`);
    throw cause;
  }
});

/** One job's life under random events: every step is checked against the step before. */
function walk(random: () => number): void {
  let before = freeze(job());
  let errorsSent = 0;
  let claimedErrors = 0;
  let nowUs = 2000;
  for (let step = 0; step < 40; step++) {
    const event = freeze(randomEvent(random));
    nowUs += Math.floor((random() - 0.1) * 200_000);
    const heard = before.activity === "working" && before.claim === null && before.workerFailure === null;
    let after: Job;
    try {
      after = freeze(advance(before, event, nowUs));
    } catch (cause) {
      if (!(cause instanceof CopyError)) throw cause;
      expect(cause.code).toBe("invalid-state");
      continue;
    }
    if (heard && event.type === "errors") errorsSent += event.errors.filter(({ severity }) => severity === "error").length;
    if (heard && (event.type === "snapshot" || event.type === "result")) {
      claimedErrors = Math.max(claimedErrors, event.snapshot.errorCount);
    }
    if (isResume(before, after)) errorsSent = claimedErrors = 0;
    checkStep(before, after);
    checkOutcome(after, Math.max(errorsSent, claimedErrors));
    before = after;
  }
}

function isResume(before: Job, after: Job): boolean {
  return after.attempts.resumed > before.attempts.resumed;
}

function checkStep(before: Job, after: Job): void {
  expect(jobStates).toContain(after.state);
  if (hasEnded(before.state)) expect(after).toBe(before);
  const [one, other] = [viewOf(before), viewOf(after)];
  // The worker's last word tells what lies on disk: less than the bar had shown, where files failed in the middle.
  const isLastWord = before.claim === null && after.claim !== null && after.claim.outcome !== "interrupted";
  const counters = isLastWord ? [] : (["bytesDone", "bytesCloned", "filesDone", "filesSkipped"] as const);
  for (const name of counters) expect(other[name]).toBeGreaterThanOrEqual(one[name]);
  // Whoever goes on looks again from the start, and finds the errors again.
  if (isResume(before, after)) expect([other.errorCount, other.warningCount, other.phase]).toEqual([0, 0, "scanning"]);
  else {
    for (const name of ["errorCount", "warningCount"] as const) expect(other[name]).toBeGreaterThanOrEqual(one[name]);
    expect(phases.indexOf(other.phase)).toBeGreaterThanOrEqual(phases.indexOf(one.phase));
  }
  expect(after.activity === "none" || !hasEnded(after.state)).toBe(true);
  if (after.activity === "none" && !hasEnded(after.state)) expect(["queued", "paused"]).toContain(after.state);
  expect(other.bytesTotal).toBeGreaterThanOrEqual(other.bytesDone);
  expect(other.filesTotal).toBeGreaterThanOrEqual(other.filesDone);
  if (one.totalsValid) {
    expect(other.totalsValid).toBe(true);
    if (!isLastWord) expect(other.bytesDone * one.bytesTotal).toBeGreaterThanOrEqual(one.bytesDone * other.bytesTotal - 1);
  }
  expect(Number.isFinite(other.rate) && other.rate >= 0).toBe(true);
  expect(Number.isSafeInteger(other.expectedEndTimeUs) && other.expectedEndTimeUs >= 0).toBe(true);
  expect(other.question !== null).toBe(other.state === "question");
  expect(other.result !== null).toBe(hasEnded(other.state));
  expect(other.finishedTimeUs !== 0).toBe(hasEnded(other.state));
  if (other.startedTimeUs === 0) expect(["queued", "paused", "cancelled"]).toContain(other.state);
  else if (other.finishedTimeUs !== 0) expect(other.finishedTimeUs).toBeGreaterThanOrEqual(other.startedTimeUs);
}

function checkOutcome(after: Job, errorCount: number): void {
  if (after.result === null) return;
  const { state, code } = after.result;
  expect(after.result.errorCount).toBe(errorCount);
  const isStopped = after.claim === null || after.claim.outcome === "cancelled" || after.claim.outcome === "interrupted";
  const cancelledAsAsked = after.cancelRequested && after.workerFailure === null && isStopped;
  const wrong = errorCount > 0 || after.workerFailure !== null || after.claim?.outcome !== "completed";
  expect(state).toBe(cancelledAsAsked ? "cancelled" : wrong ? "failed" : "completed");
  expect(code === undefined).toBe(state === "completed");
}

function randomEvent(random: () => number): JobEvent {
  const pick = <Value>(values: readonly [Value, ...Value[]]): Value => values[Math.floor(random() * values.length)] ?? values[0];
  const count = (): number => Math.floor(random() * 1000);
  const shot = (): Snapshot => ({
    ...emptySnapshot,
    phase: pick(["scanning", "scanning", "copying", "copying", "copying", "flushing", "verifying"]),
    paused: random() < 0.2,
    totalsValid: random() < 0.5,
    bytesTotal: random() < 0.02 ? Number.MAX_SAFE_INTEGER : count(),
    bytesDone: count(),
    filesTotal: count(),
    filesDone: count(),
    filesSkipped: count(),
    errorCount: random() < 0.05 ? 3 : 0,
  });
  const events: readonly [() => JobEvent, ...(() => JobEvent)[]] = [
    () => started,
    () => started,
    () => ({ type: "snapshot", snapshot: shot() }),
    () => ({ type: "snapshot", snapshot: shot() }),
    () => ({ type: "snapshot", snapshot: shot() }),
    () => (random() < 0.3 ? errors("error", "warning") : errors("warning")),
    () => ({ type: "question", question: testQuestion }),
    () => ({ type: "answered", question: pick([7, 8]), choice: pick(["skip", "overwrite", "abort"]), forAll: random() < 0.3 }),
    () => ({ type: "pause-requested" }),
    () => ({ type: "resume-requested" }),
    () => (random() < 0.3 ? { type: "cancel-requested" } : { type: "resume-requested" }),
    () => ({ type: "options-changed", bandwidthLimit: count() }),
    () =>
      random() < 0.3
        ? {
            type: "result",
            claim: { outcome: pick(["completed", "completed", "failed", "cancelled", "interrupted"]), engines: {}, reasons: [] },
            snapshot: shot(),
          }
        : started,
    () =>
      random() < 0.2
        ? { type: "worker-failed", failure: { code: "worker-died", message: "x", mayGoOn: random() < 0.7 } }
        : random() < 0.2
          ? { type: "service-lost" }
          : started,
    () => (random() < 0.1 ? { type: "stop-requested" } : { type: "clearing" }),
    () => (random() < 0.3 ? workerEnded : started),
  ];
  return pick(events)();
}

/** Mulberry32: small, seeded, good enough to vary tests. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Whoever changes what it was given fails. */
function freeze<Value>(value: Value): Value {
  if (typeof value !== "object" || value === null || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const inner of Object.values(value)) freeze(inner);
  return value;
}
