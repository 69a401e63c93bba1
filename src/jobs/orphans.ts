// Records of jobs that have ended, although what their workers had in flight could not be removed then: it is tried at each start.
//
// Until the job is too old for the history: then nobody knows any more as whom to do it.

import { hasEnded } from "./api.ts";
import type { Job } from "./job.ts";
import { JobRun } from "./run.ts";
import type { RunSettings } from "./run-settings.ts";
import type { JobStore } from "./store.ts";

const recordPattern = /^in-flight-(\d+)-([A-Za-z0-9_-]{1,64})$/;

/** `name`: of a record in the state directory. `onDone`: no process is left, whatever came of it. */
export function removeRemainsOf(name: string, store: JobStore, settings: RunSettings, onDone: (job: Job) => void): void {
  const [, uid = "", workToken = ""] = recordPattern.exec(name) ?? [];
  const job = workToken === "" ? null : store.withWorkToken(Number(uid), workToken);
  if (job === null || !hasEnded(job.state)) {
    settings.log.warning("a record of unfinished files belongs to no job that is known", { name });
    return;
  }
  settings.log.info("removing what an ended job had left unfinished", { job: job.token, uid: job.owner.uid });
  const run = new JobRun(settings, {
    job: () => job,
    apply: () => undefined,
    errors: () => undefined,
    lines: () => undefined,
    bandwidthLimit: () => 0,
    ended: () => onDone(job),
  });
  run.clear();
}
