// Who a user id is, for people: by /etc/passwd first, then by whatever else the name service asks (getent).

import { readFileSync } from "node:fs";
import { CopyError } from "../errors.ts";

/** A directory that hangs must not hold up a listing. */
const getentTimeoutMs = 2_000;

let local: ReadonlyMap<number, string> | undefined;
/** What the name service said of others; null: nobody's. */
const asked = new Map<number, string | null>();
/** It hung once: asking it for each row would hang for each. */
let isSilent = false;

/** The name, or the number where nobody has it. */
export function userName(uid: number): string {
  return localNames().get(uid) ?? askedName(uid) ?? String(uid);
}

/** Throws usage for a name that no user has. */
export function uidOf(typed: string): number {
  if (/^\d{1,10}$/.test(typed) && Number(typed) < 0xffff_ffff) return Number(typed);
  for (const [uid, name] of localNames()) if (name === typed) return uid;
  const [uid] = askNameService(typed).keys();
  if (uid !== undefined) return uid;
  throw new CopyError("usage", `there is no user '${typed}'`);
}

function localNames(): ReadonlyMap<number, string> {
  local ??= namesIn(readFileSync("/etc/passwd", "utf8"));
  return local;
}

function askedName(uid: number): string | null {
  const known = asked.get(uid);
  if (known !== undefined) return known;
  const name = askNameService(String(uid)).get(uid) ?? null;
  asked.set(uid, name);
  return name;
}

function askNameService(key: string): ReadonlyMap<number, string> {
  if (isSilent) return new Map();
  try {
    const command = ["/usr/bin/getent", "passwd", "--", key];
    const getent = Bun.spawnSync(command, { stdin: "ignore", stdout: "pipe", stderr: "ignore", timeout: getentTimeoutMs });
    isSilent = getent.exitedDueToTimeout === true;
    return namesIn(getent.stdout.toString());
  } catch {
    // No getent: then /etc/passwd is all there is.
    return new Map();
  }
}

function namesIn(passwd: string): ReadonlyMap<number, string> {
  const users = passwd.split("\n").map((line) => line.split(":"));
  return new Map(users.filter((fields) => fields.length >= 7).map((fields) => [Number(fields[2]), fields[0] ?? ""]));
}
