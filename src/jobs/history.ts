// The history in the store: which jobs there were, newest first and page by page, and what they amounted to by day, user and path.

import type { ByteString } from "../bytes.ts";
import type { JobQuery, StatisticsQuery, StatisticsRow } from "./api.ts";
import type { StoreDatabase } from "./store-database.ts";
import type { JobRow } from "./store-rows.ts";

export class History {
  private readonly database: StoreDatabase;

  constructor(database: StoreDatabase) {
    this.database = database;
  }

  /** Newest first. */
  list({ uid, states, token, sinceUs, beforeUs, limit }: JobQuery): readonly JobRow[] {
    const conditions: string[] = [];
    const values: (string | number)[] = [];
    const where = (condition: string, ...given: readonly (string | number)[]): void => {
      conditions.push(condition);
      values.push(...given);
    };
    if (uid !== null) where("uid = ?", uid);
    // "~" comes after every character of a token.
    if (token !== null) where("token >= ? AND token < ?", token, `${token}~`);
    if (states !== null) where("state IN (SELECT value FROM json_each(?))", JSON.stringify(states));
    if (sinceUs !== null) where("created_us >= ?", sinceUs);
    if (beforeUs !== null) where("created_us < ?", beforeUs);
    const filter = conditions.length === 0 ? "" : `WHERE ${conditions.join(" AND ")}`;
    const query = this.database.query<JobRow, (string | number)[]>(
      `SELECT * FROM jobs ${filter} ORDER BY created_us DESC, id DESC LIMIT ?`,
    );
    return query.all(...values, limit);
  }

  /** The latest job of a user with this very token. */
  find(uid: number, token: string): JobRow | null {
    const query = this.database.query<JobRow, [number, string]>("SELECT * FROM jobs WHERE uid = ? AND token = ? ORDER BY id DESC LIMIT 1");
    return query.get(uid, token);
  }

  /** Of ended jobs. */
  statistics({ by, uid, sinceUs, untilUs, order, limit }: StatisticsQuery): readonly StatisticsRow[] {
    const query = this.database.query<Row, [number | null, number, number, number]>(
      `SELECT ${keys[by]} AS key, count(*) AS jobs, sum(state = 'completed') AS completed, sum(state = 'failed') AS failed,
         sum(state = 'cancelled') AS cancelled, sum(coalesce(record ->> '$.result.filesDone', 0)) AS files,
         sum(coalesce(record ->> '$.result.bytesDone', 0)) AS bytes, sum(coalesce(record ->> '$.result.errorCount', 0)) AS errors,
         sum(coalesce(record ->> '$.result.elapsedUs', 0)) AS elapsedUs
       FROM jobs WHERE finished_us > 0 AND (?1 IS NULL OR uid = ?1) AND finished_us >= ?2 AND finished_us < ?3
       GROUP BY key ORDER BY ${orders[order]}, key LIMIT ?4`,
    );
    return query
      .all(uid, sinceUs ?? 0, untilUs ?? Number.MAX_SAFE_INTEGER, limit)
      .map((row) => ({ ...row, key: String(row.key) as ByteString }));
  }
}

/** The columns are named as what they become. */
type Row = Omit<StatisticsRow, "key"> & { readonly key: string | number };

/** What jobs are put together by. Days are those of the machine. */
const keys: Readonly<Record<StatisticsQuery["by"], string>> = {
  day: "strftime('%Y-%m-%d', finished_us / 1000000, 'unixepoch', 'localtime')",
  user: "uid",
  source: "request ->> '$.sources[0]'",
  destination: "request ->> '$.destination'",
};

/** "slowest" leaves those last that moved nothing: no time is slow for nothing. */
const orders: Readonly<Record<StatisticsQuery["order"], string>> = {
  latest: "max(finished_us) DESC",
  largest: "bytes DESC",
  longest: "elapsedUs DESC",
  slowest: "bytes = 0 OR elapsedUs = 0, bytes * 1.0 / max(elapsedUs, 1)",
  busiest: "jobs DESC",
};
