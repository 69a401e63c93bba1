// A cancel that takes back what the job has published: what was asked, and what came of it. Pure.

import { CopyError } from "../errors.ts";
import type { JobRequest } from "../request.ts";
import type { Published } from "./api.ts";
import type { Job } from "./job.ts";
import type { WorkerFailure } from "./job-events.ts";

/** What was removed, and how many entries of the job's own directories were left because they are not known to be its copies. */
export interface Removed {
  readonly files: number;
  readonly bytes: number;
  readonly left: number;
}

/** none: what was published stays. asked: it is still to go. */
export type Removal = "none" | "asked" | Removed | { readonly failure: WorkerFailure };

/** The removal after a further cancel; once asked for it stays asked for. Throws not-supported. */
export function askedRemoval({ removal, request, token }: Job, published: Published): Removal {
  if (published === "keep" || removal !== "none") return removal;
  requireCopy(request, token);
  return "asked";
}

/** True for a cancelled job that has not come to an end of its own, and whose copies are still to be removed. */
export function isToRemove({ removal, claim, startedTimeUs }: Job): boolean {
  const hasEndedByItself = claim !== null && claim.outcome !== "cancelled" && claim.outcome !== "interrupted";
  return removal === "asked" && startedTimeUs !== 0 && !hasEndedByItself;
}

/** What came of it, as the end of a sentence about a cancelled job. */
export function removalText(removal: Removal): string {
  if (typeof removal === "string") return "what was finished until then was kept.";
  if ("failure" in removal) return `what was finished until then could not be removed: ${removal.failure.message}`;
  const { files, left } = removal;
  if (files === 0 && left === 0) return "nothing was finished until then.";
  const removed = `what was finished until then was removed (${files === 1 ? "1 file" : `${files} files`})`;
  if (left === 0) return `${removed}.`;
  return `${removed}; ${left === 1 ? "1 entry that is" : `${left} entries that are`} not known to be the job's or changed since stayed.`;
}

/** The counters of a job less what was removed: they say what lies on the disk. */
export function lessRemoved<Counts extends { readonly filesDone: number; readonly bytesDone: number; readonly bytesCloned: number }>(
  counts: Counts,
  removal: Removal,
): Counts {
  if (typeof removal === "string" || "failure" in removal) return counts;
  const filesDone = Math.max(0, counts.filesDone - removal.files);
  // Parts of files were counted, too, and went first.
  const bytesDone = filesDone === 0 ? 0 : Math.max(0, counts.bytesDone - removal.bytes);
  return { ...counts, bytesDone, filesDone, bytesCloned: Math.min(counts.bytesCloned, bytesDone) };
}

// A move's copies may be all that is left, and links share their inodes with the sources.
function requireCopy({ operation, options }: JobRequest, token: string): void {
  const why =
    operation === "move"
      ? "is a move: what has arrived may be the only one left"
      : options.gnu.make === "copy"
        ? null
        : "makes links, which cannot be told from others of the same files";
  if (why !== null) throw new CopyError("not-supported", `job ${token} ${why}, so it can be cancelled only with what is finished kept`);
}
