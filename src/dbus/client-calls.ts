// What a client's calls carry: the options of a copy with its token and its destinations, and whom a wish is for.

import type { ByteString } from "../bytes.ts";
import type { AlsoTo, OptionChanges, Published, Scope } from "../jobs/api.ts";
import type { JobRequest } from "../request.ts";
import type { WatchOptions } from "./client-watch.ts";
import type { ManagerMethod } from "./contract.ts";
import { encodeOptions, pathBytes } from "./option-keys.ts";
import { Variant, type WireValue } from "./values.ts";

/** A call of Copy, Move or one of their variants. */
export interface CopyCall {
  readonly member: ManagerMethod;
  readonly body: readonly WireValue[];
  /** Whether a person may be asked. */
  readonly isInteractive: boolean;
}

export function copyCall(
  request: JobRequest,
  token: string,
  { asAdmin, alsoTo }: { readonly asAdmin: boolean; readonly alsoTo: readonly AlsoTo[] },
): CopyCall {
  const isMove = request.operation === "move";
  const member = asAdmin ? (isMove ? "MoveAsAdmin" : "CopyAsAdmin") : isMove ? "Move" : "Copy";
  const body = [request.sources.map(pathBytes), pathBytes(request.destination), callOptions(request, token, alsoTo)];
  return { member, body, isInteractive: asAdmin };
}

function callOptions({ options }: JobRequest, token: string, alsoTo: readonly AlsoTo[]): Map<string, Variant> {
  const dict = encodeOptions(options).set("token", new Variant("s", token));
  // Left out where there are none: an older service does not know them.
  if (alsoTo.length === 0) return dict;
  const paths = (list: readonly ByteString[]): Variant => new Variant("aay", list.map(pathBytes));
  dict.set("also-to", paths(alsoTo.map(({ destination }) => destination)));
  if (options.gnu.names !== null) dict.set("names-also-to", paths(alsoTo.map(({ destination, typed }) => typed ?? destination)));
  return dict;
}

/** The a{sv} of Pause and Resume. */
export function scopeOption(scope: Scope): Map<string, Variant> {
  return new Map(scope === "group" ? [["group", new Variant("b", true)]] : []);
}

/** The a{sv} of Cancel. Left out where it is not asked for: an older service does not know `remove`. */
export function cancelOptions(scope: Scope = "job", published: Published = "keep"): Map<string, Variant> {
  const dict = scopeOption(scope);
  return published === "remove" ? dict.set("remove", new Variant("b", true)) : dict;
}

/** The a{sv} of SetOptions. */
export function changedOptions({ bandwidthLimit, priority, position }: OptionChanges): Map<string, Variant> {
  const dict = new Map<string, Variant>();
  if (bandwidthLimit !== undefined) dict.set("bandwidth-limit", new Variant("t", bandwidthLimit));
  if (priority !== undefined) dict.set("priority", new Variant("s", priority));
  if (position !== undefined) dict.set("position", new Variant("s", position));
  return dict;
}

/** The a{sv} of Subscribe. `uid`: left out where the job is the caller's own. */
export function subscriptionOptions(
  { uid, token }: { readonly uid?: number; readonly token: string },
  options: WatchOptions,
): Map<string, Variant> {
  const dict = new Map([["token", new Variant("s", token)]]);
  if (uid !== undefined) dict.set("uid", new Variant("u", uid));
  if (options.lines === true) dict.set("lines", new Variant("b", true));
  if (options.errors === true) dict.set("errors", new Variant("b", true));
  return dict;
}

export function newToken(): string {
  return `c${Buffer.from(crypto.getRandomValues(new Uint8Array(10))).toString("hex")}`;
}
