// What goes beyond a caller's own files and jobs is polkit's to allow: asked about the right caller, and only a clear yes counts.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { type Message, MessageType } from "../../src/dbus/codec.ts";
import type { BusConnection } from "../../src/dbus/connection.ts";
import { busName, jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { defaultServiceLimits } from "../../src/dbus/service-limits.ts";
import { Variant } from "../../src/dbus/values.ts";
import { whyNoBus } from "../support/bus.ts";
import { busctlAs, callService, logSignals, variant } from "../support/bus-client.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { asUser, passwdUsers, type TestUsers, whyNoPasswdUsers } from "../support/users.ts";

const properties = "org.freedesktop.DBus.Properties";

/** Stands in for polkitd, which needs a session to ask anybody: answers as it is told and keeps what it was asked. */
class Authority {
  readonly asked: (readonly unknown[])[] = [];
  readonly cancelled: unknown[] = [];
  /** null: a person thinks about it. */
  answer: readonly [boolean, boolean] | null = [false, false];
  private readonly held: Message[] = [];
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
    if (this.answer === null) this.held.push(message);
    else this.reply(message, this.answer);
  }

  /** Whoever has thought about it so far comes to this answer. */
  decide(answer: readonly [boolean, boolean]): void {
    for (const message of this.held.splice(0)) this.reply(message, answer);
  }

  private reply(message: Message, answer: readonly [boolean, boolean]): void {
    const reply = { type: MessageType.return, replySerial: message.serial, destination: message.sender };
    this.connection.send({ ...reply, signature: "(bba{ss})", body: [[...answer, new Map()]] });
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

  test("another user's job is seen and steered by whom it allows, and is not there for anybody else, whatever it is asked", async () => {
    const bytesOfPaths = ["aayaya{sv}", "1", ...bytes("/theirs"), ...bytes("/b"), "1", "token", "s", "theirs"];
    expect((await busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, "Copy", ...bytesOfPaths)).ok).toBe(true);
    const at = (token: string): string => `${rootPath}/jobs/u${users.first.uid}/${token}`;
    const ask = (token: string, interfaceName: string, member: string, ...args: string[]) =>
      busctlAs(users.second, fixture.bus.address, at(token), interfaceName, member, ...args);
    const steer: readonly (readonly string[])[] = [
      ["Pause", "a{sv}", "0"],
      ["Resume", "a{sv}", "0"],
      ["Answer", "usa{sv}", "1", "skip", "0"],
      ["SetOptions", "a{sv}", "1", "priority", "s", "low"],
      ["GetErrors", "uu", "0", "0"],
      ["Cancel", "a{sv}", "0"],
      ["Wait", "a{sv}", "0"],
      ["Forget", "a{sv}", "0"],
    ];
    const asked = fixture.jobs.asked.length;
    for (const answer of [
      [false, false],
      [false, true],
    ] as const) {
      authority.answer = answer;
      fixture.audit.splice(0);
      for (const [member = "", ...args] of steer) {
        const answers = [];
        for (const token of ["theirs", "none"]) answers.push(JSON.stringify(await ask(token, jobInterface, member, ...args)));
        expect(answers[0]?.replace("/theirs", "/none")).toBe(answers[1] ?? "");
        expect(answers[0]).toContain("no object at");
      }
      expect(JSON.stringify(await ask("theirs", properties, "GetAll", "s", jobInterface))).toContain("no object at");
      const refusals = fixture.audit.filter(({ event }) => event === "refusal");
      const code = answer[1] ? "authorization-required" : "not-authorized";
      const who = { uid: users.second.uid, owner: users.first.uid, code };
      expect(refusals.slice(0, 2)).toMatchObject(["theirs", "none"].map((job) => ({ ...who, method: "Pause", job }) as never));
      expect(refusals).toHaveLength(2 * steer.length + 1);
      expect(fixture.audit.filter(({ event }) => event !== "refusal")).toEqual([]);
    }
    expect(fixture.jobs.asked.length).toBe(asked);

    authority.answer = [true, false];
    fixture.audit.splice(0);
    expect(JSON.stringify(await ask("theirs", properties, "GetAll", "s", jobInterface))).toContain("OwnerUid");
    expect(JSON.stringify(await ask("none", properties, "GetAll", "s", jobInterface))).toContain("no object at");
    for (const [member = "", ...args] of steer) {
      if (member === "Wait") expect((await ask("theirs", jobInterface, member, ...args)).ok).toBe(true);
      else if (member !== "Answer") expect([member, (await ask("theirs", jobInterface, member, ...args)).ok]).toEqual([member, true]);
    }
    expect(fixture.jobs.asked.slice(asked).map((text) => text.split(" ")[0] ?? "")).toEqual(["pause", "resume", "set-options", "cancel"]);
    expect(details()).toEqual({ owner: String(users.first.uid), job: "theirs" });
    expect(authority.asked.at(-1)?.[1]).toBe("org.copyd.manage-others");
    const told = fixture.audit.filter(({ method, event }) => method === "Pause" || event === "grant").slice(0, 4);
    const who = { uid: users.second.uid, owner: users.first.uid };
    expect(told).toMatchObject([
      { ...who, event: "grant", action: "org.copyd.manage-others", job: "theirs" } as never,
      { ...who, event: "grant", job: "none" } as never,
      { ...who, event: "grant", job: "theirs" } as never,
      { ...who, event: "request", method: "Pause", job: "theirs" } as never,
    ]);
  });

  test("another user's signals are sent to whom it allows them, and one user's jobs are listed", async () => {
    const args = ["aayaya{sv}", "1", ...bytes("/a"), ...bytes("/b"), "1", "token", "s", "heard"];
    const subscribe = (uid: number) =>
      busctlAs(users.second, fixture.bus.address, rootPath, managerInterface, "Subscribe", "a{sv}", "1", "uid", "u", String(uid));
    const list = (uid: number) =>
      busctlAs(users.second, fixture.bus.address, rootPath, managerInterface, "ListJobs", "a{sv}", "1", "uid", "u", String(uid));
    authority.answer = [false, false];
    expect(JSON.stringify(await subscribe(users.first.uid))).toContain("polkit does not allow org.copyd.manage-others");
    expect(JSON.stringify(await list(users.first.uid))).toContain("polkit does not allow org.copyd.manage-others");
    expect((await list(users.second.uid)).ok).toBe(true);
    expect(fixture.service.promises().subscriptions).toEqual([]);
    authority.answer = [true, false];
    // root's connection stays, as busctl's does not.
    const connection = await fixture.bus.connect();
    const log = logSignals(connection);
    const options = new Map([
      ["uid", variant.u(users.first.uid)],
      ["token", variant.s("heard")],
    ]);
    await callService(connection, rootPath, managerInterface, "Subscribe", "a{sv}", [options]);
    expect(fixture.service.promises().subscriptions).toMatchObject([{ uid: 0, owner: users.first.uid, token: "heard" }]);
    expect((await busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, "Copy", ...args)).ok).toBe(true);
    await log.until("InterfacesAdded", 1);
    // Not the same user's others, nor one of that name of somebody else's.
    const other = [...args.slice(0, -1), "unheard"];
    expect((await busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, "Copy", ...other)).ok).toBe(true);
    expect((await busctlAs(users.second, fixture.bus.address, rootPath, managerInterface, "Copy", ...args)).ok).toBe(true);
    fixture.jobs.cancel(fixture.jobAt(`${rootPath}/jobs/u${users.first.uid}/heard`));
    await log.until("Finished", 1);
    expect(log.signals.filter(({ member }) => member === "InterfacesAdded")).toHaveLength(1);
    expect(JSON.stringify(await list(users.first.uid))).toContain(`/jobs/u${users.first.uid}/heard`);
    expect(JSON.stringify(await list(users.first.uid))).not.toContain(`/jobs/u${users.second.uid}/`);
    connection.close();
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

  test("options that follow links anywhere, or do more than the question says, are refused as administrator before it is asked", async () => {
    const asked = authority.asked.length;
    const path = ["1", ...bytes("/a"), ...bytes("/b")];
    for (const option of [
      ["symlinks", "s", "follow"],
      ["in-place", "b", "true"],
      ["parents", "b", "true"],
      ["make", "s", "symbolic-link"],
      ["make", "s", "hard-link"],
      ["exchange", "b", "true"],
      ["keep-directory-symlink", "b", "true"],
      ["follow-dangling-destination", "b", "true"],
      ["manifest", "ay", "2", "47", "109"],
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
    // A yes that is on its way by then comes too late.
    authority.decide([true, false]);
    authority.answer = [false, false];
    expect((await copyAsAdmin()).ok).toBe(false);
    expect(fixture.jobs.list(null).length).toBe(jobs);
    // Nor is one counted against the user that is over.
    authority.answer = [true, false];
    for (let round = 0; round < 10; round++) expect((await copyAsAdmin()).ok).toBe(true);
  });

  test("a user may have only so many questions open, and others ask on", async () => {
    authority.answer = null;
    const asked = authority.asked.length;
    const open = [copyAsAdmin()];
    await until(() => authority.asked.length === asked + 1);
    // Beside it, nothing is asked for the sake of what goes beyond other limits.
    const sources = Array.from({ length: 101 }, () => bytes("/a")).flat();
    const many = ["aayaya{sv}", "101", ...sources, ...bytes("/b"), "0"];
    const refused = await busctlAs(users.first, fixture.bus.address, rootPath, managerInterface, "Copy", ...many);
    expect(JSON.stringify(refused)).toContain("101 sources are more than the 100");
    while (open.length < defaultServiceLimits.maxAuthorizationsPerUser) open.push(copyAsAdmin());
    await until(() => authority.asked.length === asked + open.length);
    expect(JSON.stringify(await copyAsAdmin())).toContain("too many authorizations of your user are under way");
    const others = ["aayaya{sv}", "1", ...bytes("/a"), ...bytes("/b"), "0"];
    const other = busctlAs(users.second, fixture.bus.address, rootPath, managerInterface, "CopyAsAdmin", ...others);
    await until(() => authority.asked.length === asked + open.length + 1);
    authority.decide([true, false]);
    for (const call of [...open, other]) expect((await call).ok).toBe(true);
    expect(authority.asked.length).toBe(asked + open.length + 1);
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
