// The runs of jobs that are about to start: each has its process before its job is stored and told of, so that this loads meanwhile.

import type { JobRun } from "./run.ts";

export class PreparedRuns<Entry> {
  private readonly make: (entry: Entry) => JobRun;
  private readonly runs = new Map<Entry, JobRun>();

  constructor(make: (entry: Entry) => JobRun) {
    this.make = make;
  }

  /** For an entry that starts before the event loop's next turn, unless it has to wait after all. */
  prepare(entry: Entry): void {
    const run = this.make(entry);
    this.runs.set(entry, run);
    run.prepare();
    setImmediate(() => {
      if (this.runs.delete(entry)) run.dismiss();
    });
  }

  /** The entry's run, prepared or not, which is the caller's from now on. */
  take(entry: Entry): JobRun {
    const run = this.runs.get(entry) ?? this.make(entry);
    this.runs.delete(entry);
    return run;
  }
}
