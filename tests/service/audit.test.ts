// What the service tells of who asked for what: facts and codes, no names of files, and no flood.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Audit } from "../../src/dbus/audit.ts";
import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import type { AuditRecord } from "../../src/jobs/audit-trail.ts";
import type { EntryError } from "../../src/worker/protocol.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { callService, copy, errorOf, pathOf, variant } from "../support/bus-client.ts";
import { plainEnvironment, runCopyd } from "../support/cli.ts";
import { startDaemon } from "../support/daemon.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless, testUnless } from "../support/skip.ts";

describeUnless(whyNoBus(), "the audit", () => {
  let fixture: ServiceFixture;
  const uid = process.getuid?.() ?? -1;
  beforeAll(async () => {
    fixture = await startServiceFixture();
  });
  afterAll(() => fixture[Symbol.asyncDispose]());
  const told = async (calls: () => Promise<unknown>): Promise<AuditRecord[]> => {
    fixture.audit.splice(0);
    await calls();
    return fixture.audit.map(({ sender, ...record }) => {
      const isOfJob = ["queued", "ended"].includes(record.event) || record.code === "policy-denied";
      expect(sender).toStartWith(isOfJob ? "" : ":1.");
      return record as AuditRecord;
    });
  };
  const job = (path: string, member: string) => callService(fixture.client, path, jobInterface, member, "a{sv}", [new Map()]);

  test("tells who asked for which job, who steered it and how it ended, and nothing of who only looks", async () => {
    const records = await told(async () => {
      const path = await copy(fixture.client, ["/secret-name"], { token: variant.s("seen") });
      await job(path, "Pause");
      await callService(fixture.client, rootPath, managerInterface, "ListJobs", "a{sv}", [new Map()]);
      await callService(fixture.client, path, jobInterface, "GetErrors", "uu", [0, 0]);
      await job(path, "Cancel");
    });
    expect(records).toEqual([
      { event: "queued", method: "Copy", uid, job: "seen" } as AuditRecord,
      { event: "request", method: "Pause", uid, job: "seen" } as AuditRecord,
      { event: "ended", method: "", uid, job: "seen", code: "cancelled" } as AuditRecord,
      { event: "request", method: "Cancel", uid, job: "seen" } as AuditRecord,
    ]);
  });

  test("tells each refusal with its code, and no name of a file", async () => {
    const records = await told(async () => {
      await errorOf(copy(fixture.client, ["secret-relative"]));
      await errorOf(copy(fixture.client, ["/secret-name"], { nonsense: variant.s("secret-value") }));
      await errorOf(job(`${rootPath}/jobs/u4242/foreign`, "Cancel"));
      await errorOf(callService(fixture.client, rootPath, managerInterface, "Copy", "s", ["secret"]));
      await errorOf(job(`${rootPath}/jobs/u${uid}/seen`, "Cancel"));
    });
    expect(records.map(({ event, method, code, job: token }) => [event, method, code, token])).toEqual([
      ["refusal", "Copy", "bad-path", undefined],
      ["refusal", "Copy", "unknown-option", undefined],
      // root may look, and finds nothing.
      ["grant", "", undefined, "foreign"],
      ["refusal", "Cancel", "unknown-object", "foreign"],
      ["refusal", "Copy", "invalid-arguments", undefined],
      ["refusal", "Cancel", "invalid-state", "seen"],
    ]);
    expect(JSON.stringify(records)).not.toContain("secret");
    expect(records.every((record) => record.uid === uid)).toBe(true);
  });

  test("tells once of a job that it met what the policy forbids, whatever failed before, and names no file", async () => {
    const failed = (code: EntryError["code"]): EntryError => ({
      path: "/secret-name" as EntryError["path"],
      side: "source",
      severity: "error",
      code,
      errno: 0,
      syscall: "",
      engine: "",
      offset: -1,
      message: "'/secret-name' is refused",
    });
    const records = await told(async () => {
      const view = fixture.jobAt(await copy(fixture.client, ["/secret-name"], { token: variant.s("forbidden") }));
      fixture.jobs.addErrors(view, [failed("source-unreadable")]);
      fixture.jobs.addErrors(view, [failed("source-unreadable"), failed("policy-denied")]);
      fixture.jobs.addErrors(view, [failed("policy-denied")]);
      fixture.jobs.end(view, "failed");
    });
    expect(records).toEqual([
      { event: "queued", method: "Copy", uid, job: "forbidden" } as AuditRecord,
      { event: "refusal", method: "Copy", uid, job: "forbidden", code: "policy-denied" } as AuditRecord,
      { event: "ended", method: "", uid, job: "forbidden" } as AuditRecord,
    ]);
  });

  test("tells what an administrator was granted", async () => {
    const body = [[pathOf("/a")], pathOf("/b"), new Map([["token", variant.s("admin")]])];
    const records = await told(() => callService(fixture.client, rootPath, managerInterface, "CopyAsAdmin", "aayaya{sv}", body));
    // root needs no polkit; others are tried with a real one in systemd.test.ts.
    const granted = { event: "grant", method: "", uid, action: "org.copyd.copy-as-admin" } as AuditRecord;
    if (uid === 0) expect(records).toEqual([granted, { event: "queued", method: "CopyAsAdmin", uid, job: "admin" } as AuditRecord]);
  });
});

const whyNotRoot = process.getuid?.() === 0 ? null : "only root has an audit to read without polkit";
testUnless(whyNoBus() ?? whyNotRoot, "`copyd audit` finds it again, also after a restart of the service", async () => {
  await using bus = await privateBus({ kind: "system" });
  const client = await bus.connect();
  const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: bus.address };
  const audit = async (...args: string[]): Promise<Record<string, unknown>[]> => {
    const { stdout, stderr, status } = await runCopyd(["audit", "--json", ...args], { cwd: "/", env });
    expect({ stderr, status }).toEqual({ stderr: "", status: 0 });
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  };
  {
    await using _daemon = await startDaemon(bus);
    await errorOf(copy(client, ["secret-relative"]));
    await copy(client, ["/nonexistent-secret"], { token: variant.s("kept") });
    const path = `${rootPath}/jobs/u0/kept`;
    await callService(client, path, jobInterface, "Wait", "a{sv}", [new Map()]);
    expect((await audit("--job", "kept")).map(({ event, method, code }) => [event, method, code])).toEqual([
      ["queued", "Copy", ""],
      ["ended", "", "source-not-found"],
    ]);
  }
  await using _daemon = await startDaemon(bus);
  const all = await audit("--user", "root", "--since", "1h");
  expect(all.map(({ event, code }) => `${event} ${code}`)).toEqual([
    "refusal bad-path",
    "queued ",
    "ended source-not-found",
    // Reading it, before and now.
    "grant ",
    "grant ",
  ]);
  expect(JSON.stringify(all)).not.toContain("secret");
  expect(await audit("--lines", "1", "--event", "refusal")).toHaveLength(1);
  expect(await audit("--until", "1h")).toEqual([]);
  const table = await runCopyd(["audit", "--code", "bad-path"], { cwd: "/", env });
  expect(table.stdout).toMatch(/^TIME .*CODE\n\S+ \S+ +root +refusal +Copy +bad-path\n$/);
});

test("a flood of refusals is told in part, with how many were not, and does not silence another user's", () => {
  const records: AuditRecord[] = [];
  let nowMs = 0;
  const audit = new Audit(
    (record) => records.push(record),
    () => nowMs,
  );
  for (let index = 0; index < 10_000; index++) audit.refused("Copy", rootPath, ":1.7", 1000, new Error("x"));
  expect(records).toHaveLength(50);
  audit.refused("Copy", rootPath, ":1.8", 1001, new Error("x"));
  expect(records.at(-1)).toEqual({ event: "refusal", method: "Copy", sender: ":1.8", uid: 1001, code: "internal" });
  nowMs = 1000;
  audit.refused("Copy", rootPath, ":1.7", 1000, new Error("x"));
  expect(records.at(-1)).toMatchObject({ uid: 1000, untold: 9950 });
  // What else this user does is told as before.
  audit.served("Pause", rootPath, ":1.7", 1000);
  expect(records.at(-1)).toEqual({ event: "request", method: "Pause", sender: ":1.7", uid: 1000 });
});
