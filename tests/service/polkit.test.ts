// What goes beyond a caller's own files and jobs is polkit's to allow: asked about the right caller, and only a clear yes counts.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Message, MessageType } from "../../src/dbus/codec.ts";
import type { BusConnection } from "../../src/dbus/connection.ts";
import { busName, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant } from "../../src/dbus/values.ts";
import { whyNoBus } from "../support/bus.ts";
import { busctlAs } from "../support/bus-client.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { asUser, passwdUsers, type TestUsers, whyNoPasswdUsers } from "../support/users.ts";

/** Stands in for polkitd, which needs a session to ask anybody: answers as it is told and keeps what it was asked. */
class Authority {
  readonly asked: (readonly unknown[])[] = [];
  readonly cancelled: unknown[] = [];
  /** null: a person thinks about it. */
  answer: readonly [boolean, boolean] | null = [false, false];
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
    if (message.member === "CancelCheckAuthorization") {
      this.cancelled.push(message.body[0]);
      return;
    }
    this.asked.push(message.body);
    if (this.answer === null) return;
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

  const details = (): Record<string, string> => Object.fromEntries((authority.asked.at(-1)?.[2] ?? []) as Map<string, string>);
  const bytes = (path: string): string[] => [String(path.length), ...[...path].map((byte) => String(byte.charCodeAt(0)))];
  const asAdmin = (method: string, sources: readonly string[], destination: string) => {
    const args = ["aayaya{sv}", String(sources.length), ...sources.flatMap(bytes), ...bytes(destination), "0"];
    return busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, method, ...args);
  };

  test("the question names the files, whatever bytes are in their names, and never at any length", async () => {
    authority.answer = [false, false];
    await asAdmin("CopyAsAdmin", ["/home/a b"], "/etc/");
    expect(details()).toEqual({ source: "'/home/a b'", destination: "'/etc/'", "source-count": "1" });
    await asAdmin("CopyAsAdmin", ["/a\n\x1b[2J\xff", "/b", "/c"], "/$(source)' to '/tmp");
    expect(details().source).toBe("'/a'$'\\n\\033''[2J'$'\\377' and 2 others");
    // What looks like the policy's own placeholders is text, and quotes cannot be closed from inside.
    expect(details().destination).toBe(`'/$(source)'\\'' to '\\''/tmp'`);
    // A right-to-left override would show gpj.exe as exe.jpg.
    await asAdmin("CopyAsAdmin", [Buffer.from("/\u202egpj.exe").toString("latin1")], "/b");
    expect(details().source).toBe("'/\\u{202e}gpj.exe'");
    await asAdmin("CopyAsAdmin", [`/${"x".repeat(3000)}/end`], "/b");
    expect(details().source).toMatch(/^'\/x+\.\.\.x+\/end'$/);
    expect(details().source?.length).toBe(160);
  });

  test("a move as administrator is another action than a copy", async () => {
    authority.answer = [true, false];
    expect((await asAdmin("MoveAsAdmin", ["/a"], "/b")).ok).toBe(true);
    expect(authority.asked.at(-1)?.[1]).toBe("org.copyd.move-as-admin");
    expect(fixture.jobs.list(users.first.uid).at(-1)).toMatchObject({ asAdmin: true, request: { operation: "move" } });
  });

  test("options that follow links anywhere are refused as administrator before it is asked", async () => {
    const asked = authority.asked.length;
    const path = ["1", ...bytes("/a"), ...bytes("/b")];
    for (const option of [
      ["symlinks", "s", "follow"],
      ["in-place", "b", "true"],
      ["parents", "b", "true"],
    ]) {
      const args = ["aayaya{sv}", ...path, "1", ...option];
      const answer = await busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, "CopyAsAdmin", ...args);
      expect(JSON.stringify(answer)).toContain("is not for administrators' jobs");
    }
    expect(authority.asked.length).toBe(asked);
  });

  test("beyond the limits it is asked, and its no is the limit's own refusal", async () => {
    const many = (count: number, ...flags: string[]) => {
      const sources = Array.from({ length: count }, () => bytes("/a")).flat();
      const args = ["aayaya{sv}", String(count), ...sources, ...bytes("/b"), "0", ...flags];
      return busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, "Copy", ...args);
    };
    authority.answer = [true, false];
    expect((await many(101)).ok).toBe(true);
    expect(authority.asked.at(-1)?.[1]).toBe("org.copyd.override-limits");
    expect(details()).toEqual({ reason: "101 sources are more than the 100 that one call may have" });
    authority.answer = [false, true];
    const refused = await many(101, "--allow-interactive-authorization=no");
    expect(refused).toEqual({ ok: false, error: "Call failed: 101 sources are more than the 100 that one call may have" });
    expect(JSON.stringify(await many(101, "--allow-interactive-authorization=yes"))).toContain("one call may have; polkit does not allow");
    const asked = authority.asked.length;
    // There is an end to what can be allowed.
    expect(JSON.stringify(await many(401))).toContain("401 sources are more than the 400");
    expect(authority.asked.length).toBe(asked);
  });

  test("a user with too many jobs is let beyond where it is allowed", async () => {
    fixture.jobs.maxJobsPerUser = fixture.jobs.list(users.second.uid).length;
    const submit = () => {
      const args = ["aayaya{sv}", "1", ...bytes("/a"), ...bytes("/b"), "0"];
      return busctlAs(users.second, fixture.bus.address, rootPath, managerInterface, "Copy", ...args);
    };
    authority.answer = [false, false];
    expect((await submit()).ok).toBe(false);
    authority.answer = [true, false];
    expect((await submit()).ok).toBe(true);
    fixture.jobs.maxJobsPerUser = Number.POSITIVE_INFINITY;
  });

  test("the question is taken back when its caller leaves, and nothing is done", async () => {
    authority.answer = null;
    const asked = authority.asked.length;
    const jobs = fixture.jobs.list(null).length;
    const command = ["busctl", `--address=${fixture.bus.address}`, "call", busName, rootPath, managerInterface, "CopyAsAdmin"];
    const child = Bun.spawn(asUser(users.first, [...command, "aayaya{sv}", "1", ...bytes("/a"), ...bytes("/b"), "0"]), {
      stdout: "ignore",
      stderr: "ignore",
    });
    await until(() => authority.asked.length > asked);
    const [, , , flags, cancellationId] = authority.asked.at(-1) ?? [];
    expect(flags).toBe(1);
    child.kill("SIGKILL");
    await child.exited;
    await until(() => authority.cancelled.includes(cancellationId));
    expect(fixture.jobs.list(null).length).toBe(jobs);
    // Nor is one counted against the user that is over.
    authority.answer = [true, false];
    for (let round = 0; round < 10; round++) expect((await copyAsAdmin()).ok).toBe(true);
  });

  test("the audit trail is shown to whom it allows it, as was asked", async () => {
    fixture.trail.push({
      id: 7,
      timeUs: 5,
      event: "refusal",
      uid: 4242,
      method: "Copy",
      sender: ":1.9",
      job: "j",
      code: "bad-path",
      untold: 3,
    });
    const audit = (user: TestUsers["first"], ...filter: string[]) =>
      busctlAs(user, fixture.bus.address, rootPath, managerInterface, "ListAudit", "a{sv}", ...filter);
    authority.answer = [true, false];
    const shown = JSON.stringify(await audit(users.second, "3", "uid", "u", "4242", "code", "s", "bad-path", "before", "t", "9"));
    for (const fact of ["refusal", "4242", "bad-path", ":1.9"]) expect(shown).toContain(fact);
    expect(fixture.auditQueries.splice(0)).toEqual([{ uid: 4242, code: "bad-path", beforeId: 9, limit: 1000 }]);
    expect(authority.asked.at(-1)?.[1]).toBe("org.copyd.read-audit");
    authority.answer = [false, false];
    expect(JSON.stringify(await audit(users.second, "0"))).toContain("org.copyd.read-audit");
    expect(JSON.stringify(await audit(users.second, "1", "event", "s", "gossip"))).toContain("option 'event' takes");
    expect(fixture.auditQueries).toEqual([]);
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

async function until(isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!isSo()) {
    if (performance.now() > deadlineMs) throw new Error(`waited in vain: ${isSo}`);
    await Bun.sleep(5);
  }
}
