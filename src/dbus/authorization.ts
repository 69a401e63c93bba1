// Asks polkit whether a caller may do what goes beyond its own files and jobs. No polkit, no answer, no clear yes: no.

import { CopyError } from "../errors.ts";
import { type BusConnection, BusError } from "./connection.ts";
import type { CallContext } from "./objects.ts";
import { Variant } from "./values.ts";

export type PolkitAction = "org.copyd.copy-as-admin" | "org.copyd.manage-others";

export type Authorize = (action: PolkitAction, context: CallContext) => Promise<void>;

/** A person may have to find a password; without one, polkit answers from its rules. */
const interactiveTimeoutMs = 5 * 60_000;
const timeoutMs = 10_000;
const allowUserInteraction = 1;

/**
 * Asks the polkit of this bus. Resolves for a yes; throws not-authorized, or authorization-required when only a question to the
 * user is missing and the call does not allow one. root may do everything, as polkit itself holds it.
 */
export function polkitAuthorize(connection: BusConnection): Authorize {
  return async (action, context) => {
    if (context.caller.uid === 0) return;
    const subject = ["system-bus-name", new Map([["name", new Variant("s", context.sender)]])];
    const flags = context.interactive ? allowUserInteraction : 0;
    const call = {
      destination: "org.freedesktop.PolicyKit1",
      path: "/org/freedesktop/PolicyKit1/Authority",
      interface: "org.freedesktop.PolicyKit1.Authority",
      member: "CheckAuthorization",
      signature: "(sa{sv})sa{ss}us",
      body: [subject, action, new Map(), flags, ""],
    };
    const reply = await connection.call(call, context.interactive ? interactiveTimeoutMs : timeoutMs).catch((error: unknown) => {
      const reason = error instanceof BusError ? error.message : "no answer";
      throw new CopyError("not-authorized", `polkit could not be asked about ${action}: ${reason}`);
    });
    context.stillThere();
    const [isAuthorized, isChallenge] = reply.signature === "(bba{ss})" ? (reply.body[0] as readonly [boolean, boolean]) : [false, false];
    if (isAuthorized === true) return;
    if (isChallenge === true && !context.interactive) {
      throw new CopyError("authorization-required", `${action} needs a question to the user, which the call does not allow`);
    }
    throw new CopyError("not-authorized", `polkit does not allow ${action}`);
  };
}
