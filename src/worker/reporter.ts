// A lane's voice: errors, warnings and -v lines to the main thread, in GNU's words and with the names the user typed.

import type { ByteString } from "../bytes.ts";
import { Errno, errnoText } from "../errno.ts";
import { type FailureCode, type FailureSide, failureCodeOf } from "../errors.ts";
import { quoteName } from "../quote.ts";
import type { JobRequest } from "../request.ts";
import { type EntryError, maxLineBytes, type PlannedOperation, type PreviewSummary, type QuestionKind } from "./protocol.ts";
import { Command, Counter, type Shared, Word } from "./shared.ts";

/** What lanes post to the worker's main thread. */
export type LaneMessage =
  | { readonly type: "error"; readonly error: EntryError }
  | { readonly type: "line"; readonly line: string }
  | { readonly type: "current"; readonly path: string }
  | { readonly type: "question"; readonly question: number; readonly facts: QuestionFacts }
  | { readonly type: "question-over"; readonly question: number }
  | { readonly type: "operations"; readonly operations: PlannedOperation[] }
  | { readonly type: "preview"; readonly summary: PreviewSummary }
  /** The first lane begins to work. */
  | { readonly type: "ready" }
  | { readonly type: "done"; readonly reasons: readonly string[] }
  | { readonly type: "crashed"; readonly message: string };

/** Messages in flight to the main thread before a lane waits for it: bounds memory when a million entries fail. */
const maxMessagesInFlight = 2048;

/** Where an entry is: which argument, the path below it, and the argument's place at the destination. */
export interface EntryPlace {
  readonly argument: number;
  /** Relative to the argument; "" for the argument itself. */
  readonly path: string;
  /** Absolute. */
  readonly destinationRoot: string;
  /** Where the copy has another name than its source: the path below destinationRoot. */
  readonly destinationPath?: string;
}

/** What a question tells, but for its number; paths are byte strings. */
export interface QuestionFacts {
  readonly kind: QuestionKind;
  readonly source: string;
  readonly destination: string;
  readonly filesystem: string;
  readonly neededBytes: number;
  readonly freeBytes: number;
  /** Ends in "? ". */
  readonly message: string;
}

/** Who may keep a failure back before it is told and counted, because the step can be tried again. */
export interface Withholding {
  takes(facts: FailureFacts): boolean;
}

export interface FailureFacts {
  readonly place: EntryPlace;
  readonly side: FailureSide;
  /** Positive errno, or 0 when copyd itself objects. */
  readonly errno: number;
  readonly syscall: string;
  /** "cannot open %s for reading": %s and %d stand for the quoted source and destination, %q for the
   * destination quoted where it must be; the errno's text is appended. */
  readonly what: string;
  readonly code?: FailureCode;
  /** Another name as it is to be shown: "%e". */
  readonly other?: string;
  readonly severity?: "error" | "warning";
  readonly engine?: string;
  readonly offset?: number;
}

export class Reporter {
  private readonly shared: Shared;
  private readonly request: JobRequest;
  private readonly post: (message: LaneMessage) => void;
  private readonly counters: number;
  withholding: Withholding | null = null;

  constructor(shared: Shared, lane: number, request: JobRequest, post: (message: LaneMessage) => void) {
    this.shared = shared;
    this.request = request;
    this.post = post;
    this.counters = shared.counters(lane);
  }

  /** The source as messages show it: what the user typed, and the names below. */
  sourceDisplay(place: EntryPlace): string {
    const typed = this.request.options.gnu.names?.sources[place.argument] ?? this.request.sources[place.argument] ?? "";
    return joinPath(typed, place.path);
  }

  destinationDisplay(place: EntryPlace): string {
    return joinPath(this.shown(place.destinationRoot), place.destinationPath ?? place.path);
  }

  /** An absolute path at or below the destination, as the user would type it. */
  shown(path: string): string {
    const destination = this.request.destination;
    const typed = this.request.options.gnu.names?.destination ?? destination;
    return joinPath(typed, path.slice(destination.length));
  }

  sourcePath(place: EntryPlace): string {
    return joinPath(this.request.sources[place.argument] ?? "", place.path);
  }

  destinationPath(place: EntryPlace): string {
    return joinPath(place.destinationRoot, place.destinationPath ?? place.path);
  }

  /** Counts and sends one failure, unless it is kept back; waits while the main thread is far behind. */
  fail(facts: FailureFacts): void {
    if (this.withholding?.takes(facts) === true) return;
    const severity = facts.severity ?? "error";
    const counter = this.counters + (severity === "error" ? Counter.errors : Counter.warnings);
    this.shared.floats[counter] = (this.shared.floats[counter] ?? 0) + 1;
    const path = facts.side === "source" ? this.sourcePath(facts.place) : this.destinationPath(facts.place);
    this.send({
      type: "error",
      error: {
        path: path as ByteString,
        side: facts.side,
        code: facts.code ?? failureCodeOf(facts.errno, facts.side),
        errno: facts.errno,
        syscall: facts.syscall,
        message: this.messageOf(facts).slice(0, 16384),
        severity,
        engine: facts.engine ?? "",
        offset: facts.offset ?? -1,
      },
    });
    if (severity === "error" && this.request.options.onError === "stop") {
      Atomics.store(this.shared.words, Word.stopOnError, 1);
      Atomics.store(this.shared.words, Word.command, Command.cancel);
    }
  }

  /** One of more than `maxLineBytes` ends in a mark that says so. */
  line(text: string): void {
    const mark = `... (cut, of ${text.length} bytes)`;
    this.send({ type: "line", line: text.length <= maxLineBytes ? text : text.slice(0, maxLineBytes - mark.length) + mark });
  }

  current(place: EntryPlace): void {
    this.post({ type: "current", path: this.sourcePath(place) });
  }

  question(question: number, facts: QuestionFacts): void {
    this.post({ type: "question", question, facts });
  }

  questionOver(question: number): void {
    this.post({ type: "question-over", question });
  }

  done(reasons: readonly string[]): void {
    this.post({ type: "done", reasons });
  }

  /** A name as GNU quotes it for the reader's locale. */
  quote(name: string): string {
    return quoteName(name as ByteString, this.request.options.gnu.names?.charset ?? "utf-8");
  }

  private named(mark: string, { place, other }: FailureFacts): string {
    if (mark === "%e") return this.quote(other ?? "");
    if (mark === "%s") return this.quote(this.sourceDisplay(place));
    const destination = this.destinationDisplay(place);
    return mark === "%q" && safeName.test(destination) ? destination : this.quote(destination);
  }

  /** The whole sentence of a failure, as bytes. */
  messageOf(facts: FailureFacts): string {
    // In one go: a name may hold "%d" itself.
    const what = facts.what.replace(/%[sdqe]/g, (mark) => this.named(mark, facts));
    return facts.errno === 0 ? what : `${what}: ${errnoText(facts.errno)}`;
  }

  protected send(message: LaneMessage): void {
    const words = this.shared.words;
    while (Atomics.load(words, Word.errorsInFlight) > maxMessagesInFlight) {
      Atomics.wait(words, Word.errorsInFlight, Atomics.load(words, Word.errorsInFlight), 20);
    }
    Atomics.add(words, Word.errorsInFlight, 1);
    this.post(message);
  }
}

/** Names that no shell would take apart: in some of its messages GNU quotes only the others. */
const safeName = /^[A-Za-z0-9_%+,.:@/^-]+$/;

/** "a" + "b" -> "a/b"; one slash between them whatever the first ends with; an empty second part adds nothing. */
export function joinPath(directory: string, below: string): string {
  if (below === "") return directory;
  if (directory === "") return below;
  if (below.startsWith("/")) return directory.endsWith("/") ? directory + below.slice(1) : directory + below;
  return directory.endsWith("/") ? directory + below : `${directory}/${below}`;
}

/** True when a failure in the middle of a job means that nothing more can be written: each further entry would only repeat it. */
export function isFatalForDestination(errno: number): boolean {
  return errno === Errno.EROFS || errno === Errno.ENODEV;
}
