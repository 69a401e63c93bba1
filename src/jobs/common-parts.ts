// What many jobs have in common is held once: the options of a script's or a flood's jobs are alike, and most of what a waiting job holds.

import type { Job } from "./job.ts";

/** Users that take turns, and the few ways in which each copies. */
const maxKept = 8;

type Common = Pick<Job, "options" | "owner">;

export class CommonParts {
  /** The latest first. */
  private readonly kept: Common[] = [];

  /** The same job, by values. */
  of(job: Job): Job {
    const { request, owner } = job;
    const { options } = request;
    const index = this.kept.findIndex((one) => Bun.deepEquals(one.owner, owner) && Bun.deepEquals(one.options, options));
    const [common] = index < 0 ? [{ options, owner }] : this.kept.splice(index, 1);
    if (common === undefined) return job;
    this.kept.unshift(common);
    if (this.kept.length > maxKept) this.kept.pop();
    const own = job.options === options ? common.options : job.options;
    return { ...job, owner: common.owner, request: Object.freeze({ ...request, options: common.options }), options: own };
  }
}
