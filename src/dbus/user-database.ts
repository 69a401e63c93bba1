// The primary group of a user, from the user database: /etc/passwd first, then whatever else the name service asks (getent).

import { readFile } from "node:fs/promises";

export interface UserDatabase {
  /** The primary gid, or undefined when the database does not know the uid or cannot be asked. */
  primaryGid(uid: number): Promise<number | undefined>;
}

/** How long an answer is believed. An unknown user is asked for again sooner: it may just be being added. */
const knownMs = 60_000;
const unknownMs = 2_000;
const getentTimeoutMs = 5_000;
/** Users remembered at once; beyond, all are forgotten. */
const maxRemembered = 1024;

export function createUserDatabase(): UserDatabase {
  const answers = new Map<number, { readonly gid: Promise<number | undefined>; until: number }>();
  return {
    primaryGid(uid) {
      const known = answers.get(uid);
      if (known !== undefined && performance.now() < known.until) return known.gid;
      if (answers.size >= maxRemembered) answers.clear();
      const answer = { gid: lookUp(uid), until: performance.now() + knownMs };
      answers.set(uid, answer);
      void answer.gid.then((gid) => {
        if (gid === undefined) answer.until = performance.now() + unknownMs;
      });
      return answer.gid;
    },
  };
}

async function lookUp(uid: number): Promise<number | undefined> {
  const local = await readFile("/etc/passwd", "latin1").catch(() => "");
  return gidIn(local, uid) ?? gidIn(await askNameService(uid), uid);
}

async function askNameService(uid: number): Promise<string> {
  try {
    const getent = Bun.spawn(["/usr/bin/getent", "passwd", String(uid)], {
      stdin: "ignore",
      stdout: "pipe",
      stderr: "ignore",
      timeout: getentTimeoutMs,
    });
    return await getent.stdout.text();
  } catch {
    // No getent: then /etc/passwd is all there is, and the caller is denied for want of an answer.
    return "";
  }
}

function gidIn(passwd: string, uid: number): number | undefined {
  for (const line of passwd.split("\n")) {
    const fields = line.split(":");
    if (fields[2] === String(uid) && /^[0-9]{1,10}$/.test(fields[3] ?? "")) return Number(fields[3]);
  }
  return undefined;
}
