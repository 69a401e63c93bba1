// A worker that is started before its job is known: it does the first job that comes, and ends when none does.

import { afterEach, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInFlightFile, createUnnamedInFlightFile, type InFlightFile } from "../../src/jobs/in-flight-file.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { dropAhead, startAhead } from "../../src/worker/ahead.ts";
import { startWorker, type WorkerEnd } from "../../src/worker/pool.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { untilGone } from "../support/process.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

afterEach(() => dropAhead());

/** The process that the action starts. */
function startedBy(action: () => void): number {
  const before = new Set(childrenOf(process.pid));
  action();
  const [pid] = childrenOf(process.pid).filter((child) => !before.has(child));
  if (pid === undefined) throw new Error("nothing was started");
  return pid;
}

interface Copied {
  readonly pid: number;
  readonly end: WorkerEnd;
}

async function copy(directory: TemporaryDirectory, inFlight: InFlightFile, what: "file" | "tree" = "file"): Promise<Copied> {
  const [source, destination] = [join(directory.path, `source ${what}`), join(directory.path, `copy of a ${what}`)];
  const inside = what === "file" ? "" : "file";
  if (what === "tree") mkdirSync(source);
  writeFileSync(join(source, inside), "content");
  const { promise, resolve } = Promise.withResolvers<WorkerEnd>();
  const worker = startWorker({
    task: {
      type: "start",
      request: requestSchema.parse({ operation: "copy", sources: [source], destination, options: { recursive: true, durability: "none" } }),
      sandbox: "off",
      token: "ahead",
      lanes: 0,
      totals: false,
    },
    credentials: null,
    inFlightFd: inFlight.fd,
    inFlightPath: inFlight.path,
    trusted: true,
    onMessage: () => undefined,
    onEnd: resolve,
    onStderr: () => undefined,
  });
  const end = await promise;
  expect(readFileSync(join(destination, inside), "utf8")).toBe("content");
  return { pid: worker.pid, end };
}

test("the worker that was started ahead does the job, and opens the record by its name", async () => {
  await using directory = await temporaryDirectory();
  for (const [name, what] of [
    ["record", "file"],
    ["für 5 €", "tree"],
  ] as const) {
    const inFlight = createInFlightFile(directory.path, name);
    const ahead = startedBy(() => startAhead("more"));
    const { pid, end } = await copy(directory, inFlight, what);
    expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
    expect(pid).toBe(ahead);
    inFlight.discard();
  }
});

/** Once the worker has its name, everything that it starts ahead is started. */
async function hasLaneThread(pid: number): Promise<boolean> {
  const nameOf = (path: string): string => readFileSync(`${path}/comm`, "latin1").trim();
  for (let waited = 0; nameOf(`/proc/${pid}`) !== "copyd"; waited += 10) {
    if (waited > 10_000) throw new Error(`process ${pid} has not begun`);
    await Bun.sleep(10);
  }
  return readdirSync(`/proc/${pid}/task`).some((thread) => nameOf(`/proc/${pid}/task/${thread}`) === "Worker");
}

test("for one small file no lane is started ahead, for anything else it is", async () => {
  expect(await hasLaneThread(startedBy(() => startAhead("more")))).toBe(true);
  dropAhead();
  expect(await hasLaneThread(startedBy(() => startAhead("one small file")))).toBe(false);
});

test("one that expects a small file copies it without a lane, and a tree with one", async () => {
  await using directory = await temporaryDirectory();
  for (const what of ["file", "tree"] as const) {
    const inFlight = createInFlightFile(directory.path, `record of a ${what}`);
    const ahead = startedBy(() => startAhead("one small file"));
    const { pid, end } = await copy(directory, inFlight, what);
    expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
    const reasons = end.kind === "result" ? end.result.reasons : [];
    expect(reasons.includes("one small file: copied without a lane")).toBe(what === "file");
    expect(pid).toBe(ahead);
    inFlight.discard();
  }
});

test("a record without a name takes a worker that inherits it", async () => {
  await using directory = await temporaryDirectory();
  const inFlight = createUnnamedInFlightFile("ahead-test");
  const ahead = startedBy(() => startAhead("more"));
  const { pid, end } = await copy(directory, inFlight);
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  expect(pid).not.toBe(ahead);
  inFlight.discard();
});

test("one that has died meanwhile is replaced", async () => {
  await using directory = await temporaryDirectory();
  const inFlight = createInFlightFile(directory.path, "record");
  const ahead = startedBy(() => startAhead("more"));
  process.kill(ahead, "SIGKILL");
  await untilGone(ahead);
  const { pid, end } = await copy(directory, inFlight);
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  expect(pid).not.toBe(ahead);
  inFlight.discard();
});

test("nobody's worker ends when it is dropped", async () => {
  const ahead = startedBy(() => startAhead("more"));
  dropAhead();
  await untilGone(ahead);
});

test("nobody's worker ends with its parent, however that ends", async () => {
  const script = `
    import { startAhead } from ${JSON.stringify(join(import.meta.dir, "../../src/worker/ahead.ts"))};
    import { readFileSync } from "node:fs";
    startAhead("more");
    console.log(readFileSync("/proc/self/task/" + process.pid + "/children", "latin1").trim());
    process.kill(process.pid, "SIGKILL");
  `;
  const parent = Bun.spawnSync([process.execPath, "-e", script]);
  expect(parent.signalCode).toBe("SIGKILL");
  const ahead = Number(parent.stdout.toString());
  expect(ahead).toBeGreaterThan(0);
  await untilGone(ahead);
});
