// A bus that stops in the middle of things and closes nothing: no command waits for ever, no job is done twice, none that waits is given up.

import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { connectService } from "../../src/dbus/client.ts";
import { jobPath } from "../../src/dbus/object-path.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type PrivateBus, whyNoBus } from "../support/bus.ts";
import { plainEnvironment, runCopyd } from "../support/cli.ts";
import { startJobService } from "../support/job-service.ts";
import type { RunResult } from "../support/process.ts";
import { startServiceFixture } from "../support/service.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";

describeUnless(firstReason(whyNoBus(), unlessRoot()), "a bus that stops", () => {
  test("before the service was asked for the job, cp copies by itself; a service that was named is missed", async () => {
    const named = copyWhileBusStops("Subscribe", ["--session"]);
    for (const member of ["AddMatch", "Subscribe"]) {
      const { result, seconds, copied, jobsAfter } = await copyWhileBusStops(member, []);
      expect([member, result]).toMatchObject([member, { status: 0, stdout: "", stderr: "" }]);
      expect({ copied, jobsAfter }).toEqual({ copied: true, jobsAfter: [] });
      // 5 by themselves, on a machine that has nothing else to do.
      expect(seconds).toBeLessThan(40);
    }
    const { result, copied, jobsAfter } = await named;
    expect(result).toMatchObject({ status: 2, stdout: "" });
    expect(result.stderr).toContain("no answer within");
    expect({ copied, jobsAfter }).toEqual({ copied: false, jobsAfter: [] });
  }, 120_000);

  test("once the service may have the job, cp says that it does not know, and does nothing twice", async () => {
    const points = ["Copy", "GetAll", null] as const;
    const outcomes = await Promise.all(points.map((member) => copyWhileBusStops(member, ["--limit-rate=1"])));
    for (const [index, { result, seconds, copied }] of outcomes.entries()) {
      expect([points[index], result]).toMatchObject([points[index], { status: 2, stdout: "" }]);
      expect(result.stderr).toMatch(/^cp: the service does not answer any more: .*\nIt may .*: look with `copyd jobs --all`.*\n$/);
      expect(copied).toBe(false);
      // 40 by themselves.
      expect(seconds).toBeLessThan(90);
    }
  }, 120_000);

  test("a job of which nothing is heard for long is followed on while the bus answers", async () => {
    await using fixture = await startServiceFixture();
    using client = await connectService({ address: fixture.bus.address, lookMs: 50 });
    const request = requestSchema.parse({ operation: "copy", sources: ["/a"], destination: "/d" });
    const watch = await client.submitAndWatch(request, { token: "quiet" });
    const events: string[] = [];
    const end = (async () => {
      for await (const event of watch) events.push(event.type);
    })();
    await Bun.sleep(2_000);
    fixture.jobs.end(fixture.jobAt(jobPath(0, "quiet")), "completed");
    await end;
    expect(events.at(-1)).toBe("ended");
  });

  test("a bus that goes on in time is forgiven, and calls that nobody answers end with their connection", async () => {
    await using fixture = await startServiceFixture();
    using client = await connectService({ address: fixture.bus.address, lookMs: 1_000 });
    fixture.bus.stop();
    const late = client.list();
    await Bun.sleep(1_500);
    fixture.bus.goOn();
    expect(await late).toEqual([]);
    fixture.bus.stop();
    const startMs = performance.now();
    expect(await client.list().catch((error: Error) => error.message)).toContain("has not answered for 2 s");
    expect(performance.now() - startMs).toBeLessThan(10_000);
  }, 30_000);
});

/** Runs cp of one file and stops the bus when the client calls this, or, for null, when the job is under way. */
async function copyWhileBusStops(
  member: string | null,
  options: readonly string[],
): Promise<{ readonly result: RunResult; readonly seconds: number; readonly copied: boolean; readonly jobsAfter: readonly string[] }> {
  await using service = await startJobService();
  const { bus, jobs } = service;
  const here = join(bus.directory, "here");
  mkdirSync(here);
  writeFileSync(join(here, "a"), Buffer.alloc(1024 * 1024, "a"));
  using door = openDoor(bus, member);
  const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: door.address, DBUS_SESSION_BUS_ADDRESS: door.address };
  const startMs = performance.now();
  const copying = runCopyd(["cp", ...options, "a", "b"], { cwd: here, env, timeoutMs: 100_000 });
  if (member === null) {
    for (let tries = 0; tries < 500 && jobs.counts().active === 0; tries++) await Bun.sleep(10);
    await Bun.sleep(500);
    bus.stop();
  }
  const result = await copying;
  const copied = existsSync(join(here, "b")) && readFileSync(join(here, "b")).length === 1024 * 1024;
  const seconds = (performance.now() - startMs) / 1000;
  bus.goOn();
  // What was on its way comes now.
  await Bun.sleep(300);
  return { result, seconds, copied, jobsAfter: jobs.list(null).map(({ token }) => token) };
}

interface Door extends Disposable {
  readonly address: string;
}

/** A way to the bus that stops it at a call of this member, which then lies in the bus's socket. */
function openDoor(bus: PrivateBus, member: string | null): Door {
  const path = join(bus.directory, "door");
  const server = Bun.listen<{ inside: Promise<Bun.Socket> }>({
    unix: path,
    socket: {
      open(client) {
        const inside = Bun.connect({
          unix: join(bus.directory, "socket"),
          socket: { data: (_inside, chunk) => void client.write(chunk), close: () => void client.end() },
        });
        client.data = { inside };
      },
      async data(client, chunk) {
        if (member !== null && chunk.includes(`${member}\0`)) bus.stop();
        (await client.data.inside).write(chunk);
      },
      async close(client) {
        (await client.data.inside).end();
      },
    },
  });
  return { address: `unix:path=${path}`, [Symbol.dispose]: () => void server.stop(true) };
}
