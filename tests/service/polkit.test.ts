// What goes beyond a caller's own files and jobs is polkit's to allow: asked about the right caller, and only a clear yes counts.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Message, MessageType } from "../../src/dbus/codec.ts";
import type { BusConnection } from "../../src/dbus/connection.ts";
import { managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant } from "../../src/dbus/values.ts";
import { whyNoBus } from "../support/bus.ts";
import { busctlAs } from "../support/bus-client.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { passwdUsers, type TestUsers, whyNoPasswdUsers } from "../support/users.ts";

/** Stands in for polkitd, which needs a session to ask anybody: answers as it is told and keeps what it was asked. */
class Authority {
  readonly asked: (readonly unknown[])[] = [];
  answer: readonly [boolean, boolean] = [false, false];
  private readonly connection: BusConnection;

  constructor(connection: BusConnection) {
    this.connection = connection;
    connection.onMessage((message) => this.receive(message));
  }

  async start(): Promise<void> {
    await this.connection.callDriver("RequestName", "su", ["org.freedesktop.PolicyKit1", 4]);
  }

  private receive(message: Message): void {
    if (message.type !== MessageType.call) return;
    this.asked.push(message.body);
    const reply = { type: MessageType.return, replySerial: message.serial, destination: message.sender };
    this.connection.send({ ...reply, signature: "(bba{ss})", body: [[...this.answer, new Map()]] });
  }
}

describeUnless(firstReason(whyNoBus(), whyNoPasswdUsers()), "polkit", () => {
  let fixture: ServiceFixture;
  let users: TestUsers;
  let authority: Authority;
  beforeAll(async () => {
    users = await passwdUsers();
    fixture = await startServiceFixture();
    authority = new Authority(await fixture.bus.connect());
    await authority.start();
  });
  afterAll(async () => {
    expect(fixture.internal).toEqual([]);
    await fixture[Symbol.asyncDispose]();
    await users[Symbol.asyncDispose]();
  });

  const copyAsAdmin = (...flags: string[]) => {
    const args = ["aayaya{sv}", "1", "2", "47", "97", "2", "47", "98", "0", ...flags];
    return busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, "CopyAsAdmin", ...args);
  };

  test("is asked about the caller's connection and the action, and may not ask the user unless the call allows it", async () => {
    authority.answer = [true, false];
    expect((await copyAsAdmin("--allow-interactive-authorization=no")).ok).toBe(true);
    expect((await copyAsAdmin("--allow-interactive-authorization=yes")).ok).toBe(true);
    const [quiet, interactive] = authority.asked.slice(-2);
    const [[kind, details] = [], action] = (quiet ?? []) as readonly [readonly [string, Map<string, Variant>], string];
    expect([kind, action]).toEqual(["system-bus-name", "org.copyd.copy-as-admin"]);
    expect(details?.get("name")).toEqual(new Variant("s", expect.stringMatching(/^:1\.\d+$/) as never));
    expect([quiet?.[3], interactive?.[3]]).toEqual([0, 1]);
    const job = fixture.jobs.list(users.first.uid).at(-1);
    expect(job).toMatchObject({ asAdmin: true, owner: { uid: users.first.uid } });
  });

  test("a no is a no, and so is a question that may not be asked", async () => {
    const jobs = fixture.jobs.list(null).length;
    authority.answer = [false, false];
    expect(JSON.stringify(await copyAsAdmin())).toContain("polkit does not allow org.copyd.copy-as-admin");
    authority.answer = [false, true];
    expect(JSON.stringify(await copyAsAdmin("--allow-interactive-authorization=no"))).toMatch(
      /Interactive authentication required|needs a question/,
    );
    expect(fixture.jobs.list(null).length).toBe(jobs);
  });

  test("everybody's jobs are shown to whom it allows them", async () => {
    const list = (user: TestUsers["first"]) =>
      busctlAs(user, fixture.bus.address, rootPath, managerInterface, "ListJobs", "a{sv}", "1", "all-users", "b", "true");
    authority.answer = [true, false];
    expect(JSON.stringify(await list(users.second))).toContain(`/jobs/u${users.first.uid}/`);
    authority.answer = [false, false];
    expect(JSON.stringify(await list(users.second))).toContain("org.copyd.manage-others");
  });

  test("wrong arguments are refused before it is asked", async () => {
    const asked = authority.asked.length;
    const answer = await busctlAs(
      users.first,
      fixture.bus.address,
      rootPath,
      managerInterface,
      "CopyAsAdmin",
      "aayaya{sv}",
      "1",
      "1",
      "97",
      "2",
      "47",
      "98",
      "0",
    );
    expect(JSON.stringify(answer)).toContain("is not absolute");
    expect(authority.asked.length).toBe(asked);
  });
});
