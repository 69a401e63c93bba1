// Which file liburing was loaded from, and of which version it is: for who tells it.

import { readdirSync, readFileSync } from "node:fs";

/** The file that is mapped as liburing in this process, its symlinks resolved by the linker's name; "" before it was loaded. */
export function liburingPath(): string {
  const line = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .find((text) => text.includes("/liburing.so."));
  return line === undefined ? "" : line.slice(line.indexOf("/"));
}

/** "2.3" for liburing.so.2.3: the library exports its version only from 2.4 on, so its file name is asked. "" where that says nothing. */
export function liburingVersion(path: string): string {
  const version = /liburing\.so\.(\d+\.\d+(?:\.\d+)?)$/;
  const direct = version.exec(path)?.[1];
  if (direct !== undefined || path === "") return direct ?? "";
  const siblings = readdirSync(path.slice(0, path.lastIndexOf("/")));
  return siblings.map((name) => version.exec(name)?.[1]).find((name) => name !== undefined) ?? "";
}
