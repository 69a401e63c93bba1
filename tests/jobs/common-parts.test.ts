// Ten thousand waiting jobs of a script do not hold ten thousand times the same options.

import { expect, test } from "bun:test";
import { join } from "node:path";
import type { Caller } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import { codeOf, testCaller, testRequest } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const other: Caller = { ...testCaller, uid: testCaller.uid + 1 };

test("jobs that are alike hold their options and owner once, whoever calls between them, and after a restart too", async () => {
  await using state = await temporaryDirectory();
  const open = async () => {
    const store = await openStore({ path: join(state.path, "jobs.db"), log: noLog });
    return { store, jobs: createJobs({ mode: "session", store, stateDirectory: state.path, limits: { maxRunning: 0 } }) };
  };
  const first = await open();
  for (let round = 0; round < 3; round++) {
    for (const caller of [testCaller, other]) {
      first.jobs.submit(structuredClone(caller), `same${round}`, structuredClone(testRequest(`run${round}`)));
      first.jobs.submit(structuredClone(caller), `own${round}`, structuredClone(testRequest(`run${round}`, { priority: "high" })));
    }
  }
  const expectShared = ({ jobs }: typeof first): void => {
    const views = jobs.list(null);
    expect(views).toHaveLength(12);
    expect(new Set(views.map(({ owner }) => owner)).size).toBe(4);
    expect(new Set(views.map(({ request }) => request.options)).size).toBe(4);
    expect(new Set(views.map(({ owner, request }) => `${owner.uid} ${request.sources} ${request.options.priority}`)).size).toBe(12);
  };
  expectShared(first);
  // What is changed of one is not changed of the others.
  const [one] = first.jobs.list(testCaller.uid);
  if (one === undefined) throw new Error("there is no job");
  first.jobs.setOptions(one, { priority: "low" });
  const priorities = (): string[] => first.jobs.list(testCaller.uid).map(({ request }) => request.options.priority);
  expect(priorities()).toEqual(["low", "high", "normal", "high", "normal", "high"]);
  first.jobs.setOptions(one, { priority: "normal" });
  // It is the same call, by its values.
  expect(first.jobs.submit(testCaller, "same1", testRequest("run1")).token).toBe("same1");
  expect(codeOf(() => first.jobs.submit(testCaller, "same1", testRequest("run1", { priority: "high" })))).toBe("job-exists");
  await first.jobs.shutdown();
  first.store.close();
  const second = await open();
  const views = second.jobs.list(null);
  expect(new Set(views.slice(2).map(({ request }) => request.options)).size).toBe(4);
  await second.jobs.shutdown();
  second.store.close();
});
