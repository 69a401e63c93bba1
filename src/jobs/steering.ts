// What users ask of a job that waits or runs, or of all jobs of its fan-out: to stop for a while, to go on, to end, to change.

import { CopyError } from "../errors.ts";
import { hasEnded, type JobView, type OptionChanges, type Published, type Scope } from "./api.ts";
import type { Groups } from "./groups.ts";
import type { Job } from "./job.ts";
import type { JobEvent } from "./job-events.ts";
import type { Returns } from "./returns.ts";
import type { JobRun } from "./run.ts";
import type { Schedule } from "./schedule.ts";

interface Steered {
  readonly job: Job;
  readonly run: JobRun | null;
}

export interface SteeringDependencies<Entry extends Steered> {
  readonly schedule: Schedule<Entry>;
  readonly returns: Returns<Entry>;
  readonly groups: Groups<Entry>;
  readonly apply: (entry: Entry, event: JobEvent) => void;
  /** Also a job of the past: it refuses what is asked of it. */
  readonly require: (job: JobView) => Entry;
  readonly enqueue: (job: Job) => void;
}

export class Steering<Entry extends Steered> {
  private readonly dependencies: SteeringDependencies<Entry>;

  constructor(dependencies: SteeringDependencies<Entry>) {
    this.dependencies = dependencies;
  }

  /** Of a fan-out those that can be are steered; it is refused when none can. */
  each(job: JobView, scope: Scope, steer: (entry: Entry) => void): void {
    const entry = this.dependencies.require(job);
    const members = scope === "group" ? this.dependencies.groups.membersOf(entry.job) : [];
    if (members.length === 0) {
      steer(entry);
      return;
    }
    const refusals: CopyError[] = [];
    for (const member of members) {
      try {
        steer(member);
      } catch (refusal) {
        if (!(refusal instanceof CopyError)) throw refusal;
        refusals.push(refusal);
      }
    }
    const [first] = refusals;
    if (first !== undefined && refusals.length === members.length) throw first;
  }

  cancel(entry: Entry, published: Published): void {
    this.dependencies.apply(entry, { type: "cancel-requested", published });
    this.setAside(entry);
    if (entry.run !== null) entry.run.send({ type: "cancel" });
    else if (!hasEnded(entry.job.state)) this.dependencies.returns.add(entry, "first clear");
  }

  pause(entry: Entry): void {
    this.dependencies.apply(entry, { type: "pause-requested" });
    if (entry.job.activity === "none") this.setAside(entry);
    entry.run?.send({ type: "pause" });
  }

  resume(entry: Entry): void {
    const before = entry.job;
    this.dependencies.apply(entry, { type: "resume-requested" });
    if (entry.job === before) return;
    if (entry.run === null) this.dependencies.returns.add(entry, "first clear");
    // Held for its fan-out, it goes on with that.
    else if (entry.job.hold !== "held") entry.run.send({ type: "resume" });
  }

  setOptions(entry: Entry, { position, ...options }: OptionChanges): void {
    const { schedule, apply, enqueue } = this.dependencies;
    const before = entry.job;
    const { owner } = before;
    const priority = options.priority ?? before.options.priority;
    const order = position === undefined ? {} : { order: schedule.turns.orderAt(position, owner.uid, priority) };
    apply(entry, { type: "options-changed", ...options, ...order });
    if (entry.job === before) return;
    if (schedule.turns.remove(entry.job.owner.uid, entry.job.token)) enqueue(entry.job);
    schedule.shareBandwidth("limit");
    if (options.priority !== undefined) entry.run?.send({ type: "set-options", priority: options.priority });
  }

  /** Takes a job out of whatever it waits in. */
  private setAside(entry: Entry): void {
    this.dependencies.schedule.turns.remove(entry.job.owner.uid, entry.job.token);
    this.dependencies.returns.delete(entry);
  }
}
