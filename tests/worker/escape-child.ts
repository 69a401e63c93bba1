// In the place of a worker's program: confines itself as the worker does, then tries to get out, in its own thread and in another.

import { requestSchema } from "../../src/request-schema.ts";
import { guardedPaths, guardedRequest } from "../../src/worker/guarded-paths.ts";
import { verifyIdentity } from "../../src/worker/identity.ts";
import type { Identity } from "../../src/worker/protocol.ts";
import { confine, sandboxPaths } from "../../src/worker/sandbox.ts";
import { attemptEscapes, type EscapeTargets } from "./escape-attempts.ts";
import type { Attempts } from "./sandbox-attempts.ts";

export interface EscapeTask {
  readonly request: unknown;
  readonly isAdmin: boolean;
  readonly identity: Identity;
  readonly targets: EscapeTargets;
}

export interface EscapeAnswer {
  readonly problem: string | null;
  readonly abi: number;
  readonly main: Attempts;
  readonly thread: Attempts;
}

const task = JSON.parse(process.argv[2] ?? "{}") as EscapeTask;
const asked = requestSchema.parse(task.request);
const guarded = task.isAdmin ? guardedPaths(asked) : null;
const request = guarded === null || "problem" in guarded ? asked : { ...guardedRequest(asked, guarded), sources: [...guarded.sources] };
// The working directory is the destination's, from which a handle could be opened on its filesystem.
process.chdir(Buffer.from(request.destination, "latin1").toString());
const problem = verifyIdentity(task.identity);
const result = confine(sandboxPaths(request));
const { promise, resolve, reject } = Promise.withResolvers<Attempts>();
const thread = new Worker(new URL("./escape-thread.ts", import.meta.url));
thread.onmessage = (event): void => resolve(event.data as Attempts);
thread.onerror = (event): void => reject(new Error(event.message));
thread.postMessage(task.targets);
const answer: EscapeAnswer = {
  problem: problem ?? (result.confined ? null : result.message),
  abi: result.abi,
  thread: await promise,
  main: attemptEscapes(task.targets),
};
// The thread would keep it going; and exiting by itself waits for what it has written.
thread.terminate();
process.stdout.write(JSON.stringify(answer), () => process.exit(0));
