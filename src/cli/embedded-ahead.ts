// Who will run cp or mv, told by their arguments before anything parses them, so that the worker starts, or the service is called, at once.

import { existsSync } from "node:fs";

const systemSocket = "/run/dbus/system_bus_socket";
/** Words after which neither the worker that copies nor the system's service is needed at once. */
const otherwise: ReadonlySet<string> = new Set(["--session", "--admin", "--dry-run", "--help", "--version"]);

/**
 * A guess, which costs a process where it is wrong: --local may be the value of another option. A wrong no costs time only.
 */
export function isSurelyEmbedded(arguments_: readonly string[], { calledAsCp }: { readonly calledAsCp: boolean }): boolean {
  if (arguments_.length < 2 || arguments_.some((argument) => otherwise.has(argument))) return false;
  return calledAsCp || arguments_.includes("--local") || !hasSystemBus();
}

/** As much a guess, which costs a call that the service answers to nobody. Never true where isSurelyEmbedded is. */
export function isSurelyTheServices(arguments_: readonly string[], { calledAsCp }: { readonly calledAsCp: boolean }): boolean {
  if (arguments_.length < 2 || arguments_.some((argument) => otherwise.has(argument) || argument === "--local")) return false;
  return !calledAsCp && hasSystemBus();
}

export function hasSystemBus(): boolean {
  return process.env.DBUS_SYSTEM_BUS_ADDRESS !== undefined || existsSync(systemSocket);
}

/** The binary linked as cp or mv, as opposed to `copyd cp`. */
export function isCalledAsCp(): boolean {
  const name = process.argv0.slice(process.argv0.lastIndexOf("/") + 1);
  return name === "cp" || name === "mv";
}
