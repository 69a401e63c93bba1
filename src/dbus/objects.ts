// What an object on the bus is to the dispatcher: interfaces with handlers, properties to read, children. And who is calling.

import { CopyError } from "../errors.ts";
import type { Caller } from "../jobs/api.ts";
import type { JobRequest } from "../request.ts";
import type { InterfaceDescription } from "./interface-description.ts";
import type { Variant, WireValue } from "./values.ts";

/** Who calls, as the bus says; fixed before anything is decided. */
export interface CallContext {
  /** The caller's unique name. */
  readonly sender: string;
  readonly caller: Caller;
  /** The call allows that the user is asked for a password. */
  readonly interactive: boolean;
  /** Throws access-denied if the caller has left the bus meanwhile: to be asked again after every await. */
  readonly stillThere: () => void;
  /** Throws sandboxed-caller when the caller is known to mean other files by these paths than the service does. */
  readonly requireSameView: (request: JobRequest) => Promise<void>;
}

/** The decoded arguments, of the signature that the description says; the values of the reply, of its signature. */
export type MethodHandler = (args: readonly WireValue[], context: CallContext) => readonly WireValue[] | Promise<readonly WireValue[]>;

export interface ObjectInterface {
  readonly description: InterfaceDescription;
  readonly methods: Readonly<Record<string, MethodHandler>>;
  /** The value of a property that the description names. */
  readonly property: (name: string) => Variant;
}

export interface BusObject {
  readonly interfaces: ReadonlyMap<string, ObjectInterface>;
  /** The last path elements of the objects below. */
  readonly children: readonly string[];
}

/** The object at a path as this caller may see it; undefined where there is none for it. */
export type FindObject = (path: string, context: CallContext) => BusObject | undefined | Promise<BusObject | undefined>;

/** The answer where there is nothing for this caller. `refusal`: why there is not, which only the audit is told. */
export function noObject(path: string, refusal?: CopyError): CopyError {
  return new CopyError("unknown-object", `no object at '${path}'`, {}, refusal);
}

/** All properties of an interface. */
export function allProperties({ description, property }: ObjectInterface): Map<string, Variant> {
  return new Map(Object.keys(description.properties).map((name) => [name, property(name)]));
}
