// kill -9 of workers, and of the daemon itself, under a running service: it stays or comes back healthy, and its jobs go on to their end.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { byteStringFromText } from "../../src/bytes.ts";
import { connectService } from "../../src/dbus/client.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { startDaemon } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { isRunning } from "../support/process.ts";
import { Random } from "../support/random.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { inspect, prepare, workloads } from "./workload.ts";

const random = new Random();
const kills = process.env.COPYD_TORTURE === undefined ? 4 : 40;
const daemonKills = process.env.COPYD_TORTURE === undefined ? 4 : 20;

describeUnless(firstReason(unlessRoot(), whyNoBus()), "the service", () => {
  let directory: TemporaryDirectory;
  let bus: PrivateBus;
  beforeAll(async () => {
    directory = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
    bus = await privateBus({ kind: "system" });
    for (const [index, workload] of workloads.entries()) {
      mkdirSync(`${directory.path}/source-${index}`);
      workload.make(`${directory.path}/source-${index}`);
    }
  });
  afterAll(async () => {
    await bus[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  const request = (source: string, destination: string, options: object): ReturnType<typeof requestSchema.parse> =>
    requestSchema.parse({
      operation: "copy",
      sources: [byteStringFromText(source)],
      destination: byteStringFromText(destination),
      options: { target: "exact", durability: "none", ...options },
    });
  const leftRecords = (): string[] => readdirSync(`${bus.directory}/state`).filter((name) => name.startsWith("in-flight"));

  test(`goes on after each kill -9 of a worker (COPYD_TEST_SEED=${random.seed})`, async () => {
    await using daemon = await startDaemon(bus);
    const client = await connectService({ address: bus.address });
    const destination = `${directory.path}/destination`;
    let resumed = 0;
    for (const [index, workload] of workloads.entries()) {
      const source = `${directory.path}/source-${index}`;
      for (let round = 0; round < kills; round++) {
        prepare(workload, source, destination);
        const job = await client.submit(request(source, destination, workload.options));
        let worker: number | undefined;
        while (worker === undefined && (await client.show(job.token)).result === null) [worker] = childrenOf(daemon.pid);
        await Bun.sleep(random.below(120));
        if (worker !== undefined && isRunning(worker)) process.kill(worker, "SIGKILL");
        const end = await client.wait(job.token);
        expect(end.state).toBe("completed");
        resumed += end.resumeCount;
        expect(inspect(workload, source, destination, true).problems).toEqual([]);
        expect(leftRecords()).toEqual([]);
      }
      prepare(workload, source, destination);
      const last = await client.wait((await client.submit(request(source, destination, workload.options))).token);
      expect([last.state, inspect(workload, source, destination, true).problems]).toEqual(["completed", []]);
    }
    client.close();
    expect(resumed).toBeGreaterThan(0);
    expect(isRunning(daemon.pid)).toBe(true);
  }, 120_000);

  test(`comes back after kill -9: its workers are gone, what they had in flight too, and the job goes on (COPYD_TEST_SEED=${random.seed})`, async () => {
    const destination = `${directory.path}/destination`;
    for (let round = 0; round < daemonKills; round++) {
      const index = round % workloads.length;
      const workload = workloads[index];
      if (workload === undefined) throw new Error("no workload");
      const source = `${directory.path}/source-${index}`;
      prepare(workload, source, destination);
      const token = `round${round}`;
      const worker = await (async () => {
        const daemon = await startDaemon(bus);
        const client = await connectService({ address: bus.address });
        await client.submit(request(source, destination, workload.options), { token });
        await Bun.sleep(30 + random.below(120));
        const [child] = childrenOf(daemon.pid);
        daemon.kill("SIGKILL");
        await daemon.exited;
        client.close();
        return child;
      })();
      await using _daemon = await startDaemon(bus);
      const client = await connectService({ address: bus.address });
      const end = await client.wait(token);
      expect(end).toMatchObject({ state: "completed" });
      expect(inspect(workload, source, destination, true).problems).toEqual([]);
      expect(leftRecords()).toEqual([]);
      if (worker !== undefined) expect(childrenOf(_daemon.pid)).not.toContain(worker);
      client.close();
    }
  }, 120_000);
});
