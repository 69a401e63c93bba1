// What callers asked for and how it ended, for the journal: a record of each call that changes something, is refused or was granted.
//
// Calls that make jobs are told as the jobs they made.
// No paths and no messages with paths in them: who may read the journal need not be who may read the files' names.

import { CopyError } from "../errors.ts";
import type { JobView } from "../jobs/api.ts";
import type { AuditEvent, AuditRecord } from "../jobs/audit-trail.ts";
import type { EntryError } from "../worker/protocol.ts";
import type { PolkitAction } from "./authorization.ts";
import { jobPath, parseJobPath } from "./object-path.ts";
import type { CallContext } from "./objects.ts";

/** Which job a record is about, and whose, where that is another user than the record's. */
export type AuditSubject = Pick<AuditRecord, "job" | "owner">;

export type TellAudit = (record: AuditRecord) => void;

/** Methods whose success is told. What only looks is not: a client may look often, and sees its own. */
const telling = new Set(["Preview", "Pause", "Resume", "Cancel", "Answer", "SetOptions", "Forget"]);
/** Records of one user and event that are told at once, and for each second after: journald drops everybody's lines of a service that floods. */
const allowances: Readonly<Record<AuditEvent, { readonly burst: number; readonly perSecond: number }>> = {
  refusal: { burst: 50, perSecond: 2 },
  // A script that copies file by file is no flood.
  request: { burst: 1000, perSecond: 20 },
  queued: { burst: 1000, perSecond: 20 },
  ended: { burst: 1000, perSecond: 20 },
  // An administrator was asked for each.
  grant: { burst: 1000, perSecond: 20 },
};
/** Users and events that are counted; the one seen longest ago is forgotten first. */
const maxCounted = 4096;

interface Allowance {
  left: number;
  atMs: number;
  untold: number;
}

export class Audit {
  private readonly tell: TellAudit;
  private readonly now: () => number;
  private readonly allowances = new Map<string, Allowance>();
  /** The jobs under way that met what the policy forbids, by path. */
  private readonly violating = new Set<string>();

  constructor(tell: TellAudit, now: () => number = () => performance.now()) {
    this.tell = tell;
    this.now = now;
  }

  /** A call that succeeded. */
  served(method: string, path: string, sender: string, uid: number): void {
    if (!telling.has(method)) return;
    this.note({ event: "request", method, sender, uid, ...subjectOf(path, uid) });
  }

  /** A call that ended in an error. */
  refused(method: string, path: string, sender: string, uid: number, error: unknown): void {
    // What was hidden from the caller is told here: not that there is no such job, but that it may not be seen.
    const told = error instanceof CopyError && error.cause instanceof CopyError ? error.cause : error;
    const code = told instanceof CopyError ? told.code : "internal";
    this.note({ event: "refusal", method: method.slice(0, 64), sender, uid, code, ...subjectOf(path, uid) });
  }

  /** polkit said yes, or had not to be asked. */
  granted(action: PolkitAction, { sender, caller }: Pick<CallContext, "sender" | "caller">, about: AuditSubject = {}): void {
    this.note({ event: "grant", method: "", sender, uid: caller.uid, action, ...about });
  }

  /** A job was asked for and taken. */
  queued(job: JobView): void {
    this.note({ event: "queued", method: methodOf(job), sender: "", uid: job.owner.uid, job: job.token });
  }

  /**
   * Entries of a running job failed. That the policy forbids one is told at once, and once for the job: its end names only the code
   * of what failed first.
   */
  failed(job: JobView, errors: readonly EntryError[]): void {
    const { token, owner } = job;
    const path = jobPath(owner.uid, token);
    if (this.violating.has(path) || !errors.some(({ code }) => code === "policy-denied")) return;
    this.violating.add(path);
    this.note({ event: "refusal", method: methodOf(job), sender: "", uid: owner.uid, job: token, code: "policy-denied" });
  }

  ended({ token, owner, result }: JobView): void {
    this.violating.delete(jobPath(owner.uid, token));
    const code = result?.code;
    this.note({ event: "ended", method: "", sender: "", uid: owner.uid, job: token, ...(code !== undefined && { code }) });
  }

  private note(record: AuditRecord): void {
    const allowance = this.allowanceOf(record);
    if (allowance.left < 1) {
      allowance.untold++;
      return;
    }
    allowance.left--;
    const { untold } = allowance;
    allowance.untold = 0;
    this.tell(untold > 0 ? { ...record, untold } : record);
  }

  private allowanceOf({ uid, event }: AuditRecord): Allowance {
    const { burst, perSecond } = allowances[event];
    const nowMs = this.now();
    const key = `${uid} ${event}`;
    const known = this.allowances.get(key) ?? { left: burst, atMs: nowMs, untold: 0 };
    known.left = Math.min(burst, known.left + ((nowMs - known.atMs) / 1000) * perSecond);
    known.atMs = nowMs;
    this.allowances.delete(key);
    this.allowances.set(key, known);
    const [oldest] = this.allowances.keys();
    if (this.allowances.size > maxCounted && oldest !== undefined) this.allowances.delete(oldest);
    return known;
  }
}

/** The method that makes such a job; the variants that take URIs are not told apart. */
function methodOf({ asAdmin, request }: JobView): string {
  return `${request.operation === "move" ? "Move" : "Copy"}${asAdmin ? "AsAdmin" : ""}`;
}

/** The job that a path means, with its owner where that is not who calls. Of a path that somebody made up it is that. */
function subjectOf(path: string, uid: number): AuditSubject {
  const address = parseJobPath(path);
  if (address === undefined) return {};
  return { job: address.token, ...(address.uid !== uid && { owner: address.uid }) };
}
