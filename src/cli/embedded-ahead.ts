// Whether cp and mv will surely run embedded, told by their arguments before anything parses them, so that the worker may start at once.

import { existsSync } from "node:fs";

const systemSocket = "/run/dbus/system_bus_socket";
/** Words after which no embedded worker is needed, or not the one that copies. */
const otherwise: ReadonlySet<string> = new Set(["--session", "--admin", "--dry-run", "--help", "--version"]);

/**
 * A guess, which costs a process where it is wrong: --local may be the value of another option. A wrong no costs time only.
 */
export function isSurelyEmbedded(arguments_: readonly string[], { calledAsCp }: { readonly calledAsCp: boolean }): boolean {
  if (arguments_.length < 2 || arguments_.some((argument) => otherwise.has(argument))) return false;
  return calledAsCp || arguments_.includes("--local") || !hasSystemBus();
}

export function hasSystemBus(): boolean {
  return process.env.DBUS_SYSTEM_BUS_ADDRESS !== undefined || existsSync(systemSocket);
}

/** The binary linked as cp or mv, as opposed to `copyd cp`. */
export function isCalledAsCp(): boolean {
  const name = process.argv0.slice(process.argv0.lastIndexOf("/") + 1);
  return name === "cp" || name === "mv";
}
