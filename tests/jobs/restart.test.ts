// A service that was killed or stopped, and started again: no job is lost, and none is called what it was not.

import { expect, test } from "bun:test";
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createJobs } from "../../src/jobs/jobs.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import { testCaller, testRequest, testWorker, untilEnded, untilView } from "../support/jobs.ts";
import { temporaryDirectory } from "../support/temporary.ts";

test("after kill -9 of the service, waiting jobs run and started ones are failed with their remains removed", async () => {
  await using state = await temporaryDirectory();
  const program = `
    const { createJobs } = await import(${JSON.stringify(join(import.meta.dir, "../../src/jobs/jobs.ts"))});
    const { openStore } = await import(${JSON.stringify(join(import.meta.dir, "../../src/jobs/store.ts"))});
    const { testCaller, testRequest, testWorker, untilView } = await import(${JSON.stringify(join(import.meta.dir, "../support/jobs.ts"))});
    const stateDirectory = ${JSON.stringify(state.path)};
    const store = await openStore({ path: stateDirectory + "/jobs.db", log: console });
    const jobs = createJobs({ mode: "session", self: testWorker, store, stateDirectory, limits: { maxRunning: 1 } });
    const running = jobs.submit(testCaller, "running", testRequest("run?count=2"));
    await untilView(jobs, running, ({ state }) => state === "running");
    jobs.submit(testCaller, "waiting", testRequest("well"));
    jobs.pause(jobs.submit(testCaller, "paused", testRequest("well")));
    jobs.submit(testCaller, "cancelled", testRequest("well"));
    jobs.cancel(jobs.get(testCaller.uid, "cancelled"));
    await Bun.write(Bun.stdout, "ready");
    await Bun.sleep(60_000);`;
  const child = Bun.spawn({ cmd: [process.execPath, "-e", program], stdout: "pipe", stderr: "inherit" });
  const ready = await child.stdout.getReader().read();
  expect(Buffer.from(ready.value ?? []).toString()).toBe("ready");
  child.kill("SIGKILL");
  await child.exited;
  const record = readdirSync(state.path).find((name) => name.startsWith("in-flight-"));
  expect(record).toBeDefined();
  writeFileSync(join(state.path, record ?? ""), "something in flight", { flag: "r+" });

  const store = await openStore({ path: join(state.path, "jobs.db"), log: noLog });
  const jobs = createJobs({ mode: "session", self: testWorker, store, stateDirectory: state.path });
  expect(jobs.list(testCaller.uid).map(({ token }) => token)).toEqual(["running", "waiting", "paused"]);
  const [running, waiting, paused] = jobs.list(testCaller.uid);
  if (running === undefined || waiting === undefined || paused === undefined) throw new Error("unreachable");
  expect((await untilEnded(jobs, running)).result).toMatchObject({ state: "failed", code: "worker-died" });
  expect(jobs.get(testCaller.uid, "running")?.result?.message).toContain("restarted");
  expect((await untilEnded(jobs, waiting)).state).toBe("completed");
  expect(jobs.get(testCaller.uid, "paused")?.state).toBe("paused");
  jobs.resume(paused);
  expect((await untilEnded(jobs, paused)).state).toBe("completed");
  expect(existsSync(join(state.path, record ?? ""))).toBe(false);
  expect(jobs.submit(testCaller, null, testRequest("well")).createdTimeUs).toBeGreaterThan(paused.createdTimeUs);
  await jobs.shutdown();
  expect(store.history(null, 10).map(({ token, state }) => [token, state])).toContainEqual(["cancelled", "cancelled"]);
  store.close();
});

test("an orderly stop keeps the waiting jobs for the next start and leaves no record behind", async () => {
  await using state = await temporaryDirectory();
  const path = join(state.path, "jobs.db");
  const settings = { mode: "session", self: testWorker, stateDirectory: state.path, limits: { maxRunning: 1 } } as const;
  const store = await openStore({ path, log: noLog });
  const before = createJobs({ ...settings, store });
  const running = before.submit(testCaller, "running", testRequest("run"));
  before.submit(testCaller, "waiting", testRequest("well"));
  await untilView(before, running, (view) => view.state === "running");
  await before.shutdown();
  store.close();
  expect(readdirSync(state.path)).toEqual(["jobs.db"]);
  const later = await openStore({ path, log: noLog });
  const jobs = createJobs({ ...settings, store: later });
  const waiting = jobs.get(testCaller.uid, "waiting");
  if (waiting === undefined) throw new Error("the waiting job was lost");
  expect((await untilEnded(jobs, waiting)).state).toBe("completed");
  expect(later.history(null, 10).map(({ token, state: each }) => [token, each])).toEqual([
    ["waiting", "completed"],
    ["running", "failed"],
  ]);
  await jobs.shutdown();
  later.close();
});
