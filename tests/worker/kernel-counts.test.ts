// A worker that the kernel ends for its memory is told apart from one that somebody killed.

import { expect } from "bun:test";
import { existsSync, mkdirSync, rmdirSync, writeFileSync } from "node:fs";
import { createUnnamedInFlightFile } from "../../src/jobs/in-flight-file.ts";
import { memoryKills } from "../../src/worker/kernel-counts.ts";
import { startWorker, type WorkerEnd } from "../../src/worker/pool.ts";
import { testRequest, testWorker } from "../support/jobs.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";

const parent = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"].find((path) =>
  ["memory.limit_in_bytes", "cgroup.controllers"].some((name) => existsSync(`${path}/${name}`)),
);
const group = `${parent}/copyd-test-${process.pid}`;
const limitFile = parent?.endsWith("/memory") === true ? "memory.limit_in_bytes" : "memory.max";

/** Why no group with a limit can be made here, or null. */
function whyNoGroup(): string | null {
  if (parent === undefined) return "no control groups for memory are mounted";
  try {
    mkdirSync(group);
    const limits = existsSync(`${group}/${limitFile}`);
    rmdirSync(group);
    return limits ? null : "memory is not limited by the control groups here";
  } catch (error) {
    return `no control group can be made here: ${(error as NodeJS.ErrnoException).code}`;
  }
}

async function endOf(mode: string, command: readonly string[]): Promise<WorkerEnd> {
  const inFlight = createUnnamedInFlightFile("memory-test");
  const { promise, resolve } = Promise.withResolvers<WorkerEnd>();
  startWorker({
    task: { type: "start", request: testRequest(mode), sandbox: "off", token: "test", lanes: 0, totals: true },
    credentials: null,
    inFlightFd: inFlight.fd,
    self: command,
    onMessage: () => undefined,
    onEnd: resolve,
    onStderr: () => undefined,
  });
  return promise.finally(() => inFlight.discard());
}

testUnless(
  firstReason(unlessRoot(), memoryKills() < 0 ? "the kernel does not count what it kills for memory" : null, whyNoGroup()),
  "the kernel's end of a worker for its memory is named, with advice; anybody else's is not taken for it",
  async () => {
    mkdirSync(group);
    try {
      writeFileSync(`${group}/${limitFile}`, String(200 << 20));
      const inGroup = ["/bin/sh", "-c", `echo $$ > ${group}/cgroup.procs && exec "$@"`, "sh", ...testWorker];
      expect(await endOf("eats-memory", inGroup)).toMatchObject({ kind: "failed", code: "worker-out-of-memory" });
      expect(await endOf("killed-by-hand", testWorker)).toMatchObject({ kind: "failed", code: "worker-died" });
    } finally {
      rmdirSync(group);
    }
  },
  60_000,
);
