// The parent's side of a worker: honest ones are heard, hostile ones end in a named failure and a dead process, quickly.

import { afterAll, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { failures } from "../../src/errors.ts";
import { createUnnamedInFlightFile } from "../../src/jobs/in-flight-file.ts";
import { type LiveMessage, startWorker, type WorkerEnd, type WorkerHandle, type WorkerLimitChanges } from "../../src/worker/pool.ts";
import { testRequest, testWorker } from "../support/jobs.ts";

interface Outcome {
  readonly end: WorkerEnd;
  readonly messages: readonly LiveMessage[];
  readonly stderr: readonly string[];
  readonly pid: number;
  readonly elapsedMs: number;
}

const inFlight = createUnnamedInFlightFile("pool-test");
afterAll(() => inFlight.discard());

async function runWorker(
  mode: string,
  limits: WorkerLimitChanges = {},
  onMessage: (message: LiveMessage, worker: WorkerHandle) => void = () => undefined,
  trusted = false,
): Promise<Outcome> {
  const messages: LiveMessage[] = [];
  const stderr: string[] = [];
  const startedMs = performance.now();
  const { promise, resolve } = Promise.withResolvers<WorkerEnd>();
  const worker = startWorker({
    task: { type: "start", request: testRequest(mode), sandbox: "off", token: "test", lanes: 0, totals: true },
    credentials: null,
    inFlightFd: inFlight.fd,
    limits,
    trusted,
    self: testWorker,
    onMessage: (message) => {
      messages.push(message);
      onMessage(message, worker);
    },
    onEnd: resolve,
    onStderr: (line) => stderr.push(line),
  });
  const end = await promise;
  return { end, messages, stderr, pid: worker.pid, elapsedMs: performance.now() - startedMs };
}

function failureOf(outcome: Outcome): string {
  if (outcome.end.kind !== "failed") throw new Error(`it ended with a result: ${JSON.stringify(outcome.end)}`);
  expect(outcome.end.gone).toBe(true);
  expect(existsSync(`/proc/${outcome.pid}`)).toBe(false);
  expect(Object.keys(failures)).toContain(outcome.end.code);
  return `${outcome.end.code}: ${outcome.end.message}`;
}

test("a well-behaved worker is heard in order and ends with its result", async () => {
  const { end, messages } = await runWorker("well");
  expect(messages.map((message) => message.type)).toEqual(["hello", "snapshot"]);
  expect(end).toMatchObject({ kind: "result", gone: true, result: { outcome: "completed", snapshot: { bytesDone: 1000 } } });
});

test("pause, resume, options and cancel reach the worker", async () => {
  const steps: string[] = [];
  const { end } = await runWorker("run", {}, (message, worker) => {
    if (message.type !== "snapshot") return;
    const { paused, currentFile } = message.snapshot;
    const advance = (step: string, action: () => void): void => {
      steps.push(step);
      action();
    };
    if (steps.length === 0) advance("runs", () => worker.send({ type: "pause" }));
    else if (steps.length === 1 && paused) advance("paused", () => worker.send({ type: "resume" }));
    else if (steps.length === 2 && !paused) advance("resumed", () => worker.send({ type: "set-options", bandwidthLimit: 4096 }));
    else if (steps.length === 3 && currentFile === "/limit/4096") advance("limited", () => worker.send({ type: "cancel" }));
  });
  expect(steps).toEqual(["runs", "paused", "resumed", "limited"]);
  expect(end).toMatchObject({ kind: "result", result: { outcome: "cancelled" } });
});

const broken: readonly (readonly [mode: string, expected: string, limits?: WorkerLimitChanges])[] = [
  ["dies", "worker-died: The copying process ended unexpectedly by SIGKILL."],
  ["exits-without-result", "worker-died: The copying process ended unexpectedly with status 3."],
  ["never-starts", "worker-start: The copying process ended with status 4 before it began (no such?library)."],
  ["fails-in-its-runtime", "worker-start: The copying process ended with status 1 before it began (error: no room for a library)."],
  ["fails-later", "worker-died: The copying process ended unexpectedly with status 1 (error: no room for a thread)."],
  ["silent", "worker-silent: The copying process has not answered", { silenceTimeoutMs: 2000 }],
  ["deaf", "worker-silent: The copying process has not answered", { silenceTimeoutMs: 2000 }],
  ["floods", "worker-protocol: The copying process broke the protocol: more messages than allowed.", { messageBurst: 500 }],
  ["oversized", "worker-protocol: The copying process broke the protocol: a frame of 2147483647 bytes"],
  ["not-json", "worker-protocol: The copying process broke the protocol: a frame of 3 bytes is not a message."],
  ["not-the-schema", "worker-protocol: The copying process broke the protocol"],
  ["unknown-code", "worker-protocol: The copying process broke the protocol: an unknown failure code."],
  ["no-hello", 'worker-protocol: The copying process broke the protocol: "snapshot" before "hello".'],
  ["two-hellos", 'worker-protocol: The copying process broke the protocol: a second "hello".'],
  ["refuses", "worker-identity: not who I should be"],
  ["refuses-oddly", "worker-protocol: The copying process broke the protocol: an unknown failure code."],
];

for (const [mode, expected, limits] of broken) {
  test(`a worker that ${mode.replaceAll("-", " ")} ends in a named failure`, async () => {
    const outcome = await runWorker(mode, limits);
    expect(failureOf(outcome)).toStartWith(expected);
  });
}

test("a worker is ended with its result, even one that would stay", async () => {
  const { end, pid } = await runWorker("stays-after-result", {});
  expect(end).toMatchObject({ kind: "result", gone: true });
  expect(existsSync(`/proc/${pid}`)).toBe(false);
});

test("one that holds nothing is ended, and not waited for; embedded it is", async () => {
  const { end, pid } = await runWorker("holds-nothing");
  expect(end).toMatchObject({ kind: "result", gone: false });
  while (existsSync(`/proc/${pid}`)) await Bun.sleep(1);
  const waited = await runWorker("holds-nothing", {}, undefined, true);
  expect(waited.end).toMatchObject({ kind: "result", gone: true });
  expect(existsSync(`/proc/${waited.pid}`)).toBe(false);
});

test("what a worker says after its result does not count", async () => {
  const { end, messages } = await runWorker("talks-after-result");
  expect(end).toMatchObject({ kind: "result", result: { outcome: "completed" } });
  expect(messages.map((message) => message.type)).toEqual(["hello"]);
});

test("a child that the worker leaves behind with its pipes does not hold up the end", async () => {
  const { end, elapsedMs } = await runWorker("leaves-a-child");
  expect(end).toMatchObject({ kind: "result", gone: true });
  expect(elapsedMs).toBeLessThan(3900);
});

test("a worker's stderr is logged line by line, limited in length and number", async () => {
  const { end, stderr } = await runWorker("floods-stderr");
  expect(end.kind).toBe("result");
  expect(stderr.length).toBe(200);
  expect(Math.max(...stderr.map((line) => line.length))).toBe(1024);
});

test("an exception in the listener ends the worker, not the service", async () => {
  const outcome = await runWorker("run", {}, () => {
    throw new Error("a bug");
  });
  expect(failureOf(outcome)).toContain("internal: The service failed while it read from the copying process: a bug");
});

test("a worker that never reads is given up when too much has piled up for it", async () => {
  const outcome = await runWorker("deaf", {}, (message, worker) => {
    if (message.type !== "hello") return;
    for (let count = 0; count < 100_000; count++) worker.send({ type: "set-options", bandwidthLimit: count });
  });
  expect(failureOf(outcome)).toContain("worker-silent: The copying process does not read");
});

test("a program that is not there is a worker-start failure", () => {
  const start = (): unknown =>
    startWorker({
      task: { type: "recover", request: testRequest("well"), sandbox: "off", token: "test" },
      credentials: null,
      inFlightFd: inFlight.fd,
      self: ["/nonexistent"],
      onMessage: () => undefined,
      onEnd: () => undefined,
      onStderr: () => undefined,
    });
  expect(start).toThrow(expect.objectContaining({ code: "worker-start" }));
});

test("the memory of the service stays flat over many workers", async () => {
  await runWorker("well");
  const openBefore = openDescriptors();
  for (let round = 0; round < 8; round++) await Promise.all([runWorker("well"), runWorker("not-json")]);
  expect(openDescriptors()).toBeLessThanOrEqual(openBefore + 4);
});

function openDescriptors(): number {
  return Number(/^FDSize:\s*(\d+)$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1]);
}
