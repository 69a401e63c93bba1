// A service that was killed or stopped, and started again: its jobs go on, and none is called what it was not.

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { AdjustableJobs, JobsDependencies } from "../../src/jobs/jobs-dependencies.ts";
import { noLog } from "../../src/jobs/log.ts";
import { processIdentity } from "../../src/jobs/process-identity.ts";
import { type JobStore, openStore } from "../../src/jobs/store.ts";
import { MountTable } from "../../src/mount-table.ts";
import { testCaller, testRequest, testWorker, untilEnded, untilView } from "../support/jobs.ts";
import { isRunning } from "../support/process.ts";
import { temporaryDirectory } from "../support/temporary.ts";

interface Room {
  readonly jobs: AdjustableJobs;
  readonly store: JobStore;
  end(): Promise<void>;
}

async function openRoom(stateDirectory: string, changes: Partial<JobsDependencies> = {}): Promise<Room> {
  const store = await openStore({ path: join(stateDirectory, "jobs.db"), log: noLog });
  const jobs = createJobs({ mode: "session", self: testWorker, store, stateDirectory, ...changes });
  const end = async (): Promise<void> => {
    await jobs.shutdown();
    store.close();
  };
  return { jobs, store, end };
}

function found({ jobs }: Room, token: string): JobView {
  const job = jobs.get(testCaller.uid, token);
  if (job === undefined) throw new Error(`job ${token} was lost`);
  return job;
}

/** Runs a room in a process of its own until the job `running` runs, and kills that process. */
async function killedRoom(stateDirectory: string, mode: string): Promise<void> {
  const program = `
    const { createJobs } = await import(${JSON.stringify(join(import.meta.dir, "../../src/jobs/jobs.ts"))});
    const { openStore } = await import(${JSON.stringify(join(import.meta.dir, "../../src/jobs/store.ts"))});
    const { testCaller, testRequest, testWorker, untilView } = await import(${JSON.stringify(join(import.meta.dir, "../support/jobs.ts"))});
    const stateDirectory = ${JSON.stringify(stateDirectory)};
    const store = await openStore({ path: stateDirectory + "/jobs.db", log: console });
    const jobs = createJobs({ mode: "session", self: testWorker, store, stateDirectory, limits: { maxRunning: 1 } });
    const running = jobs.submit(testCaller, "running", testRequest(${JSON.stringify(mode)}));
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
}

test("after kill -9 of the service, all jobs come back: started ones go on once their remains are removed", async () => {
  await using state = await temporaryDirectory();
  await killedRoom(state.path, "run?then=well");
  const record = readdirSync(state.path).find((name) => name.startsWith("in-flight-")) ?? "";
  expect(readdirSync(state.path).some((name) => name.startsWith("checkpoint-"))).toBe(true);
  writeFileSync(join(state.path, record), "something in flight", { flag: "r+" });

  const room = await openRoom(state.path);
  expect(room.jobs.list(testCaller.uid).map(({ token }) => token)).toEqual(["running", "waiting", "paused", "cancelled"]);
  const running = await untilEnded(room.jobs, found(room, "running"));
  expect(running.result).toMatchObject({ state: "completed", resumeCount: 1, filesDone: 10 });
  expect((await untilEnded(room.jobs, found(room, "waiting"))).result).toMatchObject({ state: "completed", resumeCount: 0 });
  // It ended before: who comes late still finds it.
  expect(found(room, "cancelled").result?.state).toBe("cancelled");
  expect(found(room, "paused").state).toBe("paused");
  room.jobs.resume(found(room, "paused"));
  expect((await untilEnded(room.jobs, found(room, "paused"))).state).toBe("completed");
  expect(existsSync(join(state.path, record))).toBe(false);
  await room.end();
  // Checkpoints of jobs that have ended go with the next start at the latest.
  await (await openRoom(state.path)).end();
  expect(readdirSync(state.path)).toEqual(["jobs.db"]);
});

/** The names of the jobs' own files. */
function filesIn(path: string): string[] {
  return readdirSync(path).filter((name) => /^(checkpoint|in-flight)-/.test(name));
}

test("a store that cannot be opened for a while takes nothing of what its jobs had done", async () => {
  await using state = await temporaryDirectory();
  await killedRoom(state.path, "run?then=well");
  const files = filesIn(state.path);
  expect(files).toHaveLength(2);
  renameSync(join(state.path, "jobs.db"), join(state.path, "elsewhere"));
  mkdirSync(join(state.path, "jobs.db"));
  const blind = await openRoom(state.path);
  expect(blind.jobs.list(null)).toEqual([]);
  expect((await untilEnded(blind.jobs, blind.jobs.submit(testCaller, "new", testRequest("well")))).state).toBe("completed");
  await blind.end();
  expect(filesIn(state.path)).toEqual(files);
  rmSync(join(state.path, "jobs.db"), { recursive: true });
  renameSync(join(state.path, "elsewhere"), join(state.path, "jobs.db"));
  const room = await openRoom(state.path);
  expect((await untilEnded(room.jobs, found(room, "running"))).result).toMatchObject({ state: "completed", resumeCount: 1 });
  await room.end();
});

for (const [what, spoil] of [
  [
    "from the future",
    (path: string): void => {
      using database = new Database(path);
      database.run("PRAGMA user_version = 999");
    },
  ],
  [
    "emptied",
    (path: string): void => {
      truncateSync(path);
      rmSync(`${path}-wal`, { force: true });
    },
  ],
] as const) {
  test(`what the jobs of a store that is ${what} had done is set aside with it`, async () => {
    await using state = await temporaryDirectory();
    await killedRoom(state.path, "run?then=well");
    const files = filesIn(state.path);
    spoil(join(state.path, "jobs.db"));
    await (await openRoom(state.path)).end();
    expect(filesIn(state.path)).toEqual([]);
    const aside = readdirSync(state.path).filter((name) => name.endsWith("-files"));
    expect(aside.flatMap((name) => filesIn(join(state.path, name)))).toEqual(files);
  });
}

test("a row that a later version wrote keeps the files of its job", async () => {
  await using state = await temporaryDirectory();
  await killedRoom(state.path, "run?then=well");
  const files = filesIn(state.path);
  const database = new Database(join(state.path, "jobs.db"));
  database.run("UPDATE jobs SET record = json_set(record, '$.attempts', 'another form') WHERE token = 'running'");
  database.close();
  await (await openRoom(state.path)).end();
  expect(filesIn(state.path)).toEqual(files);
});

test("a worker that outlived its service is ended before another one goes on", async () => {
  await using state = await temporaryDirectory();
  await killedRoom(state.path, "run?stays&then=well");
  const before = await openStore({ path: join(state.path, "jobs.db"), log: noLog });
  const pid = before.unfinished().find(({ token }) => token === "running")?.process?.pid ?? 0;
  before.close();
  expect(processIdentity(pid)).not.toBeNull();
  const room = await openRoom(state.path);
  expect((await untilEnded(room.jobs, found(room, "running"))).result).toMatchObject({ state: "completed", resumeCount: 1 });
  expect(processIdentity(pid)).toBeNull();
  await room.end();
});

test("a process that has got the number of a job's former worker since is left alone", async () => {
  await using state = await temporaryDirectory();
  await killedRoom(state.path, "run?then=well");
  // A group of its own, as a worker has one.
  await using stranger = Bun.spawn(["setsid", "sleep", "60"]);
  const database = new Database(join(state.path, "jobs.db"));
  database.run("UPDATE jobs SET record = json_set(record, '$.process.pid', ?1) WHERE token = 'running'", [stranger.pid]);
  database.close();
  const room = await openRoom(state.path);
  expect((await untilEnded(room.jobs, found(room, "running"))).result).toMatchObject({ state: "completed", resumeCount: 1 });
  expect(isRunning(stranger.pid)).toBe(true);
  await room.end();
});

test("an orderly stop keeps every job in its state for the next start, and lets no worker live", async () => {
  await using state = await temporaryDirectory();
  const before = await openRoom(state.path, { limits: { maxRunning: 1 } });
  const submit = (token: string, mode: string): JobView => before.jobs.submit(testCaller, token, testRequest(mode));
  const paused = submit("paused", "run?then=well");
  await untilView(before.jobs, paused, (view) => view.state === "running");
  before.jobs.pause(paused);
  const asking = submit("asking", "run?ask&then=well");
  await untilView(before.jobs, asking, (view) => view.state === "question");
  const running = submit("running", "run?then=well");
  await untilView(before.jobs, running, (view) => view.bytesDone > 0);
  submit("waiting", "well");
  const processes = before.store.unfinished().flatMap(({ process }) => process?.pid ?? []);
  expect(processes).toHaveLength(3);
  await before.end();
  expect(processes.filter(isRunning)).toEqual([]);
  expect(readdirSync(state.path).filter((name) => name.startsWith("in-flight-"))).toEqual([]);

  const room = await openRoom(state.path);
  expect(found(room, "running").bytesDone).toBeGreaterThan(0);
  for (const token of ["running", "asking", "waiting"]) {
    const resumeCount = token === "waiting" ? 0 : 1;
    expect((await untilEnded(room.jobs, found(room, token))).result).toMatchObject({ state: "completed", resumeCount });
  }
  expect(found(room, "paused").state).toBe("paused");
  room.jobs.resume(found(room, "paused"));
  expect((await untilEnded(room.jobs, found(room, "paused"))).result).toMatchObject({ state: "completed", resumeCount: 1 });
  await room.end();
});

test("a worker that does not stop in time is killed, and its job goes on all the same", async () => {
  await using state = await temporaryDirectory();
  const before = await openRoom(state.path, { limits: { stopTimeoutMs: 300 } });
  const job = before.jobs.submit(testCaller, "deaf", testRequest("ignores-cancel?then=well"));
  await untilView(before.jobs, job, (view) => view.state === "running");
  await before.end();
  const room = await openRoom(state.path);
  expect((await untilEnded(room.jobs, found(room, "deaf"))).result).toMatchObject({ state: "completed", resumeCount: 1 });
  await room.end();
});

const root = "1 1 8:1 / / rw - ext4 /dev/sda1 rw";
const stick = "2 1 8:17 / /test rw - vfat /dev/sdb1 rw";
const server = "3 1 0:44 / /test rw - nfs4 server:/other rw";
const otherStick = "4 1 8:33 / /test rw - vfat /dev/sdc1 rw";

test("a job that is to go on waits for what its paths were mounted on, and says so; a first start waits for nothing", async () => {
  await using state = await temporaryDirectory();
  let mounts = [root, stick];
  const readMounts = (): MountTable => new MountTable(mounts.join("\n"));
  const before = await openRoom(state.path, { readMounts });
  for (const token of ["one", "two"]) {
    const job = before.jobs.submit(testCaller, token, testRequest("run?then=well"));
    await untilView(before.jobs, job, (view) => view.state === "running");
  }
  await before.end();

  mounts = [root, server];
  const room = await openRoom(state.path, { readMounts });
  for (const token of ["one", "two"]) {
    expect(found(room, token)).toMatchObject({ state: "queued", waitReason: "'/test' (vfat) is not mounted", cancelable: true });
  }
  // Nobody may think that nothing is left to do.
  expect(room.jobs.counts()).toEqual({ active: 0, queued: 2 });
  expect((await untilEnded(room.jobs, room.jobs.submit(testCaller, "new", testRequest("well")))).state).toBe("completed");
  room.jobs.cancel(found(room, "two"));
  expect((await untilEnded(room.jobs, found(room, "two"))).result?.state).toBe("cancelled");
  room.jobs.pause(found(room, "one"));
  expect(found(room, "one")).toMatchObject({ state: "paused", waitReason: "" });
  expect(room.jobs.counts()).toEqual({ active: 0, queued: 0 });
  room.jobs.resume(found(room, "one"));
  expect(found(room, "one").waitReason).not.toBe("");
  mounts = [root, otherStick];
  expect((await untilEnded(room.jobs, found(room, "one"))).result).toMatchObject({ state: "completed", resumeCount: 1 });
  await room.end();
}, 20_000);

test("what could not be removed when a job ended is tried again at the next start", async () => {
  await using state = await temporaryDirectory();
  const before = await openRoom(state.path);
  const request = testRequest("dies", { destination: join(state.path, "unrecoverable") });
  const end = await untilEnded(before.jobs, before.jobs.submit(testCaller, "dies", request));
  expect(end.result).toMatchObject({ state: "failed", code: "worker-died" });
  await before.end();
  expect(readdirSync(state.path).filter((name) => name.startsWith("in-flight-"))).toHaveLength(1);
  writeFileSync(join(state.path, "recoverable"), "");
  const room = await openRoom(state.path);
  const deadlineMs = performance.now() + 20_000;
  while (readdirSync(state.path).some((name) => name.startsWith("in-flight-"))) {
    if (performance.now() > deadlineMs) throw new Error("the record is still there");
    await Bun.sleep(20);
  }
  expect(found(room, "dies").result?.state).toBe("failed");
  await room.end();
});
