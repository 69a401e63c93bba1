// A job in this process with a real worker, and the number of that worker's process, for tests that disturb it.

import { readdirSync, readFileSync } from "node:fs";
import type { ByteString } from "../../src/bytes.ts";
import type { Jobs, JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import { requestSchema } from "../../src/request-schema.ts";
import type { EntryError } from "../../src/worker/protocol.ts";

export interface RunningTestJob {
  readonly jobs: Jobs;
  readonly submitted: JobView;
  /** The worker's process, as soon as there is one; 0 when the job ended before. */
  worker(): Promise<number>;
  /** How it ended. */
  readonly ended: Promise<JobView>;
  readonly errors: EntryError[];
}

/** Starts a copy (or a move) of paths (as text); options as in the request. */
export function startJob(
  sources: readonly string[],
  destination: string,
  options: Record<string, unknown> = {},
  operation: "copy" | "move" = "copy",
): RunningTestJob {
  const jobs = createJobs({ mode: "embedded" });
  const bytes = (path: string): ByteString => Buffer.from(path, "utf8").toString("latin1") as ByteString;
  const request = requestSchema.parse({
    operation,
    sources: sources.map(bytes),
    destination: bytes(destination),
    options: { durability: "none", ...options },
  });
  const errors: EntryError[] = [];
  jobs.on("errors", (_, more) => errors.push(...more));
  const { promise: ended, resolve } = Promise.withResolvers<JobView>();
  jobs.on("ended", resolve);
  const before = new Set(childrenOf(process.pid));
  const self = { uid: process.geteuid?.() ?? 0, gid: process.getegid?.() ?? 0, groups: process.getgroups?.() ?? [] };
  const submitted = jobs.submit(self, null, request);
  let over = false;
  void ended.then(() => {
    over = true;
  });
  return {
    jobs,
    submitted,
    errors,
    ended,
    async worker() {
      while (!over) {
        const child = childrenOf(process.pid).find((pid) => !before.has(pid));
        if (child !== undefined) return child;
        await Bun.sleep(1);
      }
      return 0;
    },
  };
}

/** The processes that a process has started and not yet waited for. */
export function childrenOf(pid: number): number[] {
  const children: number[] = [];
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      const list = readFileSync(`/proc/${pid}/task/${thread}/children`, "latin1").trim();
      if (list !== "") children.push(...list.split(" ").map(Number));
    } catch {
      // The thread has ended since it was listed.
    }
  }
  return children;
}
