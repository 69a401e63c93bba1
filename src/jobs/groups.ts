// The fan-outs at work: their members by user and token, and who of them is held so that the others can follow.

import { totalmem } from "node:os";
import type { ParentMessage } from "../worker/protocol.ts";
import { type JobGroup, memberTokens } from "./group.ts";
import type { Job } from "./job.ts";
import type { JobEvent } from "./job-events.ts";
import { Pace, type PaceLimits } from "./pace.ts";

export interface GroupsDependencies<Entry> {
  readonly limits: PaceLimits;
  /** False while all workers are to stand still: nobody is held or let go then. */
  readonly isOpen: () => boolean;
  /** Microseconds. */
  readonly now: () => number;
  readonly find: (uid: number, token: string) => Entry | undefined;
  readonly apply: (entry: Entry, event: JobEvent) => void;
  readonly tell: (entry: Entry, message: Extract<ParentMessage, { type: "pause" | "resume" }>) => void;
}

/** How often a fan-out is looked at while one of its jobs is held: whoever is waited for may have stopped telling anything. */
const lookMs = 250;

export class Groups<Entry extends { readonly job: Job }> {
  private readonly dependencies: GroupsDependencies<Entry>;
  private readonly paces = new Map<string, Pace>();
  private readonly timers = new Map<string, ReturnType<typeof setTimeout>>();

  constructor(dependencies: GroupsDependencies<Entry>) {
    this.dependencies = dependencies;
  }

  /** The jobs of a job's fan-out that are still there, itself included, in the order of their destinations. */
  membersOf({ owner, group }: { readonly owner: Job["owner"]; readonly group: JobGroup | null }): readonly Entry[] {
    if (group === null) return [];
    return memberTokens(group).flatMap((token) => {
      const entry = this.dependencies.find(owner.uid, token);
      // One that was forgotten may have left its token to a stranger.
      return entry?.job.group?.token === group.token ? entry : [];
    });
  }

  /** A job got on, or changed its state: holds those of its fan-out that are too far ahead, and lets go those that are not. */
  look(job: Job, because?: JobEvent): void {
    if (job.group === null || because?.type === "hold" || because?.type === "let-go") return;
    const key = `${job.owner.uid}/${job.group.token}`;
    const members = this.membersOf(job);
    const jobs = members.map((entry) => entry.job);
    clearTimeout(this.timers.get(key));
    this.timers.delete(key);
    if (jobs.every(({ activity }) => activity === "none")) {
      this.paces.delete(key);
      return;
    }
    if (!this.dependencies.isOpen()) {
      this.lookLater(key, job);
      return;
    }
    const pace = this.paces.get(key) ?? new Pace(this.dependencies.limits, totalmem());
    this.paces.set(key, pace);
    const held = pace.held(jobs, this.dependencies.now());
    for (const entry of members) {
      const isHeld = entry.job.hold === "held";
      if (held.has(entry.job.id) === isHeld) continue;
      if (isHeld) this.letGo(entry);
      else this.hold(entry);
    }
    if (held.size > 0) this.lookLater(key, job);
  }

  private lookLater(key: string, job: Job): void {
    this.timers.set(
      key,
      setTimeout(() => this.look(job), lookMs),
    );
  }

  private hold(entry: Entry): void {
    this.dependencies.apply(entry, { type: "hold" });
    this.dependencies.tell(entry, { type: "pause" });
  }

  private letGo(entry: Entry): void {
    this.dependencies.apply(entry, { type: "let-go" });
    // Its user may have paused it meanwhile.
    if (!entry.job.pauseRequested) this.dependencies.tell(entry, { type: "resume" });
  }

  stop(): void {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }
}
