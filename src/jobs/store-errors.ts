// The errors of stored jobs, some hundreds in a row: one row for each takes ten times as long to write, while nobody is answered.

import type { EntryError } from "../worker/protocol.ts";
import { entryErrorSchema } from "../worker/protocol-schema.ts";
import type { StoreDatabase } from "./store-database.ts";

const errorsInRow = 256;

/** Appends to what is kept of a job, unless the job is kept no more. */
export function writeErrors(database: StoreDatabase, job: number, errors: readonly EntryError[]): void {
  // A row's position is that of its first error. Former versions wrote one error, and no list, to a row.
  const append = database.query<unknown, [number, string]>(
    `INSERT INTO errors (job, position, record)
     SELECT ?1, coalesce((SELECT position + max(1, json_array_length(record)) FROM errors WHERE job = ?1 ORDER BY position DESC LIMIT 1), 0), ?2
     WHERE EXISTS (SELECT 1 FROM jobs WHERE id = ?1)`,
  );
  for (let at = 0; at < errors.length; at += errorsInRow) append.run(job, JSON.stringify(errors.slice(at, at + errorsInRow)));
}

/** So many, from the one that is `offset` behind the first. */
export function readErrors(database: StoreDatabase, job: number, offset: number, limit: number): EntryError[] {
  const rows = database
    .query<{ position: number; record: string }, [number, number, number]>(
      `SELECT position, record FROM errors
       WHERE job = ?1 AND position >= coalesce((SELECT max(position) FROM errors WHERE job = ?1 AND position <= ?2), 0) AND position < ?2 + ?3
       ORDER BY position`,
    )
    .all(job, offset, limit);
  const errors = rows.flatMap(({ record }) => errorsFromRow(record));
  const skipped = offset - (rows[0]?.position ?? 0);
  return errors.slice(skipped, skipped + limit);
}

/** Without those that no version of copyd wrote so. */
function errorsFromRow(record: string): EntryError[] {
  const parsed: unknown = JSON.parse(record);
  return (Array.isArray(parsed) ? parsed : [parsed]).flatMap((error) => entryErrorSchema.safeParse(error).data ?? []);
}
