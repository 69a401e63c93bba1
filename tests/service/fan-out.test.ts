// Copies to several destinations, asked for on a real bus: objects for all of them, refusals for what cannot be, nothing for strangers.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { whyNoBus } from "../support/bus.ts";
import { busctlAs } from "../support/bus-client.ts";
import { type JobService, startJobService } from "../support/job-service.ts";
import { worldReadableWorker } from "../support/jobs.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { passwdUsers, type TestUsers, whyNoPasswdUsers } from "../support/users.ts";

const properties = "org.freedesktop.DBus.Properties";

/** A path as busctl takes an `ay`: its length and its bytes. */
function ay(path: string): string[] {
  const bytes = [...Buffer.from(path)];
  return [String(bytes.length), ...bytes.map(String)];
}

function aay(...paths: string[]): string[] {
  return [String(paths.length), ...paths.flatMap(ay)];
}

describeUnless(firstReason(whyNoBus(), whyNoPasswdUsers()), "fan-out", () => {
  let service: JobService;
  let users: TestUsers;
  let worker: Awaited<ReturnType<typeof worldReadableWorker>>;
  const call = (user: "first" | "second", path: string, interfaceName: string, member: string, ...args: string[]) =>
    busctlAs(users[user], service.bus.address, path, interfaceName, member, ...args);
  const copy = (member: string, source: string, destination: string, ...options: string[]) =>
    call("first", rootPath, managerInterface, member, "aayaya{sv}", ...aay(source), ...ay(destination), ...options);
  const jobPath = (token: string): string => `${rootPath}/jobs/u${users.first.uid}/${token}`;

  beforeAll(async () => {
    users = await passwdUsers();
    worker = await worldReadableWorker();
    service = await startJobService({ self: worker.command });
  });
  afterAll(async () => {
    await service[Symbol.asyncDispose]();
    await users[Symbol.asyncDispose]();
    await worker[Symbol.asyncDispose]();
  });

  test("each destination is a job with a path that is known before; each is told of the others", async () => {
    const made = await copy("Copy", "/test/well", "/test/a", "2", "token", "s", "fan", "also-to", "aay", ...aay("/test/b", "/test/c"));
    expect(made).toEqual({ ok: true, data: [jobPath("fan")] });
    const paths = ["fan", "fan_2", "fan_3"].map(jobPath);
    for (const path of paths) {
      const ended = await call("first", path, jobInterface, "Wait", "a{sv}", "0");
      expect(JSON.stringify(ended)).toContain('"completed"');
      const told = await call("first", path, properties, "Get", "ss", jobInterface, "Group");
      expect(JSON.stringify(told)).toContain(JSON.stringify(paths));
      const token = await call("first", path, properties, "Get", "ss", jobInterface, "GroupToken");
      expect(JSON.stringify(token)).toContain('"fan"');
    }
    // The same call again: the same job.
    expect(await copy("Copy", "/test/well", "/test/a", "2", "token", "s", "fan", "also-to", "aay", ...aay("/test/b", "/test/c"))).toEqual(
      made,
    );
  });

  test("a second user sees none of them", async () => {
    for (const token of ["fan", "fan_2", "fan_3"]) {
      expect(JSON.stringify(await call("second", jobPath(token), jobInterface, "Cancel", "a{sv}", "1", "group", "b", "true"))).toContain(
        "no object at",
      );
      expect(JSON.stringify(await call("second", rootPath, managerInterface, "GetJob", "s", token))).toContain("you have no job");
    }
    expect(await call("second", rootPath, managerInterface, "ListJobs", "a{sv}", "0")).toEqual({ ok: true, data: [[]] });
  });

  test("paths that are no paths, and calls that cannot be, are refused by name and make no job", async () => {
    const refused = async (member: string, ...options: string[]): Promise<string> =>
      JSON.stringify(await copy(member, "/test/well", "/test/a", ...options));
    const also = (...list: string[]): string[] => ["also-to", "aay", ...list];
    expect(await refused("Copy", "2", "token", "s", "bad", ...also(...aay("/test/b", "relative")))).toMatch(
      /destination 3 is not absolute/,
    );
    expect(await refused("Copy", "2", "token", "s", "bad", ...also("1", "3", "47", "0", "47"))).toContain("destination 2");
    expect(await refused("Copy", "2", "token", "s", "bad", ...also(...aay(`/${"x".repeat(5000)}`)))).toContain("destination 2");
    expect(await refused("Copy", "2", "token", "s", "bad", "also-to", "as", "1", "/b")).toMatch(/of type 'aay'/);
    expect(await refused("Copy", "2", "token", "s", "bad", ...also(...aay("/test/a")))).toMatch(/two of the destinations are the same/);
    expect(await refused("Move", "2", "token", "s", "bad", ...also(...aay("/test/b")))).toMatch(/a move has one destination/);
    expect(await refused("CopyAsAdmin", "2", "token", "s", "bad", ...also(...aay("/test/b")))).toContain("there cannot be several");
    expect(await refused("Preview", "1", ...also(...aay("/test/b")))).toContain("one destination");
    expect(await refused("Copy", "3", "token", "s", "bad", "cache", "s", "drop", ...also(...aay("/test/b")))).toMatch(/cannot be dropped/);
    const list = JSON.stringify(await call("first", rootPath, managerInterface, "ListJobs", "a{sv}", "0"));
    expect(list).not.toContain("bad");
  });

  test("`group` cancels all of them, and cancels none where it is false", async () => {
    await copy("Copy", "/test/run", "/test/b", "2", "token", "s", "slow", "also-to", "aay", ...aay("/test/c"));
    const state = async (token: string): Promise<string> =>
      JSON.stringify(await call("first", jobPath(token), properties, "Get", "ss", jobInterface, "State"));
    await call("first", jobPath("slow_2"), jobInterface, "Cancel", "a{sv}", "1", "group", "b", "false");
    await call("first", jobPath("slow_2"), jobInterface, "Wait", "a{sv}", "0");
    expect(await state("slow")).not.toContain("cancelled");
    expect(await call("first", jobPath("slow_2"), jobInterface, "Cancel", "a{sv}", "1", "group", "b", "true")).toMatchObject({ ok: true });
    await call("first", jobPath("slow"), jobInterface, "Wait", "a{sv}", "0");
    expect(await state("slow")).toContain("cancelled");
  });
});
