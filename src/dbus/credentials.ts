// Who calls: uid and groups of a unique name as the bus itself knows them. Whatever is missing or odd denies; nothing defaults.

import { CopyError } from "../errors.ts";
import type { Caller } from "../jobs/api.ts";
import type { BusConnection } from "./connection.ts";
import type { UserDatabase } from "./user-database.ts";
import { asVariantDict, dictValue } from "./values.ts";

/** Who calls, and from which process; null where the bus does not know it, as across PID namespaces. */
interface Identified {
  readonly caller: Caller;
  readonly pid: number | null;
}

interface Entry {
  readonly identified: Promise<Identified>;
  gone: boolean;
}

const lookupTimeoutMs = 10_000;

/** Callers by unique name, remembered until they leave the bus. */
export class Credentials {
  private readonly entries = new Map<string, Entry>();
  private readonly connection: BusConnection;
  private readonly users: UserDatabase;
  /** On the session bus: the only uid that is served, our own. */
  private readonly onlyUid: number | null;

  constructor(connection: BusConnection, users: UserDatabase, onlyUid: number | null) {
    this.connection = connection;
    this.users = users;
    this.onlyUid = onlyUid;
  }

  /** Who a unique name is. Throws access-denied. */
  async identify(sender: string): Promise<Caller> {
    return (await this.known(sender)).caller;
  }

  /** The process that a unique name was when it connected, by number; null where the bus does not say. Throws access-denied. */
  async processOf(sender: string): Promise<number | null> {
    return (await this.known(sender)).pid;
  }

  /** Throws access-denied unless the name was identified and has not left since. */
  requirePresent(sender: string): void {
    if (!this.entries.has(sender)) throw denied("the caller has left the bus");
  }

  /** The name has left the bus. It is never given again. */
  forget(sender: string): void {
    const entry = this.entries.get(sender);
    // A lookup may be under way: its call must not be carried out for a connection that ended meanwhile.
    if (entry !== undefined) entry.gone = true;
    this.entries.delete(sender);
  }

  private async known(sender: string): Promise<Identified> {
    let entry = this.entries.get(sender);
    if (entry === undefined) {
      entry = { identified: this.lookUp(sender), gone: false };
      this.entries.set(sender, entry);
    }
    try {
      const identified = await entry.identified;
      if (!entry.gone) return identified;
    } catch (error) {
      if (this.entries.get(sender) === entry) this.entries.delete(sender);
      throw error;
    }
    throw denied("the caller has left the bus");
  }

  private async lookUp(sender: string): Promise<Identified> {
    if (!sender.startsWith(":")) throw denied("the call has no sender");
    const { uid, groups, pid } = await this.askBus(sender);
    if (this.onlyUid !== null) {
      if (uid !== this.onlyUid) throw denied("this service serves one user, who is not the caller");
      return { pid, caller: Object.freeze({ uid, gid: process.getgid?.() ?? -1, groups: Object.freeze(groups) }) };
    }
    const gid = await this.users.primaryGid(uid);
    if (gid === undefined) throw denied(`the user database does not know uid ${uid}`);
    if (!groups.includes(gid)) throw denied(`the caller is not in the primary group of its user, ${gid}`);
    return { pid, caller: Object.freeze({ uid, gid, groups: Object.freeze(groups) }) };
  }

  private async askBus(sender: string): Promise<{ readonly uid: number; readonly groups: number[]; readonly pid: number | null }> {
    const reply = await this.connection.callDriver("GetConnectionCredentials", "s", [sender], lookupTimeoutMs).catch(() => undefined);
    if (reply === undefined || reply.signature !== "a{sv}") throw denied("the bus does not say who is calling");
    const credentials = asVariantDict(reply.body[0]);
    const uid = dictValue(credentials, "UnixUserID", "u");
    const groups = dictValue(credentials, "UnixGroupIDs", "au");
    if (uid === undefined || uid === 0xffff_ffff) throw denied("the bus does not say which user is calling");
    if (groups === undefined) throw denied("the bus does not say which groups the caller is in (dbus-daemon 1.13 or dbus-broker 33)");
    // ProcessFD, which dbus-daemon 1.15.6 and later have, would need descriptors to be received; the number is compared with its owner.
    const pid = dictValue(credentials, "ProcessID", "u") ?? 0;
    return { uid, groups: [...groups], pid: pid === 0 ? null : pid };
  }
}

function denied(reason: string): CopyError {
  return new CopyError("access-denied", reason);
}
