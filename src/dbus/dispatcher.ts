// Answers every method call, once: finds the object for the caller, checks the call against the description, calls, encodes.

import { readFile } from "node:fs/promises";
import { CopyError } from "../errors.ts";
import type { Caller } from "../jobs/api.ts";
import type { Audit } from "./audit.ts";
import { requireSameView } from "./caller-view.ts";
import { type Message, MessageFlag, type MessageHeader, MessageType } from "./codec.ts";
import { type BusConnection, wantsReply } from "./connection.ts";
import { errorReply, type ReportInternal } from "./error-reply.ts";
import { interfaceXml, signatureOf } from "./interface-description.ts";
import { allProperties, type BusObject, type CallContext, type FindObject, noObject, type ObjectInterface } from "./objects.ts";
import {
  introspectableDescription,
  introspectableInterface,
  peerDescription,
  peerInterface,
  propertiesDescription,
  propertiesInterface,
} from "./standard-interfaces.ts";
import type { Variant, WireValue } from "./values.ts";

export interface DispatcherDependencies {
  readonly connection: BusConnection;
  /** Who a unique name is. Throws access-denied. */
  readonly identify: (sender: string) => Promise<Caller>;
  /** Throws access-denied when a unique name that was identified has left the bus. */
  readonly requirePresent: (sender: string) => void;
  /** The process behind a unique name, if the bus knows it. Throws access-denied. */
  readonly processOf: (sender: string) => Promise<number | null>;
  readonly findObject: FindObject;
  readonly reportInternal: ReportInternal;
  readonly audit: Audit;
}

/** Why a call is answered that was never decoded. */
const refusals = {
  malformed: ["invalid-arguments", "the message is not what its signature says, or nests too deep"],
  "too-large": ["limits-exceeded", "the message is larger, or holds more values, than this service takes"],
  "too-many": ["limits-exceeded", "too many calls of your user wait to be answered"],
} as const;

export class Dispatcher {
  private readonly dependencies: DispatcherDependencies;
  private inFlight = 0;
  private stopping = false;
  /** Called whenever a call has been answered. */
  onAnswered: () => void = () => {};

  constructor(dependencies: DispatcherDependencies) {
    this.dependencies = dependencies;
  }

  /** Calls that have not been answered. */
  get unanswered(): number {
    return this.inFlight;
  }

  /** From now on every call is answered with shutting-down. */
  refuseCalls(): void {
    this.stopping = true;
  }

  /** Handles one method call. Never throws, and answers unless the caller wants no answer. */
  dispatch(message: Message): void {
    this.inFlight++;
    void this.answer(message);
  }

  /** Answers a call that could not be decoded. */
  refuse(header: MessageHeader, reason: keyof typeof refusals, uid = -1): void {
    const [code, text] = refusals[reason];
    const error = new CopyError(code, text);
    this.dependencies.audit.refused(header.member ?? "", header.path ?? "", header.sender, uid, error);
    if (wantsReply(header)) this.replyError(header, error);
  }

  private async answer(message: Message): Promise<void> {
    const { audit } = this.dependencies;
    const { path = "", member = "", sender } = message;
    const asking = { uid: -1 };
    try {
      const { values, signature } = await this.call(message, asking);
      audit.served(member, path, sender, asking.uid);
      if (!wantsReply(message)) return;
      const reply = { type: MessageType.return, replySerial: message.serial, destination: message.sender, signature, body: values };
      this.dependencies.connection.send(reply);
    } catch (error) {
      // What is refused to who has left is nobody's request any more.
      if (asking.uid === -1 || this.isPresent(sender)) audit.refused(member, path, sender, asking.uid, error);
      if (wantsReply(message)) this.replyError(message, error);
    } finally {
      this.inFlight--;
      this.onAnswered();
    }
  }

  private isPresent(sender: string): boolean {
    try {
      this.dependencies.requirePresent(sender);
      return true;
    } catch {
      // Its one reason to throw.
      return false;
    }
  }

  private async call(message: Message, asking: { uid: number }): Promise<{ values: readonly WireValue[]; signature: string }> {
    if (this.stopping) throw new CopyError("shutting-down", "the service is stopping");
    const { path = "", member = "" } = message;
    const caller = await this.dependencies.identify(message.sender);
    asking.uid = caller.uid;
    const context: CallContext = {
      sender: message.sender,
      caller,
      interactive: (message.flags & MessageFlag.allowInteractiveAuthorization) !== 0,
      stillThere: () => this.dependencies.requirePresent(message.sender),
      requireSameView: async (request) => {
        await requireSameView(await this.dependencies.processOf(message.sender), caller.uid, request);
        this.dependencies.requirePresent(message.sender);
      },
    };
    const object = await this.dependencies.findObject(path, context);
    const interfaces = standardInterfaces(object);
    const { name, found } = chooseInterface(interfaces, message);
    // Whether an object is someone else's or nobody's makes no difference here.
    if (object === undefined && name !== peerInterface) throw noObject(path);
    if (found === undefined) throw new CopyError("unknown-interface", `no interface '${name}' at '${path}'`);
    const method = ownEntry(found.description.methods, member);
    const handler = ownEntry(found.methods, member);
    if (method === undefined || handler === undefined) throw new CopyError("unknown-method", `no method '${member}' in '${name}'`);
    const wanted = signatureOf(method.in);
    if (message.signature !== wanted) {
      throw new CopyError("invalid-arguments", `${member} takes '${wanted}' (${describe(method.in)}), not '${message.signature}'`);
    }
    return { values: await handler(message.body, context), signature: signatureOf(method.out) };
  }

  private replyError(header: MessageHeader, error: unknown): void {
    const { dbusName, message } = errorReply(error, this.dependencies.reportInternal);
    this.dependencies.connection.send({
      type: MessageType.error,
      replySerial: header.serial,
      destination: header.sender,
      errorName: dbusName,
      signature: "s",
      body: [message],
    });
  }
}

function chooseInterface(
  interfaces: ReadonlyMap<string, ObjectInterface>,
  message: Message,
): { readonly name: string; readonly found: ObjectInterface | undefined } {
  if (message.interface !== undefined) return { name: message.interface, found: interfaces.get(message.interface) };
  // The specification lets a call leave its interface out.
  for (const [name, found] of interfaces) if (Object.hasOwn(found.methods, message.member ?? "")) return { name, found };
  throw new CopyError("unknown-method", `no method '${message.member}' at '${message.path}'`);
}

function ownEntry<Value>(record: Readonly<Record<string, Value>>, key: string): Value | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined;
}

function describe(args: readonly (readonly [string, string])[]): string {
  return args.map(([name, signature]) => `${name} ${signature}`).join(", ");
}

function standardInterfaces(object: BusObject | undefined): ReadonlyMap<string, ObjectInterface> {
  const peer: ObjectInterface = {
    description: peerDescription,
    methods: { Ping: () => [], GetMachineId: async () => [await machineId()] },
    property: noProperty,
  };
  if (object === undefined) return new Map([[peerInterface, peer]]);
  const interfaces = new Map(object.interfaces);
  interfaces.set(propertiesInterface, propertiesOf(object));
  interfaces.set(introspectableInterface, {
    description: introspectableDescription,
    methods: { Introspect: () => [introspectionXml(interfaces, object.children)] },
    property: noProperty,
  });
  interfaces.set(peerInterface, peer);
  return interfaces;
}

function propertiesOf(object: BusObject): ObjectInterface {
  const isStandard = (name: string): boolean => name === introspectableInterface || name === peerInterface || name === propertiesInterface;
  /** The interface named, or, for an empty name, all: the specification leaves that to us. */
  const withName = (name: string): ObjectInterface[] => {
    const found = object.interfaces.get(name);
    if (found !== undefined) return [found];
    if (name === "") return [...object.interfaces.values()];
    if (isStandard(name)) return [];
    throw new CopyError("unknown-interface", `no interface '${name}' here`);
  };
  const withProperty = (interfaceName: string, property: string): ObjectInterface => {
    const found = withName(interfaceName).find(({ description }) => Object.hasOwn(description.properties, property));
    if (found === undefined) throw new CopyError("unknown-property", `no property '${property}' in '${interfaceName}'`);
    return found;
  };
  return {
    description: propertiesDescription,
    methods: {
      Get: ([interfaceName, property]) => [withProperty(String(interfaceName), String(property)).property(String(property))],
      GetAll: ([interfaceName]) => [new Map(withName(String(interfaceName)).flatMap((found) => [...allProperties(found)]))],
      Set: ([interfaceName, property]) => {
        withProperty(String(interfaceName), String(property));
        throw new CopyError("property-read-only", `property '${property}' cannot be set`);
      },
    },
    property: noProperty,
  };
}

function noProperty(name: string): Variant {
  throw new CopyError("unknown-property", `no property '${name}'`);
}

function introspectionXml(interfaces: ReadonlyMap<string, ObjectInterface>, children: readonly string[]): string {
  return [
    '<!DOCTYPE node PUBLIC "-//freedesktop//DTD D-BUS Object Introspection 1.0//EN"',
    ' "http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd">',
    "<node>",
    ...[...interfaces].map(([name, { description }]) => interfaceXml(name, description)),
    ...children.map((child) => `  <node name="${child}"/>`),
    "</node>\n",
  ].join("\n");
}

async function machineId(): Promise<string> {
  for (const path of ["/etc/machine-id", "/var/lib/dbus/machine-id"]) {
    const text = await readFile(path, "latin1").catch(() => "");
    if (/^[0-9a-f]{32}\s*$/.test(text)) return text.trim();
  }
  throw new CopyError("not-supported", "this machine has no machine id");
}
