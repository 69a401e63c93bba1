// The worker process: checks who it is, confines itself, starts its lanes, and reports about them ten times a second.

import type { FailureCode } from "../errors.ts";
import { libc } from "../ffi/libc.ts";
import { engineNames } from "../request.ts";
import { openCheckpoint } from "./checkpoint-file.ts";
import { raiseDescriptorLimit } from "./descriptor-limit.ts";
import { isMarked, reliesOnFlush } from "./flush.ts";
import { GivenAnswers } from "./given-answers.ts";
import { type GuardedPaths, guardedPaths, guardedRequest } from "./guarded-paths.ts";
import { currentIdentity, verifyIdentity } from "./identity.ts";
import { JobTalk } from "./job-talk.ts";
import { LaneCount } from "./lane-count.ts";
import { LaneMeter } from "./lane-meter.ts";
import { whyInOrder } from "./lane-order.ts";
import { Lanes, openRecord } from "./lanes.ts";
import { mayBeLone } from "./lone-request.ts";
import { withMounts } from "./policy-mounts.ts";
import { PreviewJob } from "./preview-job.ts";
import { applyPriority } from "./priority.ts";
import { nameProcess } from "./process-name.ts";
import { maxToldPath, type ParentMessage, phases, type QuestionKind, type Snapshot, snapshotIntervalMs } from "./protocol.ts";
import { giveAnswer, standFor } from "./questions.ts";
import { RecoveryJob } from "./recovery-job.ts";
import type { LaneMessage } from "./reporter.ts";
import { confine, previewPaths, type SandboxPaths, sandboxPaths } from "./sandbox.ts";
import { Command, Counter, Float, Word } from "./shared.ts";
import { planSpace, type SpacePlan } from "./space-check.ts";
import { selfName } from "./spawn.ts";
import { type UnflushedBytes, unflushedBytes } from "./unflushed.ts";

type StartMessage = Extract<ParentMessage, { type: "start" }>;
type RecoverMessage = Extract<ParentMessage, { type: "recover" }>;
type PreviewMessage = Extract<ParentMessage, { type: "preview" }>;

/** A job whose first lane works for longer than this is worth a second thread, which costs some 5 ms and 5 MB. Milliseconds. */
const secondLaneAfterMs = 3;
/** A copy that is over by then needs no percentage, and counting takes a processor from the lanes. Milliseconds. */
const totalsAfterMs = 1000;
/** How long a worker whose parent has died may take to stop. Milliseconds. */
const orphanMs = 5_000;
/** What is over by then is copied twice after a power cut, if need be. Milliseconds. */
const marksAfterMs = 1000;
/** So long the thread that counts may take until it makes the marks: then there is another one for them. Milliseconds. */
const countingMs = 2000;
/** How long an orderly stop waits for the checkpoint's flush, within the five seconds that it may take. */
const stopFlushMs = 4000;

/** Speaks the protocol on stdin and stdout. Resolves with the exit status. */
export async function work(): Promise<number> {
  nameProcess(selfName);
  const talk = new JobTalk();
  return new Promise(() => {
    // Not by letting the event loop run dry: lanes that sleep and the pipe from the parent would keep it going.
    const resolve = (status: number): void => process.exit(status);
    let job: RunningJob | PreviewJob | RecoveryJob | null = null;
    const onMessage = (message: ParentMessage): void => {
      if (message.type === "start" || message.type === "recover" || message.type === "preview") {
        if (job === null) job = beginOrTell(talk, message, resolve);
      } else job?.receive(message);
    };
    // Without a parent nobody records what is in flight: stop, leaving nothing unfinished but what a checkpoint names.
    const onEnd = (): void => {
      if (job === null) resolve(1);
      else job.receive({ type: "stop" });
      // A lane may sleep in the kernel for ever, as in opening a FIFO that nobody reads; the record says what is unfinished.
      setTimeout(() => resolve(1), orphanMs);
    };
    talk.listen(onMessage, onEnd).catch((cause: unknown) => {
      process.stderr.write(`worker: ${cause instanceof Error ? cause.message : String(cause)}\n`);
      if (job === null) resolve(1);
    });
  });
}

/** As begin. What keeps it from beginning at all, as too little memory for its lists, is for the parent to hear. */
function beginOrTell(...[talk, message, resolve]: Parameters<typeof begin>): ReturnType<typeof begin> {
  try {
    return begin(talk, message, resolve);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    return refuse(talk, resolve, { code: "worker-start", message: `The copying process could not begin: ${reason}.` });
  }
}

function begin(
  talk: JobTalk,
  message: StartMessage | RecoverMessage | PreviewMessage,
  resolve: (status: number) => void,
): RunningJob | PreviewJob | RecoveryJob | null {
  // Before the sandbox, which does not let /proc be read.
  const identity = currentIdentity();
  const unflushed = message.type === "start" && message.totals ? unflushedBytes(message.request) : null;
  const refusal = message.identity === null ? null : verifyIdentity(message.identity);
  const guarded =
    refusal === null && message.type !== "preview" && message.foreignLinks === "refuse" ? guardedPaths(message.request) : null;
  const paths = guarded !== null && "sources" in guarded ? guarded : null;
  const policy = refusal !== null || message.type === "recover" ? [] : withMounts(message.policy ?? []);
  const sandbox = refusal === null && message.sandbox !== "off" ? confine(sandboxOf(message, paths)) : null;
  talk.send({ type: "hello", pid: process.pid, identity, landlockAbi: sandbox?.abi ?? 0 });
  const unconfined =
    sandbox !== null && !sandbox.confined && (message.sandbox === "strict" || !sandbox.unavailable) ? sandbox.message : null;
  if (refusal !== null || unconfined !== null) {
    return refuse(talk, resolve, { code: "worker-identity", message: refusal ?? unconfined ?? "" });
  }
  raiseDescriptorLimit();
  const needsPaths = message.type === "start" || (message.type === "recover" && message.removal !== null);
  if (needsPaths && guarded !== null && "problem" in guarded) {
    return refuse(talk, resolve, { code: "foreign-symlink", message: guarded.problem });
  }
  if (message.type === "start") return new RunningJob(talk, { ...message, policy }, { guarded: paths, unflushed }, resolve);
  if (message.type === "preview") return new PreviewJob(talk, { ...message, policy }, resolve);
  const request = paths === null ? message.request : guardedRequest(message.request, paths);
  return new RecoveryJob(talk, { ...message, request }, { isGuarded: paths !== null }, resolve);
}

function refuse(talk: JobTalk, resolve: (status: number) => void, why: { readonly code: FailureCode; readonly message: string }): null {
  talk.send({ type: "fatal", code: why.code, message: why.message.slice(0, 4096) });
  void talk.end().then(() => resolve(1));
  return null;
}

/** What was looked up before the sandbox. */
interface Prepared {
  readonly guarded: GuardedPaths | null;
  /** null: nobody will wait for a flush, or see how long it takes. */
  readonly unflushed: UnflushedBytes | null;
}

function sandboxOf(message: StartMessage | RecoverMessage | PreviewMessage, guarded: GuardedPaths | null): SandboxPaths {
  if (message.type === "preview") return previewPaths(message.request);
  const request = guarded === null ? message.request : { ...guardedRequest(message.request, guarded), sources: [...guarded.sources] };
  // What was not there when the job began is a directory now, and goes from its parent.
  const takesBack = message.type === "recover" && message.removal !== null;
  return sandboxPaths(takesBack ? { ...request, options: { ...request.options, target: "exact" } } : request);
}

class RunningJob {
  private readonly talk: JobTalk;
  private readonly lanes: Lanes;
  private readonly resolve: (status: number) => void;
  private readonly timers: ReturnType<typeof setInterval>[] = [];
  private readonly reasons = new Set<string>();
  private readonly given: GivenAnswers;
  private readonly laneCount: LaneCount;
  private readonly verifies: boolean;
  private readonly meter = new LaneMeter();
  private currentFile = "";
  private lanesDone = 0;
  private turn = 0;
  private question: { readonly number: number; readonly kind: QuestionKind } | null = null;
  private ended = false;
  private readonly space: SpacePlan | null;
  private readonly unflushed: UnflushedBytes | null;

  constructor(talk: JobTalk, start: StartMessage, { guarded, unflushed }: Prepared, resolve: (status: number) => void) {
    this.talk = talk;
    this.unflushed = unflushed;
    this.resolve = resolve;
    const { options } = start.request;
    this.verifies = options.verify !== "none" && options.verify !== "size";
    this.laneCount = new LaneCount(start.lanes, whyInOrder(start.request), navigator.hardwareConcurrency);
    // Preserved modes are set exactly; otherwise the kernel applies the caller's umask, and default ACLs, by itself.
    libc.umask(options.preserve.includes("mode") ? 0 : options.umask);
    applyPriority(options.priority);
    this.lanes = new Lanes({
      request: guarded === null ? start.request : guardedRequest(start.request, guarded),
      guardedSources: guarded?.sources ?? null,
      token: start.token,
      policy: start.policy ?? [],
      inFlightFd: start.inFlightPath === undefined ? start.inFlightFd : openRecord(start.inFlightPath),
      ...(start.boot === undefined ? {} : { boot: start.boot }),
      checkpoint:
        start.checkpoint === null
          ? null
          : openCheckpoint(start.checkpoint, { unmarked: reliesOnFlush(start.request) ? "in doubt" : "believed" }),
      sharesFiles: start.lanes !== 1 && navigator.hardwareConcurrency > 1,
      onMessage: (_lane, message) => this.hear(message),
      onCrash: (message) => this.crash(message),
    });
    // Before anything is made: what is there now is not ours.
    this.space = start.totals ? planSpace(start.request) : null;
    this.lanes.shared.floats[Float.bandwidthLimit] = options.bandwidthLimit;
    this.lanes.shared.words[Word.isWatched] = start.totals ? 1 : 0;
    this.given = new GivenAnswers(this.lanes.shared, start.givenAnswers);
    for (const { kind, choice } of start.standingAnswers) standFor(this.lanes.shared, kind, choice);
    if (guarded === null && mayBeLone(start)) this.copyLone(start).catch((cause: unknown) => this.crash(String(cause)));
    else this.lanes.add();
    this.timers.push(setInterval(() => this.tick(), snapshotIntervalMs));
    const marksMs = start.totals ? totalsAfterMs + countingMs : marksAfterMs;
    if (isMarked(this.lanes.shared, start.request)) setTimeout(() => this.addFlusher(), marksMs);
    if (start.totals) setTimeout(() => this.countTotals(), totalsAfterMs);
  }

  receive(message: ParentMessage): void {
    const { shared } = this.lanes;
    switch (message.type) {
      case "stop":
        this.stop();
        break;
      case "cancel":
        this.lanes.command(Command.cancel);
        break;
      case "pause":
        this.lanes.command(Command.pause);
        break;
      case "resume":
        this.lanes.command(Command.run);
        break;
      case "set-options":
        if (message.bandwidthLimit !== undefined) shared.floats[Float.bandwidthLimit] = message.bandwidthLimit;
        break;
      case "answer":
        // A question that is over by itself may still be answered.
        if (this.question?.number === message.question) giveAnswer(shared, this.question, message.choice, message.forAll);
        break;
      default:
        break;
    }
  }

  /** An orderly stop: the job goes on later. A device that takes too long to flush is not waited for: the kernel goes on writing. */
  private stop(): void {
    const { words } = this.lanes.shared;
    // A cancel that came before is final.
    if (Atomics.load(words, Word.command) === Command.cancel) return;
    // Also where there was no room for a checkpoint: whoever goes on proves what is there.
    Atomics.store(words, Word.stopping, 1);
    this.lanes.command(Command.cancel);
    this.timers.push(
      setInterval(() => {
        if (Atomics.load(words, Word.stopped) === 1) this.finish();
      }, stopFlushMs),
    );
  }

  /** What takes less than a lane's start is done here, as long as nobody has asked for anything else. */
  private async copyLone({ request, token }: StartMessage): Promise<void> {
    const { copyLoneFile } = await import("./lone-file.ts");
    const { shared } = this.lanes;
    Atomics.store(shared.words, Word.phase, phases.indexOf("copying"));
    if (Atomics.load(shared.words, Word.command) !== Command.run || !copyLoneFile(request, shared, token)) {
      this.lanes.add();
      return;
    }
    this.reasons.add("one small file: copied without a lane");
    this.finish();
  }

  private addFlusher(): void {
    if (!this.ended && this.lanesDone === 0) this.lanes.addFlusher();
  }

  private countTotals(): void {
    if (!this.ended && this.lanesDone === 0) this.lanes.addScanner(this.space);
  }

  private startMoreLanes(): void {
    if (this.ended || this.lanesDone > 0) return;
    this.addLanes(this.laneCount.first());
    this.assistLonelyLane();
  }

  /** Where entries must keep their order, a large one may still be copied by two. */
  private assistLonelyLane(): void {
    if (this.lanes.count === 1 && this.lanesDone === 0 && this.lanes.isSharing) this.lanes.add("assist");
  }

  private addLanes(wanted: number): void {
    while (this.lanes.count < wanted) this.lanes.add();
  }

  private adaptLanes(): void {
    const { shared } = this.lanes;
    const measurement = this.meter.next(shared);
    if (this.lanesDone > 0 || Atomics.load(shared.words, Word.phase) !== phases.indexOf("copying")) return;
    this.addLanes(this.laneCount.next(this.lanes.count, measurement));
  }

  private hear(message: LaneMessage): void {
    const { shared } = this.lanes;
    switch (message.type) {
      case "error":
        Atomics.sub(shared.words, Word.errorsInFlight, 1);
        this.talk.error(message.error);
        break;
      case "line":
        Atomics.sub(shared.words, Word.errorsInFlight, 1);
        this.talk.line(message.line);
        break;
      case "ready":
        setTimeout(() => this.startMoreLanes(), secondLaneAfterMs);
        break;
      case "current":
        this.currentFile = message.path.slice(0, maxToldPath);
        break;
      case "question":
        if (this.given.answer(shared, message.question, message.facts)) break;
        this.talk.flushBatches();
        this.question = { number: message.question, kind: message.facts.kind };
        this.talk.question(message.question, message.facts);
        break;
      case "question-over":
        if (this.question?.number === message.question) this.question = null;
        this.talk.send({ type: "question-over", question: this.given.numberOf(message.question) });
        break;
      case "done":
        for (const reason of message.reasons) this.reasons.add(reason);
        this.lanesDone++;
        if (this.lanes.areDone(this.lanesDone)) this.finish();
        break;
      case "crashed":
        this.crash(message.message);
        break;
    }
  }

  private tick(): void {
    this.talk.snapshot(this.snapshot());
    if (this.lanes.count === 0) return;
    this.lanes.askCurrent(this.turn++);
    this.adaptLanes();
    this.assistLonelyLane();
    if (Atomics.load(this.lanes.shared.words, Word.flushWanted) === 1) this.addFlusher();
  }

  private finish(): void {
    if (this.ended) return;
    this.end();
    const { shared } = this.lanes;
    const snapshot = this.snapshot();
    const stopped = Atomics.load(shared.words, Word.stopOnError) === 1;
    const cancelled = !stopped && Atomics.load(shared.words, Word.command) === Command.cancel;
    const stopOutcome = Atomics.load(shared.words, Word.stopping) === 1 ? "interrupted" : "cancelled";
    const outcome = cancelled ? stopOutcome : snapshot.errorCount > 0 ? "failed" : "completed";
    const engines: Record<string, number> = {};
    engineNames.forEach((name, index) => {
      const files = shared.total(Counter.engineFiles + index);
      if (files > 0) engines[name] = files;
    });
    this.talk.flushBatches();
    const held = this.lanes.count === 0 ? { holdsNothing: true as const } : {};
    this.talk.send({ type: "result", outcome, snapshot, engines, reasons: this.allReasons(), ...held });
    void this.talk.end().then(() => this.resolve(0));
  }

  private allReasons(): string[] {
    if (this.lanes.count === 0) return [...this.reasons];
    const lanes = this.lanes.count === 1 ? "one lane" : this.laneCount.reason;
    return [...this.reasons, this.laneCount.reason === "" ? "one lane" : lanes].slice(0, 32);
  }

  private crash(message: string): void {
    if (this.ended) return;
    this.end();
    process.stderr.write(`lane: ${message}\n`);
    this.talk.flushBatches();
    this.talk.send({ type: "fatal", code: "internal", message: (message.split("\n")[0] ?? "").slice(0, 1000) });
    // Other lanes may hold unfinished files: they end with this process, and the record names them for recovery.
    void this.talk.end().then(() => process.exit(1));
  }

  private end(): void {
    this.ended = true;
    for (const timer of this.timers) clearInterval(timer);
  }

  private snapshot(): Snapshot {
    const { shared } = this.lanes;
    const total = (counter: number): number => Math.max(0, shared.total(counter));
    const filesDone = total(Counter.filesDone);
    const bytesDone = total(Counter.bytesDone);
    const bytesCloned = total(Counter.bytesCloned);
    const engine = shared.total(Counter.engine) === 0 ? "auto" : this.latestEngine();
    return {
      phase: phases[Atomics.load(shared.words, Word.phase)] ?? "copying",
      paused: Atomics.load(shared.words, Word.command) === Command.pause,
      totalsValid: Atomics.load(shared.words, Word.totalsKnown) === 1,
      bytesTotal: Math.max(total(Counter.bytesTotal), bytesDone),
      bytesDone,
      bytesCloned,
      bytesUnflushed: this.unflushed?.of(bytesDone - bytesCloned) ?? 0,
      bytesVerified: total(Counter.bytesVerified),
      bytesToVerify: this.verifies ? Math.max(total(Counter.bytesTotal), bytesDone) : 0,
      filesTotal: Math.max(total(Counter.filesTotal), filesDone),
      filesDone,
      filesSkipped: total(Counter.filesSkipped),
      directoriesDone: total(Counter.directoriesDone),
      errorCount: total(Counter.errors),
      warningCount: total(Counter.warnings),
      currentFile: this.currentFile as Snapshot["currentFile"],
      engine,
      lanes: this.lanes.count,
    };
  }

  private latestEngine(): Snapshot["engine"] {
    const { shared } = this.lanes;
    for (let lane = 0; lane < Math.max(1, this.lanes.count); lane++) {
      const index = shared.floats[shared.counters(lane) + Counter.engine] ?? 0;
      if (index > 0) return engineNames[index - 1] ?? "auto";
    }
    return "auto";
  }
}
