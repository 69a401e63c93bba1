// One user and another on a real bus: each sees its own jobs, and nobody learns of anybody else's.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { whyNoBus } from "../support/bus.ts";
import { busctlAs, callService, pathOf, variant } from "../support/bus-client.ts";
import { run } from "../support/process.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless, firstReason, testUnless } from "../support/skip.ts";
import { passwdUsers, runAs, type TestUsers, unlistedUser, whyNoPasswdUsers } from "../support/users.ts";

const properties = "org.freedesktop.DBus.Properties";
const introspectable = "org.freedesktop.DBus.Introspectable";
const objectManager = "org.freedesktop.DBus.ObjectManager";
const dbusError = "org.freedesktop.DBus.Error";

describeUnless(firstReason(whyNoBus(), whyNoPasswdUsers()), "users", () => {
  let fixture: ServiceFixture;
  let users: TestUsers;
  beforeAll(async () => {
    users = await passwdUsers();
    fixture = await startServiceFixture();
  });
  afterAll(async () => {
    expect(fixture.internal).toEqual([]);
    await fixture[Symbol.asyncDispose]();
    await users[Symbol.asyncDispose]();
  });

  describe("one user and another", () => {
    const call = (user: "first" | "second", path: string, interfaceName: string, member: string, ...args: string[]) =>
      busctlAs(users[user], fixture.bus.address, path, interfaceName, member, ...args);

    test("each sees its own jobs and no others", async () => {
      const made = await call("first", rootPath, managerInterface, "CopyUris", "assa{sv}", "1", "/secret", "/d", "1", "token", "s", "mine");
      const path = `${rootPath}/jobs/u${users.first.uid}/mine`;
      expect(made).toEqual({ ok: true, data: [path] });
      expect(fixture.jobAt(path).owner).toEqual({ uid: users.first.uid, gid: users.first.gid, groups: [users.first.gid] });

      expect(await call("first", rootPath, managerInterface, "GetJob", "s", "mine")).toEqual({ ok: true, data: [path] });
      expect(JSON.stringify(await call("first", rootPath, managerInterface, "ListJobs", "a{sv}", "0"))).toContain(path);
      expect(JSON.stringify(await call("first", rootPath, objectManager, "GetManagedObjects"))).toContain(path);

      expect(await call("second", rootPath, managerInterface, "ListJobs", "a{sv}", "0")).toEqual({ ok: true, data: [[]] });
      expect(await call("second", rootPath, objectManager, "GetManagedObjects")).toEqual({ ok: true, data: [{}] });
      expect(JSON.stringify(await call("second", rootPath, managerInterface, "GetJob", "s", "mine"))).toContain("you have no job 'mine'");
      expect(JSON.stringify(await call("second", `${rootPath}/jobs`, introspectable, "Introspect"))).not.toContain(`u${users.first.uid}`);
      // root too: its own jobs only.
      const [rootJobs] = await callService(fixture.client, rootPath, managerInterface, "ListJobs", "a{sv}", [new Map()]);
      expect(JSON.stringify((rootJobs as unknown[]).map((row) => (row as unknown[])[0]))).not.toContain(path);
    });

    test("a foreign job answers as one that does not exist", async () => {
      const foreign = `${rootPath}/jobs/u${users.first.uid}/mine`;
      const absent = `${rootPath}/jobs/u${users.first.uid}/none`;
      for (const [interfaceName, member, ...args] of [
        [jobInterface, "Cancel", "a{sv}", "0"],
        [jobInterface, "GetErrors", "uu", "0", "0"],
        [properties, "GetAll", "s", jobInterface],
        [properties, "Get", "ss", jobInterface, "State"],
        [introspectable, "Introspect"],
      ] as const) {
        const answers = [];
        for (const path of [foreign, absent]) answers.push(JSON.stringify(await call("second", path, interfaceName, member, ...args)));
        expect(answers[0]?.replace("/mine", "/none")).toBe(answers[1] ?? "");
        expect(answers[0]).toContain("no object at");
      }
    });

    test("without polkit root alone sees and steers them, by gdbus too, and the audit has each", async () => {
      const foreign = `${rootPath}/jobs/u${users.first.uid}/mine`;
      fixture.audit.splice(0);
      const steer = (as: "first" | "second" | "root", member: string) => {
        const command = ["gdbus", "call", "--address", fixture.bus.address, "--dest", "org.copyd.Copyd1", "--object-path", foreign];
        const whole = [...command, "--method", `${jobInterface}.${member}`, "@a{sv} {}"];
        return as === "root" ? run(whole) : runAs(users[as], whole);
      };
      expect((await steer("second", "Pause")).stderr).toContain("no object at");
      expect(fixture.audit.filter(({ method }) => method === "Pause")).toMatchObject([
        { event: "refusal", uid: users.second.uid, owner: users.first.uid, job: "mine", code: "not-authorized" } as never,
      ]);
      expect(await steer("root", "Pause")).toMatchObject({ status: 0, stdout: "()\n" });
      expect(fixture.jobAt(foreign).state).toBe("paused");
      expect((await steer("first", "Resume")).status).toBe(0);
      expect(await fixture.property(foreign, "OwnerUid")).toBe(users.first.uid);
      const records = fixture.audit.filter(({ uid, job }) => uid === 0 && job === "mine");
      expect(records).toContainEqual(expect.objectContaining({ event: "grant", owner: users.first.uid }) as never);
      expect(records).toContainEqual(expect.objectContaining({ event: "request", method: "Pause", owner: users.first.uid }) as never);
      // One's own needs nobody's leave and is no news.
      expect(fixture.audit.some(({ uid, owner }) => uid === users.first.uid && owner !== undefined)).toBe(false);
    });

    test("tokens are each user's own", async () => {
      const made = await call("second", rootPath, managerInterface, "CopyUris", "assa{sv}", "1", "/x", "/d", "1", "token", "s", "mine");
      expect(made).toEqual({ ok: true, data: [`${rootPath}/jobs/u${users.second.uid}/mine`] });
    });

    test("a user whom the user database does not know is denied", async () => {
      const answer = await busctlAs(unlistedUser(), fixture.bus.address, rootPath, managerInterface, "ListJobs", "a{sv}", "0");
      // dbus-daemon turns such a user away itself; dbus-broker leaves it to the service.
      expect(answer.ok).toBe(false);
    });

    test("a caller without its primary group is denied", async () => {
      const without = { uid: users.first.uid, gid: users.second.gid, groups: [users.second.gid] };
      const answer = await busctlAs(without, fixture.bus.address, rootPath, managerInterface, "ListJobs", "a{sv}", "0");
      expect(JSON.stringify(answer)).toContain("Access denied");
    });

    test("supplementary groups come from the bus", async () => {
      const member = { ...users.first, groups: [users.first.gid, 4242] };
      const made = await busctlAs(
        member,
        fixture.bus.address,
        rootPath,
        managerInterface,
        "CopyUris",
        "assa{sv}",
        "1",
        "/x",
        "/d",
        "1",
        "token",
        "s",
        "grouped",
      );
      expect(made.ok).toBe(true);
      expect([...fixture.jobAt(`${rootPath}/jobs/u${users.first.uid}/grouped`).owner.groups].sort()).toEqual(
        [users.first.gid, 4242].sort(),
      );
    });

    test("without polkit nobody but root is an administrator", async () => {
      const asked = await call(
        "first",
        rootPath,
        managerInterface,
        "CopyAsAdmin",
        "aayaya{sv}",
        "1",
        "2",
        "47",
        "97",
        "2",
        "47",
        "98",
        "0",
      );
      expect(JSON.stringify(asked)).toContain("polkit could not be asked about org.copyd.copy-as-admin");
      const listed = await call("first", rootPath, managerInterface, "ListJobs", "a{sv}", "1", "all-users", "b", "true");
      expect(JSON.stringify(listed)).toContain("org.copyd.manage-others");
      const [path] = await callService(fixture.client, rootPath, managerInterface, "CopyAsAdmin", "aayaya{sv}", [
        [pathOf("/a")],
        pathOf("/b"),
        new Map(),
      ]);
      expect(await fixture.property(String(path), "AsAdmin")).toBe(true);
      const [all] = await callService(fixture.client, rootPath, managerInterface, "ListJobs", "a{sv}", [
        new Map([["all-users", variant.b(true)]]),
      ]);
      expect((all as unknown[]).length).toBe(fixture.jobs.list(null).length);
    });

    testUnless(whyNoPython(), "python-dbus is served as anybody", async () => {
      const script = `
import dbus, dbus.bus, sys
bus = dbus.bus.BusConnection(sys.argv[1])
manager = dbus.Interface(bus.get_object("org.copyd.Copyd1", "${rootPath}"), "${managerInterface}")
path = manager.Copy([dbus.ByteArray(b"/a\\xff")], dbus.ByteArray(b"/d"), {"token": "python", "umask": dbus.UInt32(0o77)}, byte_arrays=True)
job = dbus.Interface(bus.get_object("org.copyd.Copyd1", path), "${properties}")
print(path, job.Get("${jobInterface}", "State"), bytes(job.Get("${jobInterface}", "Sources", byte_arrays=True)[0]))
try:
    manager.Copy([], dbus.ByteArray(b"/d"), dbus.Dictionary({}, signature="sv"))
except dbus.DBusException as error:
    print(error.get_dbus_name())
`;
      const asUser = await run([
        "setpriv",
        `--reuid=${users.second.uid}`,
        `--regid=${users.second.gid}`,
        "--clear-groups",
        "/usr/bin/python3",
        "-c",
        script,
        fixture.bus.address,
      ]);
      expect(asUser.stderr).toBe("");
      expect(asUser.stdout.split("\n").slice(0, 2)).toEqual([
        `${rootPath}/jobs/u${users.second.uid}/python queued b'/a\\xff\\x00'`,
        `${dbusError}.InvalidArgs`,
      ]);
    });
  });
});

function whyNoPython(): string | null {
  if (!existsSync("/usr/bin/python3")) return "python3 is not installed";
  return Bun.spawnSync(["/usr/bin/python3", "-c", "import dbus"]).success ? null : "python3-dbus is not installed";
}
