// `copyd answer JOB [CHOICE]`: what a job asks, and the answer to it.

import type { ArgsDef } from "citty";
import { CopyError } from "../errors.ts";
import type { Question } from "../jobs/api.ts";
import { questionChoices } from "../worker/protocol.ts";
import { questionText } from "./job-text.ts";
import { questionObject, writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { jobArgs, withJob } from "./service-command.ts";

const args = {
  ...jobArgs,
  choice: {
    type: "positional",
    required: false,
    valueHint: "CHOICE",
    description: "retry, skip, abort, continue, overwrite, rename or newer, as the question takes it; without it the question is shown",
  },
  "for-all": { type: "boolean", description: "The same for all further questions of this kind (retry holds once)" },
} as const satisfies ArgsDef;

export const answerCommand = named("answer", "Show what a job asks, or answer it", args, (given) =>
  withJob(given, async (client, job) => {
    const { question } = job;
    if (question === null) throw new CopyError("invalid-state", `job ${job.token} asks nothing`);
    if (given.choice === undefined) {
      if (given.json === true) writeJson(questionObject(question));
      else writeText("stdout", `${questionText(question)}\n`);
      return 0;
    }
    const choice = choiceOf(question, given.choice);
    await client.answer(job, question.id, choice, { forAll: given["for-all"] === true });
    if (given.json === true) writeJson({ type: "answer", job: job.token, question: question.id, choice });
    return 0;
  }),
);

function choiceOf({ kind }: Question, typed: string): string {
  const choices = questionChoices[kind];
  const choice = choices.find((known) => known === typed);
  if (choice === undefined) throw new CopyError("usage", `this question takes ${choices.join(", ")}, not '${typed}'`);
  return choice;
}
