// `copyd audit`: who asked the service for what, what was refused and granted, how jobs ended. For administrators.

import type { ArgsDef, ParsedArgs } from "citty";
import type { AuditEntry, AuditFilter, ServiceClient } from "../dbus/client.ts";
import { writeJson } from "./json-lines.ts";
import { named } from "./named-command.ts";
import { writeText } from "./output.ts";
import { commonArgs, linesArgs, linesOf, withService } from "./service-command.ts";
import { aligned, tableLines } from "./table.ts";
import { localTime, periodArgs, periodOf } from "./time-text.ts";
import { uidOf, userName } from "./user-names.ts";

const args = {
  ...periodArgs({ since: "From this time on", until: "Until this time" }),
  user: { type: "string", valueHint: "USER", description: "Of this user, by name or number" },
  job: { type: "string", valueHint: "TOKEN", description: "Of the job with this token" },
  code: { type: "string", valueHint: "CODE", description: "With this code of an error, as not-authorized or policy-denied" },
  event: { type: "string", valueHint: "EVENT", description: "Of this kind: request, refusal, grant, queued or ended" },
  ...linesArgs,
  ...commonArgs,
} as const satisfies ArgsDef;

/** ListAudit's own limit. */
const pageRecords = 1000;

const columns = aligned("left", "TIME", "USER", "EVENT", "WHAT", "JOB", "CODE");

export const auditCommand = named("audit", "List who asked for what, and what was refused (administrators)", args, (given) =>
  withService(given, (client) => list(client, given), { needsLeave: true }),
);

async function list(client: ServiceClient, given: ParsedArgs<typeof args>): Promise<number> {
  const wanted = linesOf(given.lines);
  const filter: AuditFilter = {
    ...periodOf(given, Date.now()),
    ...(given.user !== undefined && { uid: uidOf(given.user) }),
    ...(given.job !== undefined && { job: given.job }),
    ...(given.code !== undefined && { code: given.code }),
    ...(given.event !== undefined && { event: given.event }),
  };
  const entries: AuditEntry[] = [];
  while (entries.length < wanted) {
    const last = entries.at(-1);
    const limit = Math.min(wanted - entries.length, pageRecords);
    const page = await client.audit({ ...filter, limit, ...(last !== undefined && { before: last.id }) });
    entries.push(...page);
    if (page.length < limit) break;
  }
  entries.reverse();
  if (given.json === true) for (const entry of entries) writeJson(jsonOf(entry));
  else if (entries.length === 0) writeText("stderr", "There are no such records.\n");
  else writeText("stdout", `${tableLines(columns, entries.map(rowOf), null).join("\n")}\n`);
  return 0;
}

function rowOf({ timeUs, uid, event, method, action, job, owner, code, untold }: AuditEntry): readonly string[] {
  const more = untold === 0 ? "" : ` (and ${untold} before it)`;
  const what = `${action === "" ? method : action}${more}`;
  return [
    localTime(timeUs),
    uid === null ? "?" : userName(uid),
    event,
    what,
    owner === null ? job : `${job} of ${userName(owner)}`.trim(),
    code,
  ];
}

function jsonOf({
  timeUs,
  uid,
  event,
  method,
  sender,
  action,
  job,
  owner,
  code,
  untold,
  id,
}: AuditEntry): Readonly<Record<string, unknown>> {
  const time = new Date(timeUs / 1000).toISOString();
  return { type: "audit", id, time, uid, event, method, sender, action, job, owner, code, untold };
}
