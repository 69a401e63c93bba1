// A job that is about to start has its process before it is stored; one that waits after all has none, and nothing is left of it.

import { expect, test } from "bun:test";
import { existsSync, readdirSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { AdjustableJobs, JobsDependencies } from "../../src/jobs/jobs-dependencies.ts";
import { noLog } from "../../src/jobs/log.ts";
import { type JobStore, openStore } from "../../src/jobs/store.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { testCaller, testRequest, testWorker, untilEnded, untilView } from "../support/jobs.ts";
import { untilGone } from "../support/process.ts";
import { temporaryDirectory } from "../support/temporary.ts";

interface Room extends AsyncDisposable {
  readonly jobs: AdjustableJobs;
  readonly state: string;
  /** The records and checkpoints there are. */
  files(): string[];
}

async function openRoom(changes: Partial<JobsDependencies> = {}, listen?: (store: JobStore) => void): Promise<Room> {
  const directory = await temporaryDirectory();
  const store = await openStore({ path: join(directory.path, "jobs.db"), log: noLog });
  listen?.(store);
  const jobs = createJobs({ mode: "session", self: testWorker, store, stateDirectory: directory.path, ...changes });
  return {
    jobs,
    state: directory.path,
    files: () => readdirSync(directory.path).filter((name) => /^(in-flight|checkpoint)-/.test(name)),
    async [Symbol.asyncDispose]() {
      await jobs.shutdown();
      store.close();
      await directory[Symbol.asyncDispose]();
    },
  };
}

test("the process of a job that starts at once is there before the job is stored, and is the one that does it", async () => {
  const seen: number[][] = [];
  let before: number[] = [];
  await using room = await openRoom({}, (store) => {
    const save = store.save.bind(store);
    store.save = (...args) => {
      seen.push(childrenOf(process.pid).filter((pid) => !before.includes(pid)));
      save(...args);
    };
  });
  before = childrenOf(process.pid);
  const job = room.jobs.submit(testCaller, null, testRequest("run"));
  expect(seen[0]).toHaveLength(1);
  await untilView(room.jobs, job, ({ state }) => state === "running");
  expect(childrenOf(process.pid).filter((pid) => !before.includes(pid))).toEqual(seen[0] ?? []);
  room.jobs.cancel(job);
  await untilEnded(room.jobs, job);
});

test("a job that has to wait gets no process, and no files", async () => {
  await using room = await openRoom({ limits: { maxRunning: 1 } });
  const first = room.jobs.submit(testCaller, null, testRequest("run"));
  await untilView(room.jobs, first, ({ state }) => state === "running");
  const [files, children] = [room.files(), childrenOf(process.pid)];
  const second = room.jobs.submit(testCaller, null, testRequest("well"));
  expect(room.files()).toEqual(files);
  expect(childrenOf(process.pid)).toEqual(children);
  room.jobs.cancel(first);
  expect((await untilEnded(room.jobs, second)).result?.state).toBe("completed");
});

test("where it does not start after all, its process ends, its files go, and it starts later as if nothing had been", async () => {
  await using room = await openRoom();
  const before = childrenOf(process.pid);
  const job = room.jobs.submit(testCaller, null, testRequest("well"));
  const [prepared = 0] = childrenOf(process.pid).filter((pid) => !before.includes(pid));
  expect(prepared).toBeGreaterThan(0);
  expect(room.files()).toHaveLength(2);
  room.jobs.hold();
  await untilGone(prepared);
  expect(room.files()).toEqual([]);
  expect(room.jobs.get(testCaller.uid, job.token)?.state).toBe("queued");
  room.jobs.release();
  expect((await untilEnded(room.jobs, job)).result).toMatchObject({ state: "completed", filesDone: 10 });
});

test("a process that cannot be made is told of once, as the job's end", async () => {
  await using room = await openRoom({ self: ["/nonexistent/copyd"] });
  const ended: string[] = [];
  room.jobs.on("ended", ({ result }) => ended.push(result?.code ?? ""));
  const job = room.jobs.submit(testCaller, null, testRequest("well"));
  await untilEnded(room.jobs, job);
  expect(ended).toEqual(["worker-start"]);
  expect(room.files().filter((name) => name.startsWith("in-flight-"))).toEqual([]);
});

test("a record that was made for a job which was never stored goes at the next start; one that was used stays", async () => {
  await using directory = await temporaryDirectory();
  const store = await openStore({ path: join(directory.path, "jobs.db"), log: noLog });
  const [unused, used] = ["in-flight-1000-unused", "in-flight-1000-used"].map((name) => join(directory.path, name)) as [string, string];
  writeFileSync(unused, "");
  truncateSync(unused, 4 * 1024 * 1024);
  writeFileSync(used, Buffer.alloc(4096, 1));
  expect(statSync(unused).blocks).toBe(0);
  const warnings: string[] = [];
  const log = { ...noLog, warning: (message: string) => void warnings.push(message) };
  const jobs = createJobs({ mode: "session", self: testWorker, store, stateDirectory: directory.path, log });
  expect(existsSync(unused)).toBe(false);
  expect(existsSync(used)).toBe(true);
  expect(warnings).toEqual(["a record of unfinished files belongs to no job that is known"]);
  await jobs.shutdown();
  store.close();
});
