// Limits per user on a real systemd: it gives the service a part of the control groups, and takes it back whole.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chownSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootMachine, type Machine, type MachineUser, whyNoMachine } from "../support/machine.ts";
import { runChecked } from "../support/process.ts";
import { describeUnless } from "../support/skip.ts";

const repository = join(import.meta.dir, "../..");
const alice: MachineUser = { name: "copydalice", uid: 61_001, gid: 61_001 };
const home = "/home/copydalice";
const bootMs = 120_000;

let machine: Machine;

describeUnless(whyNoMachine(), "limits per user on a real systemd", () => {
  beforeAll(async () => {
    machine = await bootMachine([alice], (root) =>
      runChecked(["make", "install", `DESTDIR=${root}`, "PREFIX=/usr"], { cwd: repository, timeoutMs: bootMs }).then(() => undefined),
    );
    const path = join(machine.root, home);
    mkdirSync(path, { recursive: true, mode: 0o700 });
    chownSync(path, alice.uid, alice.gid);
    writeFileSync(join(machine.root, "srv/large"), Buffer.alloc(8 * 1024 * 1024, 7));
    mkdirSync(join(machine.root, "etc/copyd"), { recursive: true });
    writeFileSync(join(machine.root, "etc/copyd/copyd.toml"), '[limits]\nworker-memory = "1G"\nworker-processes = 500\n');
  }, bootMs);

  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test("the service is in a group of its own below its unit's, and the worker of a user in that user's", async () => {
    const worker = await startCopy("first");
    const unit = await shown("ControlGroup");
    expect(unit).toEndWith("/copyd.service");
    expect(await groupOf(await shown("MainPID"))).toEndWith(`${unit}/daemon`);
    expect(await groupOf(worker)).toEndWith(`${unit}/user-61001`);
    // systemd-inhibit and whatever else the service starts for itself is not the user's.
    const members = (await shell(`cat ${await directoryOf(unit)}/user-61001/cgroup.procs`)).trim();
    expect(members).toBe(worker);
    for (const outside of ["", "/daemon"]) {
      const move = await machine.runAs(alice, ["sh", "-c", `echo ${worker} > ${await directoryOf(unit)}${outside}/cgroup.procs`]);
      expect(move.stderr).toContain("Permission denied");
    }
  });

  test("what the kernel limits is what the service, the doctor and the journal say it does", async () => {
    const expected = await possible({ memory: "1073741824", pids: "500" });
    expect(await limits()).toEqual(expected);
    const doctor = (await machine.runAs(alice, ["copyd", "doctor"])).stdout;
    const journal = await shell("journalctl --unit=copyd.service --no-pager");
    const isWhole = expected.length === 2;
    expect(doctor).toMatch(isWhole ? /limits per user +yes / : /limits per user +no +the (memory|processes|memory and processes) of/);
    const told = journal.match(/what the workers of one user may take is limited by the unit only/g) ?? [];
    expect(told).toHaveLength(isWhole ? 0 : 1);
    if (!isWhole) expect(journal).toContain("not a controller of the service's group");
  });

  test("a reload changes the limits of the groups that are there", async () => {
    writeFileSync(join(machine.root, "etc/copyd/copyd.toml"), '[limits]\nworker-memory = "2G"\nworker-processes = 600\n');
    await machine.runChecked(["systemctl", "reload", "copyd.service"]);
    // systemd looks through all groups then, and leaves what it has given away.
    await machine.runChecked(["systemctl", "daemon-reload"]);
    await until(async () => (await shell("journalctl --unit=copyd.service --no-pager")).includes("the settings were read anew"));
    expect(await limits()).toEqual(await possible({ memory: "2147483648", pids: "600" }));
  });

  test("a service that was killed divides its group again, and its job goes on in it", async () => {
    await until(async () => existsSync(join(machine.root, home, "first")));
    await startCopy("killed");
    const before = await shown("MainPID");
    await machine.runChecked(["kill", "-KILL", before]);
    await until(async () => existsSync(join(machine.root, home, "killed")));
    expect(await shown("MainPID")).not.toBe(before);
    expect(await groupOf(await shown("MainPID"))).toEndWith("/copyd.service/daemon");
    expect(await shell("journalctl --unit=copyd.service --no-pager")).not.toContain("runs outside its user's control group");
  });

  test("the end of the service leaves no group and no process", async () => {
    const worker = await startCopy("second");
    const directory = await directoryOf(await shown("ControlGroup"));
    await machine.runChecked(["test", "-e", directory]);
    await machine.runChecked(["systemctl", "stop", "copyd.service"], { timeoutMs: 30_000 });
    expect((await machine.run(["test", "-e", directory])).status).toBe(1);
    expect((await machine.run(["test", "-e", `/proc/${worker}`])).status).toBe(1);
    expect(await shown("Result")).toBe("success");
  });
});

/** Begins a copy of some eight seconds and says which process copies. */
async function startCopy(name: string): Promise<string> {
  const call = ["busctl", "call", "org.copyd.Copyd1", "/org/copyd/Copyd1", "org.copyd.Copyd1.Manager", "CopyUris", "assa{sv}"];
  const command = [...call, "1", "/srv/large", `${home}/${name}`, "1", "bandwidth-limit", "t", "1000000"];
  const submitted = await machine.runAs(alice, command);
  expect([submitted.status, submitted.stderr]).toEqual([0, ""]);
  let pids: string[] = [];
  await until(async () => {
    pids = (await machine.run(["pgrep", "-u", alice.name])).stdout.split("\n").filter(Boolean);
    return pids.length > 0;
  });
  expect(pids).toHaveLength(1);
  return pids[0] ?? "";
}

/** What the kernel says that alice's group is limited to. */
async function limits(): Promise<string[]> {
  const directory = await directoryOf(await shown("ControlGroup"));
  return (await shell(`cd ${directory}/user-61001 && cat memory.max pids.max 2>/dev/null; true`)).split("\n").filter(Boolean);
}

/** Of these limits, those whose controller the service has. */
async function possible(wanted: { readonly memory: string; readonly pids: string }): Promise<string[]> {
  const enabled = (await shell(`cat ${await directoryOf(await shown("ControlGroup"))}/cgroup.subtree_control`)).split(/\s+/);
  return [...(enabled.includes("memory") ? [wanted.memory] : []), ...(enabled.includes("pids") ? [wanted.pids] : [])];
}

/** In the hierarchy of version 2; as seen from outside of the machine, which begins further up. */
async function groupOf(pid: string): Promise<string> {
  return /^0::(.*)$/m.exec(await shell(`cat /proc/${pid}/cgroup`))?.[1] ?? "";
}

async function directoryOf(group: string): Promise<string> {
  const mounts = await shell("cat /proc/self/mounts");
  return `${/ (\S+) cgroup2 /.exec(mounts)?.[1] ?? ""}${group}`;
}

async function shown(name: string): Promise<string> {
  return (await machine.runChecked(["systemctl", "show", `--property=${name}`, "--value", "copyd.service"])).stdout.trim();
}

async function shell(script: string): Promise<string> {
  return (await machine.runChecked(["sh", "-c", script])).stdout;
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 40_000;
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error(`waited for 40 s in vain: ${isSo}`);
    await Bun.sleep(100);
  }
}
