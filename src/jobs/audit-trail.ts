// The audit trail in the store: who asked for what, what was refused and granted, how jobs ended. Bounded by age and for each user.
//
// Nothing in a record is a file's name. The oldest go first, and always those of the user and kind of whom there are most, so that
// nobody can push out what is kept of others, nor an own grant with a flood of something else.

import { type FailureCode, isFailureCode } from "../errors.ts";
import type { StoreDatabase } from "./store-database.ts";

export const auditEvents = ["request", "refusal", "grant", "queued", "ended"] as const;
export type AuditEvent = (typeof auditEvents)[number];

export interface AuditRecord {
  readonly event: AuditEvent;
  /** The method as the bus names it; "" for a message that could not be read so far, and where no call was made. */
  readonly method: string;
  /** "" where no connection is concerned. */
  readonly sender: string;
  /** -1 where the bus did not say, which is itself a refusal. */
  readonly uid: number;
  readonly job?: string;
  /** Whose job it is, where it is not `uid`'s. */
  readonly owner?: number;
  readonly code?: FailureCode;
  /** The polkit action that was granted. */
  readonly action?: string;
  /** Records of this user and event that were not told since the last one: so many came. */
  readonly untold?: number;
}

export interface KeptAuditRecord extends AuditRecord {
  /** Ascends with time. */
  readonly id: number;
  /** Microseconds of CLOCK_REALTIME. */
  readonly timeUs: number;
}

/** What is looked for; what is left out is not asked about. */
export interface AuditQuery {
  readonly sinceUs?: number;
  readonly untilUs?: number;
  readonly uid?: number;
  readonly job?: string;
  readonly code?: string;
  readonly event?: AuditEvent;
  /** Only records before this one: the first of the former page. */
  readonly beforeId?: number;
  readonly limit: number;
}

export interface AuditLimits {
  readonly auditDays: number;
  /** Records of one user and event. */
  readonly maxAuditRecordsPerUser: number;
  readonly maxAuditRecords: number;
}

type AuditRow = {
  readonly id: number;
  readonly time_us: number;
  readonly event: string;
  readonly uid: number;
  readonly method: string;
  readonly sender: string;
  readonly job: string | null;
  readonly code: string | null;
  readonly action: string | null;
  readonly untold: number;
  readonly owner: number | null;
};

interface Share {
  readonly uid: number;
  readonly event: string;
  count: number;
}

const dayUs = 24 * 3600 * 1e6;
/** What is too old is looked for so often. */
const ageIntervalUs = 3600 * 1e6;
/** Trimmed to this part of a limit, so that not each record costs a deletion. */
const trimmedTo = 0.9;
/** What waits for a disk that takes nothing; beyond, the journal alone has it. */
const maxPending = 10_000;

export class AuditTrail {
  private readonly database: StoreDatabase;
  private readonly limits: AuditLimits;
  private readonly pending: AuditRow[] = [];
  private readonly shares = new Map<string, Share>();
  private total = 0;
  private lastId: number;
  private agedUs = 0;

  /** Throws what the database throws. */
  constructor(database: StoreDatabase, limits: AuditLimits) {
    this.database = database;
    this.limits = limits;
    this.lastId = database.query<{ seq: number }, []>("SELECT seq FROM sqlite_sequence WHERE name = 'audit'").get()?.seq ?? 0;
    this.count();
  }

  get isPending(): boolean {
    return this.pending.length > 0;
  }

  /** Notes a record; `write` makes it lasting. */
  add(record: AuditRecord, timeUs: number): void {
    if (this.pending.length >= maxPending) return;
    const { event, uid, method, sender, job = null, code = null, action = null, untold = 0, owner = null } = record;
    this.pending.push({ id: ++this.lastId, time_us: timeUs, event, uid, method, sender, job, code, action, untold, owner });
  }

  /** Writes what is noted, within the caller's transaction. Afterwards, `written`. */
  write(): void {
    const insert = this.database.query<unknown, AuditRow>(
      `INSERT INTO audit (id, time_us, event, uid, method, sender, job, code, action, untold, owner)
       VALUES ($id, $time_us, $event, $uid, $method, $sender, $job, $code, $action, $untold, $owner)`,
    );
    for (const row of this.pending) insert.run(row);
  }

  written(): void {
    for (const row of this.pending) this.shareOf(row).count++;
    this.total += this.pending.length;
    this.pending.length = 0;
  }

  /** Drops what is too old or too much. */
  prune(nowUs: number): void {
    if (nowUs - this.agedUs >= ageIntervalUs || nowUs < this.agedUs) {
      this.agedUs = nowUs;
      const { changes } = this.database
        .query<unknown, [number]>("DELETE FROM audit WHERE time_us < ?")
        .run(nowUs - this.limits.auditDays * dayUs);
      if (changes > 0) this.count();
    }
    const { maxAuditRecordsPerUser, maxAuditRecords } = this.limits;
    for (const share of this.shares.values()) {
      if (share.count > maxAuditRecordsPerUser) this.trim(share, Math.floor(maxAuditRecordsPerUser * trimmedTo));
    }
    while (this.total > maxAuditRecords) {
      let most: Share | undefined;
      for (const share of this.shares.values()) if (most === undefined || share.count > most.count) most = share;
      if (most === undefined || most.count === 0) return;
      this.trim(most, Math.floor(most.count * trimmedTo));
    }
  }

  /** What is kept, newest first. Throws what the database throws. */
  list(query: AuditQuery): readonly KeptAuditRecord[] {
    const conditions: string[] = [];
    const values: (number | string)[] = [];
    const require = (condition: string, value: number | string | undefined): void => {
      if (value === undefined) return;
      conditions.push(condition);
      values.push(value);
    };
    require("time_us >= ?", query.sinceUs);
    require("time_us < ?", query.untilUs);
    require("uid = ?", query.uid);
    require("job = ?", query.job);
    require("code = ?", query.code);
    require("event = ?", query.event);
    require("id < ?", query.beforeId);
    const where = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
    return this.database
      .query<AuditRow, (number | string)[]>(`SELECT * FROM audit ${where} ORDER BY id DESC LIMIT ?`)
      .all(...values, query.limit)
      .map(recordFromRow);
  }

  private trim(share: Share, keep: number): void {
    const { uid, event } = share;
    const { changes } = this.database
      .query<unknown, [number, string, number]>(
        `DELETE FROM audit WHERE uid = ?1 AND event = ?2 AND id <=
           (SELECT id FROM audit WHERE uid = ?1 AND event = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)`,
      )
      .run(uid, event, keep);
    share.count -= changes;
    this.total -= changes;
    // Whatever the count was: a share that has nothing to give must not be asked again.
    if (changes === 0) this.count();
  }

  private count(): void {
    this.shares.clear();
    this.total = 0;
    const query = this.database.query<Share, []>("SELECT uid, event, count(*) AS count FROM audit GROUP BY uid, event");
    for (const share of query.all()) {
      this.shares.set(`${share.uid} ${share.event}`, share);
      this.total += share.count;
    }
  }

  private shareOf({ uid, event }: AuditRow): Share {
    const key = `${uid} ${event}`;
    const known = this.shares.get(key);
    if (known !== undefined) return known;
    const share = { uid, event, count: 0 };
    this.shares.set(key, share);
    return share;
  }
}

function recordFromRow({ id, time_us, event, uid, method, sender, job, code, action, untold, owner }: AuditRow): KeptAuditRecord {
  return {
    id,
    timeUs: time_us,
    // A later version's database is set aside, so nobody else can have written another word.
    event: event as AuditEvent,
    uid,
    method,
    sender,
    ...(job !== null && { job }),
    ...(owner !== null && { owner }),
    ...(code !== null && isFailureCode(code) && { code }),
    ...(action !== null && { action }),
    ...(untold > 0 && { untold }),
  };
}
