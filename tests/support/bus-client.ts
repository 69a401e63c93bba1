// Calls to copyd on a private bus: as ourselves over a connection of our own, and as other users through busctl.

import { type Message, MessageType } from "../../src/dbus/codec.ts";
import { type BusConnection, BusError } from "../../src/dbus/connection.ts";
import { busName, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant, type WireValue } from "../../src/dbus/values.ts";
import { type Identity, runAs } from "./users.ts";

export const pathOf = (text: string): Buffer => Buffer.from(`${text}\0`, "latin1");

/** A call to the service; the whole body of the reply. */
export async function callService(
  connection: BusConnection,
  path: string,
  interfaceName: string,
  member: string,
  signature = "",
  body: readonly WireValue[] = [],
  flags = 0,
): Promise<readonly WireValue[]> {
  const call = { destination: busName, path, interface: interfaceName, member, signature, body, flags };
  return (await connection.call(call, 20_000)).body;
}

/** Manager.Copy with paths as text; the job's path. */
export async function copy(connection: BusConnection, sources: readonly string[], options: Record<string, Variant> = {}): Promise<string> {
  const body = [sources.map(pathOf), pathOf("/destination"), new Map(Object.entries(options))];
  const [job] = await callService(connection, rootPath, managerInterface, "Copy", "aayaya{sv}", body);
  return String(job);
}

/** The D-Bus name and message of the error that a call ends in. */
export async function errorOf(call: Promise<unknown>): Promise<{ readonly dbusName: string; readonly message: string }> {
  try {
    await call;
  } catch (error) {
    if (error instanceof BusError) return { dbusName: error.dbusName, message: error.message };
    throw error;
  }
  throw new Error("the call succeeded");
}

export interface SignalLog {
  readonly signals: Message[];
  /** Resolves once that many signals of the name are there. */
  until(member: string, count: number): Promise<void>;
}

/** Gathers the service's signals to a connection. */
export function logSignals(connection: BusConnection): SignalLog {
  const signals: Message[] = [];
  connection.onMessage((message) => {
    if (message.type === MessageType.signal && message.sender !== "org.freedesktop.DBus") signals.push(message);
  });
  return {
    signals,
    async until(member, count) {
      const deadline = Date.now() + 20_000;
      while (signals.filter((signal) => signal.member === member).length < count) {
        if (Date.now() > deadline)
          throw new Error(`waited for ${count} ${member}; got ${signals.map((signal) => signal.member).join(" ")}`);
        await Bun.sleep(5);
      }
    },
  };
}

/** `busctl call` as somebody else: the JSON of the reply, or the error's text. */
export async function busctlAs(
  identity: Identity,
  address: string,
  path: string,
  interfaceName: string,
  member: string,
  ...args: readonly string[]
): Promise<{ readonly ok: true; readonly data: unknown[] } | { readonly ok: false; readonly error: string }> {
  const command = ["busctl", `--address=${address}`, "--json=short", "call", busName, path, interfaceName, member, ...args];
  const { status, stdout, stderr } = await runAs(identity, command);
  if (status !== 0) return { ok: false, error: stderr.trim() };
  return { ok: true, data: stdout.trim() === "" ? [] : (JSON.parse(stdout) as { data: unknown[] }).data };
}

export const variant = {
  s: (value: string): Variant => new Variant("s", value),
  b: (value: boolean): Variant => new Variant("b", value),
  u: (value: number): Variant => new Variant("u", value),
} as const;
