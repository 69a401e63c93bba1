// The durable store of jobs: an SQLite database in WAL mode that only this file and its opening write to.
//
// Writes are batched: a job's creation, start and end go at once, the rest about once a second. A write that fails is
// reported and tried again with the next batch; the jobs themselves go on.

import { CopyError } from "../errors.ts";
import type { EntryError } from "../worker/protocol.ts";
import type { JobQuery, StatisticsQuery, StatisticsRow } from "./api.ts";
import { type AuditLimits, type AuditQuery, type AuditRecord, AuditTrail, type KeptAuditRecord } from "./audit-trail.ts";
import { History } from "./history.ts";
import type { Job } from "./job.ts";
import type { LastingDatabase } from "./lasting-database.ts";
import type { JobsLog } from "./log.ts";
import { memoryPath, openDatabase } from "./store-database.ts";
import { readErrors, writeErrors } from "./store-errors.ts";
import { type ChangingJobRow, type JobRow, jobFromRow, jobToChangingRow, jobToRow } from "./store-rows.ts";

export interface JobStore {
  /** The highest number that a job was ever stored under. */
  readonly lastId: number;
  /** False where there may be unfinished jobs that it cannot read: its file could not be opened, or a later version wrote a row. */
  readonly knowsAll: boolean;
  /** Jobs that had not ended, oldest first. */
  unfinished(): readonly Job[];
  /** Jobs of a user, or of all for null, ended ones included; newest first. */
  history(uid: number | null, limit: number): readonly Job[];
  /** Jobs that have ended since, those that ended first first. */
  endedSince(timeUs: number): readonly Job[];
  /** The job of a user whose files have this token in their names, if it is still known. */
  withWorkToken(uid: number, workToken: string): Job | null;
  /** Jobs that the query fits, ended or not; newest first. */
  search(query: JobQuery): readonly Job[];
  /** The latest job of a user with this very token. */
  find(uid: number, token: string): Job | null;
  /** Of ended jobs. */
  statistics(query: StatisticsQuery): readonly StatisticsRow[];
  /** Bytes a second of the user's last jobs that completed, taken together; 0 where there are none. */
  rateOf(uid: number): number;
  /** Stores the job as it is now. `soon`: with the next batch, about a second later at most. */
  save(job: Job, when: "now" | "soon"): void;
  /** Appends to the job's errors. */
  addErrors(job: Job, errors: readonly EntryError[]): void;
  errors(job: Job, offset: number, limit: number): readonly EntryError[];
  /** The job begins anew, and finds its errors again. */
  clearErrors(job: Job): void;
  /** True when all that was saved survives a power cut from now on. */
  makeDurable(): boolean;
  /** Forgets a job altogether. */
  remove(job: Job): void;
  /** Appends to the audit trail, with the next batch. */
  addAudit(record: AuditRecord): void;
  /** What the trail has, newest first. */
  audit(query: AuditQuery): readonly KeptAuditRecord[];
  /** Writes what is pending and closes. */
  close(): void;
}

export interface StoreOptions extends Partial<AuditLimits> {
  /** The database file, or ":memory:". */
  readonly path: string;
  readonly log: JobsLog;
  /** Ended jobs are kept this long, and this many of each user. */
  readonly retentionDays?: number;
  readonly maxJobsPerUser?: number;
  /** How long a former copyd that is just ending may hold the database. */
  readonly busyTimeoutMs?: number;
  /** Microseconds of CLOCK_REALTIME. */
  readonly now?: () => number;
}

const batchIntervalMs = 1000;
/** Of errors, which take some milliseconds to write. */
const errorCharactersAtOnce = 512 * 1024;
/** The rate of a user's copies is that of so many jobs. */
const jobsForRate = 20;
const dayUs = 24 * 3600 * 1e6;
/** Old history is looked for after this many ends, and when the store is opened. */
const endsBetweenPrunings = 500;

/**
 * Opens the store. A database that is corrupt or from a later version is set aside, and one that cannot be opened at all is
 * replaced by memory: both are reported, and the service starts. Throws CopyError `invalid-state` only when another copyd
 * has it open. bun:sqlite is loaded here and not before.
 */
export async function openStore(options: StoreOptions): Promise<JobStore> {
  const now = options.now ?? (() => Date.now() * 1000);
  const database = await openDatabase(options.path, options.log, now(), options.busyTimeoutMs ?? 5000);
  return new SqliteStore(database, options, now);
}

class SqliteStore implements JobStore {
  readonly lastId: number;
  private readonly database: LastingDatabase;
  private readonly options: StoreOptions;
  private readonly now: () => number;
  private readonly dirty = new Map<number, Job>();
  private readonly newErrors = new Map<number, EntryError[]>();
  private newErrorCharacters = 0;
  private readonly trail: AuditTrail;
  private readonly past: History;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private endsSincePruning = 0;
  private failing = false;
  private hasUnreadable = false;

  constructor(database: LastingDatabase, options: StoreOptions, now: () => number) {
    this.database = database;
    this.past = new History(database);
    this.options = options;
    this.now = now;
    this.lastId = database.query<{ seq: number }, []>("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'").get()?.seq ?? 0;
    const { auditDays = 90, maxAuditRecordsPerUser = 10_000, maxAuditRecords = 200_000 } = options;
    this.trail = new AuditTrail(database, { auditDays, maxAuditRecordsPerUser, maxAuditRecords });
    this.tryWriting(() => this.prune());
    this.tryWriting(() => this.trail.prune(now()));
  }

  get knowsAll(): boolean {
    return !this.hasUnreadable && (this.options.path === memoryPath || this.database.path !== null);
  }

  unfinished(): readonly Job[] {
    this.flush();
    return this.read(this.database.query<JobRow, []>("SELECT * FROM jobs WHERE finished_us = 0 ORDER BY id").all());
  }

  history(uid: number | null, limit: number): readonly Job[] {
    this.flush();
    const all = this.database.query<JobRow, [number]>("SELECT * FROM jobs ORDER BY id DESC LIMIT ?");
    const own = this.database.query<JobRow, [number, number]>("SELECT * FROM jobs WHERE uid = ? ORDER BY id DESC LIMIT ?");
    return this.read(uid === null ? all.all(limit) : own.all(uid, limit));
  }

  endedSince(timeUs: number): readonly Job[] {
    this.flush();
    return this.read(this.database.query<JobRow, [number]>("SELECT * FROM jobs WHERE finished_us > ? ORDER BY finished_us").all(timeUs));
  }

  withWorkToken(uid: number, workToken: string): Job | null {
    this.flush();
    const query = this.database.query<JobRow, [number, string]>(
      "SELECT * FROM jobs WHERE uid = ? AND json_extract(record, '$.workToken') = ? ORDER BY id DESC LIMIT 1",
    );
    return this.read(query.all(uid, workToken))[0] ?? null;
  }

  search(query: JobQuery): readonly Job[] {
    this.flush();
    return this.read(this.past.list(query));
  }

  // Ends are written at once: nobody may make the disk busy by asking.
  find(uid: number, token: string): Job | null {
    const row = this.past.find(uid, token);
    return row === null ? null : (this.read([row])[0] ?? null);
  }

  statistics(query: StatisticsQuery): readonly StatisticsRow[] {
    return this.past.statistics(query);
  }

  rateOf(uid: number): number {
    this.flush();
    const query = this.database.query<{ bytes: number | null; time: number | null }, [number, number]>(
      `SELECT sum(json_extract(record, '$.result.bytesDone')) AS bytes, sum(json_extract(record, '$.result.elapsedUs')) AS time
       FROM (SELECT record FROM jobs WHERE uid = ? AND state = 'completed'
         -- From the first start to the end: what was resumed may have slept for a night.
         AND coalesce(json_extract(record, '$.result.resumeCount'), 0) = 0 ORDER BY id DESC LIMIT ?)`,
    );
    const { bytes, time } = query.get(uid, jobsForRate) ?? { bytes: null, time: null };
    return bytes !== null && time !== null && time > 0 ? (bytes / time) * 1e6 : 0;
  }

  save(job: Job, when: "now" | "soon"): void {
    this.dirty.set(job.id, job);
    if (job.result !== null) this.endsSincePruning++;
    if (when === "now") this.flush();
    else this.flushLater();
  }

  addErrors(job: Job, errors: readonly EntryError[]): void {
    const waiting = this.newErrors.get(job.id);
    if (waiting === undefined) this.newErrors.set(job.id, [...errors]);
    else waiting.push(...errors);
    for (const { path, message } of errors) this.newErrorCharacters += path.length + message.length;
    // Bit by bit: nobody is answered while it is written.
    if (this.newErrorCharacters > errorCharactersAtOnce && !this.failing) this.flush();
    else this.flushLater();
  }

  errors(job: Job, offset: number, limit: number): readonly EntryError[] {
    this.flush();
    return readErrors(this.database, job.id, offset, limit);
  }

  remove(job: Job): void {
    this.dirty.delete(job.id);
    this.newErrors.delete(job.id);
    this.tryWriting(() => this.database.query("DELETE FROM jobs WHERE id = ?").run(job.id));
  }

  addAudit(record: AuditRecord): void {
    this.trail.add(record, this.now());
    this.flushLater();
  }

  audit(query: AuditQuery): readonly KeptAuditRecord[] {
    this.flush();
    return this.trail.list(query);
  }

  clearErrors(job: Job): void {
    this.newErrors.delete(job.id);
    this.tryWriting(() => this.database.query("DELETE FROM errors WHERE job = ?").run(job.id));
  }

  makeDurable(): boolean {
    this.flush();
    if (this.dirty.size > 0) return false;
    // Syncs the log and then the database.
    return this.tryWriting(() => this.database.run("PRAGMA wal_checkpoint(FULL)"));
  }

  close(): void {
    this.flush();
    clearTimeout(this.timer);
    this.database.close();
  }

  private flushLater(): void {
    if (this.timer !== undefined) return;
    this.timer = setTimeout(() => this.flush(), batchIntervalMs);
    this.timer.unref();
  }

  private flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.dirty.size === 0 && this.newErrors.size === 0 && !this.trail.isPending) return;
    const written = this.tryWriting(() => {
      if (this.database.restore()) {
        this.options.log.error("the job store was removed while it was in use, and is written again", { path: this.options.path });
      }
      this.database.transaction(() => this.writeAll())();
    });
    if (!written) {
      this.flushLater();
      return;
    }
    this.dirty.clear();
    this.newErrors.clear();
    this.newErrorCharacters = 0;
    this.trail.written();
    this.tryWriting(() => this.trail.prune(this.now()));
    if (this.endsSincePruning >= endsBetweenPrunings) this.tryWriting(() => this.prune());
  }

  private writeAll(): void {
    // Most are there already, and their requests, which may be megabytes, are not even encoded again.
    const update = this.database.query<unknown, ChangingJobRow>(
      "UPDATE jobs SET state = $state, started_us = $started_us, finished_us = $finished_us, record = $record WHERE id = $id",
    );
    const insert = this.database.query<unknown, JobRow>(
      `INSERT INTO jobs (id, uid, token, state, created_us, started_us, finished_us, request, record)
       VALUES ($id, $uid, $token, $state, $created_us, $started_us, $finished_us, $request, $record)`,
    );
    for (const job of this.dirty.values()) {
      const { changes } = update.run(jobToChangingRow(job));
      if (changes === 0) insert.run(jobToRow(job));
    }
    for (const [id, errors] of this.newErrors) writeErrors(this.database, id, errors);
    this.trail.write();
  }

  /** Ended jobs that are too old or too many go, and their pages are given back. */
  private prune(): void {
    this.endsSincePruning = 0;
    const oldestUs = this.now() - (this.options.retentionDays ?? 30) * dayUs;
    const keep = this.options.maxJobsPerUser ?? 1000;
    this.database
      .query<unknown, [number, number]>(
        `DELETE FROM jobs WHERE finished_us > 0 AND (finished_us < ?1 OR id IN (
           SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY uid ORDER BY id DESC) AS age FROM jobs WHERE finished_us > 0)
           WHERE age > ?2))`,
      )
      .run(oldestUs, keep);
    this.database.run("PRAGMA incremental_vacuum");
  }

  private read(rows: readonly JobRow[]): Job[] {
    return rows.flatMap((row) => {
      const job = jobFromRow(row);
      if (job === null) this.options.log.error("a stored job cannot be read and is left alone", { id: row.id, job: row.token });
      if (job === null && row.finished_us === 0) this.hasUnreadable = true;
      return job ?? [];
    });
  }

  /** True when it was written. The first failure of a row is reported, and the first success after it. */
  private tryWriting(action: () => unknown): boolean {
    try {
      action();
    } catch (cause) {
      if (!this.failing) this.options.log.error("the job store cannot be written", { reason: messageOf(cause) });
      this.failing = true;
      return false;
    }
    if (this.failing) this.options.log.info("the job store can be written again", {});
    this.failing = false;
    return true;
  }
}

function messageOf(cause: unknown): string {
  return cause instanceof CopyError || cause instanceof Error ? cause.message : String(cause);
}
