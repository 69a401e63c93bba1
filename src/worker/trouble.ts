// Failures that need not be the last word: tried again while they may pass, asked about when a disk is full or a device is gone.
//
// A step (an entry, a directory, a listing) that fails in such a way leaves nothing behind and holds no lock; its failure is kept
// back here until it is settled whether the step is done once more.

import { Errno } from "../errno.ts";
import { type FailureCode, failureCodeOf, failures } from "../errors.ts";
import type { Directory } from "./directory.ts";
import { freeBytesOf, hasRoom } from "./free-space.ts";
import type { LaneContext } from "./lane-context.ts";
import { createError, isBlockDeviceGone, lookError, mountPointOf } from "./mount-probe.ts";
import { Answer } from "./questions.ts";
import { reopenSource } from "./reopen-source.ts";
import type { FailureFacts, QuestionFacts, Withholding } from "./reporter.ts";
import { Command, Counter, Word } from "./shared.ts";

export interface TroubledStep {
  readonly directory: Directory;
  /** The directories of the entry; for an argument the source's is AT_FDCWD and the name absolute. */
  readonly sourceFd: number;
  readonly destinationFd: number;
  /** Address of the source's name in its directory; 0: the directory itself. */
  readonly sourceName: number;
  /** What the destination must have free for it. */
  readonly neededBytes: number;
}

/** Below this much room a job does not go on by itself, unless less is missing: it would only ask again in a moment. */
const roomBytes = 16 * 1024 * 1024;

const spaceCodes: ReadonlySet<FailureCode> = new Set(["no-space", "quota-exceeded"]);
const deviceCodes: ReadonlySet<FailureCode> = new Set([
  "device-gone",
  "stale-handle",
  "timed-out",
  "read-only-filesystem",
  "read-error",
  "write-error",
]);
/** What a probe of a filesystem answers when that is gone: a new file in it, a look at it. */
const goneErrnos: ReadonlySet<number> = new Set([
  Errno.EIO,
  Errno.EROFS,
  Errno.ENODEV,
  Errno.ENXIO,
  Errno.ENOMEDIUM,
  Errno.ENOTCONN,
  Errno.ESHUTDOWN,
  Errno.ESTALE,
  Errno.ETIMEDOUT,
  Errno.EHOSTDOWN,
  Errno.EHOSTUNREACH,
]);

export class Trouble implements Withholding {
  private readonly context: LaneContext;
  private readonly isCommand: boolean;
  private isArmed = false;
  private hasTold = false;
  private withheld: FailureFacts | null = null;
  /** The failure that made the latest retry necessary. */
  private retried: FailureFacts | null = null;
  private hasLooked = false;
  private attempt = 0;
  private epoch = 0;

  constructor(context: LaneContext) {
    this.context = context;
    this.isCommand = context.options.gnu.names !== null;
    context.reporter.withholding = this;
  }

  /** Before a step. hot: once an entry. */
  begin(): void {
    this.isArmed = true;
    this.hasTold = false;
    this.hasLooked = false;
    this.attempt = 0;
  }

  /** Withholding: true where the failure is kept back; what else fails in the same step follows from it. */
  takes(facts: FailureFacts): boolean {
    if (!this.isArmed || facts.severity !== undefined) return false;
    if (this.withheld !== null) return true;
    if (this.hasTold || !this.isCurable(facts)) {
      this.hasTold = true;
      return false;
    }
    this.withheld = facts;
    this.epoch = Atomics.load(this.context.shared.words, Word.troubleEpoch);
    return true;
  }

  get isPending(): boolean {
    return this.withheld !== null;
  }

  /** After a step whose failure is pending: true to do it again; else the failure was told, or the job was cancelled. */
  mayRepeat(step: TroubledStep): boolean {
    const facts = this.withheld;
    this.withheld = null;
    if (facts === null) return false;
    if (this.isRetryable(facts) && this.context.control.mayRetry(this.attempt++)) {
      this.retried = facts;
      return true;
    }
    const kind = this.kindOf(facts, step);
    if (kind === null && this.isBackAgain(facts)) return true;
    const answer = kind === null ? Answer.skip : this.ask(kind, facts, step);
    this.attempt = 0;
    if (answer === Answer.none || answer === Answer.retry) return true;
    if (answer === Answer.abort) Atomics.store(this.context.shared.words, Word.command, Command.cancel);
    else this.tell(facts);
    return false;
  }

  /** After a step that is over, however it went. hot: once an entry. */
  end(succeeded: boolean): void {
    this.isArmed = false;
    if (this.withheld !== null) this.tell(this.withheld);
    this.withheld = null;
    if (this.retried !== null) this.tellRetry(this.retried, succeeded);
  }

  private tellRetry(facts: FailureFacts, succeeded: boolean): void {
    this.retried = null;
    if (!succeeded) return;
    this.context.control.retryHelped();
    if (!this.isCommand) this.context.reporter.fail({ ...facts, what: `${facts.what} at first`, severity: "warning" });
  }

  private tell(facts: FailureFacts): void {
    this.isArmed = false;
    this.context.reporter.fail(facts);
  }

  private isCurable(facts: FailureFacts): boolean {
    // After close the file has its name, and what the device lost is lost.
    if (facts.syscall === "close" || facts.errno === 0) return false;
    const code = codeOf(facts);
    const { onFull, onLost } = this.context.options;
    return this.isRetryable(facts) || (onFull === "ask" && isSpace(facts)) || (onLost === "ask" && deviceCodes.has(code));
  }

  private isRetryable(facts: FailureFacts): boolean {
    // A read was tried again where it failed, and more than once.
    const wasTried = facts.side === "source" && facts.offset !== undefined;
    return !wasTried && facts.code === undefined && failures[codeOf(facts)].retryable;
  }

  private kindOf(facts: FailureFacts, step: TroubledStep): "space" | "device" | null {
    const { onFull, onLost } = this.context.options;
    if (isSpace(facts)) return onFull === "ask" ? "space" : null;
    if (onLost === "fail" || !deviceCodes.has(codeOf(facts))) return null;
    return this.isGone(facts, step) ? "device" : null;
  }

  /** Whether it is the filesystem that fails and not one file: then all that follows would fail as well. */
  private isGone(facts: FailureFacts, step: TroubledStep): boolean {
    if (facts.side === "source") {
      return goneErrnos.has(lookError(step.sourceFd, step.sourceName)) || isBlockDeviceGone(this.context.sourceStat.device);
    }
    if (!goneErrnos.has(createError(step.destinationFd))) return false;
    // What was read-only from the start is a mistake to be told at once, not a device that went away.
    return facts.errno !== Errno.EROFS || facts.offset !== undefined || this.hasWritten;
  }

  /** It was gone, and a look finds it there: it may have come back between the last try and the look. Once a step. */
  private isBackAgain(facts: FailureFacts): boolean {
    if (this.context.options.onLost === "fail" || this.hasLooked || facts.errno === Errno.EIO || !goneErrnos.has(facts.errno)) return false;
    this.hasLooked = true;
    return facts.errno !== Errno.EROFS;
  }

  private get hasWritten(): boolean {
    const { shared } = this.context;
    return Atomics.load(shared.words, Word.hasMadeDirectory) === 1 || shared.total(Counter.filesDone) > 0;
  }

  private ask(kind: "space" | "device", facts: FailureFacts, step: TroubledStep): number {
    const { shared, questions } = this.context;
    let freeBytes = 0;
    // What is wanted shrinks: other lanes may have found room for theirs meanwhile.
    const isOver = (): boolean =>
      kind === "space"
        ? hasRoomAgain(step.destinationFd, this.wantedBytes(step.neededBytes), freeBytes)
        : !this.isGone(facts, step) || (facts.side === "source" && reopenSource(this.context, step.directory));
    const answer = questions.ask(
      kind,
      () => this.isSettled(isOver),
      () => {
        freeBytes = freeBytesOf(step.destinationFd);
        const figures =
          kind === "space" ? { neededBytes: this.wantedBytes(step.neededBytes), freeBytes } : { neededBytes: -1, freeBytes: -1 };
        return { ...this.questionOf(kind, facts), ...figures };
      },
      isOver,
    );
    if (answer === Answer.retry && kind === "device") isOver();
    const goesOn = answer === Answer.none || answer === Answer.retry;
    if (goesOn) Atomics.compareExchange(shared.words, Word.troubleEpoch, this.epoch, (this.epoch + 1) | 0);
    return answer;
  }

  /** No need to ask: another lane's question was answered since this step failed, or what another one gave up is room enough. */
  private isSettled(isOver: () => boolean): boolean {
    if (Atomics.load(this.context.shared.words, Word.troubleEpoch) !== this.epoch) return true;
    // Once a step: two lanes that need the same room would try for ever.
    if (this.hasLooked) return false;
    this.hasLooked = true;
    return isOver();
  }

  /** What the entry needs, or a bit more where more is to come. */
  private wantedBytes(neededBytes: number): number {
    const { shared } = this.context;
    if (Atomics.load(shared.words, Word.totalsKnown) !== 1) return neededBytes;
    const rest = shared.total(Counter.bytesTotal) - shared.total(Counter.bytesDone);
    return Math.max(neededBytes, Math.min(rest, roomBytes));
  }

  private questionOf(kind: "space" | "device", facts: FailureFacts): Omit<QuestionFacts, "neededBytes" | "freeBytes"> {
    const { reporter } = this.context;
    const source = reporter.sourcePath(facts.place);
    const destination = reporter.destinationPath(facts.place);
    const filesystem = mountPointOf(facts.side === "source" ? source : destination);
    const advice = kind === "space" ? "Make room" : "Bring it back";
    const message = `${reporter.messageOf(facts)}. ${advice} at ${reporter.quote(filesystem)} and retry, skip this file, or abort? `;
    return { kind, source, destination, filesystem, message };
  }
}

/** A flush of one file that found no room comes before its publishing: the file is dropped, and copied anew from its source. */
function isSpace(facts: FailureFacts): boolean {
  const isFlush = facts.code === "flush-failed" && facts.syscall === "fsync";
  if (facts.side !== "destination" || (facts.code !== undefined && !isFlush)) return false;
  return spaceCodes.has(failureCodeOf(facts.errno, "destination"));
}

function codeOf({ code, errno, side }: FailureFacts): FailureCode {
  return code ?? failureCodeOf(errno, side);
}

function hasRoomAgain(directoryFd: number, wantedBytes: number, freeBefore: number): boolean {
  const free = freeBytesOf(directoryFd);
  if (free >= 0 && free < wantedBytes) return false;
  const room = hasRoom(directoryFd, wantedBytes);
  return room === "yes" || (room === "unknown" && free > freeBefore);
}
