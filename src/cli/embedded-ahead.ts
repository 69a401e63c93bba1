// Who will run cp or mv, told by their arguments before anything parses them, so that the worker starts, or the service is called, at once.

import { maxLoneBytes } from "../worker/protocol.ts";

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

/**
 * Whether a cp is of one small file to a name that is free, which needs no lane: a guess by the last two words, which costs the start of a
 * lane later or for nothing where it is wrong.
 */
export function looksLikeOneNewFile(arguments_: readonly string[]): boolean {
  const [source, destination] = arguments_.filter((argument) => !argument.startsWith("-"));
  if (source === undefined || destination === undefined || source !== arguments_.at(-2) || destination !== arguments_.at(-1)) return false;
  const size = sizeOf(source);
  if (size === 0 || size > maxLoneBytes || isDirectory(source)) return false;
  return sizeOf(isDirectory(destination) ? `${destination}/${source.slice(source.lastIndexOf("/") + 1)}` : destination) === 0;
}

/** What stat(2) says, and 0 where it fails: without node:fs, which takes a millisecond to load while the worker is still to be started. */
function sizeOf(path: string): number {
  return Bun.file(path).size;
}

/** Only of a directory. An empty one may have no size on some filesystems. */
function isDirectory(path: string): boolean {
  return sizeOf(`${path}/.`) > 0;
}

export function hasSystemBus(): boolean {
  return process.env.DBUS_SYSTEM_BUS_ADDRESS !== undefined || process.getBuiltinModule("node:fs").existsSync(systemSocket);
}

/** The binary linked as cp or mv, as opposed to `copyd cp`. */
export function isCalledAsCp(): boolean {
  const name = process.argv0.slice(process.argv0.lastIndexOf("/") + 1);
  return name === "cp" || name === "mv";
}
