// Who a user id is, for people.

import { readFileSync } from "node:fs";

let names: ReadonlyMap<number, string> | undefined;

/** The users that /etc/passwd names; those of a directory service are shown by number. */
export function userNames(): ReadonlyMap<number, string> {
  names ??= new Map(
    readFileSync("/etc/passwd", "utf8")
      .split("\n")
      .map((line) => line.split(":"))
      .filter((fields) => fields.length >= 7)
      .map((fields): [number, string] => [Number(fields[2]), fields[0] ?? ""]),
  );
  return names;
}

export function userName(uid: number): string {
  return userNames().get(uid) ?? String(uid);
}
