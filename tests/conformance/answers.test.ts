// What is answered to a question about a conflict is what is done, and no more.

import { expect, test } from "bun:test";
import { mkdirSync, readFileSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { startJob } from "../support/embedded-job.ts";
import { untilAsked } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("the answer that newer files replace older ones leaves newer ones alone", async () => {
  await using place = await temporaryDirectory();
  const at = (...names: string[]): string => join(place.path, ...names);
  for (const name of ["from", "to"]) mkdirSync(at(name));
  for (const [name, seconds] of [
    ["older", 1000],
    ["newer", 3000],
  ] as const) {
    writeFileSync(at("from", name), "mine");
    utimesSync(at("from", name), 2000, 2000);
    writeFileSync(at("to", name), "theirs");
    utimesSync(at("to", name), seconds, seconds);
  }
  const job = startJob([at("from")], at("to"), { target: "exact", onConflict: "ask" });
  const question = await untilAsked(job);
  job.jobs.answer(job.submitted, question.id, "newer", true);
  expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
  expect(["older", "newer"].map((name) => readFileSync(at("to", name), "utf8"))).toEqual(["mine", "theirs"]);
});
