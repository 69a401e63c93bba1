// Answers that were given when the worker that had asked was about to die: the next one has them before it asks.

import type { ParentMessage } from "./protocol.ts";
import { giveAnswer } from "./questions.ts";
import type { QuestionFacts } from "./reporter.ts";
import { type Shared, Word } from "./shared.ts";

type GivenAnswer = Extract<ParentMessage, { type: "start" }>["givenAnswers"][number];

/** The main thread's. */
export class GivenAnswers {
  private readonly waiting: Set<GivenAnswer>;
  /** By the number of this worker's question, that of the former one's. */
  private readonly numbers = new Map<number, number>();

  constructor(shared: Shared, answers: readonly GivenAnswer[]) {
    this.waiting = new Set(answers);
    // No question of this worker has the number of one of those.
    shared.words[Word.question] = answers.reduce((highest, { question }) => Math.max(highest, question), 0);
  }

  /** True when a question about the same two files was answered before, and now has that answer. Each serves once. */
  answer(shared: Shared, number: number, { kind, source, destination }: QuestionFacts): boolean {
    if (kind !== "conflict") return false;
    for (const given of this.waiting) {
      if (given.source !== source || given.destination !== destination) continue;
      this.waiting.delete(given);
      this.numbers.set(number, given.question);
      giveAnswer(shared, { number, kind }, given.choice, false);
      return true;
    }
    return false;
  }

  /** What the parent knows a question by. */
  numberOf(question: number): number {
    return this.numbers.get(question) ?? question;
  }
}
