// What keeps a job that was worked on before from going on: it is said, and looked at again until it is gone.

import { readFileSync } from "node:fs";
import { MountTable } from "../mount-table.ts";
import { goesOn, type Job } from "./job.ts";
import { missingMount } from "./job-mounts.ts";
import { isAlive } from "./process-identity.ts";
import { isToRemove } from "./removal.ts";

/** A stick is plugged in by a person, a server comes back in its own time. */
const mountIntervalMs = 3_000;
/** A killed process is gone in a moment, unless the kernel holds it. */
const processIntervalMs = 200;

export class Obstacles<Entry extends { readonly job: Job }> {
  private readonly held = new Set<Entry>();
  private readonly readMounts: () => MountTable;
  private readonly tell: (entry: Entry, reason: string) => void;
  private readonly onFree: (entry: Entry) => void;
  private timer: ReturnType<typeof setTimeout> | undefined;

  /** `tell` is called with each reason, and with "" when there is none any more; then `onFree`. */
  constructor(readMounts: () => MountTable, tell: (entry: Entry, reason: string) => void, onFree: (entry: Entry) => void) {
    this.readMounts = readMounts;
    this.tell = tell;
    this.onFree = onFree;
  }

  get size(): number {
    return this.held.size;
  }

  /** False where nothing is in the way; else the job is held until `onFree`. */
  hold(entry: Entry): boolean {
    const reason = reasonFor(entry.job, this.readMounts);
    if (reason !== null) this.held.add(entry);
    this.tell(entry, reason ?? "");
    this.lookLater();
    return reason !== null;
  }

  isFree(job: Job): boolean {
    return reasonFor(job, this.readMounts) === null;
  }

  delete(entry: Entry): void {
    this.held.delete(entry);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.held.clear();
  }

  private lookLater(): void {
    if (this.timer !== undefined || this.held.size === 0) return;
    const isSoon = [...this.held].some(({ job }) => job.process !== null && isAlive(job.process));
    this.timer = setTimeout(() => this.look(), isSoon ? processIntervalMs : mountIntervalMs);
  }

  private look(): void {
    this.timer = undefined;
    let mounts: MountTable | null = null;
    const readOnce = (): MountTable => {
      mounts ??= this.readMounts();
      return mounts;
    };
    for (const entry of [...this.held]) {
      const reason = reasonFor(entry.job, readOnce);
      this.tell(entry, reason ?? "");
      if (reason !== null) continue;
      this.held.delete(entry);
      this.onFree(entry);
    }
    this.lookLater();
  }
}

/** The mounts as this process sees them. */
export function ownMounts(): MountTable {
  try {
    return new MountTable(readFileSync("/proc/self/mountinfo", "latin1"));
  } catch {
    // No /proc: then nothing was remembered either.
    return new MountTable("");
  }
}

/** A worker that outlived its service is killed here: two must never work on one job. */
function reasonFor(job: Job, readMounts: () => MountTable): string | null {
  if (job.process !== null && isAlive(job.process)) {
    kill(job.process.pid);
    return `its former process ${job.process.pid} has not ended yet`;
  }
  if (job.mounts.length === 0 || !(goesOn(job) || isToRemove(job))) return null;
  const missing = missingMount(job.mounts, readMounts());
  if (missing === null) return null;
  const point = Buffer.from(missing.point, "latin1").toString("utf8");
  const what = missing.source === "" ? missing.type : Buffer.from(missing.source, "latin1").toString("utf8");
  return `'${point}' (${what}) is not mounted`;
}

function kill(pid: number): void {
  try {
    // It leads a group of its own.
    process.kill(-pid, "SIGKILL");
  } catch {
    // Gone this very moment.
  }
}
