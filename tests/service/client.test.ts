// The client that the CLI uses: jobs submitted, followed, steered and waited for over a real bus, and failures by their codes.

import { afterAll, beforeAll, expect, test } from "bun:test";
import type { ByteString } from "../../src/bytes.ts";
import { connectService, type JobEvent, type ServiceClient } from "../../src/dbus/client.ts";
import { JobWatch } from "../../src/dbus/client-watch.ts";
import { jobPath } from "../../src/dbus/object-path.ts";
import { Service } from "../../src/dbus/service.ts";
import { CopyError, type FailureCode } from "../../src/errors.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import type { EntryError } from "../../src/worker/protocol.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { MemoryJobs } from "../support/memory-jobs.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless } from "../support/skip.ts";

async function codeOf(action: Promise<unknown>): Promise<FailureCode> {
  try {
    await action;
  } catch (error) {
    if (error instanceof CopyError) return error.code;
    throw error;
  }
  throw new Error("nothing was thrown");
}

function requestOf(sources: readonly string[], options: object = {}): JobRequest {
  return requestSchema.parse({ operation: "copy", sources, destination: "/d\xff", options });
}

describeUnless(whyNoBus(), "the client", () => {
  let fixture: ServiceFixture;
  let client: ServiceClient;

  beforeAll(async () => {
    fixture = await startServiceFixture({ maxListedErrors: 4 });
    client = await connectService({ address: fixture.bus.address });
  });
  afterAll(async () => {
    client.close();
    expect(fixture.internal).toEqual([]);
    await fixture[Symbol.asyncDispose]();
  });

  const viewOf = (token: string) => fixture.jobAt(jobPath(0, token));

  test("submits a request whole and reads the job back", async () => {
    const names = { program: "cp", sources: ["a\xff", "b"], destination: "d", charset: "utf-8" };
    const request = requestOf(["/a\xff", "/b\n"], { onConflict: "newer", gnu: { names, inPlace: true, backupSuffix: "\xfe" } });
    const job = await client.submit(request, { token: "whole" });
    expect(viewOf("whole").request).toEqual(request);
    const told = { ...request, options: { ...request.options, gnu: { ...request.options.gnu, names: null } } };
    expect(job).toEqual({ ...viewOf("whole"), request: told, owner: { uid: 0, gid: -1, groups: [] } });
    expect((await client.show("whole")).request.sources).toEqual(request.sources);
    expect((await client.list()).map(({ token }) => token)).toContain("whole");
    expect((await client.list({ allUsers: true })).map(({ token }) => token)).toContain("whole");
  });

  test("a move is a move, and moves as told", async () => {
    await client.submit({ ...requestOf(["/a"]), operation: "move" }, { token: "moved" });
    expect(viewOf("moved").request.operation).toBe("move");
    await client.pause("moved");
    await client.resume("moved");
    await client.setOptions("moved", { priority: "now", bandwidthLimit: 5 });
    await client.answer("moved", 2, "rename", { forAll: false });
    await client.cancel("moved");
    expect(fixture.jobs.asked).toEqual([
      "pause moved",
      "resume moved",
      'set-options moved {"bandwidthLimit":5,"priority":"now"}',
      "answer moved 2 rename false",
      "cancel moved",
    ]);
    await client.forget("moved");
    expect(await codeOf(client.show("moved"))).toBe("no-such-job");
  });

  test("follows a job: lines and errors once and in order, the newest view, the end last", async () => {
    const watch = await client.submitAndWatch(requestOf(["/a"]), { token: "followed", lines: true, errors: true });
    const entry = {
      side: "source",
      code: "read-error",
      errno: 5,
      syscall: "read",
      severity: "error",
      engine: "splice",
      offset: 7,
    } as const;
    const errors = Array.from({ length: 11 }, (_, index) => ({
      ...entry,
      path: `/a/${index}` as ByteString,
      message: `broken \xff ${index}`,
    }));
    const events: JobEvent[] = [];
    let step = 0;
    for await (const event of watch) {
      events.push(event);
      if (event.type === "view" && step++ === 0) {
        fixture.jobs.sayLines(viewOf("followed"), ["one \xff", "two"]);
        fixture.jobs.addErrors(viewOf("followed"), errors.slice(0, 5));
        for (let bytesDone = 1; bytesDone <= 100; bytesDone++) fixture.jobs.update(viewOf("followed"), { bytesDone, state: "running" });
        fixture.jobs.addErrors(viewOf("followed"), errors.slice(5));
        fixture.jobs.end(viewOf("followed"), "failed");
      }
    }
    expect(events.flatMap((event) => (event.type === "lines" ? event.lines : []))).toEqual(["one \xff", "two"]);
    expect(events.flatMap((event) => (event.type === "errors" ? event.errors : []))).toEqual(errors);
    const last = events.at(-1);
    expect(last?.type).toBe("ended");
    expect(last?.type === "ended" && last.job).toMatchObject({
      state: "failed",
      bytesDone: 100,
      errorCount: 11,
      result: { state: "failed" },
    });
    expect(watch.isOver).toBe(true);
  });

  test("errors whose signals were lost are fetched in their place, and counted where nobody has them any more", async () => {
    const errorAt = (index: number): EntryError => ({
      path: `/a/${index}` as ByteString,
      side: "source",
      code: "read-error",
      errno: 5,
      syscall: "read",
      message: `broken ${index}`,
      severity: "error",
      engine: "",
      offset: -1,
    });
    const kept = [errorAt(0), errorAt(1), errorAt(2)];
    const address = { uid: 0, token: "gaps" };
    const watch = new JobWatch(address, new Map(), { errors: true, lines: true }, (_, offset) => Promise.resolve(kept.slice(offset)));
    watch.tell({ resumeCount: 0, offset: 1, errors: [errorAt(1)] });
    watch.say(["between"]);
    watch.tell({ resumeCount: 0, offset: 1, errors: [errorAt(1), errorAt(2)] });
    watch.tell({ resumeCount: 0, offset: 5, errors: [errorAt(5)] });
    // Found again by a run that goes on, with one that is new.
    watch.tell({ resumeCount: 1, offset: 0, errors: [errorAt(5), errorAt(6)] });
    watch.tell({ resumeCount: 0, offset: 6, errors: [errorAt(7)] });
    const events: unknown[] = [];
    const iterator = watch[Symbol.asyncIterator]();
    for (let event = await iterator.next(); event.value?.type !== "view"; event = await iterator.next()) events.push(event.value);
    watch.close();
    expect(events).toEqual([
      { type: "errors", errors: [errorAt(0)] },
      { type: "errors", errors: [errorAt(1)] },
      { type: "lines", lines: ["between"] },
      { type: "errors", errors: [errorAt(2)] },
      { type: "errors-lost", count: 2 },
      { type: "errors", errors: [errorAt(5)] },
      { type: "errors", errors: [errorAt(6)] },
    ]);
  });

  test("a job that has ended before it is followed ends at once", async () => {
    await client.submit(requestOf(["/a"]), { token: "over" });
    fixture.jobs.end(viewOf("over"), "completed");
    expect((await client.wait("over")).result).toEqual(viewOf("over").result);
  });

  test("what no service sends is not believed", async () => {
    const stranger = await fixture.bus.connect();
    const watcher = await connectService({ address: fixture.bus.address });
    const watch = await watcher.submitAndWatch(requestOf(["/a"]), { token: "trusted", lines: true });
    const iterator = watch[Symbol.asyncIterator]();
    await iterator.next();
    for (let serial = 1; serial < 20; serial++) {
      const lie = {
        type: 4,
        destination: `:1.${serial}`,
        path: jobPath(0, "trusted"),
        interface: "org.copyd.Copyd1.Job",
        member: "Lines",
      } as const;
      stranger.send({ ...lie, signature: "aay", body: [[Buffer.from("lie")]] });
    }
    await stranger.callDriver("GetId", "", []);
    fixture.jobs.sayLines(viewOf("trusted"), ["truth"]);
    expect((await iterator.next()).value).toEqual({ type: "lines", lines: ["truth"] });
    watcher.close();
    stranger.close();
  });

  test("errors of calls come back by their codes", async () => {
    await client.submit(requestOf(["/a"]), { token: "taken" });
    expect(await codeOf(client.submit(requestOf(["/b"]), { token: "taken" }))).toBe("job-exists");
    // Root goes beyond what one call may have (100), as polkit would let it, but not beyond what nobody may.
    expect((await client.submit(requestOf(Array(400).fill("/a")), { token: "beyond" })).token).toBe("beyond");
    expect(await codeOf(client.submit(requestOf(Array(401).fill("/a"))))).toBe("limits-exceeded");
    expect(await codeOf(client.submit(requestOf(["/a"]), { token: "../x" }))).toBe("invalid-arguments");
    expect(await codeOf(client.forget("taken"))).toBe("invalid-state");
    expect(await codeOf(client.cancel("no_such_job"))).toBe("no-such-job");
    expect(await codeOf(client.show({ token: "mine", owner: { uid: 4242, gid: 0, groups: [] } }))).toBe("unknown-object");
  });
});

describeUnless(whyNoBus(), "without a service", () => {
  test("no bus is told at once", async () => {
    const started = performance.now();
    expect(await codeOf(connectService({ address: "unix:path=/nonexistent/socket" }))).toBe("no-service");
    expect(await codeOf(connectService({ address: "tcp:host=localhost,port=1" }))).toBe("no-service");
    expect(performance.now() - started).toBeLessThan(1000);
  });

  test("a bus without the service is told at once", async () => {
    await using bus = await privateBus({ kind: "system" });
    const started = performance.now();
    expect(await codeOf(connectService({ address: bus.address }))).toBe("no-service");
    expect(performance.now() - started).toBeLessThan(2000);
  });

  test("a service that cannot be started is no service", async () => {
    await using bus = await privateBus({ kind: "system", activate: ["/bin/false"] });
    expect(await codeOf(connectService({ address: bus.address }))).toBe("no-service");
  });

  test("a bus that dies ends calls and watches", async () => {
    const fixture = await startServiceFixture();
    const client = await connectService({ address: fixture.bus.address });
    const watch = await client.submitAndWatch(requestOf(["/a"]), { token: "orphan" });
    const end = codeOf(
      (async () => {
        for await (const _event of watch);
      })(),
    );
    fixture.bus.kill();
    expect(await end).toBe("no-answer");
    expect(await codeOf(client.list())).toBe("no-service");
    client.close();
    await fixture[Symbol.asyncDispose]();
  });

  test("a watch finds its job again in the service that follows", async () => {
    const fixture = await startServiceFixture();
    const client = await connectService({ address: fixture.bus.address });
    const watch = await client.submitAndWatch(requestOf(["/a"]), { token: "survivor" });
    // The next service has the name before the last one lets it go: what activation does on a machine.
    const jobs = new MemoryJobs();
    const owner = { uid: 0, gid: 0, groups: [0] };
    jobs.end(jobs.submit(owner, "survivor", requestOf(["/a"])), "completed");
    const connection = await fixture.bus.connect();
    const next = new Service({ connection, jobs, kind: "system", version: "2", reportInternal: (error) => fixture.internal.push(error) });
    await next.start();
    expect(await next.requestName()).toBe(false);
    const end = client.wait("survivor");
    await connection.callDriver("RequestName", "su", ["org.copyd.Copyd1", 0]);
    await fixture.service.stop();
    let last: JobEvent | undefined;
    for await (const event of watch) last = event;
    expect(last).toMatchObject({ type: "ended", job: { state: "completed" } });
    expect((await end).state).toBe("completed");
    client.close();
    expect(fixture.internal).toEqual([]);
    await fixture[Symbol.asyncDispose]();
  });
});
