// Commands as other users: by number for the kernel's rules, by a real passwd entry where the service looks the user up.

import { havePrograms, type RunOptions, type RunResult, run, runChecked } from "./process.ts";
import { unlessRoot } from "./skip.ts";

export interface Identity {
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups; the primary one need not be among them. */
  readonly groups?: readonly number[];
}

export interface TestUsers extends AsyncDisposable {
  /** Two ordinary users with passwd entries, each with a primary group of its own. */
  readonly first: Required<Identity> & { readonly name: string };
  readonly second: Required<Identity> & { readonly name: string };
}

/** Why commands cannot run as others here, or null. */
export function whyNoUsers(): string | null {
  return unlessRoot() ?? (havePrograms("setpriv") ? null : "setpriv is not installed");
}

/** Why users cannot be added here, or null. */
export function whyNoPasswdUsers(): string | null {
  return whyNoUsers() ?? (havePrograms("useradd", "userdel", "flock") ? null : "useradd is not installed");
}

/** The argv that runs a command as an identity: exactly its groups, no capabilities, no way back. */
export function asUser(identity: Identity, command: readonly string[]): string[] {
  const groups = [...new Set([identity.gid, ...(identity.groups ?? [])])];
  return [
    "setpriv",
    `--reuid=${identity.uid}`,
    `--regid=${identity.gid}`,
    `--groups=${groups.join(",")}`,
    "--no-new-privs",
    "--inh-caps=-all",
    "--",
    ...command,
  ];
}

/** Runs a command as somebody else. */
export function runAs(identity: Identity, command: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  return run(asUser(identity, command), options);
}

let usersGiven = 0;

/** A user that nobody else is: a high uid without a passwd entry, its gid the same number. */
export function unlistedUser(): Required<Identity> {
  usersGiven += 1;
  const id = 1_000_000_000 + (process.pid % 1_000_000) * 1000 + (usersGiven % 1000);
  return { uid: id, gid: id, groups: [id] };
}

const names = ["copydtest1", "copydtest2"] as const;
const lock = "/run/lock/copyd-test-users";
const leases = "/run/copyd-test-users";
/** How many parts of this process hold the users now. */
let holders = 0;

/**
 * Two users of the machine, made where they are missing and removed when the last test run that uses them has ended.
 * Runs share them: do not count on their having no other process.
 */
export async function passwdUsers(): Promise<TestUsers> {
  // A lease is a file named after the pid that holds it; the lock makes "look, then add or remove" one step.
  const add = names.map((name) => `id -u ${name} >/dev/null 2>&1 || useradd --system --user-group --no-create-home ${name}`);
  holders += 1;
  await locked([`mkdir -p ${leases}`, `touch ${leases}/${process.pid}`, ...add]);
  const [first, second] = await Promise.all(names.map(lookUp));
  if (first === undefined || second === undefined) throw new Error("the test users were not made");
  return { first, second, [Symbol.asyncDispose]: release };
}

async function release(): Promise<void> {
  holders -= 1;
  if (holders > 0) return;
  const drop = [
    `rm -f ${leases}/${process.pid}`,
    `for lease in ${leases}/*; do [ -d "/proc/\${lease##*/}" ] && exit 0; done`,
    `rm -rf ${leases}`,
    ...names.map((name) => `userdel ${name} 2>/dev/null || true`),
  ];
  await locked(drop);
}

async function locked(lines: readonly string[]): Promise<void> {
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" };
  await runChecked(["flock", lock, "sh", "-ec", lines.join("\n")], { env });
}

async function lookUp(name: string): Promise<TestUsers["first"]> {
  const [uid, gid] = await Promise.all([runChecked(["id", "-u", name]), runChecked(["id", "-g", name])]);
  return { name, uid: Number(uid.stdout), gid: Number(gid.stdout), groups: [Number(gid.stdout)] };
}
