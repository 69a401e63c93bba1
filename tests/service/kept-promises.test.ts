// What a client was told it may rely on holds over kill -9 of the service: jobs that end with their caller, and changed options.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { connectService, type ServiceClient } from "../../src/dbus/client.ts";
import type { JobView, Question } from "../../src/jobs/api.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { type DaemonProcess, startDaemon } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const mebibyte = 1024 * 1024;

describeUnless(firstReason(unlessRoot(), whyNoBus()), "after kill -9 of the service", () => {
  let bus: PrivateBus;
  let daemon: DaemonProcess;
  let directory: TemporaryDirectory;
  let serial = 0;
  beforeAll(async () => {
    bus = await privateBus({ kind: "system" });
    daemon = await startDaemon(bus);
    directory = await temporaryDirectory();
    for (let file = 0; file < 6; file++) writeFileSync(`${directory.path}/${file}`, Buffer.alloc(mebibyte, `${file}`));
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await bus[Symbol.asyncDispose]();
    await directory[Symbol.asyncDispose]();
  });

  const connect = (): Promise<ServiceClient> => connectService({ address: bus.address });

  /** Begins a copy of two seconds. */
  async function begin(client: ServiceClient, onDisconnect: "continue" | "cancel", token = `job${++serial}`): Promise<string> {
    mkdirSync(`${directory.path}/${token}`, { recursive: true });
    const sources = Array.from({ length: 6 }, (_, file) => `${directory.path}/${file}`);
    const options = { onDisconnect, bandwidthLimit: 3 * mebibyte, reflink: "never", onConflict: "overwrite" };
    const request = requestSchema.parse({ operation: "copy", sources, destination: `${directory.path}/${token}`, options });
    return (await client.submit(request, { token })).token;
  }

  async function running(client: ServiceClient, token: string): Promise<void> {
    for (;;) {
      const { bytesDone, result } = await client.show(token);
      if (bytesDone > 0) return;
      if (result !== null) throw new Error(result.message);
      await Bun.sleep(10);
    }
  }

  async function asked(client: ServiceClient, token: string): Promise<Question> {
    for (;;) {
      const { question, result } = await client.show(token);
      if (question !== null) return question;
      if (result !== null) throw new Error(result.message);
      await Bun.sleep(10);
    }
  }

  async function killService(): Promise<void> {
    daemon.kill("SIGKILL");
    await daemon.exited;
  }

  async function ended(token: string): Promise<JobView> {
    using client = await connect();
    return await client.wait(token);
  }

  test("a job whose caller has left meanwhile is cancelled when that was asked, and else is not", async () => {
    const caller = await connect();
    const companion = await begin(caller, "cancel");
    const independent = await begin(caller, "continue");
    await running(caller, companion);
    await killService();
    caller.close();
    daemon = await startDaemon(bus);
    expect((await ended(companion)).result).toMatchObject({ state: "cancelled", code: "cancelled" });
    expect((await ended(independent)).result).toMatchObject({ state: "completed", resumeCount: 1 });
  }, 60_000);

  test("a job whose caller is still there goes on, and ends with it", async () => {
    using caller = await connect();
    const first = await begin(caller, "cancel");
    await running(caller, first);
    await killService();
    daemon = await startDaemon(bus);
    expect((await ended(first)).result).toMatchObject({ state: "completed", resumeCount: 1 });
    const second = await begin(caller, "cancel");
    await killService();
    daemon = await startDaemon(bus);
    caller.close();
    expect((await ended(second)).state).toBe("cancelled");
  }, 60_000);

  test("a job that two have asked for goes on as long as one of them is there", async () => {
    const [caller, other] = [await connect(), await connect()];
    const token = await begin(caller, "cancel");
    expect(await begin(other, "cancel", token)).toBe(token);
    await killService();
    caller.close();
    daemon = await startDaemon(bus);
    expect((await ended(token)).result).toMatchObject({ state: "completed" });
    other.close();
  }, 60_000);

  test("an answer that the worker did not live to hear is not asked for again, and holds", async () => {
    using caller = await connect();
    const token = `job${++serial}`;
    const place = `${directory.path}/${token}`;
    mkdirSync(place);
    for (const file of [0, 1]) writeFileSync(`${place}/${file}`, "old");
    const request = { operation: "copy", sources: [0, 1].map((file) => `${directory.path}/${file}`), destination: place };
    await caller.submit(requestSchema.parse({ ...request, options: { onConflict: "ask", reflink: "never" } }), { token });
    const first = await asked(caller, token);
    const [worker = 0] = childrenOf(daemon.pid);
    process.kill(worker, "SIGSTOP");
    await caller.answer(token, first.id, "overwrite", { forAll: false });
    await killService();
    daemon = await startDaemon(bus);
    using client = await connect();
    const second = await asked(client, token);
    expect([first.source, second.source].toSorted() as string[]).toEqual(request.sources);
    await client.answer(token, second.id, "skip", { forAll: false });
    expect((await ended(token)).result).toMatchObject({ state: "completed", filesDone: 1, filesSkipped: 1, resumeCount: 1 });
    const [done, left] = [first, second].map(({ destination }) => readFileSync(destination).length);
    expect([done, left]).toEqual([mebibyte, "old".length]);
  }, 60_000);

  test("what a cancelled job has made is removed by the next service where this one did not come to it", async () => {
    using caller = await connect();
    const token = await begin(caller, "continue");
    await running(caller, token);
    while ((await caller.show(token)).filesDone === 0) await Bun.sleep(10);
    await caller.cancel(token, "job", "remove");
    await killService();
    daemon = await startDaemon(bus);
    const { result } = await ended(token);
    expect(result).toMatchObject({ state: "cancelled", filesDone: 0, bytesDone: 0 });
    expect(readdirSync(`${directory.path}/${token}`)).toEqual([]);
  }, 60_000);

  test("options that were changed are the changed ones, however soon it came", async () => {
    using caller = await connect();
    const token = await begin(caller, "continue");
    await running(caller, token);
    await caller.setOptions(token, { priority: "low", bandwidthLimit: 7 * mebibyte });
    await killService();
    daemon = await startDaemon(bus);
    using client = await connect();
    const { options } = (await client.show(token)).request;
    expect([options.priority, options.bandwidthLimit]).toEqual(["low", 7 * mebibyte]);
    expect((await ended(token)).state).toBe("completed");
  }, 60_000);
});
