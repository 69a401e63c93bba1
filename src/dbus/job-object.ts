// One job on the bus: its methods decoded for the jobs room, its properties read from the view.

import { assert } from "../assert.ts";
import { CopyError } from "../errors.ts";
import { hasEnded, type Jobs, type JobView, type Scope } from "../jobs/api.ts";
import { type AnswerChoice, answerChoices } from "../worker/protocol.ts";
import type { Waits } from "./attachments.ts";
import { contract, jobInterface } from "./contract.ts";
import { firstBatch } from "./error-batches.ts";
import { encodeResult, isJobProperty, jobProperty } from "./job-properties.ts";
import type { MethodHandler, ObjectInterface } from "./objects.ts";
import { checkKeys, decodeRunningOptions, type KnownKeys } from "./options.ts";
import { excerpt } from "./paths.ts";
import type { ServiceLimits } from "./service-limits.ts";
import { asVariantDict, dictValue } from "./values.ts";

export interface JobObjectDependencies {
  readonly jobs: Jobs;
  readonly waits: Waits;
  readonly limits: Pick<ServiceLimits, "maxListedErrors" | "maxReplyBytes">;
}

/** The Job interface of a job that the caller owns or may manage. */
export function jobObject(job: JobView, { jobs, waits, limits }: JobObjectDependencies): ObjectInterface {
  const steered =
    (action: (job: JobView, scope: Scope) => void): MethodHandler =>
    ([options]) => {
      const dict = asVariantDict(options);
      checkKeys(dict, { group: "b" });
      action(job, scopeOf(dict));
      return [];
    };
  const simple =
    (action: (job: JobView) => void): MethodHandler =>
    ([options]) => {
      checkKeys(asVariantDict(options), {});
      action(job);
      return [];
    };
  return {
    description: contract[jobInterface],
    property: (name) => {
      assert(isJobProperty(name), `the contract has the property ${name}`);
      return jobProperty(job, name);
    },
    methods: {
      Pause: steered((target, scope) => jobs.pause(target, scope)),
      Resume: steered((target, scope) => jobs.resume(target, scope)),
      Cancel: ([options]) => {
        const dict = asVariantDict(options);
        checkKeys(dict, { group: "b", remove: "b" });
        jobs.cancel(job, scopeOf(dict), (dictValue(dict, "remove", "b") ?? false) ? "remove" : "keep");
        return [];
      },
      Forget: simple((target) => jobs.forget(target)),
      Wait: async ([options], { sender, caller }) => {
        checkKeys(asVariantDict(options), {});
        const ended = hasEnded(job.state) ? job : await waits.wait(job, sender, caller.uid);
        return [ended.state, encodeResult(ended.result)];
      },
      Answer: ([question, choice, options]) => {
        const dict = asVariantDict(options);
        const known: KnownKeys = { "for-all": "b" };
        checkKeys(dict, known);
        jobs.answer(job, Number(question), choiceOf(String(choice)), dictValue(dict, "for-all", "b") ?? false);
        return [];
      },
      SetOptions: ([options]) => {
        jobs.setOptions(job, decodeRunningOptions(asVariantDict(options)));
        return [];
      },
      GetErrors: ([offset, limit]) => [listErrors(job, Number(offset), Number(limit), jobs, limits)],
    },
  };
}

function scopeOf(dict: ReturnType<typeof asVariantDict>): Scope {
  return (dictValue(dict, "group", "b") ?? false) ? "group" : "job";
}

function choiceOf(text: string): AnswerChoice {
  const choice = answerChoices.find((known) => known === text);
  if (choice === undefined)
    throw new CopyError("invalid-arguments", `choice is one of ${answerChoices.join(", ")}, not '${excerpt(text)}'`);
  return choice;
}

/** Fewer than asked for when they would not fit into one message; the caller goes on with a greater offset. */
function listErrors(job: JobView, offset: number, limit: number, jobs: Jobs, limits: JobObjectDependencies["limits"]): unknown[] {
  const wanted = Math.min(limit === 0 ? limits.maxListedErrors : limit, limits.maxListedErrors);
  return firstBatch(jobs.errors(job, offset, wanted), limits);
}
