// ListAudit's filter and records as they travel on the bus.

import { CopyError } from "../errors.ts";
import { type AuditEvent, type AuditQuery, auditEvents, type KeptAuditRecord } from "../jobs/audit-trail.ts";
import { checkKeys } from "./options.ts";
import { excerpt } from "./paths.ts";
import { dictValue, Variant, type VariantDict } from "./values.ts";

export type ReadAudit = (query: AuditQuery) => readonly KeptAuditRecord[];

/** Throws unknown-option and bad-option. */
export function queryOf(filter: VariantDict, maxRecords: number): AuditQuery {
  checkKeys(filter, { since: "t", until: "t", uid: "u", job: "s", code: "s", event: "s", before: "t", limit: "u" });
  const since = dictValue(filter, "since", "t");
  const until = dictValue(filter, "until", "t");
  const uid = dictValue(filter, "uid", "u");
  const job = dictValue(filter, "job", "s");
  const code = dictValue(filter, "code", "s");
  const event = dictValue(filter, "event", "s");
  const before = dictValue(filter, "before", "t");
  if (event !== undefined && !isEvent(event)) {
    throw new CopyError("bad-option", `option 'event' takes ${auditEvents.map((name) => `'${name}'`).join(", ")}, not '${excerpt(event)}'`);
  }
  return {
    ...(since !== undefined && { sinceUs: Number(since) }),
    ...(until !== undefined && { untilUs: Number(until) }),
    ...(uid !== undefined && { uid }),
    ...(job !== undefined && { job }),
    ...(code !== undefined && { code }),
    ...(event !== undefined && { event }),
    ...(before !== undefined && { beforeId: Number(before) }),
    limit: Math.min(dictValue(filter, "limit", "u") ?? maxRecords, maxRecords),
  };
}

export function encodeRecord(record: KeptAuditRecord): Map<string, Variant> {
  const { id, timeUs, event, uid, method, sender, job, owner, code, action, untold } = record;
  const dict = new Map([
    ["id", new Variant("t", id)],
    ["time", new Variant("t", timeUs)],
    ["event", new Variant("s", event)],
  ]);
  if (uid >= 0) dict.set("uid", new Variant("u", uid));
  if (method !== "") dict.set("method", new Variant("s", method));
  if (sender !== "") dict.set("sender", new Variant("s", sender));
  if (job !== undefined) dict.set("job", new Variant("s", job));
  if (owner !== undefined) dict.set("owner", new Variant("u", owner));
  if (code !== undefined) dict.set("code", new Variant("s", code));
  if (action !== undefined) dict.set("action", new Variant("s", action));
  if (untold !== undefined) dict.set("untold", new Variant("u", Math.min(untold, 0xffff_ffff)));
  return dict;
}

function isEvent(text: string): text is AuditEvent {
  return (auditEvents as readonly string[]).includes(text);
}
