// The questions to polkit under way: how many of one user's, taken back when their caller leaves, and told to the journal when granted.

import { CopyError } from "../errors.ts";
import type { Errands } from "./attachments.ts";
import type { Audit, AuditSubject } from "./audit.ts";
import type { ActionDetails, Authorize, PolkitAction } from "./authorization.ts";
import type { CallContext } from "./objects.ts";

export class Authorizations {
  private readonly authorize: Authorize | null;
  private readonly errands: Errands;
  private readonly audit: Audit;
  private readonly maxPerUser: number;
  private readonly underWay = new Map<number, number>();

  /** `authorize` is null on the session bus, where there is nothing to authorize and no administrator. */
  constructor(authorize: Authorize | null, errands: Errands, audit: Audit, maxPerUser: number) {
    this.authorize = authorize;
    this.errands = errands;
    this.audit = audit;
    this.maxPerUser = maxPerUser;
  }

  /** Whether there is an administrator to ask. */
  get isPossible(): boolean {
    return this.authorize !== null;
  }

  /**
   * Resolves for a yes while the caller is still there. Throws not-authorized, authorization-required, limits-exceeded for too many
   * questions at once, access-denied for a caller who left, not-supported on the session bus. `about`: whose and which job the audit
   * names with the yes.
   */
  async require(action: PolkitAction, details: ActionDetails, context: CallContext, about: AuditSubject = {}): Promise<void> {
    const { authorize } = this;
    if (authorize === null) throw new CopyError("not-supported", "a session's service has no administrator's rights to lend");
    const { uid } = context.caller;
    const under = this.underWay.get(uid) ?? 0;
    // One question at a time is what a person can answer; a few more are what a program may ask.
    if (under >= this.maxPerUser) throw new CopyError("limits-exceeded", "too many authorizations of your user are under way");
    this.underWay.set(uid, under + 1);
    try {
      await this.errands.run(context.sender, (signal) => authorize({ action, details, signal }, context));
      this.audit.granted(action, context, about);
    } finally {
      const left = (this.underWay.get(uid) ?? 1) - 1;
      if (left > 0) this.underWay.set(uid, left);
      else this.underWay.delete(uid);
    }
    context.stillThere();
  }

  /**
   * For a call that goes beyond what a user may ask for: resolves where polkit lets this caller go beyond it. Throws the refusal
   * otherwise, with polkit's answer where the user was asked. While another question of this user is under way nothing is asked:
   * a flood of calls beyond the limits is to be nobody's work but ours.
   */
  async requireBeyond(refusal: CopyError, context: CallContext): Promise<void> {
    const { authorize } = this;
    if (authorize === null || this.underWay.has(context.caller.uid)) throw refusal;
    try {
      await this.require("org.copyd.override-limits", new Map([["reason", refusal.message]]), context);
    } catch (error) {
      if (!(error instanceof CopyError) || error.code === "access-denied") throw error;
      const answer = context.interactive ? `; ${error.message}` : "";
      throw new CopyError(refusal.code, `${refusal.message}${answer}`);
    }
  }
}
