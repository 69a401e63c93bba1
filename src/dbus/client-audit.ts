// ListAudit as a client sends and reads it. A record is taken as the service of any version of this API gives it.

import { Variant, type VariantDict } from "./values.ts";

/** What is looked for; what is left out is not asked about. Times are microseconds of CLOCK_REALTIME. */
export interface AuditFilter {
  readonly since?: number;
  readonly until?: number;
  readonly uid?: number;
  readonly job?: string;
  readonly code?: string;
  readonly event?: string;
  /** Only records before the one with this id. */
  readonly before?: number;
  readonly limit?: number;
}

export interface AuditEntry {
  readonly id: number;
  readonly timeUs: number;
  readonly event: string;
  /** null where the bus did not say who called. */
  readonly uid: number | null;
  readonly method: string;
  readonly sender: string;
  readonly job: string;
  /** Whose job it is, where it is not the user's; else null. */
  readonly owner: number | null;
  readonly code: string;
  readonly action: string;
  readonly untold: number;
}

const signatures = { since: "t", until: "t", uid: "u", job: "s", code: "s", event: "s", before: "t", limit: "u" } as const;

export function encodeFilter(filter: AuditFilter): Map<string, Variant> {
  const dict = new Map<string, Variant>();
  for (const [key, signature] of Object.entries(signatures)) {
    const value = filter[key as keyof AuditFilter];
    if (value !== undefined) dict.set(key, new Variant(signature, value));
  }
  return dict;
}

export function auditEntryFrom(dict: VariantDict): AuditEntry {
  const text = (key: string): string => String(dict.get(key)?.value ?? "");
  const number = (key: string): number | null => {
    const value = dict.get(key)?.value;
    return value === undefined ? null : Number(value);
  };
  return {
    id: Number(dict.get("id")?.value ?? 0),
    timeUs: Number(dict.get("time")?.value ?? 0),
    event: text("event"),
    uid: number("uid"),
    method: text("method"),
    sender: text("sender"),
    job: text("job"),
    owner: number("owner"),
    code: text("code"),
    action: text("action"),
    untold: Number(dict.get("untold")?.value ?? 0),
  };
}
