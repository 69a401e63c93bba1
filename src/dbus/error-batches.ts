// Errors of entries as they go over the bus: as many at once as fit into one message, by GetErrors and by the signal Errors.

import type { EntryError } from "../worker/protocol.ts";
import { encodeEntryError } from "./job-properties.ts";
import type { ServiceLimits } from "./service-limits.ts";

type BatchLimits = Pick<ServiceLimits, "maxListedErrors" | "maxReplyBytes">;

/** The first of them, encoded: as many as one message may hold, and at least one where there is one. */
export function firstBatch(errors: readonly EntryError[], limits: BatchLimits): unknown[] {
  const batch: unknown[] = [];
  let bytes = 0;
  for (const error of errors) {
    if (batch.length >= limits.maxListedErrors) break;
    // The message comes twice, once decoded; the advice and the names of the details take the rest.
    bytes += error.path.length + 3 * error.message.length + 500;
    if (bytes > limits.maxReplyBytes && batch.length > 0) break;
    batch.push(encodeEntryError(error));
  }
  return batch;
}
