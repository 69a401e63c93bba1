// The store's database while somebody may remove its file: what is in it is written again, to a file of the same name.
//
// SQLite goes on writing to a file that has lost its name, and says nothing: the jobs would be gone with this process.

import type { Database } from "bun:sqlite";
import { closeSync, existsSync, mkdirSync, openSync, rmSync } from "node:fs";
import { dirname } from "node:path";
import type { StoreDatabase } from "./store-database.ts";

export class LastingDatabase implements StoreDatabase {
  /** Of a file, or of memory only. */
  readonly path: string | null;
  private current: Database;
  private readonly reopen: () => Database;

  /** `reopen`: opens the file that was written again. */
  constructor(database: Database, path: string | null, reopen: () => Database) {
    this.current = database;
    this.path = path;
    this.reopen = reopen;
  }

  /** True when it was gone, and is there again. Throws what writing it throws. */
  restore(): boolean {
    const { path } = this;
    if (path === null || existsSync(path)) return false;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    // Paths are private, and SQLite fills an empty file as it finds it.
    closeSync(openSync(path, "wx", 0o600));
    try {
      this.current.query("VACUUM INTO ?").run(path);
    } catch (cause) {
      // Half a file is none: the next write tries again.
      rmSync(path, { force: true });
      throw cause;
    }
    // Before the new one is opened: closing removes the log by its name.
    this.current.close();
    this.current = this.reopen();
    return true;
  }

  get query(): Database["query"] {
    return this.current.query.bind(this.current);
  }

  get run(): Database["run"] {
    return this.current.run.bind(this.current);
  }

  get transaction(): Database["transaction"] {
    return this.current.transaction.bind(this.current);
  }

  close(): void {
    this.current.close();
  }
}
