// Who a user id is, for people.

import { readFileSync } from "node:fs";
import { CopyError } from "../errors.ts";

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

/** Throws usage for a name that no user has. */
export function uidOf(typed: string): number {
  if (/^\d{1,10}$/.test(typed) && Number(typed) < 0xffff_ffff) return Number(typed);
  for (const [uid, name] of userNames()) if (name === typed) return uid;
  const asked = Bun.spawnSync(["/usr/bin/getent", "passwd", "--", typed], { stdin: "ignore", stdout: "pipe", stderr: "ignore" });
  const uid = /^[^:]*:[^:]*:(\d+):/.exec(asked.stdout.toString())?.[1];
  if (uid !== undefined) return Number(uid);
  throw new CopyError("usage", `there is no user '${typed}'`);
}
