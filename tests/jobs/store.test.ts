// The store keeps jobs over crashes, and a database that cannot be used never keeps the service from starting.

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ByteString } from "../../src/bytes.ts";
import { noAttempts } from "../../src/jobs/attempts.ts";
import { advance, type Job, newJob } from "../../src/jobs/job.ts";
import type { JobEvent } from "../../src/jobs/job-events.ts";
import { type JobsLog, noLog } from "../../src/jobs/log.ts";
import { type JobStore, openStore } from "../../src/jobs/store.ts";
import { type EntryError, emptySnapshot } from "../../src/worker/protocol.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { testCaller, testQuestion, testRequest } from "../support/jobs.ts";
import { run } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const started: JobEvent = { type: "started", bootId: "boot", mounts: [] };
const startUs = 1_700_000_000_000_000;

function job(id: number, events: readonly JobEvent[] = [], uid = testCaller.uid): Job {
  const owner = { uid, gid: uid, groups: [uid, 7] };
  const fresh = newJob({ id, token: `t${id}`, workToken: `w${id}`, owner, asAdmin: false, request: testRequest("well") }, startUs + id);
  return events.reduce((before, event, index) => advance(before, event, startUs + id + (index + 1) * 1000), fresh);
}

function error(path: string): EntryError {
  const message = "cannot open 'b\xe9': Permission denied";
  return {
    path: path as ByteString,
    side: "source",
    code: "source-unreadable",
    errno: 13,
    syscall: "openat",
    message,
    severity: "error",
    engine: "",
    offset: -1,
  };
}

const complete: readonly JobEvent[] = [
  started,
  { type: "errors", errors: [error("/b\xe9")] },
  {
    type: "result",
    claim: { outcome: "failed", engines: { "read-write": 3 }, reasons: ["why"] },
    snapshot: { ...emptySnapshot, filesDone: 3 },
  },
  { type: "worker-ended" },
];

async function open(
  path: string,
  logged: string[] = [],
  changes: { maxJobsPerUser?: number; retentionDays?: number; now?: () => number } = {},
): Promise<JobStore> {
  const line = (message: string, facts?: object): unknown => logged.push(`${message} ${JSON.stringify(facts)}`);
  const log = { info: line, warning: line, error: line } as JobsLog;
  return await openStore({ path, log, now: () => startUs, ...changes });
}

test("a job comes back exactly as it was stored, at each of its states", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const jobs = [
    job(1),
    job(2, [{ type: "pause-requested" }]),
    job(3, [started, { type: "options-changed", bandwidthLimit: 5 }]),
    job(4, [started, { type: "question", question: testQuestion }]),
    job(5, [started, { type: "worker-failed", failure: { code: "worker-died", message: "x", mayGoOn: false } }, { type: "worker-ended" }]),
    job(6, complete),
    job(7, [{ type: "cancel-requested" }]),
  ];
  const before = await open(path);
  for (const each of jobs) before.save(each, "soon");
  before.close();
  const store = await open(path);
  expect(store.history(null, 100).toReversed()).toEqual(jobs);
  expect(store.unfinished().map(({ id }) => id)).toEqual([1, 2, 3, 4]);
  expect(store.history(testCaller.uid, 2).map(({ id }) => id)).toEqual([7, 6]);
  expect(store.history(testCaller.uid + 1, 2)).toEqual([]);
  expect(store.lastId).toBe(7);
  store.close();
});

test("a job's record of an older version is read", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const before = await open(path);
  for (const each of [job(1, [started]), job(2, complete), job(3)]) before.save(each, "now");
  before.close();
  const later = ["activity", "stopRequested", "attempts", "bootId", "mounts", "process", "standingAnswers", "result.resumeCount"];
  const without = later.map((key) => `'$.${key}'`).join(", ");
  withDatabase(path, `UPDATE jobs SET record = json_remove(record, ${without})`);
  const store = await open(path);
  expect(store.history(null, 10).map(({ id, activity, result }) => [id, activity, result?.resumeCount])).toEqual([
    [3, "none", undefined],
    [2, "none", 0],
    [1, "working", undefined],
  ]);
  expect(store.unfinished()[0]).toMatchObject({ bootId: "", mounts: [], process: null, standingAnswers: [], attempts: noAttempts });
  store.close();
});

test("a job is found by its files' token among its owner's only", async () => {
  const store = await open(":memory:");
  store.save(job(1, [], 5000), "now");
  expect(store.withWorkToken(5000, "w1")?.id).toBe(1);
  for (const stranger of [0, 4999, 5001]) expect(store.withWorkToken(stranger, "w1")).toBeNull();
  store.close();
});

test("any part of many errors is found, and so are those that a former version kept one by one; it would not open what is written now", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const store = await open(path);
  store.save(job(1, complete), "now");
  store.close();
  const former = new Database(path);
  for (const position of [0, 1]) {
    former.query("INSERT INTO errors VALUES (1, ?, ?)").run(position, JSON.stringify(error(`/${position}`)));
  }
  // So it was when rows were no lists yet.
  former.run("PRAGMA user_version = 4");
  former.close();
  const again = await open(path);
  const many = Array.from({ length: 998 }, (_, index) => error(`/${index + 2}`));
  again.addErrors(job(1), many.slice(0, 300));
  expect(again.errors(job(1), 0, 1000)).toHaveLength(302);
  again.addErrors(job(1), many.slice(300));
  for (const [offset, limit] of [
    [0, 1000],
    [0, 1],
    [1, 2],
    [1, 600],
    [257, 2],
    [258, 1],
    [300, 5],
    [999, 10],
    [1000, 10],
  ] as const) {
    const expected = Array.from({ length: Math.max(0, Math.min(limit, 1000 - offset)) }, (_, index) => `/${offset + index}`);
    expect(again.errors(job(1), offset, limit).map((each): string => each.path)).toEqual(expected);
  }
  again.close();
  const written = new Database(path);
  expect(written.query("PRAGMA user_version").get()).toEqual({ user_version: 5 });
  written.close();
});

test("errors are kept in order and go with their job; numbers are never used again", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const store = await open(path);
  const kept = job(1, complete);
  store.save(kept, "now");
  store.addErrors(kept, [error("/1"), error("/2")]);
  store.addErrors(kept, [error("/3\xff")]);
  expect(store.errors(kept, 1, 10).map((each): string => each.path)).toEqual(["/2", "/3\xff"]);
  store.remove(kept);
  expect(store.errors(kept, 0, 10)).toEqual([]);
  store.addErrors(kept, [error("/late")]);
  expect(store.errors(kept, 0, 10)).toEqual([]);
  store.close();
  const again = await open(path);
  expect(again.lastId).toBe(1);
  again.close();
});

test("nobody else can read the store's files", async () => {
  await using directory = await temporaryDirectory();
  const store = await open(join(directory.path, "jobs.db"));
  store.save(job(1), "now");
  const modes = readdirSync(directory.path).map((name) => statSync(join(directory.path, name)).mode & 0o777);
  expect(modes.length).toBeGreaterThanOrEqual(2);
  expect(new Set(modes)).toEqual(new Set([0o600]));
  store.close();
});

const unusable: readonly (readonly [what: string, spoil: (path: string) => void])[] = [
  ["is no database", (path) => writeFileSync(path, "not a database at all, but long enough to have a header of its own".repeat(10))],
  ["was overwritten in the middle", (path) => spoilPages(path)],
  ["was cut short", (path) => writeFileSync(path, readFileSync(path).subarray(0, 5000))],
  ["comes from the future", (path) => withDatabase(path, "PRAGMA user_version = 99")],
  ["belongs to another program", (path) => withDatabase(path, "PRAGMA application_id = 7")],
];

for (const [what, spoil] of unusable) {
  test(`a database that ${what} is set aside whole and reported, and the store starts anew`, async () => {
    await using directory = await temporaryDirectory();
    const path = join(directory.path, "jobs.db");
    const before = await open(path);
    for (let id = 1; id <= 200; id++) before.save(job(id, complete), "soon");
    before.close();
    spoil(path);
    const spoilt = readFileSync(path);
    const logged: string[] = [];
    const store = await open(path, logged);
    expect(store.history(null, 1000)).toEqual([]);
    expect(logged.join("\n")).toContain("set aside");
    const aside = readdirSync(directory.path).find((name) => name.startsWith("jobs.db.20231114T"));
    expect(readFileSync(join(directory.path, aside ?? "nothing")).equals(spoilt)).toBe(true);
    store.save(job(1), "now");
    store.close();
    expect((await open(path)).history(null, 10)).toHaveLength(1);
  });
}

test("a directory that cannot be written to means jobs in memory, reported", async () => {
  const logged: string[] = [];
  const store = await open("/proc/copyd/jobs.db", logged);
  expect(logged.join("\n")).toContain("kept in memory only");
  store.save(job(1), "now");
  expect(store.history(null, 10)).toHaveLength(1);
  store.close();
});

test("history is pruned by age and by number of each user, and jobs that have not ended are not history", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const store = await open(path);
  for (let id = 1; id <= 20; id++) store.save(job(id, id === 3 ? [] : complete), "soon");
  store.save(job(21, complete, testCaller.uid + 1), "soon");
  store.close();
  const fewer = await open(path, [], { maxJobsPerUser: 5 });
  expect(fewer.history(null, 100).map(({ id }) => id)).toEqual([21, 20, 19, 18, 17, 16, 3]);
  fewer.close();
  const later = await open(path, [], { now: () => startUs + 31 * 24 * 3600 * 1e6 });
  expect(later.history(null, 100).map(({ id }) => id)).toEqual([3]);
  expect(later.lastId).toBe(21);
  later.close();
});

test("whatever was saved as now is there after kill -9, in a database that is whole", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const program = `
    const { openStore } = await import(${JSON.stringify(join(import.meta.dir, "../../src/jobs/store.ts"))});
    const { newJob } = await import(${JSON.stringify(join(import.meta.dir, "../../src/jobs/job.ts"))});
    const { testCaller, testRequest } = await import(${JSON.stringify(join(import.meta.dir, "../support/jobs.ts"))});
    const store = await openStore({ path: ${JSON.stringify(path)}, log: console });
    for (let id = store.lastId + 1; ; id++) {
      store.save(newJob({ id, token: "t" + id, workToken: "w", owner: testCaller, asAdmin: false, request: testRequest("well") }, 1), "now");
      await Bun.write(Bun.stdout, id + "\\n");
    }`;
  let saved = 0;
  for (let round = 0; round < 4; round++) {
    const child = Bun.spawn({ cmd: [process.execPath, "-e", program], stdout: "pipe", stderr: "inherit" });
    let text = "";
    for await (const chunk of child.stdout) {
      text += Buffer.from(chunk).toString();
      if (text.length > 200 * (round + 1) && !child.killed) child.kill("SIGKILL");
    }
    saved = Number(text.slice(0, text.lastIndexOf("\n")).split("\n").at(-1));
    const logged: string[] = [];
    const store = await open(path, logged);
    expect(logged).toEqual([]);
    expect(store.lastId).toBeGreaterThanOrEqual(saved);
    expect(store.unfinished()).toHaveLength(store.lastId);
    store.close();
  }
  expect(saved).toBeGreaterThan(100);
});

function spoilPages(path: string): void {
  const bytes = readFileSync(path);
  bytes.fill(0x5a, 4096 * 3, 4096 * 12);
  writeFileSync(path, bytes);
}

function withDatabase(path: string, statement: string): void {
  const database = new Database(path);
  database.run(statement);
  database.close();
}

testUnless(
  whyNoFilesystem("tmpfs"),
  "what a full disk does not take is kept, called durable by nobody, and written when there is room",
  async () => {
    await using disk = await mountFilesystem("tmpfs", { sizeBytes: 4 * 1024 * 1024 });
    const logged: string[] = [];
    const path = join(disk.path, "jobs.sqlite");
    const store = await open(path, logged);
    store.save(job(1), "now");
    expect(store.makeDurable()).toBe(true);
    await run(["dd", "if=/dev/zero", `of=${disk.path}/filler`, "bs=4096"]);
    // More than the log has room for in what it takes up already.
    const large = job(2, [started]);
    const sources = Array.from({ length: 200 }, () => "/".padEnd(2000, "x") as ByteString);
    store.save({ ...large, request: { ...large.request, sources } }, "now");
    store.addErrors(large, [error("/b")]);
    expect(store.makeDurable()).toBe(false);
    expect(logged).toHaveLength(1);
    expect(logged[0]).toStartWith("the job store cannot be written");
    rmSync(join(disk.path, "filler"));
    expect(store.makeDurable()).toBe(true);
    expect(logged[1]).toStartWith("the job store can be written again");
    store.close();
    const again = await open(path);
    expect(again.unfinished().map(({ id }) => id)).toEqual([1, 2]);
    expect(again.errors(job(2), 0, 10)).toHaveLength(1);
    again.close();
  },
);

test("a store that another copyd has open is refused by name", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const store = await open(path);
  const opening = openStore({ path, log: noLog, busyTimeoutMs: 100 });
  await expect(opening).rejects.toMatchObject({ code: "invalid-state" });
  store.close();
});

test("the rate of a user's copies is that of the last ones that completed", async () => {
  await using directory = await temporaryDirectory();
  const store = await open(join(directory.path, "jobs.db"));
  const copied = (id: number, bytesDone: number, uid: number): Job =>
    job(
      id,
      [
        started,
        { type: "result", claim: { outcome: "completed", engines: {}, reasons: [] }, snapshot: { ...emptySnapshot, bytesDone } },
        { type: "worker-ended" },
      ],
      uid,
    );
  expect(store.rateOf(1000)).toBe(0);
  const jobs = [copied(1, 5000, 1000), copied(2, 7000, 1000), copied(3, 900_000, 1001), job(4, complete, 1000)];
  for (const each of jobs) store.save(each, "soon");
  const elapsedUs = jobs[0]?.result?.elapsedUs ?? 0;
  expect(elapsedUs).toBeGreaterThan(0);
  // One that was resumed says nothing: it may have slept for a night.
  const resumed = job(
    5,
    [started, { type: "service-lost" }, { type: "worker-ended" }, started, complete[2], complete[3]] as JobEvent[],
    1000,
  );
  store.save(resumed, "soon");
  expect(store.rateOf(1000)).toBeCloseTo((12_000 / (2 * elapsedUs)) * 1e6);
  store.close();
});

test("a job's request, which may be long, is encoded when it is new and never again", async () => {
  let encoded = 0;
  const request = {
    ...testRequest("well"),
    toJSON(): object {
      encoded++;
      return testRequest("well");
    },
  };
  const { toJSON: _, ...plain } = request;
  const fresh: Job = { ...job(1), request };
  using store = disposable(await open(":memory:"));
  for (const event of [null, ...complete]) store.save(event === null ? fresh : advance(fresh, event, startUs + 5000), "now");
  expect(encoded).toBe(1);
  expect(store.find(testCaller.uid, "t1")?.request).toEqual(plain);
});

function disposable(store: JobStore): JobStore & Disposable {
  return Object.assign(store, { [Symbol.dispose]: () => store.close() });
}
