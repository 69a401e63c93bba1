// The daemon as a process on a private bus: activation, real copies for real users, orderly ends.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { connectService } from "../../src/dbus/client.ts";
import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant } from "../../src/dbus/values.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { busctlAs, callService, errorOf } from "../support/bus-client.ts";
import { daemonCommand, daemonEnvironment, ownerPid, startDaemon, whyNoOtherWorkers } from "../support/daemon.ts";
import { isRunning, run } from "../support/process.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { passwdUsers, type TestUsers } from "../support/users.ts";

const copyUris = async (address: string, source: string, destination: string): Promise<string> => {
  const client = await connectService({ address });
  const request = requestSchema.parse({ operation: "copy", sources: [source], destination });
  const job = await client.submit(request);
  const ended = await client.wait(job.token);
  client.close();
  return ended.state;
};

function sourceIn(bus: PrivateBus): string {
  const source = `${bus.directory}/source`;
  mkdirSync(`${source}/below`, { recursive: true });
  writeFileSync(`${source}/below/file`, "content");
  return source;
}

describeUnless(firstReason(whyNoBus(), unlessRoot()), "the daemon", () => {
  test("is started by the first call, copies, and ends cleanly on SIGTERM", async () => {
    await using bus = await privateBus({ kind: "system", activate: daemonCommand });
    const source = sourceIn(bus);
    expect(await copyUris(bus.address, source, `${bus.directory}/copy`)).toBe("completed");
    expect(readFileSync(`${bus.directory}/copy/below/file`, "utf8")).toBe("content");
    const connection = await bus.connect();
    const pid = await ownerPid(connection);
    expect(pid).toBeGreaterThan(0);
    process.kill(pid, "SIGTERM");
    for (let tries = 0; isRunning(pid) && tries < 500; tries++) await Bun.sleep(20);
    expect(isRunning(pid)).toBe(false);
    expect(await ownerPid(connection)).toBe(0);
    connection.close();
  });

  test("answers who waits when it is stopped, within ten seconds, with status 0", async () => {
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus);
    const source = `${bus.directory}/large`;
    writeFileSync(source, Buffer.alloc(8 * 1024 * 1024));
    const connection = await bus.connect();
    // One byte a second: it runs until it is stopped.
    const options = new Map([["bandwidth-limit", new Variant("t", 1)]]);
    const [job] = await callService(connection, rootPath, managerInterface, "CopyUris", "assa{sv}", [
      [source],
      `${bus.directory}/slow`,
      options,
    ]);
    const wait = callService(connection, String(job), jobInterface, "Wait", "a{sv}", [new Map()]).then(
      ([state]) => String(state),
      (error: { dbusName: string }) => error.dbusName,
    );
    await Bun.sleep(300);
    const started = performance.now();
    daemon.kill("SIGTERM");
    expect(await wait).toMatch(/^(failed|cancelled|completed|org\.copyd\.Copyd1\.Error\.ShuttingDown)$/);
    expect(await daemon.exited).toBe(0);
    expect(performance.now() - started).toBeLessThan(10_000);
    expect(existsSync(`${bus.directory}/slow`)).toBe(false);
  });

  test("ends when it has nothing to do, and no call is lost however close it comes", async () => {
    const args = ["--set", "service.idle-exit-seconds=1"];
    await using bus = await privateBus({ kind: "system", activate: [...daemonCommand, ...args] });
    const connection = await bus.connect();
    for (let round = 0; round < 6; round++) {
      const { body } = await connection.call(
        {
          destination: "org.copyd.Copyd1",
          path: rootPath,
          interface: managerInterface,
          member: "ListJobs",
          signature: "a{sv}",
          body: [new Map()],
        },
        20_000,
      );
      expect(body).toEqual([[]]);
      // Around the moment when the second is over.
      await Bun.sleep(980 + round * 8);
    }
    await Bun.sleep(1500);
    expect(await ownerPid(connection)).toBe(0);
    connection.close();
  }, 60_000);

  test("stays while somebody listens", async () => {
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus, ["--set", "service.idle-exit-seconds=1"]);
    const connection = await bus.connect();
    await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]);
    await Bun.sleep(1800);
    expect(await ownerPid(connection)).toBe(daemon.pid);
    connection.close();
    expect(await daemon.exited).toBe(0);
  }, 30_000);

  test("ends with the bus", async () => {
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus);
    bus.kill();
    expect(await daemon.exited).toBe(1);
    expect(await daemon.log()).toContain("the service stops");
  });

  test("does not take another's name", async () => {
    await using bus = await privateBus({ kind: "system" });
    await using _first = await startDaemon(bus);
    const second = await run([...daemonCommand], { env: { ...daemonEnvironment(bus), STATE_DIRECTORY: `${bus.directory}/other` } });
    expect(second.status).toBe(2);
    expect(second.stderr).toContain("another process owns org.copyd.Copyd1");
  });

  test("holds administrators' jobs to the policy, records what it refuses, and takes up a new policy for new jobs", async () => {
    await using bus = await privateBus({ kind: "system" });
    const source = sourceIn(bus);
    mkdirSync(`${source}/secret`);
    writeFileSync(`${source}/secret/file`, "secret");
    symlinkSync(`${source}/secret`, `${bus.directory}/way`);
    const settings = `${bus.directory}/copyd.toml`;
    writeFileSync(settings, `[policy.root]\ndeny-sources = ["${source}/secret"]\n`);
    await using daemon = await startDaemon(bus, [`--config=${settings}`]);
    const connection = await bus.connect();
    const copyAs = (method: string, from: string, to: string): Promise<readonly unknown[]> =>
      callService(connection, rootPath, managerInterface, method, "aayaya{sv}", [[Buffer.from(from)], Buffer.from(to), new Map()]);
    const refused = await errorOf(copyAs("CopyAsAdmin", `${source}/secret/file`, bus.directory));
    expect(refused.dbusName).toBe("org.copyd.Copyd1.Error.PolicyViolation");
    expect(refused.message).toContain("deny-sources of group root");
    for (const method of ["CopyAsAdmin", "Copy"]) {
      const [job] = await copyAs(method, `${bus.directory}/way/file`, `${bus.directory}/stolen`);
      const wait = await callService(connection, String(job), jobInterface, "Wait", "a{sv}", [new Map()]);
      expect(wait[0]).toBe("failed");
      const [errors] = await callService(connection, String(job), jobInterface, "GetErrors", "uu", [0, 10]);
      expect((errors as unknown[][]).map(([, , code]) => code)).toEqual(["policy-denied"]);
    }
    expect(existsSync(`${bus.directory}/stolen`)).toBe(false);
    const client = await connectService({ address: bus.address });
    expect((await client.audit({ code: "policy-denied" })).map(({ event, method }) => `${event} ${method}`)).toEqual([
      "ended ",
      "refusal Copy",
      "ended ",
      "refusal CopyAsAdmin",
      "refusal CopyAsAdmin",
    ]);
    expect(await daemon.log()).toMatch(/job met what the policy forbids method=Copy uid=0 job=\w+ code=policy-denied/);
    client.close();
    writeFileSync(settings, "[policy]\nmax-file-size = 1000\n");
    daemon.kill("SIGHUP");
    while (!(await daemon.log()).includes("read anew")) await Bun.sleep(20);
    const [job] = await copyAs("Copy", `${source}/secret/file`, `${bus.directory}/allowed`);
    expect((await callService(connection, String(job), jobInterface, "Wait", "a{sv}", [new Map()]))[0]).toBe("completed");
    connection.close();
  }, 60_000);

  test("with wrong settings it tells whoever calls what is wrong, at once, and then ends", async () => {
    await using bus = await privateBus({ kind: "system", activate: [...daemonCommand, "--set", "jobs.max-running=0"] });
    const connection = await bus.connect();
    const began = performance.now();
    for (const [path, member] of [
      [rootPath, "GetJob"],
      [`${rootPath}/jobs/u1/any`, "Whatever"],
    ] as const) {
      const error = await errorOf(callService(connection, path, managerInterface, member, "s", ["x"]));
      expect(error).toMatchObject({ dbusName: "org.copyd.Copyd1.Error.BadConfig" });
      expect(error.message).toContain("command line: jobs.max-running = 0: ");
    }
    // A bus that waits for a name in vain does so for 25 s.
    expect(performance.now() - began).toBeLessThan(20_000);
    const failure = await connectService({ address: bus.address }).catch((cause: unknown) => cause);
    expect(failure).toMatchObject({ code: "bad-config" });
    const pid = await ownerPid(connection);
    expect(pid).toBeGreaterThan(0);
    for (let tries = 0; isRunning(pid) && tries < 1000; tries++) await Bun.sleep(20);
    expect([isRunning(pid), await ownerPid(connection)]).toEqual([false, 0]);
    connection.close();
  }, 60_000);

  test("says what is wrong with its settings, its bus and its command line", async () => {
    await using bus = await privateBus({ kind: "system" });
    const env = daemonEnvironment(bus);
    const without = { ...env, DBUS_SYSTEM_BUS_ADDRESS: "unix:path=/nonexistent" };
    const noBus = await run([...daemonCommand], { env: without });
    expect([noBus.status, noBus.stderr]).toEqual([2, expect.stringContaining("the system bus cannot be reached")]);
    const wrong = await run([...daemonCommand, "--set", "jobs.max-running=0"], { env: without });
    expect([wrong.status, wrong.stderr]).toEqual([78, expect.stringContaining("jobs.max-running")]);
    expect((await run([...daemonCommand, "--frobnicate"], { env })).status).toBe(1);
    expect((await run([...daemonCommand, "--help"], { env })).stdout).toContain("--session");
  });

  test("serves the session bus with the user's own rights", async () => {
    await using bus = await privateBus({ kind: "session" });
    await using _daemon = await startDaemon(bus, ["--session"]);
    const source = sourceIn(bus);
    expect(await copyUris(bus.address, source, `${bus.directory}/copy`)).toBe("completed");
    const connection = await bus.connect();
    const error = await errorOf(
      callService(connection, rootPath, managerInterface, "CopyAsAdmin", "aayaya{sv}", [[Buffer.from("/a")], Buffer.from("/b"), new Map()]),
    );
    expect(error.dbusName).toBe("org.freedesktop.DBus.Error.NotSupported");
    connection.close();
  });
});

const probe = { uid: 65534, gid: 65534 };

describeUnless(firstReason(whyNoBus(), unlessRoot(), whyNoOtherWorkers(probe)), "copies for users", () => {
  let users: TestUsers;
  let bus: PrivateBus;
  let daemon: Awaited<ReturnType<typeof startDaemon>>;
  beforeAll(async () => {
    users = await passwdUsers();
    bus = await privateBus({ kind: "system" });
    daemon = await startDaemon(bus);
  });
  afterAll(async () => {
    await daemon[Symbol.asyncDispose]();
    await bus[Symbol.asyncDispose]();
    await users[Symbol.asyncDispose]();
  });

  test("a copy is made as the caller: its groups count, what it may not read is listed, all else is copied", async () => {
    const { first } = users;
    const source = `${bus.directory}/shared`;
    const home = `${bus.directory}/home`;
    mkdirSync(source);
    mkdirSync(home);
    chownSync(home, first.uid, first.gid);
    const file = (name: string, gid: number, mode: number): void => {
      writeFileSync(`${source}/${name}`, name);
      chownSync(`${source}/${name}`, 0, gid);
      chmodSync(`${source}/${name}`, mode);
    };
    file("everybody", 0, 0o644);
    file("group", 4242, 0o640);
    file("nobody", 0, 0o600);
    const caller = { ...first, groups: [first.gid, 4242] };
    const call = (path: string, interfaceName: string, member: string, ...args: string[]) =>
      busctlAs(caller, bus.address, path, interfaceName, member, ...args);
    const made = await call(
      rootPath,
      managerInterface,
      "CopyUris",
      "assa{sv}",
      "1",
      source,
      `${home}/copy`,
      "2",
      "token",
      "s",
      "grouped",
      "preserve",
      "as",
      "2",
      "mode",
      "times",
    );
    expect(made.ok).toBe(true);
    const path = `${rootPath}/jobs/u${first.uid}/grouped`;
    const waited = await call(path, jobInterface, "Wait", "a{sv}", "0");
    expect(JSON.stringify(waited)).toContain('"data":["failed"');
    const errors = await call(path, jobInterface, "GetErrors", "uu", "0", "0");
    expect(errors.ok && (errors.data[0] as unknown[]).length).toBe(1);
    expect(JSON.stringify(errors)).toContain("source-unreadable");
    for (const name of ["everybody", "group"]) {
      expect(readFileSync(`${home}/copy/${name}`, "utf8")).toBe(name);
      expect(statSync(`${home}/copy/${name}`).uid).toBe(first.uid);
    }
    expect(existsSync(`${home}/copy/nobody`)).toBe(false);
    const foreign = await busctlAs(users.second, bus.address, path, jobInterface, "GetErrors", "uu", "0", "0");
    expect(JSON.stringify(foreign)).toContain("no object at");
  });
});
