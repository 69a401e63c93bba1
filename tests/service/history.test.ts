// The history over the bus and in the shell: ten thousand jobs, each caller's own, page by page and summed up; and the queue's order.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { join } from "node:path";
import { type JobMethod, jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant, type VariantDict, type WireValue } from "../../src/dbus/values.ts";
import { advance, type Job, newJob } from "../../src/jobs/job.ts";
import type { JobEvent } from "../../src/jobs/job-events.ts";
import { noLog } from "../../src/jobs/log.ts";
import { type JobStore, openStore } from "../../src/jobs/store.ts";
import { emptySnapshot } from "../../src/worker/protocol.ts";
import { whyNoBus } from "../support/bus.ts";
import { busctlAs, callService, errorOf } from "../support/bus-client.ts";
import { plainEnvironment, runCopyd } from "../support/cli.ts";
import { type JobService, startJobService } from "../support/job-service.ts";
import { testCaller, testRequest } from "../support/jobs.ts";
import type { RunResult } from "../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { passwdUsers, type TestUsers, whyNoPasswdUsers } from "../support/users.ts";

const number = 10_000;
const firstUs = Date.UTC(2026, 0, 10, 12) * 1000;

describeUnless(firstReason(whyNoBus(), unlessRoot(), whyNoPasswdUsers()), "the history", () => {
  let state: TemporaryDirectory;
  let store: JobStore;
  let service: JobService;
  let users: TestUsers;

  beforeAll(async () => {
    state = await temporaryDirectory();
    users = await passwdUsers();
    const open = (): Promise<JobStore> =>
      openStore({ path: join(state.path, "jobs.db"), log: noLog, maxJobsPerUser: number, retentionDays: 3650 });
    const former = await open();
    for (let id = 1; id <= number; id++) former.save(pastJob(id, id % 10 === 0 ? users.second.uid : testCaller.uid), "soon");
    former.close();
    store = await open();
    service = await startJobService({ store, limits: { maxJobsPerUser: 2000 } });
    // The queue is looked at, not worked off.
    service.jobs.hold();
  }, 60_000);
  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    store.close();
    await users[Symbol.asyncDispose]();
    await state[Symbol.asyncDispose]();
  });

  const copyd = async (line: string): Promise<RunResult & { readonly ms: number }> => {
    const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: service.bus.address };
    const startMs = performance.now();
    const result = await runCopyd(line.split(" "), { env });
    return { ...result, ms: performance.now() - startMs };
  };
  const lines = (text: string): string[] => text.trimEnd().split("\n");
  const list = async (filter: Record<string, Variant>): Promise<readonly (readonly [string, VariantDict])[]> => {
    const connection = await service.bus.connect();
    const [rows] = await callService(connection, rootPath, managerInterface, "ListJobs", "a{sv}", [new Map(Object.entries(filter))]);
    return rows as readonly (readonly [string, VariantDict])[];
  };

  test("the newest come first into a page, all of them are had page by page, and only one's own", async () => {
    const history = { history: new Variant("b", true) };
    const page = await list(history);
    expect(page.length).toBeGreaterThan(10);
    expect(page.at(-1)?.[0]).toEndWith(`/t${number - 1}`);
    const created = Number(page[0]?.[1].get("CreatedTime")?.value);
    const before = await list({ ...history, before: new Variant("t", created), limit: new Variant("u", 5) });
    expect(before).toHaveLength(5);
    expect(Number(before.at(-1)?.[1].get("CreatedTime")?.value)).toBeLessThan(created);
    const few = await list({ ...history, token: new Variant("s", "t999"), properties: new Variant("as", ["State", "Priority"]) });
    expect(few.map(([path]) => path.slice(path.lastIndexOf("/") + 1))).toEqual(tokensFrom999());
    expect([...(few[0]?.[1].keys() ?? [])]).toEqual(["State", "Priority"]);
    expect(await list({})).toEqual([]);
    const wrong = await errorOf(list({ properties: new Variant("as", ["Colour"]) }));
    expect(wrong).toMatchObject({ dbusName: "org.freedesktop.DBus.Error.InvalidArgs", message: expect.stringContaining("'Colour'") });
  });

  test("a job of the past answers at its path to its owner, and to nobody else", async () => {
    const path = `${rootPath}/jobs/u${testCaller.uid}/t1234`;
    const connection = await service.bus.connect();
    const call = (member: JobMethod, signature: string, body: readonly WireValue[]): Promise<readonly WireValue[]> =>
      callService(connection, path, jobInterface, member, signature, body);
    expect((await call("Wait", "a{sv}", [new Map()]))[0]).toBe("completed");
    expect(await call("GetErrors", "uu", [0, 0])).toEqual([[]]);
    expect((await errorOf(call("Pause", "a{sv}", [new Map()]))).dbusName).toBe("org.copyd.Copyd1.Error.InvalidState");
    const asOther = await busctlAs(users.second, service.bus.address, path, jobInterface, "GetErrors", "uu", "0", "0");
    expect(asOther).toMatchObject({ ok: false, error: expect.stringContaining("no object at") });
  });

  test("statistics are one's own; everybody's take an administrator", async () => {
    const ask = ["GetStatistics", "sa{sv}", "user", "1", "all-users", "b", "true"] as const;
    const refused = await busctlAs(users.second, service.bus.address, rootPath, managerInterface, ...ask);
    expect(refused.ok).toBe(false);
    const own = await busctlAs(users.second, service.bus.address, rootPath, managerInterface, "GetStatistics", "sa{sv}", "user", "0");
    expect(own).toMatchObject({ ok: true, data: [[{ user: { data: users.second.uid }, jobs: { data: number / 10 } }]] });
    const { stdout } = await copyd("stats --by user --order busiest --all-users --json");
    expect(lines(stdout).map((line) => JSON.parse(line))).toEqual([
      expect.objectContaining({ type: "statistics", user: testCaller.uid, jobs: (number * 9) / 10 }),
      expect.objectContaining({ user: users.second.uid, jobs: number / 10 }),
    ]);
  });

  test("copyd stats --by user shows names to people", async () => {
    const { stdout } = await copyd("stats --by user --order busiest --all-users");
    expect(lines(stdout).map((line) => line.split(/\s+/).at(-1))).toEqual(["USER", "root", users.second.name]);
  });

  test("copyd stats: by day, the largest and the slowest path, from a time on; and what it does not know", async () => {
    const byDay = lines((await copyd("stats")).stdout);
    expect(byDay[0]).toMatch(/^ *JOBS +FAILED +CANCELLED +FILES +BYTES +TIME +RATE +DAY$/);
    expect(byDay.slice(1).every((line) => / 2026-01-1\d$/.test(line))).toBe(true);
    expect(lines((await copyd("stats --by destination --order largest --lines 1")).stdout)[1]).toEndWith("/to/49");
    expect(lines((await copyd("stats --by destination --order slowest --lines 1")).stdout)[1]).toEndWith("/to/1");
    expect(await copyd("stats --since 2026-02-01")).toMatchObject({ stdout: "", stderr: "No job has ended in that time.\n", status: 0 });
    expect((await copyd("stats --by colour")).stderr).toContain("--by takes day, user, source, destination, not 'colour'");
    expect((await copyd("stats --lines -1")).status).not.toBe(0);
    expect((await copyd("stats --lines 9e99")).stderr).toContain("--lines takes a number, not '9e99'");
  });

  test("copyd jobs stays quick beside ten thousand, --all pages through them, show and errors know each", async () => {
    const quick = await copyd("jobs");
    expect(quick.stderr).toContain("No job is waiting or running");
    const some = await copyd("jobs --all --lines 1500");
    expect(lines(some.stdout)).toHaveLength(1501);
    expect(lines(some.stdout).at(-1)).toStartWith(`t${number - 1} `);
    const shown = await copyd("show t4711");
    expect(shown.stdout).toMatch(/^Result: +\d+ files? copied\.$/m);
    expect((await copyd("errors t4711")).stderr).toBe("There are no errors.\n");
    expect((await copyd("wait t4711")).status).toBe(0);
    expect((await copyd("cancel t4711")).status).toBe(2);
    expect((await copyd("show nothing-such")).stderr).toContain("there is no job 'nothing-such'");
    expect((await copyd("jobs --all --since 2026-01-10 --until 2026-01-11 --json")).stdout).toContain('"type":"job"');
    console.log(
      `10,000 jobs: jobs ${Math.round(quick.ms)} ms, jobs --all --lines 1500 ${Math.round(some.ms)} ms, show ${Math.round(shown.ms)} ms`,
    );
    // On a quiet machine a tenth of this.
    expect(quick.ms).toBeLessThan(2000);
  }, 60_000);

  test("waiting jobs show their place, and are moved, hastened and limited from the shell", async () => {
    for (const token of ["one", "two", "three"]) service.jobs.submit(testCaller, token, testRequest("x"));
    const rows = async (): Promise<string[]> =>
      lines((await copyd("jobs")).stdout)
        .slice(1)
        .map((line) => line.replace(/ +0 B.*/, ""));
    expect(await rows()).toEqual(["one    queued #1", "two    queued #2", "three  queued #3"]);
    expect(await copyd("priority three first")).toMatchObject({ status: 0, stderr: "" });
    expect(await rows()).toEqual(["one    queued #2", "two    queued #3", "three  queued #1"]);
    expect(JSON.parse((await copyd("priority two high --json")).stdout)).toEqual({ type: "priority", job: "two", priority: "high" });
    expect(await rows()).toEqual(["one    queued #3", "two    queued #1 high", "three  queued #2"]);
    expect((await copyd("limit one 1.5M")).status).toBe(0);
    const shown = (await copyd("show one")).stdout;
    expect(shown).toMatch(/^Limit: +1\.6 MB\/s$/m);
    expect(shown).toMatch(/^Place in the queue: +3$/m);
    expect(JSON.parse((await copyd("show one --json")).stdout)).toMatchObject({
      bandwidthLimit: 1_572_864,
      priority: "normal",
      queuePosition: 3,
    });
    expect((await copyd("limit one 0")).status).toBe(0);
    expect((await copyd("show one")).stdout).not.toContain("Limit:");
    for (const rate of ["9e99", "fast", "0.1", "99999999T"]) {
      expect((await copyd(`limit one ${rate}`)).stderr).toContain(
        `RATE is a number of bytes a second like 500K, 20M or 1.5G, or 0 for no limit, not '${rate}'`,
      );
    }
    expect((await copyd("limit one -1")).stderr).toContain("RATE must be 0 or more, not '-1'");
    expect((await copyd("priority one best")).stderr).toContain("PRIORITY is low, normal, high, now, first or last, not 'best'");
    for (const token of ["one", "two", "three"]) await copyd(`cancel ${token}`);
  }, 60_000);
});

function tokensFrom999(): string[] {
  // t9990 and every tenth belong to the other user.
  return ["t999", ...Array.from({ length: 9 }, (_, index) => `t${9991 + index}`)];
}

/** A job that copied `id` kilobytes in a second, a minute after the one before it. */
function pastJob(id: number, uid: number): Job {
  const createdUs = firstUs + id * 60e6;
  const request = testRequest("x", { destination: `/to/${id % 50}` });
  const fresh = newJob(
    { id, token: `t${id}`, workToken: `w${id}`, owner: { uid, gid: uid, groups: [uid] }, asAdmin: false, request },
    createdUs,
  );
  const snapshot = { ...emptySnapshot, bytesDone: id * 1000, filesDone: 1 };
  const events: readonly JobEvent[] = [
    { type: "started", bootId: "boot", mounts: [] },
    { type: "result", claim: { outcome: "completed", engines: {}, reasons: [] }, snapshot },
    { type: "worker-ended" },
  ];
  return events.reduce((job, event, index) => advance(job, event, createdUs + index * 500_000), fresh);
}
