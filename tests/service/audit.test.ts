// What the service tells of who asked for what: facts and codes, no names of files, and no flood.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { Audit, type AuditRecord } from "../../src/dbus/audit.ts";
import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { whyNoBus } from "../support/bus.ts";
import { callService, copy, errorOf, pathOf, variant } from "../support/bus-client.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless } from "../support/skip.ts";

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
      expect(sender).toStartWith(":1.");
      return record as AuditRecord;
    });
  };
  const job = (path: string, member: string) => callService(fixture.client, path, jobInterface, member, "a{sv}", [new Map()]);

  test("tells who steered which job, and nothing of who only looks", async () => {
    const path = await copy(fixture.client, ["/secret-name"], { token: variant.s("seen") });
    const records = await told(async () => {
      await job(path, "Pause");
      await callService(fixture.client, rootPath, managerInterface, "ListJobs", "a{sv}", [new Map()]);
      await callService(fixture.client, path, jobInterface, "GetErrors", "uu", [0, 0]);
      await job(path, "Cancel");
    });
    expect(records).toEqual([
      { event: "request", method: "Pause", uid, job: "seen" } as AuditRecord,
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
      ["refusal", "Cancel", "unknown-object", "foreign"],
      ["refusal", "Copy", "invalid-arguments", undefined],
      ["refusal", "Cancel", "invalid-state", "seen"],
    ]);
    expect(JSON.stringify(records)).not.toContain("secret");
    expect(records.every((record) => record.uid === uid)).toBe(true);
  });

  test("tells what an administrator was granted", async () => {
    const body = [[pathOf("/a")], pathOf("/b"), new Map([["token", variant.s("admin")]])];
    const records = await told(() => callService(fixture.client, rootPath, managerInterface, "CopyAsAdmin", "aayaya{sv}", body));
    // root needs no polkit; others are tried with a real one in systemd.test.ts.
    if (uid === 0) expect(records).toEqual([{ event: "grant", method: "", uid, action: "org.copyd.copy-as-admin" } as AuditRecord]);
  });
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
});
