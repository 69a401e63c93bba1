// Questions of lanes to whoever started the job: one at a time, the others wait; answered for one, for all of a kind, or by events.

import type { LaneControl } from "./lane-control.ts";
import { type AnswerChoice, type QuestionKind, questionKinds } from "./protocol.ts";
import type { QuestionFacts, Reporter } from "./reporter.ts";
import { type Shared, Word } from "./shared.ts";

/** Choices as they travel in the shared words; `none`: the question was over by itself. */
export const Answer: Readonly<Record<AnswerChoice | "none", number>> = {
  none: 0,
  overwrite: 1,
  skip: 2,
  rename: 3,
  newer: 4,
  abort: 5,
  retry: 6,
  continue: 7,
};

/** Word.answer holds the question's number times this, plus the choice: an answer that comes late fits no other question. */
const choices = 32;
/** How often whoever asks looks for a cancel, and whether its question is still one, milliseconds. */
const waitMs = 100;
const lookEvery = 10;
/** A question's number as the word holds it, too. */
const maxQuestion = 2 ** 26;

/** For a question that is not about a filesystem. */
export const noTrouble = { filesystem: "", neededBytes: -1, freeBytes: -1 } as const;

export class Questions {
  private readonly shared: Shared;
  private readonly control: LaneControl;
  private readonly reporter: Reporter;

  constructor(shared: Shared, control: LaneControl, reporter: Reporter) {
    this.shared = shared;
    this.control = control;
    this.reporter = reporter;
  }

  /**
   * The answer, as one of Answer; at once where one holds for all. `facts` is called when it is this lane's turn to ask, `keep` with what
   * somebody answered: from then on nobody else need remember it.
   */
  askStanding(kind: QuestionKind, facts: () => QuestionFacts, keep: ((answer: number) => void) | null = null): number {
    return this.ask(
      kind,
      () => false,
      facts,
      () => false,
      keep,
    );
  }

  /**
   * As askStanding, but Answer.none when `isSettled` says, once it is this lane's turn, that nothing need be asked any more, or
   * `isOver` does, about once a second. A cancelled job's questions are answered with "skip".
   */
  ask(
    kind: QuestionKind,
    isSettled: () => boolean,
    facts: () => QuestionFacts,
    isOver: () => boolean,
    keep: ((answer: number) => void) | null = null,
  ): number {
    const { shared } = this;
    shared.lock(Word.questionLock);
    try {
      const standing = Atomics.load(shared.words, Word.standing + questionKinds.indexOf(kind));
      if (standing !== 0) return standing;
      if (isSettled()) return Answer.none;
      return this.put(facts(), isOver, keep);
    } finally {
      shared.unlock(Word.questionLock);
    }
  }

  private put(facts: QuestionFacts, isOver: () => boolean, keep: ((answer: number) => void) | null): number {
    const { control, reporter } = this;
    const words = this.shared.words;
    const number = (Atomics.add(words, Word.question, 1) + 1) % maxQuestion;
    reporter.question(number, facts);
    for (let turn = 1; ; turn++) {
      const answer = Atomics.load(words, Word.answer);
      if (Math.floor(answer / choices) === number) {
        keep?.(answer % choices);
        if (keep !== null) reporter.questionOver(number);
        return answer % choices;
      }
      if (control.isCancelled) return Answer.skip;
      if (turn % lookEvery === 0 && isOver()) {
        reporter.questionOver(number);
        return Answer.none;
      }
      Atomics.wait(words, Word.answer, answer, waitMs);
    }
  }
}

/** The main thread's: wakes the lane that asks. What is answered for all holds from then on, but for "retry", which would never end. */
export function giveAnswer(
  shared: Shared,
  { number, kind }: { readonly number: number; readonly kind: QuestionKind },
  choice: AnswerChoice,
  forAll: boolean,
): void {
  if (forAll) standFor(shared, kind, choice);
  Atomics.store(shared.words, Word.answer, number * choices + Answer[choice]);
  Atomics.notify(shared.words, Word.answer);
}

/** An answer given for all questions of a kind, now or in a former run of the job. */
export function standFor(shared: Shared, kind: QuestionKind, choice: AnswerChoice): void {
  if (choice === "retry") return;
  Atomics.store(shared.words, Word.standing + questionKinds.indexOf(kind), Answer[choice]);
}
