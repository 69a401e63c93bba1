// What ties a caller's connection to jobs: calls of Wait not yet answered, and dry runs and jobs that end with their caller.

import { CopyError } from "../errors.ts";
import type { JobView } from "../jobs/api.ts";
import { jobPath } from "./object-path.ts";

interface Wait {
  readonly sender: string;
  readonly uid: number;
  readonly resolve: (job: JobView) => void;
  readonly reject: (error: CopyError) => void;
}

/** Calls of Wait by job. */
export class Waits {
  private readonly byJob = new Map<string, Set<Wait>>();
  private readonly countByUid = new Map<number, number>();
  private readonly maxPerUser: number;

  constructor(maxPerUser: number) {
    this.maxPerUser = maxPerUser;
  }

  /** Resolves when the job has ended. Throws limits-exceeded; rejects when the caller leaves or the service stops. */
  wait(job: JobView, sender: string, uid: number): Promise<JobView> {
    const waiting = this.countByUid.get(uid) ?? 0;
    if (waiting >= this.maxPerUser) throw new CopyError("limits-exceeded", `your user waits ${waiting} times already, which is the limit`);
    this.countByUid.set(uid, waiting + 1);
    const { promise, resolve, reject } = Promise.withResolvers<JobView>();
    const path = jobPath(job.owner.uid, job.token);
    const waits = this.byJob.get(path) ?? new Set();
    this.byJob.set(path, waits.add({ sender, uid, resolve, reject }));
    return promise;
  }

  ended(job: JobView): void {
    this.settle(
      jobPath(job.owner.uid, job.token),
      () => true,
      (wait) => wait.resolve(job),
    );
  }

  senderGone(sender: string): void {
    const gone = new CopyError("access-denied", "the caller has left the bus");
    for (const path of [...this.byJob.keys()])
      this.settle(
        path,
        (wait) => wait.sender === sender,
        (wait) => wait.reject(gone),
      );
  }

  rejectAll(error: CopyError): void {
    for (const path of [...this.byJob.keys()])
      this.settle(
        path,
        () => true,
        (wait) => wait.reject(error),
      );
  }

  private settle(path: string, concerns: (wait: Wait) => boolean, how: (wait: Wait) => void): void {
    const waits = this.byJob.get(path);
    if (waits === undefined) return;
    for (const wait of [...waits].filter(concerns)) {
      waits.delete(wait);
      const left = (this.countByUid.get(wait.uid) ?? 1) - 1;
      if (left > 0) this.countByUid.set(wait.uid, left);
      else this.countByUid.delete(wait.uid);
      how(wait);
    }
    if (waits.size === 0) this.byJob.delete(path);
  }
}

/** Jobs with on-disconnect=cancel, each with the connections that asked for it: it ends when the last of them has left. */
export class Companions {
  private readonly byJob = new Map<string, { readonly job: JobView; readonly senders: Set<string> }>();

  add(job: JobView, sender: string): void {
    const path = jobPath(job.owner.uid, job.token);
    const companions = this.byJob.get(path) ?? { job, senders: new Set() };
    companions.senders.add(sender);
    this.byJob.set(path, companions);
  }

  remove(job: JobView): void {
    this.byJob.delete(jobPath(job.owner.uid, job.token));
  }

  /** The jobs that are left alone now that a connection has ended. */
  senderGone(sender: string): JobView[] {
    const alone: JobView[] = [];
    for (const [path, { job, senders }] of this.byJob) {
      if (!senders.delete(sender) || senders.size > 0) continue;
      this.byJob.delete(path);
      alone.push(job);
    }
    return alone;
  }
}

/** Work for a call that nobody needs once its caller has left the bus. */
export class Errands {
  private readonly bySender = new Map<string, Set<AbortController>>();

  /** Runs `action` with a signal that the caller's leaving aborts. */
  async run<Result>(sender: string, action: (signal: AbortSignal) => Promise<Result>): Promise<Result> {
    const controller = new AbortController();
    const controllers = this.bySender.get(sender) ?? new Set();
    this.bySender.set(sender, controllers.add(controller));
    try {
      return await action(controller.signal);
    } finally {
      controllers.delete(controller);
      if (controllers.size === 0) this.bySender.delete(sender);
    }
  }

  senderGone(sender: string): void {
    for (const controller of this.bySender.get(sender) ?? []) controller.abort();
  }
}
