// Preview over the bus: looked at as the caller, told within the limits, ended with the caller; and `copyd cp --dry-run`.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant } from "../../src/dbus/values.ts";
import { whyNoBus } from "../support/bus.ts";
import { busctlAs, callService, errorOf, pathOf } from "../support/bus-client.ts";
import { plainEnvironment, runCopyd } from "../support/cli.ts";
import { whyNoOtherWorkers } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { type JobService, startJobService } from "../support/job-service.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { passwdUsers, type TestUsers } from "../support/users.ts";

describeUnless(firstReason(whyNoBus(), unlessRoot(), whyNoOtherWorkers({ uid: 65534, gid: 65534 })), "Preview", () => {
  let service: JobService;
  let temporary: TemporaryDirectory;
  let users: TestUsers;
  let root: string;

  beforeAll(async () => {
    service = await startJobService();
    users = await passwdUsers();
    temporary = await temporaryDirectory();
    root = temporary.path;
    chmodSync(root, 0o755);
    mkdirSync(join(root, "src"));
    mkdirSync(join(root, "open"));
    mkdirSync(join(root, "closed"));
    chmodSync(join(root, "open"), 0o777);
    writeFileSync(join(root, "src/public"), "12345");
    writeFileSync(join(root, "src/secret"), "x");
    chmodSync(join(root, "src/secret"), 0o600);
  });
  afterAll(async () => {
    await users[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
    await temporary[Symbol.asyncDispose]();
  });

  type Told = { data: unknown };
  const preview = async (destination: string) => {
    const encode = (path: string): string[] => [String(Buffer.byteLength(path)), ...[...Buffer.from(path)].map(String)];
    const args = ["aayaya{sv}", "1", ...encode(join(root, "src")), ...encode(join(root, destination)), "0"];
    const answer = await busctlAs(users.first, service.bus.address, rootPath, managerInterface, "Preview", ...args);
    if (!answer.ok) throw new Error(answer.error);
    const [summary, operations] = answer.data as [
      Record<string, Told>,
      [string, string, number[], number[], number, Record<string, Told>][],
    ];
    const text = (path: number[]): string =>
      Buffer.from(path.slice(0, -1))
        .toString()
        .slice(root.length + 1);
    const told = operations.map(([action, , source, , size, details]) => [action, text(source), size, details.code?.data ?? ""].join(" "));
    return { summary, told: told.sort() };
  };

  test("is what the caller's user could do, and makes nothing", async () => {
    const { summary, told } = await preview("open");
    expect(told).toEqual(["create src 0 ", "create src/public 5 ", "fail src/secret 0 source-unreadable"]);
    const numbers = Object.fromEntries(Object.entries(summary).map(([key, { data }]) => [key, data]));
    expect(numbers).toMatchObject({ operations: 3, listed: 3, files: 1, directories: 1, bytes: 5, create: 2, fail: 1, conflicts: 0 });
    expect(numbers).toMatchObject({ complete: true, "space-needed": 5 });
    expect(numbers["space-free"]).toBeGreaterThan(0);
    expect(readdirSync(join(root, "open"))).toEqual([]);
    expect(service.jobs.list(null)).toEqual([]);
  });

  test("a destination that the user may not write to is told", async () => {
    expect((await preview("closed")).told).toEqual(["fail src 0 destination-unwritable"]);
  });

  test("is advertised, and its limit is told", async () => {
    const connection = await service.bus.connect();
    const get = async (name: string): Promise<unknown> => {
      const body = await callService(connection, rootPath, "org.freedesktop.DBus.Properties", "Get", "ss", [managerInterface, name]);
      return body[0] instanceof Variant ? body[0].value : undefined;
    };
    expect(await get("Features")).toContain("preview");
    expect([...((await get("Limits")) as Map<string, Variant>).keys()]).toContain("max-preview-operations");
    const body = [[pathOf("/a")], pathOf("/b"), new Map([["parents", new Variant("b", true)]])];
    const refused = await errorOf(callService(connection, rootPath, managerInterface, "Preview", "aayaya{sv}", body));
    expect(refused.dbusName).toBe("org.freedesktop.DBus.Error.NotSupported");
  });

  test("ends with its caller", async () => {
    const connection = await service.bus.connect();
    const before = new Set(childrenOf(process.pid));
    const asked = callService(connection, rootPath, managerInterface, "Preview", "aayaya{sv}", [
      [pathOf("/")],
      pathOf("/nonexistent-x"),
      new Map(),
    ]);
    const failed = asked.then(
      () => "answered",
      () => "gone",
    );
    const started = (): number[] => childrenOf(process.pid).filter((pid) => !before.has(pid));
    for (let waited = 0; waited < 500 && started().length === 0; waited++) await Bun.sleep(10);
    expect(started()).toHaveLength(1);
    connection.close();
    expect(await failed).toBe("gone");
    for (let waited = 0; waited < 500 && started().length > 0; waited++) await Bun.sleep(10);
    expect(started()).toEqual([]);
  });

  test("`copyd cp --dry-run` says what it would do, as text and as JSON, with cp's exit status", async () => {
    const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: service.bus.address };
    const text = await runCopyd(["cp", "--dry-run", "src/public", "nope", "open"], { cwd: root, env });
    expect(text.stdout).toContain(`create     '${root}/src/public' -> '${root}/open/public'\n`);
    expect(text.stdout).toContain("fail       cannot stat 'nope': No such file or directory\n1 create, 1 fail\n1 file, 0 directories, 5 B");
    expect({ status: text.status, stderr: text.stderr }).toEqual({ status: 1, stderr: "" });
    const json = await runCopyd(["cp", "-r", "--dry-run", "--json", "src", "open"], { cwd: root, env });
    const objects = json.stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(objects.map(({ type }) => type)).toEqual(["operation", "operation", "operation", "summary"]);
    expect(objects.at(-1)).toMatchObject({ files: 2, directories: 1, bytes: 6, isWhole: true });
    expect(json.status).toBe(0);
    expect(existsSync(join(root, "open/src"))).toBe(false);
    const parents = await runCopyd(["cp", "--dry-run", "--parents", "src/public", "open"], { cwd: root, env });
    expect(parents).toMatchObject({ status: 1, stderr: "cp: --dry-run cannot be combined with --parents\n" });
  });
});
