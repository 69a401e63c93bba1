// What callers asked for and how it ended, for the journal: a record of each call that changes something, is refused or was granted.
//
// Calls that make jobs are told by the jobs themselves, with the same facts.
// No paths and no messages with paths in them: who may read the journal need not be who may read the files' names.

import { CopyError, type FailureCode } from "../errors.ts";
import type { PolkitAction } from "./authorization.ts";
import type { CallContext } from "./objects.ts";

export interface AuditRecord {
  readonly event: "request" | "refusal" | "grant";
  /** The method as the bus names it; "" for a message that could not be read so far. */
  readonly method: string;
  readonly sender: string;
  /** -1 where the bus did not say, which is itself a refusal. */
  readonly uid: number;
  readonly job?: string;
  readonly code?: FailureCode;
  /** The polkit action that was granted. */
  readonly action?: string;
  /** Refusals of this user that were not told since the last one: so many came. */
  readonly untold?: number;
}

export type TellAudit = (record: AuditRecord) => void;

/** Methods whose success is told. What only looks is not: a client may look often, and sees its own. */
const telling = new Set(["Preview", "Pause", "Resume", "Cancel", "Answer", "SetOptions", "Forget"]);
/** Refusals of one user that are told at once, and for each second after: journald drops everybody's lines of a service that floods. */
const burst = 50;
const perSecond = 2;
/** Users whose refusals are counted; the one seen longest ago is forgotten first. */
const maxUsers = 1024;

interface Allowance {
  left: number;
  atMs: number;
  untold: number;
}

export class Audit {
  private readonly tell: TellAudit;
  private readonly now: () => number;
  private readonly byUid = new Map<number, Allowance>();

  constructor(tell: TellAudit, now: () => number = () => performance.now()) {
    this.tell = tell;
    this.now = now;
  }

  /** A call that succeeded. */
  served(method: string, path: string, sender: string, uid: number): void {
    if (!telling.has(method)) return;
    const job = jobOf(path);
    this.tell({ event: "request", method, sender, uid, ...(job !== undefined && { job }) });
  }

  /** A call that ended in an error. */
  refused(method: string, path: string, sender: string, uid: number, error: unknown): void {
    const allowance = this.allowanceOf(uid);
    if (allowance.left < 1) {
      allowance.untold++;
      return;
    }
    allowance.left--;
    const { untold } = allowance;
    allowance.untold = 0;
    const code = error instanceof CopyError ? error.code : "internal";
    const job = jobOf(path);
    this.tell({
      event: "refusal",
      method: method.slice(0, 64),
      sender,
      uid,
      code,
      ...(job !== undefined && { job }),
      ...(untold > 0 && { untold }),
    });
  }

  /** polkit said yes, or had not to be asked. */
  granted(action: PolkitAction, { sender, caller }: Pick<CallContext, "sender" | "caller">): void {
    this.tell({ event: "grant", method: "", sender, uid: caller.uid, action });
  }

  private allowanceOf(uid: number): Allowance {
    const nowMs = this.now();
    const known = this.byUid.get(uid) ?? { left: burst, atMs: nowMs, untold: 0 };
    known.left = Math.min(burst, known.left + ((nowMs - known.atMs) / 1000) * perSecond);
    known.atMs = nowMs;
    this.byUid.delete(uid);
    this.byUid.set(uid, known);
    const [oldest] = this.byUid.keys();
    if (this.byUid.size > maxUsers && oldest !== undefined) this.byUid.delete(oldest);
    return known;
  }
}

/** The token in a job's path. Of a path that somebody made up it is that: at most 48 letters, digits and underscores. */
function jobOf(path: string): string | undefined {
  return /\/jobs\/u\d{1,10}\/(\w{1,48})$/.exec(path)?.[1];
}
