// The moment in which an idle service gives up its name: calls that come in it are answered, and what they ask for is handed on.

import { expect } from "bun:test";
import { writeFileSync } from "node:fs";
import { leaveHandover, takeHandover } from "../../src/daemon/handover.ts";
import { managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Service } from "../../src/dbus/service.ts";
import { Variant } from "../../src/dbus/values.ts";
import { whyNoBus } from "../support/bus.ts";
import { callService } from "../support/bus-client.ts";
import { startServiceFixture } from "../support/service.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const source = Buffer.from("/source\0");
const destination = Buffer.from("/destination\0");

testUnless(whyNoBus(), "calls that came before the name went are answered, and what they were promised is known", async () => {
  await using fixture = await startServiceFixture();
  const { client, service } = fixture;
  const options = new Map([
    ["token", new Variant("s", "late")],
    ["on-disconnect", new Variant("s", "cancel")],
  ]);
  const late = [
    callService(client, rootPath, managerInterface, "Subscribe", "a{sv}", [new Map()]),
    callService(client, rootPath, managerInterface, "Copy", "aayaya{sv}", [[source], destination, options]),
    callService(client, rootPath, "org.freedesktop.DBus.Peer", "Ping", "", []),
  ];
  const uid = process.getuid?.() ?? 0;
  let held = 0;
  expect(await service.releaseIfIdle(() => held++)).toBe(true);
  expect(await Promise.all(late)).toEqual([[], [`${rootPath}/jobs/u${uid}/late`], []]);
  expect(held).toBe(1);
  const { subscriptions } = service.promises();
  expect(subscriptions).toEqual([{ sender: expect.stringMatching(/^:/), uid, owner: uid, token: null, lines: false, errors: false }]);

  // The next service, which has the job from the store.
  const { bus, jobs } = fixture;
  await service.stop();
  const next = new Service({ connection: await bus.connect(), jobs, kind: "system", version: "2", reportInternal: () => undefined });
  await next.start();
  const gone = { sender: ":1.987654", uid };
  await next.keep({
    subscriptions: [
      ...subscriptions,
      { ...gone, owner: uid, token: null, lines: false, errors: false },
      { sender: subscriptions[0]?.sender ?? "", uid: uid + 1, owner: uid, token: null, lines: true, errors: true },
    ],
  });
  expect(next.promises()).toEqual({ subscriptions });
  expect(next.isBusy()).toBe(true);
  const state = (): string | undefined => jobs.get(uid, "late")?.state;
  expect(state()).toBe("queued");
  client.close();
  for (let tries = 0; state() !== "cancelled" && tries < 400; tries++) await Bun.sleep(10);
  expect(state()).toBe("cancelled");
});

testUnless(null, "what is left for the next service is taken once, and not when it is old or makes no sense", async () => {
  await using directory = await temporaryDirectory();
  const promises = { subscriptions: [{ sender: ":1.2", uid: 7, owner: 8, token: "x", lines: true, errors: true }] };
  leaveHandover(directory.path, promises);
  expect(takeHandover(directory.path)).toEqual(promises);
  const none = { subscriptions: [] };
  expect(takeHandover(directory.path)).toEqual(none);
  for (const text of [JSON.stringify({ ...promises, writtenMs: Date.now() - 3_600_000 }), "{}", "not JSON"]) {
    writeFileSync(`${directory.path}/handover.json`, text);
    expect(takeHandover(directory.path)).toEqual(none);
  }
});
