// Asks polkit whether a caller may do what goes beyond its own files and jobs. No polkit, no answer, no clear yes: no.

import { CopyError } from "../errors.ts";
import { type BusConnection, BusError, type Call } from "./connection.ts";
import type { CallContext } from "./objects.ts";
import { Variant } from "./values.ts";

export type PolkitAction =
  | "org.copyd.copy-as-admin"
  | "org.copyd.move-as-admin"
  | "org.copyd.manage-others"
  | "org.copyd.read-audit"
  | "org.copyd.override-limits";

/** What the policy's message shows in place of `$(name)`, and what rules see as `action.lookup("name")`. */
export type ActionDetails = ReadonlyMap<string, string>;

export interface AuthorizationQuestion {
  readonly action: PolkitAction;
  readonly details: ActionDetails;
  /** Takes the question back: whoever asked has left. */
  readonly signal: AbortSignal;
}

export type Authorize = (question: AuthorizationQuestion, context: CallContext) => Promise<void>;

/** A person may have to find a password; without one, polkit answers from its rules. */
const interactiveTimeoutMs = 5 * 60_000;
const timeoutMs = 10_000;
const allowUserInteraction = 1;

/**
 * Asks the polkit of this bus. Resolves for a yes; throws not-authorized, or authorization-required when only a question to the
 * user is missing and the call does not allow one. root may do everything, as polkit itself holds it.
 */
export function polkitAuthorize(connection: BusConnection): Authorize {
  let asked = 0;
  return async ({ action, details, signal }, context) => {
    if (context.caller.uid === 0) return;
    // polkit takes details only from root and from an action's owner: the service is root.
    const subject = ["system-bus-name", new Map([["name", new Variant("s", context.sender)]])];
    const flags = context.interactive ? allowUserInteraction : 0;
    // Unique for this connection, which is what polkit wants of it.
    const cancellationId = `copyd-${++asked}`;
    const takeBack = (): void => {
      connection.call(authorityCall("CancelCheckAuthorization", "s", [cancellationId]), timeoutMs).catch(() => undefined);
    };
    signal.addEventListener("abort", takeBack, { once: true });
    const body = [subject, action, new Map(details), flags, cancellationId];
    const reply = await connection
      .call(authorityCall("CheckAuthorization", "(sa{sv})sa{ss}us", body), context.interactive ? interactiveTimeoutMs : timeoutMs)
      .catch((error: unknown) => {
        // A dialogue that nobody waits for any more is closed.
        if (error instanceof BusError && error.dbusName.endsWith(".NoReply")) takeBack();
        const reason = error instanceof BusError ? error.message : "no answer";
        throw new CopyError("not-authorized", `polkit could not be asked about ${action}: ${reason}`);
      })
      .finally(() => signal.removeEventListener("abort", takeBack));
    const [isAuthorized, isChallenge] = reply.signature === "(bba{ss})" ? (reply.body[0] as readonly [boolean, boolean]) : [false, false];
    if (isAuthorized === true) return;
    if (isChallenge !== true) throw new CopyError("not-authorized", `polkit does not allow ${action}`);
    const reason = context.interactive
      ? `polkit does not allow ${action} without a password, and knows no agent that could ask for one`
      : `${action} needs a question to the user, which the call does not allow`;
    throw new CopyError("authorization-required", reason);
  };
}

function authorityCall(member: string, signature: string, body: NonNullable<Call["body"]>): Call {
  const path = "/org/freedesktop/PolicyKit1/Authority";
  return { destination: "org.freedesktop.PolicyKit1", path, interface: "org.freedesktop.PolicyKit1.Authority", member, signature, body };
}
