// A process that confines itself for a request, then says what it, and a thread it starts, may still do.

import { requestSchema } from "../../src/request-schema.ts";
import { confine, sandboxPaths } from "../../src/worker/sandbox.ts";
import { type Attempts, attemptAccess, attemptCopying, attemptLink, attemptMove } from "./sandbox-attempts.ts";

/** Beside the request: where to try what. */
export interface ChildTask {
  readonly request: unknown;
  readonly access: readonly { readonly directory: string; readonly file: string }[];
  readonly copying?: { readonly source: string; readonly destination: string };
  readonly moves?: readonly (readonly [string, string])[];
  readonly links?: readonly (readonly [string, string])[];
}

export interface ChildAnswer {
  readonly confined: boolean;
  readonly message: string;
  readonly main: readonly Attempts[];
  readonly thread: readonly Attempts[];
  readonly copying: Attempts;
  readonly moves: readonly number[];
  readonly links: readonly number[];
}

const task = JSON.parse(process.argv[2] ?? "{}") as ChildTask;
const result = confine(sandboxPaths(requestSchema.parse(task.request)));
const answer: ChildAnswer = {
  confined: result.confined,
  message: result.confined ? "" : result.message,
  main: task.access.map(({ directory, file }) => attemptAccess(directory, file)),
  thread: await inThread(task.access),
  copying: task.copying === undefined ? {} : attemptCopying(task.copying.source, task.copying.destination),
  links: (task.links ?? []).map(([from, to]) => attemptLink(from, to)),
  moves: (task.moves ?? []).map(([from, to]) => attemptMove(from, to)),
};
process.stdout.write(JSON.stringify(answer));

async function inThread(access: ChildTask["access"]): Promise<Attempts[]> {
  const { promise, resolve, reject } = Promise.withResolvers<Attempts[]>();
  // Compiled, a thread's file is found by the name it was built under; from source, a relative name means the working directory.
  const thread = Bun.main.startsWith("/$bunfs/")
    ? new Worker("./sandbox-thread.ts")
    : new Worker(new URL("./sandbox-thread.ts", import.meta.url));
  thread.onmessage = (event): void => resolve(event.data as Attempts[]);
  thread.onerror = (event): void => reject(new Error(event.message));
  thread.postMessage(access);
  const attempts = await promise;
  thread.terminate();
  return attempts;
}
