// Who this process is, as the kernel says: the worker checks it before it opens anything, and refuses to be anybody else.
//
// /proc/self/status is asked because no system call tells all of it: real, effective, saved and file system ids, the groups, all
// five capability sets and no_new_privs. It describes the main thread; setpriv drops privileges before exec, so there is no other.

import { readText } from "../ffi/read-text.ts";
import type { Identity } from "./protocol.ts";

const statusFile = "/proc/self/status";

/** This process for the hello message. Without /proc: the ids that libc gives, and no word about capabilities ("0"). */
export function currentIdentity(file = statusFile): Identity {
  const status = readText(file);
  const found = status === null ? null : parseStatus(status);
  if (found === null) return identityWithoutProc();
  const [, uid = 0] = found.uids;
  const [, gid = 0] = found.gids;
  return { uid, gid, groups: [...found.groups], capabilities: found.effective.toString(16) };
}

/** Why this process is not exactly who it should be, or null when it is. Never throws. */
export function verifyIdentity(expected: Identity, file = statusFile): string | null {
  const status = readText(file);
  if (status === null) return `${file} cannot be read, so nobody knows who this process is`;
  const found = parseStatus(status);
  if (found === null) return `${file} does not say who this process is`;
  const groups = [...expected.groups].sort((one, other) => one - other);
  const capabilities = BigInt(`0x${expected.capabilities}`);
  return (
    wrongIds("uids (real, effective, saved, file system)", found.uids, expected.uid) ??
    wrongIds("gids (real, effective, saved, file system)", found.gids, expected.gid) ??
    (found.groups.join() === groups.join() ? null : `groups are ${listed(found.groups)}, not ${listed(groups)}`) ??
    wrongSet("effective", found.effective, capabilities) ??
    wrongSet("permitted", found.permitted, capabilities) ??
    wrongSet("bounding", found.bounding, capabilities) ??
    wrongSet("inheritable", found.inheritable, 0n) ??
    wrongSet("ambient", found.ambient, 0n) ??
    (found.noNewPrivileges ? null : "no_new_privs is not set: a setuid program could give it more")
  );
}

interface Status {
  /** Real, effective, saved, file system. */
  readonly uids: readonly number[];
  readonly gids: readonly number[];
  /** Ascending. */
  readonly groups: readonly number[];
  readonly effective: bigint;
  readonly permitted: bigint;
  readonly inheritable: bigint;
  readonly bounding: bigint;
  readonly ambient: bigint;
  readonly noNewPrivileges: boolean;
}

/** proc_pid_status(5). null where a field is missing: half an answer is none. */
function parseStatus(text: string): Status | null {
  const uids = numbers(text, "Uid");
  const gids = numbers(text, "Gid");
  const groups = numbers(text, "Groups");
  const [effective, permitted, inheritable, bounding, ambient] = ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"].map((name) =>
    mask(text, name),
  );
  const noNewPrivileges = field(text, "NoNewPrivs");
  if (uids?.length !== 4 || gids?.length !== 4 || groups === null || noNewPrivileges === null) return null;
  if (effective == null || permitted == null || inheritable == null || bounding == null || ambient == null) return null;
  return {
    uids,
    gids,
    groups: groups.sort((one, other) => one - other),
    effective,
    permitted,
    inheritable,
    bounding,
    ambient,
    noNewPrivileges: noNewPrivileges === "1",
  };
}

function field(text: string, name: string): string | null {
  return new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(text)?.[1]?.trim() ?? null;
}

function numbers(text: string, name: string): number[] | null {
  const value = field(text, name);
  if (value === null) return null;
  const list = value === "" ? [] : value.split(/\s+/).map(Number);
  return list.every((number) => Number.isSafeInteger(number) && number >= 0) ? list : null;
}

function mask(text: string, name: string): bigint | null {
  const value = field(text, name);
  return value !== null && /^[0-9a-f]{1,16}$/.test(value) ? BigInt(`0x${value}`) : null;
}

function wrongIds(what: string, found: readonly number[], expected: number): string | null {
  return found.every((id) => id === expected) ? null : `${what} are ${listed(found)}, not all ${expected}`;
}

function wrongSet(name: string, found: bigint, expected: bigint): string | null {
  return found === expected ? null : `${name} capabilities are ${found.toString(16)}, not ${expected.toString(16)}`;
}

function listed(ids: readonly number[]): string {
  return ids.length === 0 ? "none" : ids.slice(0, 64).join(" ");
}

function identityWithoutProc(): Identity {
  const groups = [...new Set(process.getgroups?.() ?? [])].sort((one, other) => one - other);
  return { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, groups, capabilities: "0" };
}
