// The audit trail is kept over restarts, found again by what is asked, and nobody's flood pushes out what is not his own.

import { Database } from "bun:sqlite";
import { expect, test } from "bun:test";
import { join } from "node:path";
import type { AuditRecord } from "../../src/jobs/audit-trail.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore, type StoreOptions } from "../../src/jobs/store.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const startUs = 1_700_000_000_000_000;
const dayUs = 24 * 3600 * 1e6;
const open = (path: string, changes: Partial<StoreOptions> = {}) => openStore({ path, log: noLog, now: () => startUs, ...changes });
const request = (uid: number, job: string): AuditRecord => ({ event: "request", method: "Pause", sender: ":1.5", uid, job });
const refusal: AuditRecord = { event: "refusal", method: "Copy", sender: ":1.6", uid: 1001, code: "bad-path", untold: 4 };
const grant: AuditRecord = { event: "grant", method: "", sender: ":1.7", uid: 1002, action: "org.copyd.copy-as-admin" };

test("what was kept is found after a restart by user, job, code, kind and time, in pages, newest first", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  let nowUs = startUs;
  const before = await open(path, { now: () => nowUs++ });
  for (const record of [request(1000, "a"), refusal, grant, request(1000, "b")]) before.addAudit(record);
  before.close();
  const store = await open(path);
  const all = store.audit({ limit: 10 });
  expect(all.map(({ id, timeUs, ...record }) => record)).toEqual([request(1000, "b"), grant, refusal, request(1000, "a")]);
  const ids = (query: object): number[] => store.audit({ limit: 10, ...query }).map(({ id }) => id);
  expect(ids({ uid: 1000 })).toEqual([4, 1]);
  expect(ids({ job: "a" })).toEqual([1]);
  expect(ids({ code: "bad-path" })).toEqual([2]);
  expect(ids({ event: "grant" })).toEqual([3]);
  expect(ids({ limit: 2 })).toEqual([4, 3]);
  expect(ids({ limit: 2, beforeId: 3 })).toEqual([2, 1]);
  const [, , second] = all;
  expect(ids({ sinceUs: second?.timeUs ?? 0, untilUs: (second?.timeUs ?? 0) + 1 })).toEqual([2]);
  expect(ids({ job: "' OR 1=1 --" })).toEqual([]);
  store.close();
});

test("a flood of one user pushes out its own oldest records of that kind, and nothing else", async () => {
  await using directory = await temporaryDirectory();
  const store = await open(join(directory.path, "jobs.db"), { maxAuditRecordsPerUser: 100, maxAuditRecords: 1000 });
  store.addAudit(refusal);
  store.addAudit({ ...grant, uid: 1000 });
  for (let index = 0; index < 5000; index++) {
    store.addAudit(request(1000, `j${index}`));
    if (index % 500 === 0) store.audit({ limit: 1 });
  }
  const kept = store.audit({ uid: 1000, event: "request", limit: 10_000 });
  expect(kept.length).toBeGreaterThanOrEqual(90);
  expect(kept.length).toBeLessThanOrEqual(100);
  expect(kept[0]?.job).toBe("j4999");
  expect(store.audit({ uid: 1001, limit: 10 })).toHaveLength(1);
  expect(store.audit({ event: "grant", limit: 10 })).toHaveLength(1);
  store.close();
});

test("beyond the limit for all, those with the most lose their oldest", async () => {
  await using directory = await temporaryDirectory();
  const store = await open(join(directory.path, "jobs.db"), { maxAuditRecordsPerUser: 1000, maxAuditRecords: 1500 });
  for (let index = 0; index < 20; index++) store.addAudit(request(7, `q${index}`));
  for (let index = 0; index < 3000; index++) store.addAudit(request(1000 + (index % 3), `j${index}`));
  expect(store.audit({ limit: 10_000 }).length).toBeLessThanOrEqual(1500);
  expect(store.audit({ uid: 7, limit: 100 })).toHaveLength(20);
  for (const uid of [1000, 1001, 1002]) expect(store.audit({ uid, limit: 10_000 }).length).toBeGreaterThan(350);
  store.close();
});

test("records go when they are too old", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  const before = await open(path);
  before.addAudit(refusal);
  before.close();
  const soon = await open(path, { auditDays: 10, now: () => startUs + 9 * dayUs });
  expect(soon.audit({ limit: 10 })).toHaveLength(1);
  soon.close();
  const later = await open(path, { auditDays: 10, now: () => startUs + 11 * dayUs });
  expect(later.audit({ limit: 10 })).toEqual([]);
  // Numbers are not given again: a page's end stays where it was.
  later.addAudit(refusal);
  expect(later.audit({ limit: 10 })[0]?.id).toBe(2);
  later.close();
});

test("a store from before there was a trail gets one", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "jobs.db");
  (await open(path)).close();
  const former = new Database(path);
  former.run("DROP TABLE audit");
  former.run("PRAGMA user_version = 1");
  former.close();
  const store = await open(path);
  store.addAudit(grant);
  store.close();
  const again = await open(path);
  expect(again.audit({ limit: 10 })).toHaveLength(1);
  again.close();
});
