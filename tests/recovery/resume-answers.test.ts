// Questions that were answered: what somebody said about one file holds over the death of the worker that asked, as long as the file is the same.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringFromText } from "../../src/bytes.ts";
import type { AnswerChoice } from "../../src/worker/protocol.ts";
import { ResumableJob, type RunOptions } from "../support/resumable-job.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const names = ["a", "b", "c", "d"] as const;

let directory: TemporaryDirectory;
let [source, destination] = ["", ""];

beforeEach(async () => {
  directory = await temporaryDirectory();
  [source, destination] = [join(directory.path, "source"), join(directory.path, "destination")];
  for (const [at, content] of [
    [source, "new"],
    [destination, "old"],
  ] as const) {
    mkdirSync(at);
    for (const name of names) writeFileSync(join(at, name), `${content} ${name}`);
  }
});
afterEach(() => directory[Symbol.asyncDispose]());

function copyJob(): ResumableJob {
  const options = { target: "exact", onConflict: "ask" };
  return new ResumableJob(directory.path, { operation: "copy", sources: [source], destination, options });
}

/** Answers the first of the questions, in order, and has the worker killed at the next; `asked` gets the names. */
function answering(choices: readonly AnswerChoice[], asked: string[]): Pick<RunOptions, "onMessage" | "killWhen" | "lanes"> {
  let isEnough = false;
  return {
    lanes: 1,
    onMessage: (message, worker) => {
      if (message.type !== "question") return;
      const choice = choices[asked.length];
      asked.push(message.source.slice(message.source.lastIndexOf("/") + 1));
      if (choice === undefined) isEnough = true;
      else worker.send({ type: "answer", question: message.question, choice, forAll: false });
    },
    killWhen: () => isEnough,
  };
}

function found(): Record<string, string> {
  return Object.fromEntries(readdirSync(destination).map((name) => [name, readFileSync(join(destination, name), "utf8")]));
}

test("what was answered is not asked again, skips included, and goes before what is answered for all afterwards", async () => {
  using job = copyJob();
  const first: string[] = [];
  expect((await job.run(answering(["skip", "overwrite", "rename"], first))).end.kind).toBe("failed");
  expect(first).toHaveLength(4);
  const [skipped = "", overwritten = "", renamed = "", open = ""] = first;
  const again: string[] = [];
  expect((await job.run(answering([], again))).end.kind).toBe("failed");
  expect(again).toEqual([open]);
  const last = await job.run({ standingAnswers: [{ kind: "conflict", choice: "overwrite" }] });
  expect([last.end, last.questions, last.errors]).toMatchObject([{ kind: "result", result: { outcome: "completed" } }, 0, []]);
  expect(found()).toEqual({
    [skipped]: `old ${skipped}`,
    [overwritten]: `new ${overwritten}`,
    [renamed]: `old ${renamed}`,
    [`${renamed} (2)`]: `new ${renamed}`,
    [open]: `new ${open}`,
  });
});

test("what stands there since is another file, about which nothing was said", async () => {
  using job = copyJob();
  const first: string[] = [];
  await job.run(answering(["skip"], first));
  const [skipped = "", open = ""] = first;
  writeFileSync(join(destination, skipped), "somebody's own");
  const again: string[] = [];
  await job.run(answering(["skip", "skip", "skip", "skip"], again));
  expect(again.toSorted()).toEqual([...names]);
  expect(again).toContain(open);
});

test("an answer that no worker has taken is taken by the next one, once, and said to be", async () => {
  using job = copyJob();
  const first: string[] = [];
  await job.run(answering([], first));
  const [name = ""] = first;
  const given = {
    question: 7,
    source: byteStringFromText(join(source, name)),
    destination: byteStringFromText(join(destination, name)),
    choice: "overwrite",
  } as const;
  const over: number[] = [];
  const asked: string[] = [];
  const rest = answering(["skip", "skip", "skip"], asked);
  const { end } = await job.run({
    ...rest,
    givenAnswers: [given],
    onMessage: (message, worker) => {
      if (message.type === "question-over") over.push(message.question);
      if (message.type === "question") expect(message.question).toBeGreaterThan(7);
      rest.onMessage?.(message, worker);
    },
  });
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed", snapshot: { filesDone: 1, filesSkipped: 3 } } });
  expect(asked).toHaveLength(3);
  expect(over).toHaveLength(4);
  expect(over).toContain(7);
  expect(found()[name]).toBe(`new ${name}`);
});
