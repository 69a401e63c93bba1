// Ten thousand jobs, queued and ended: memory stays flat and the store compact. And what the embedded mode does not load.

import { expect, test } from "bun:test";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { createJobs } from "../../src/jobs/jobs.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import { testCaller, testRequest } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("ten thousand jobs end, the store has them all, and memory stays flat", async () => {
  await using state = await temporaryDirectory();
  const store = await openStore({ path: join(state.path, "jobs.db"), log: noLog, maxJobsPerUser: 10_000 });
  // No such worker: each job goes the whole way but for the process.
  const jobs = createJobs({ mode: "session", self: ["/nonexistent"], store, stateDirectory: state.path });
  let ended = 0;
  jobs.on("ended", () => {
    ended++;
  });
  const residentAfter: number[] = [];
  for (let round = 0; round < 10; round++) {
    for (let index = 0; index < 1000; index++) {
      const user = { ...testCaller, uid: 1000 + (index % 4) };
      const job = jobs.submit(user, null, testRequest(`${round}-${index}`));
      if (index % 10 === 0) jobs.cancel(job);
    }
    while (ended < (round + 1) * 1000) await Bun.sleep(1);
    Bun.gc(true);
    residentAfter.push(process.memoryUsage.rss());
  }
  expect(jobs.counts()).toEqual({ active: 0, queued: 0 });
  expect(jobs.list(null).length).toBeLessThanOrEqual(800);
  expect(store.history(null, 20_000)).toHaveLength(10_000);
  const grown = (residentAfter.at(-1) ?? 0) - (residentAfter[3] ?? 0);
  console.log(`memory after each thousand jobs, MiB: ${residentAfter.map((bytes) => Math.round(bytes / 2 ** 20)).join(" ")}`);
  expect(grown).toBeLessThan(24 * 1024 * 1024);
  await jobs.shutdown();
  store.close();
  expect(readdirSync(state.path)).toEqual(["jobs.db"]);
  expect(statSync(join(state.path, "jobs.db")).size).toBeLessThan(40 * 1024 * 1024);
}, 300_000);

test("the room by itself, as the embedded mode uses it, does not know SQLite", async () => {
  const entry = join(import.meta.dir, "../../src/jobs/jobs.ts");
  const { outputs } = await Bun.build({ entrypoints: [entry], target: "bun", packages: "external" });
  const text = (await Promise.all(outputs.map((output) => output.text()))).join("");
  expect(text).toContain("createJobs");
  expect(text).not.toContain("sqlite");
});
