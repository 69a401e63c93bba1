// What a test of kills counts: how many, of what, how much was written in all, and which jobs did not end as they should.

import { readFileSync } from "node:fs";
import { childrenOf } from "../support/embedded-job.ts";

const mebibyte = 1024 * 1024;
/** What is copied twice at most for each lane and kill: a big file's part that no record covers. */
const lostAtMostBytes = 64 * mebibyte;
const pollMs = 5;

/** What the copying processes of a service have written by system calls that copy, as the kernel counted it last. */
export class WriteMeter implements Disposable {
  private readonly written = new Map<number, number>();
  private readonly timer: ReturnType<typeof setInterval>;

  constructor(servicePid: () => number) {
    this.timer = setInterval(() => {
      try {
        for (const pid of childrenOf(servicePid())) this.look(pid);
      } catch {
        // The service is being replaced.
      }
    }, pollMs);
  }

  get bytes(): number {
    return this.written.values().reduce((sum, bytes) => sum + bytes, 0);
  }

  look(pid: number): void {
    try {
      const bytes = Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "latin1"))?.[1] ?? 0);
      this.written.set(pid, Math.max(bytes, this.written.get(pid) ?? 0));
    } catch {
      // It has ended.
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
  }
}

export class Tally {
  readonly failures: string[] = [];
  private readonly kills = new Map<string, number>();
  private jobs = 0;
  private resumed = 0;
  private twiceBytes = 0;
  private mostTwiceBytes = 0;
  private neededBytes = 0;

  killed(what: string): void {
    this.kills.set(what, (this.kills.get(what) ?? 0) + 1);
  }

  /** A job's end: what it has written in all its runs, and what one that nobody disturbs writes. */
  ended(where: string, { kills, resumed, bytes, needed }: { kills: number; resumed: number; bytes: number; needed: number }): void {
    this.jobs++;
    this.resumed += resumed;
    if (kills === 0) return;
    const twice = Math.max(0, bytes - needed);
    this.twiceBytes += twice;
    this.neededBytes += needed;
    this.mostTwiceBytes = Math.max(this.mostTwiceBytes, twice);
    const lanes = navigator.hardwareConcurrency * 2;
    // The last look at a process may come before its last write.
    if (twice > (kills + 1) * lanes * lostAtMostBytes) this.failed(where, `${Math.round(twice / mebibyte)} MiB were copied twice`);
  }

  failed(where: string, why: string): void {
    const failure = `${where}: ${why}`;
    this.failures.push(failure);
    console.error(failure);
  }

  get resumes(): number {
    return this.resumed;
  }

  toString(): string {
    const mib = (bytes: number): string => `${(bytes / mebibyte).toFixed(1)} MiB`;
    const all = this.kills.values().reduce((sum, count) => sum + count, 0);
    const kinds = [...this.kills].map(([what, count]) => `${count} ${what}`).join(", ");
    const twice = `${mib(this.twiceBytes)} of ${mib(this.neededBytes)} copied twice (at most ${mib(this.mostTwiceBytes)} by one job)`;
    return `${this.jobs} jobs, ${all} kills (${kinds}), ${this.resumed} resumes, ${twice}, ${this.failures.length} failures`;
  }
}
