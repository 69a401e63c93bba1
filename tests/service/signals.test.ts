// Signals on a real bus: to subscribers only, no more often than needed, the end last.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { MessageType } from "../../src/dbus/codec.ts";
import { driver } from "../../src/dbus/connection.ts";
import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { asVariantDict, Variant } from "../../src/dbus/values.ts";
import { whyNoBus, whyNoGdbus } from "../support/bus.ts";
import { busctlAs, callService, copy, errorOf, logSignals, variant } from "../support/bus-client.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless, firstReason, testUnless } from "../support/skip.ts";
import { passwdUsers, type TestUsers, whyNoPasswdUsers } from "../support/users.ts";

const dbusError = "org.freedesktop.DBus.Error";

describeUnless(firstReason(whyNoBus(), whyNoPasswdUsers()), "signals", () => {
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

  describe("signals", () => {
    test("tell a subscriber of the job's life: added, changes, the end last, removal", async () => {
      const connection = await fixture.bus.connect();
      const log = logSignals(connection);
      await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]);
      const path = await copy(connection, ["/a"]);
      fixture.jobs.update(fixture.jobAt(path), { state: "running", bytesDone: 1 }, true);
      const waited = callService(connection, path, jobInterface, "Wait", "a{sv}", [new Map()]).then(() =>
        log.signals.map(({ member }) => member),
      );
      await callService(connection, path, "org.freedesktop.DBus.Peer", "Ping");
      fixture.jobs.update(fixture.jobAt(path), { bytesDone: 2 });
      fixture.jobs.end(fixture.jobAt(path), "completed");
      const beforeReply = await waited;
      expect(beforeReply.at(-1)).toBe("Finished");
      fixture.jobs.forget(fixture.jobAt(path));
      await log.until("InterfacesRemoved", 1);
      const members = log.signals.filter(({ body, path: from }) => from === path || body[0] === path).map(({ member }) => member);
      expect(members).toEqual(["InterfacesAdded", "PropertiesChanged", "PropertiesChanged", "Finished", "InterfacesRemoved"]);
      const last = log.signals.filter(({ member }) => member === "PropertiesChanged").at(-1)?.body[1] as Map<string, Variant>;
      expect(last.get("State")?.value).toBe("completed");
      expect(last.get("BytesDone")?.value).toBe(2n);
      expect(last.has("Rate")).toBe(false);
      connection.close();
    });

    test("tell once what one event changes, before anything else happens", async () => {
      const connection = await fixture.bus.connect();
      const log = logSignals(connection);
      await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]);
      const path = await copy(connection, ["/a"]);
      fixture.jobs.update(fixture.jobAt(path), { state: "running" }, true);
      await Promise.resolve();
      fixture.jobs.update(fixture.jobAt(path), { state: "paused" }, true);
      fixture.jobs.update(fixture.jobAt(path), { state: "finishing" }, true);
      fixture.jobs.end(fixture.jobAt(path), "completed");
      await log.until("Finished", 1);
      const told = log.signals.flatMap(({ member, body }) =>
        member === "PropertiesChanged" ? [(body[1] as Map<string, Variant>).get("State")?.value] : [member],
      );
      expect(told).toEqual(["InterfacesAdded", "running", "completed", "Finished"]);
      connection.close();
    });

    test("progress is coalesced, and only what changed is told", async () => {
      const connection = await fixture.bus.connect();
      const log = logSignals(connection);
      await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]);
      const path = await copy(connection, ["/a"]);
      const started = Date.now();
      let updates = 0;
      while (Date.now() - started < 1100) {
        fixture.jobs.update(fixture.jobAt(path), { bytesDone: ++updates });
        await Bun.sleep(2);
      }
      await log.until("PropertiesChanged", 3);
      await Bun.sleep(300);
      const changes = log.signals.filter(({ member }) => member === "PropertiesChanged");
      expect(updates).toBeGreaterThan(20);
      expect(changes.length).toBeLessThanOrEqual(7);
      expect([...asVariantDict(changes.at(-1)?.body[1])]).toEqual([["BytesDone", new Variant("t", BigInt(updates))]]);
      connection.close();
    });

    test("can be had for one job by its token, before it exists, with its lines", async () => {
      const connection = await fixture.bus.connect();
      const log = logSignals(connection);
      const options = new Map([
        ["token", variant.s("heard")],
        ["lines", variant.b(true)],
      ]);
      await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [options]);
      const other = await copy(fixture.client, ["/a"]);
      const heard = await copy(fixture.client, ["/a"], { token: variant.s("heard") });
      fixture.jobs.sayLines(fixture.jobAt(other), ["not for you"]);
      fixture.jobs.sayLines(fixture.jobAt(heard), ["'/a' -> '/b\xff'"]);
      await log.until("Lines", 1);
      expect(log.signals.map(({ member }) => member)).toEqual(["InterfacesAdded", "Lines"]);
      expect(log.signals[1]?.body).toEqual([[Buffer.from("'/a' -> '/b\xff'", "latin1")]]);
      connection.close();
    });

    test("go to subscribers of the job's owner only, never to everybody", async () => {
      const monitor = await fixture.bus.connect();
      const seen = logSignals(monitor);
      await monitor.call(
        {
          destination: driver.name,
          path: driver.path,
          interface: "org.freedesktop.DBus.Monitoring",
          member: "BecomeMonitor",
          signature: "asu",
          body: [["type='signal'"], 0],
        },
        5000,
      );
      const subscriber = await fixture.bus.connect();
      const log = logSignals(subscriber);
      await callService(subscriber, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]);
      const made = await busctlAs(
        users.first,
        fixture.bus.address,
        rootPath,
        managerInterface,
        "CopyUris",
        "assa{sv}",
        "1",
        "/private",
        "/d",
        "0",
      );
      expect(made.ok).toBe(true);
      const own = await copy(fixture.client, ["/a"]);
      fixture.jobs.end(fixture.jobAt(own), "completed");
      await log.until("Finished", 1);
      expect(JSON.stringify(log.signals.map(({ body }) => body[0]))).not.toContain(`u${users.first.uid}`);
      const fromService = seen.signals.filter(({ path }) => path?.startsWith(rootPath));
      expect(fromService.length).toBeGreaterThan(0);
      for (const { destination } of fromService) expect(destination).toBe(subscriber.uniqueName);
      subscriber.close();
      monitor.close();
    });

    test("could not be broadcast, by the bus's policy: none of copyd's interfaces, none of the root object", async () => {
      const listener = await fixture.bus.connect();
      const log = logSignals(listener);
      await listener.callDriver("AddMatch", "s", ["type='signal'"]);
      const broadcast = (path: string, interfaceName: string, member: string): void => {
        fixture.client.send({ type: MessageType.signal, path, interface: interfaceName, member, signature: "s", body: ["private"] });
      };
      broadcast(`${rootPath}/jobs/u0/any`, jobInterface, "Finished");
      broadcast(`${rootPath}/jobs/u0/any`, managerInterface, "Any");
      broadcast(rootPath, "org.freedesktop.DBus.ObjectManager", "InterfacesAdded");
      broadcast("/", "org.example.Other", "Last");
      await log.until("Last", 1);
      expect(log.signals.map(({ member }) => member)).toEqual(["Last"]);
      listener.close();
    });

    testUnless(whyNoGdbus(), "can be sent to another connection of the same user, and gdbus monitor shows them", async () => {
      const monitor = Bun.spawn(["gdbus", "monitor", "--address", fixture.bus.address, "--dest", "org.copyd.Copyd1"], { stdout: "pipe" });
      const isMonitor = async (name: string): Promise<boolean> => {
        const reply = await fixture.client.callDriver("GetConnectionUnixProcessID", "s", [name]);
        return reply.body[0] === monitor.pid;
      };
      let found: string | undefined;
      for (let tries = 0; found === undefined && tries < 200; tries++) {
        await Bun.sleep(20);
        const { body } = await fixture.client.callDriver("ListNames", "", []);
        for (const name of body[0] as string[]) if (name.startsWith(":") && (await isMonitor(name).catch(() => false))) found = name;
      }
      // It has to have asked who owns the name before it shows what the owner sends.
      await Bun.sleep(300);
      const options = new Map([["connection", variant.s(found ?? "")]]);
      await callService(fixture.client, rootPath, managerInterface, "Subscribe", "a{sv}", [options]);
      const job = await copy(fixture.client, ["/a"], { token: variant.s("monitored") });
      fixture.jobs.end(fixture.jobAt(job), "completed");
      let shown = "";
      const decoder = new TextDecoder();
      for await (const chunk of monitor.stdout) {
        shown += decoder.decode(chunk, { stream: true });
        if (shown.includes("Job.Finished")) break;
      }
      expect(shown).toContain("/org/copyd/Copyd1/jobs/u0/monitored: org.freedesktop.DBus.Properties.PropertiesChanged");
      monitor.kill();
      await monitor.exited;
    });

    test("are not sent to another user's connection", async () => {
      const subscribe = ["Subscribe", "a{sv}", "1", "connection", "s"] as const;
      for (const name of [fixture.client.uniqueName, ":1.99999", "nonsense", "org.copyd.Copyd1"]) {
        const answer = await busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, ...subscribe, name);
        expect(JSON.stringify(answer)).toContain(`names no connection of your user: '${name}'`);
      }
    });

    test("come once a second at most while many jobs run", async () => {
      const connection = await fixture.bus.connect();
      const log = logSignals(connection);
      await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map([["token", variant.s("crowded")]])]);
      const paths = [await copy(fixture.client, ["/a"], { token: variant.s("crowded") })];
      while (paths.length < 9) paths.push(await copy(fixture.client, ["/a"]));
      for (const path of paths) fixture.jobs.update(fixture.jobAt(path), { state: "running" }, true);
      const started = Date.now();
      for (let bytesDone = 1; Date.now() - started < 1500; bytesDone++) {
        fixture.jobs.update(fixture.jobAt(paths[0] ?? ""), { bytesDone });
        await Bun.sleep(5);
      }
      expect(log.signals.filter(({ member }) => member === "PropertiesChanged").length).toBeLessThanOrEqual(3);
      for (const path of paths) fixture.jobs.end(fixture.jobAt(path), "completed");
      connection.close();
    });

    test("end with Unsubscribe, and a subscription ends with its connection", async () => {
      const connections = await Promise.all([1, 2, 3].map(() => fixture.bus.connect()));
      for (const connection of connections) await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]);
      const fourth = await fixture.bus.connect();
      const subscribe = (): Promise<unknown> => callService(fourth, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]);
      expect((await errorOf(subscribe())).dbusName).toBe(`${dbusError}.LimitsExceeded`);
      connections[0]?.close();
      await Bun.sleep(50);
      await subscribe();
      const log = logSignals(fourth);
      await callService(fourth, rootPath, managerInterface, "Unsubscribe");
      await copy(fixture.client, ["/a"]);
      await callService(fourth, rootPath, "org.freedesktop.DBus.Peer", "Ping");
      expect(log.signals).toEqual([]);
      for (const connection of [...connections, fourth]) connection.close();
    });
  });
});
