// What tests of jobs and workers share: requests for the test worker, a place it can be run from by any user, waiting.

import { chmodSync, copyFileSync, linkSync } from "node:fs";
import { join, resolve } from "node:path";
import type { ByteString } from "../../src/bytes.ts";
import { CopyError } from "../../src/errors.ts";
import type { Caller, Jobs, JobView, Question } from "../../src/jobs/api.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { temporaryDirectory } from "./temporary.ts";

const root = resolve(import.meta.dir, "../..");

/** The command of the test worker, from the repository. */
export const testWorker: readonly string[] = [process.execPath, join(root, "tests/support/worker.ts")];

export const testCaller: Caller = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, groups: [process.getgid?.() ?? 0] };

/** A request that makes the test worker behave as `mode` says; see its file. */
export function testRequest(mode: string, changes: { readonly destination?: string; readonly priority?: string } = {}): JobRequest {
  return requestSchema.parse({
    operation: "copy",
    sources: [`/test/${mode}`],
    destination: changes.destination ?? "/test/destination",
    options: { priority: changes.priority ?? "normal" },
  });
}

/** What a job may ask. */
export const testQuestion: Question = {
  id: 7,
  kind: "conflict",
  source: "/a" as ByteString,
  destination: "/b" as ByteString,
  filesystem: "" as ByteString,
  neededBytes: -1,
  freeBytes: -1,
  message: "? ",
};

/** Resolves with the question that the job asks. */
export async function untilAsked({ jobs, submitted }: { readonly jobs: Jobs; readonly submitted: JobView }): Promise<Question> {
  const { question } = await untilView(jobs, submitted, ({ state }) => state === "question");
  if (question === null) throw new Error("the state question has a question");
  return question;
}

/** Resolves with the job when it has ended. */
export function untilEnded(jobs: Jobs, job: JobView): Promise<JobView> {
  return untilView(jobs, job, ({ result }) => result !== null);
}

/** Resolves when the job's view satisfies the condition; rejects when it ends without or after 20 s. */
export function untilView(jobs: Jobs, job: JobView, condition: (view: JobView) => boolean): Promise<JobView> {
  const { promise, resolve: found, reject } = Promise.withResolvers<JobView>();
  const timer = setTimeout(() => reject(new Error(`job ${job.token} is ${jobs.get(job.owner.uid, job.token)?.state}`)), 20_000);
  const look = (view: JobView | undefined): void => {
    if (view === undefined || view.token !== job.token || view.owner.uid !== job.owner.uid) return;
    if (condition(view)) found(view);
    else if (view.result !== null) reject(new Error(`job ${job.token} ended: ${JSON.stringify(view.result)}`));
  };
  jobs.on("changed", look);
  look(jobs.get(job.owner.uid, job.token));
  return promise.finally(() => clearTimeout(timer));
}

/** The code of the failure that an action throws; "nothing thrown". What is no failure is thrown on. */
export function codeOf(action: () => unknown): string {
  try {
    action();
  } catch (cause) {
    if (cause instanceof CopyError) return cause.code;
    throw cause;
  }
  return "nothing thrown";
}

/** Bun and the test worker where every user may read and run them; the repository may lie where others may not look. */
export async function worldReadableWorker(): Promise<{ readonly command: readonly string[] } & AsyncDisposable> {
  const directory = await temporaryDirectory();
  chmodSync(directory.path, 0o755);
  const entry = join(root, "tests/support/worker.ts");
  await Bun.build({ entrypoints: [entry], outdir: directory.path, target: "bun", naming: "worker.js" });
  const bun = join(directory.path, "bun");
  try {
    linkSync(process.execPath, bun);
  } catch {
    // Another filesystem.
    copyFileSync(process.execPath, bun);
  }
  return { command: [bun, join(directory.path, "worker.js")], [Symbol.asyncDispose]: () => directory[Symbol.asyncDispose]() };
}
