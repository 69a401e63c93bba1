// Opens the store's database: schema and its migrations, and what to do with a file that cannot be used.

import type { Database } from "bun:sqlite";
import { closeSync, existsSync, openSync, renameSync } from "node:fs";
import { dirname } from "node:path";
import { CopyError } from "../errors.ts";
import { setFilesAside } from "./job-files.ts";
import { LastingDatabase } from "./lasting-database.ts";
import type { JobsLog } from "./log.ts";

export interface StoreDatabase extends Pick<Database, "query" | "run" | "transaction"> {
  close(): void;
}

/** SQLite's name for a database without a file. */
export const memoryPath = ":memory:";

/** "copy" in ASCII: tells a database of copyd from any other file that happens to be SQLite's. */
const applicationId = 0x636f7079;

/** Step N leads from version N to N+1. Steps that were released are never changed; new ones are appended. */
const migrations: readonly string[] = [
  `CREATE TABLE jobs (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     uid INTEGER NOT NULL,
     token TEXT NOT NULL,
     state TEXT NOT NULL,
     created_us INTEGER NOT NULL,
     started_us INTEGER NOT NULL,
     finished_us INTEGER NOT NULL,
     request TEXT NOT NULL,
     record TEXT NOT NULL
   );
   CREATE INDEX jobs_by_user ON jobs (uid, id);
   CREATE INDEX jobs_unfinished ON jobs (id) WHERE finished_us = 0;
   CREATE TABLE errors (
     job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
     position INTEGER NOT NULL,
     record TEXT NOT NULL,
     PRIMARY KEY (job, position)
   ) WITHOUT ROWID;`,
  `CREATE TABLE audit (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     time_us INTEGER NOT NULL,
     event TEXT NOT NULL,
     uid INTEGER NOT NULL,
     method TEXT NOT NULL,
     sender TEXT NOT NULL,
     job TEXT,
     code TEXT,
     action TEXT,
     untold INTEGER NOT NULL
   );
   CREATE INDEX audit_by_user ON audit (uid, event, id);
   CREATE INDEX audit_by_time ON audit (time_us);`,
  `CREATE INDEX jobs_by_token ON jobs (uid, token);
   CREATE INDEX jobs_by_time ON jobs (created_us);
   CREATE INDEX jobs_by_user_and_time ON jobs (uid, created_us);`,
  "ALTER TABLE audit ADD COLUMN owner INTEGER;",
  // A row of errors may be a list from here on: older programs, which would take it for nothing, are to leave the file alone.
  "SELECT 1;",
];

/** A usable database in any case but one: CopyError `invalid-state` when another copyd has it open. */
export async function openDatabase(path: string, log: JobsLog, nowUs: number, busyTimeoutMs: number): Promise<LastingDatabase> {
  const { Database, SQLiteError } = await import("bun:sqlite");
  const open = (file: string): Database => {
    // Paths are private. SQLite gives its other files the mode of this one.
    if (file !== memoryPath) closeSync(openSync(file, "a", 0o600));
    const { database, isNew } = prepared(new Database(file, { create: true, strict: true }), busyTimeoutMs);
    // An emptied one has lost jobs, whose files say what they had done.
    if (isNew && file !== memoryPath) setFilesAside(dirname(file), `${nameAside(file, nowUs)}-files`, log);
    return database;
  };
  const lasting = (file: string): LastingDatabase => new LastingDatabase(open(file), file === memoryPath ? null : file, () => open(file));
  try {
    return lasting(path);
  } catch (cause) {
    const code = cause instanceof SQLiteError ? (cause.code ?? "") : "";
    if (code.startsWith("SQLITE_BUSY")) {
      throw new CopyError("invalid-state", `the job store ${path} is in use by another copyd`, { path }, cause);
    }
    const reason = cause instanceof Error ? cause.message : String(cause);
    if (!(cause instanceof UnusableDatabase) && !/^SQLITE_(CORRUPT|NOTADB|ERROR|FORMAT|SCHEMA)/.test(code)) {
      log.error("the job store cannot be opened; jobs are kept in memory only", { path, reason });
      return lasting(memoryPath);
    }
    return openAfresh(path, reason, lasting, log, nowUs);
  }
}

function openAfresh(path: string, reason: string, open: (file: string) => LastingDatabase, log: JobsLog, nowUs: number): LastingDatabase {
  try {
    const aside = setAside(path, nowUs, log);
    log.error("the job store could not be used and was set aside; a new one is begun", { path, aside, reason });
    return open(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    log.error("the job store cannot be used nor set aside; jobs are kept in memory only", { path, reason: `${reason}; ${why}` });
    return open(memoryPath);
  }
}

/** The file is an SQLite database, but not one that this version of copyd can use. */
class UnusableDatabase extends Error {
  override readonly name = "UnusableDatabase";
}

function prepared(database: Database, busyTimeoutMs: number): { readonly database: Database; readonly isNew: boolean } {
  try {
    database.run(`PRAGMA busy_timeout = ${busyTimeoutMs}`);
    // Looks before it writes anything: what is set aside is to be as it was found.
    const version = usableVersion(database);
    if (version === 0) database.run("PRAGMA auto_vacuum = INCREMENTAL");
    // One process owns the store: two would both run its jobs. Also saves the shared-memory file.
    database.run("PRAGMA locking_mode = EXCLUSIVE");
    database.run("PRAGMA journal_mode = WAL");
    // A crash of the process loses nothing; a power cut may lose the last second, never the database.
    database.run("PRAGMA synchronous = NORMAL");
    database.run("PRAGMA foreign_keys = ON");
    database.run("PRAGMA journal_size_limit = 4194304");
    // In any case a write: it takes the lock now and not at the first job.
    database.transaction(() => {
      for (const step of migrations.slice(version)) database.run(step);
      database.run(`PRAGMA user_version = ${migrations.length}`);
      database.run(`PRAGMA application_id = ${applicationId}`);
    })();
    return { database, isNew: version === 0 };
  } catch (cause) {
    database.close();
    throw cause;
  }
}

/** The schema's version, 0 for an empty file. Throws where this copyd cannot use the database. */
function usableVersion(database: Database): number {
  const check = database.query<{ quick_check: string }, []>("PRAGMA quick_check(1)").get()?.quick_check;
  if (check !== "ok") throw new UnusableDatabase(`it is corrupt: ${check}`);
  const version = pragma(database, "user_version");
  if (version !== 0 && pragma(database, "application_id") !== applicationId) {
    throw new UnusableDatabase("it belongs to another program");
  }
  if (version > migrations.length) {
    throw new UnusableDatabase(`it has version ${version}; this copyd knows versions up to ${migrations.length}`);
  }
  return version;
}

function pragma(database: Database, name: "user_version" | "application_id"): number {
  return database.query<Record<string, number>, []>(`PRAGMA ${name}`).get()?.[name] ?? 0;
}

/**
 * Renames the database and the files that belong to it; returns its new name. Nothing is ever deleted, its jobs' checkpoints included:
 * the service that can use it goes on with them once all is put back.
 */
function setAside(path: string, nowUs: number, log: JobsLog): string {
  const aside = nameAside(path, nowUs);
  setFilesAside(dirname(path), `${aside}-files`, log);
  for (const suffix of ["", "-wal", "-shm"]) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
  return aside;
}

function nameAside(path: string, nowUs: number): string {
  const stamp = new Date(nowUs / 1000).toISOString().replace(/[-:]/g, "");
  for (let attempt = 0; ; attempt++) {
    const aside = `${path}.${stamp}${attempt === 0 ? "" : `.${attempt}`}`;
    if (!existsSync(aside) && !existsSync(`${aside}-files`)) return aside;
  }
}
