// Jobs by user and token.

import type { Job } from "./job.ts";

export class JobTable<Entry extends { readonly job: Job }> {
  /** By uid, then token. */
  private readonly users = new Map<number, Map<string, Entry>>();

  get(uid: number, token: string): Entry | undefined {
    return this.users.get(uid)?.get(token);
  }

  add(entry: Entry): void {
    const { owner, token } = entry.job;
    const entries = this.users.get(owner.uid);
    if (entries === undefined) this.users.set(owner.uid, new Map([[token, entry]]));
    else entries.set(token, entry);
  }

  delete(entry: Entry): void {
    const { uid } = entry.job.owner;
    const entries = this.users.get(uid);
    entries?.delete(entry.job.token);
    if (entries?.size === 0) this.users.delete(uid);
  }

  /** A user's, or everybody's for null; oldest first. */
  list(uid: number | null): readonly Entry[] {
    const users = uid === null ? [...this.users.values()] : [this.users.get(uid) ?? new Map<string, Entry>()];
    return users.flatMap((entries) => [...entries.values()]).sort((one, other) => one.job.id - other.job.id);
  }
}
