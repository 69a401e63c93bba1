// What the kernel says about the workers of different callers, and what a worker cannot reach that was led astray.

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { byteStringFromText } from "../../src/bytes.ts";
import { connectService } from "../../src/dbus/client.ts";
import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { landlockAbi } from "../../src/ffi/landlock.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { workerEnvironment } from "../../src/worker/spawn.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { busctlAs } from "../support/bus-client.ts";
import { type DaemonProcess, startDaemon, whyNoOtherWorkers } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { describeUnless, firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { passwdUsers, type TestUsers } from "../support/users.ts";

const probe = { uid: 1_234_567, gid: 1_234_567 };
const supplementary = 424_242;

describeUnless(firstReason(unlessRoot(), whyNoBus(), whyNoOtherWorkers(probe)), "workers of different callers", () => {
  let users: TestUsers;
  let bus: PrivateBus;
  let daemon: DaemonProcess;
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

  /** The daemon's children that run as a user; a worker on its way through setpriv does not count yet. */
  const workersOf = (uid: number): number[] =>
    childrenOf(daemon.pid).filter((pid) => field(pid, "Uid").split("\t")[0] === String(uid) && field(pid, "NoNewPrivs") === "1");

  test("each is its caller and nobody else: ids, groups, capabilities, no_new_privs, directory, environment", async () => {
    const callers = [
      { ...users.first, groups: [users.first.gid, supplementary] },
      { ...users.second, groups: [users.second.gid] },
      { name: "root", uid: 0, gid: 0, groups: [0] },
    ];
    const large = `${bus.directory}/large`;
    writeFileSync(large, Buffer.alloc(4 * 1024 * 1024, "x"));
    chmodSync(large, 0o644);
    const call = (caller: (typeof callers)[number], path: string, interfaceName: string, member: string, ...args: string[]) =>
      busctlAs(caller, bus.address, path, interfaceName, member, ...args);
    for (const caller of callers) {
      const home = `${bus.directory}/home-${caller.uid}`;
      mkdirSync(home);
      chownSync(home, caller.uid, caller.gid);
      const options = ["2", "token", "s", "slow", "bandwidth-limit", "t", "20000"];
      const made = await call(caller, rootPath, managerInterface, "CopyUris", "assa{sv}", "1", large, `${home}/copy`, ...options);
      expect(made).toEqual({ ok: true, data: [`${rootPath}/jobs/u${caller.uid}/slow`] });
    }
    for (const caller of callers) {
      for (let wait = 0; workersOf(caller.uid).length === 0 && wait < 1000; wait++) await Bun.sleep(10);
      const [pid = 0] = workersOf(caller.uid);
      for (let wait = 0; !/bun|copyd/.test(readlinkSync(`/proc/${pid}/exe`)) && wait < 1000; wait++) await Bun.sleep(10);
      const four = (id: number): string => [id, id, id, id].join("\t");
      const none = "0".repeat(16);
      expect({
        uids: field(pid, "Uid"),
        gids: field(pid, "Gid"),
        groups: field(pid, "Groups").trim(),
        noNewPrivileges: field(pid, "NoNewPrivs"),
        ambient: field(pid, "CapAmb"),
        inheritable: field(pid, "CapInh"),
        directory: readlinkSync(`/proc/${pid}/cwd`),
      }).toEqual({
        uids: four(caller.uid),
        gids: four(caller.gid),
        groups: [...caller.groups].sort((one, other) => one - other).join(" "),
        noNewPrivileges: "1",
        ambient: none,
        inheritable: none,
        directory: "/",
      });
      const held = ["CapEff", "CapPrm", "CapBnd"].map((set) => field(pid, set));
      if (caller.uid !== 0) expect(held).toEqual([none, none, none]);
      // chown, dac_override, dac_read_search, fowner, fsetid, mknod, setfcap: no others, whatever the machine has.
      else expect(held.map((set) => BigInt(`0x${set}`) & ~0x8800001fn)).toEqual([0n, 0n, 0n]);
      const environment = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").filter(Boolean).sort();
      const cleared = Object.entries(workerEnvironment).map(([name, value]) => `${name}=${value}`);
      expect(environment).toEqual(cleared.sort());
      for (const thread of readdirSync(`/proc/${pid}/task`)) {
        const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "latin1");
        expect(status).toContain(`Uid:\t${four(caller.uid)}`);
        expect(status).toContain("NoNewPrivs:\t1");
      }
    }
    for (const caller of callers) {
      const path = `${rootPath}/jobs/u${caller.uid}/slow`;
      for (const other of callers) {
        const listed = JSON.stringify(await call(other, rootPath, managerInterface, "ListJobs", "a{sv}", "0"));
        expect(listed.includes(`/u${caller.uid}/`)).toBe(other === caller);
        // Root may steer everybody's jobs, and is asked to see them.
        if (other !== caller && other.uid !== 0) expect((await call(other, path, jobInterface, "Cancel", "a{sv}", "0")).ok).toBe(false);
      }
      expect((await call(caller, path, jobInterface, "Cancel", "a{sv}", "0")).ok).toBe(true);
      expect(JSON.stringify(await call(caller, path, jobInterface, "Wait", "a{sv}", "0"))).toContain('"data":["cancelled"');
      expect(existsSync(`${bus.directory}/home-${caller.uid}/copy`)).toBe(false);
    }
  });

  test("whatever is written belongs to the caller, setgid directories and foreign sources notwithstanding", async () => {
    const caller = users.first;
    const [source, home] = [`${bus.directory}/foreign`, `${bus.directory}/own`];
    for (const path of [source, `${source}/below`, home]) mkdirSync(path);
    for (const name of ["root-file", "below/second-file"]) writeFileSync(`${source}/${name}`, "not mine");
    chownSync(`${source}/below/second-file`, users.second.uid, users.second.gid);
    chmodSync(`${source}/root-file`, 0o6755);
    symlinkSync("root-file", `${source}/link`);
    chownSync(home, caller.uid, caller.gid);
    const path = `${rootPath}/jobs/u${caller.uid}/owned`;
    await busctlAs(
      caller,
      bus.address,
      rootPath,
      managerInterface,
      "CopyUris",
      "assa{sv}",
      "1",
      source,
      `${home}/copy`,
      "1",
      "token",
      "s",
      "owned",
    );
    await busctlAs(caller, bus.address, path, jobInterface, "Wait", "a{sv}", "0");
    const names = ["", "/root-file", "/below", "/below/second-file"];
    expect(names.map((name) => statSync(`${home}/copy${name}`)).map(({ uid, gid }) => [uid, gid])).toEqual(
      names.map(() => [caller.uid, caller.gid]),
    );
    // Whose file it was could not be kept, so its rights to act as that user are not either (rule 20).
    expect(statSync(`${home}/copy/root-file`).mode & 0o6000).toBe(0);
  });

  testUnless(
    landlockAbi() >= 2 ? null : "the kernel has no Landlock",
    "root's worker cannot be led out of its job's paths, in whichever thread",
    async () => {
      const [first, inside, outside, link] = ["first", "inside", "outside", "link"].map((name) => `${bus.directory}/sandbox-${name}`) as [
        string,
        string,
        string,
        string,
      ];
      writeFileSync(first, Buffer.alloc(3 * 1024 * 1024, "x"));
      for (const directory of [inside, outside]) mkdirSync(directory);
      writeFileSync(`${inside}/file`, "inside");
      writeFileSync(`${outside}/file`, "secret");
      symlinkSync(inside, link);
      const destination = `${bus.directory}/sandbox-destination`;
      mkdirSync(destination);
      const client = await connectService({ address: bus.address });
      const job = await client.submit(
        requestSchema.parse({
          operation: "copy",
          sources: [first, link].map(byteStringFromText),
          destination: byteStringFromText(destination),
          options: { symlinks: "follow-arguments", bandwidthLimit: 2_000_000, durability: "none" },
        }),
      );
      // While the first source is copied, the second comes to mean something else.
      while ((await client.show(job.token)).bytesDone === 0) await Bun.sleep(5);
      symlinkSync(outside, `${link}-new`);
      renameSync(`${link}-new`, link);
      const end = await client.wait(job.token);
      client.close();
      expect([end.state, end.errorCount]).toEqual(["failed", 1]);
      expect(existsSync(`${destination}/sandbox-link/file`)).toBe(false);
      expect(statSync(`${destination}/sandbox-first`).size).toBe(3 * 1024 * 1024);
    },
  );
});

function field(pid: number, name: string): string {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "latin1");
    return new RegExp(`^${name}:[ \\t]*(.*)$`, "m").exec(status)?.[1] ?? "";
  } catch {
    return "";
  }
}
