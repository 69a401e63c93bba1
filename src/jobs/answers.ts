// What was answered to a job's questions, as far as further workers of it need to know. Pure.

import type { ByteString } from "../bytes.ts";
import { type AnswerChoice, maxGivenAnswers } from "../worker/protocol.ts";
import type { Question } from "./api.ts";

export interface Answers {
  /** What was answered for all further questions of a kind. */
  readonly standingAnswers: readonly StandingAnswer[];
  /** What was answered about single conflicts, until a worker says that it has it. */
  readonly givenAnswers: readonly GivenAnswer[];
}

export interface StandingAnswer {
  readonly kind: Question["kind"];
  readonly choice: AnswerChoice;
}

export interface GivenAnswer {
  readonly question: number;
  readonly source: ByteString;
  readonly destination: ByteString;
  readonly choice: AnswerChoice;
}

/** `forAll`: of the question's kind. An abort ends the job, and nobody asks again. */
export function withAnswer({ standingAnswers, givenAnswers }: Answers, question: Question, choice: AnswerChoice, forAll: boolean): Answers {
  const { kind, id, source, destination } = question;
  if (forAll) return { standingAnswers: [...standingAnswers.filter((answer) => answer.kind !== kind), { kind, choice }], givenAnswers };
  if (kind !== "conflict" || choice === "abort") return { standingAnswers, givenAnswers };
  return { standingAnswers, givenAnswers: [...givenAnswers, { question: id, source, destination, choice }].slice(-maxGivenAnswers) };
}

/** Once the worker has an answer, it keeps it. The very same list where it is none of these. */
export function withoutGiven(given: readonly GivenAnswer[], question: number): readonly GivenAnswer[] {
  return given.some((answer) => answer.question === question) ? given.filter((answer) => answer.question !== question) : given;
}
