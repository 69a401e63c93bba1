// A real systemd that stops the service in the middle of a pause and of a question, and a machine that is switched off: all jobs go on after.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootMachine, type Machine, type MachineUser, whyNoMachine } from "../support/machine.ts";
import { havePrograms, type RunResult, runChecked } from "../support/process.ts";
import { describeUnless, firstReason } from "../support/skip.ts";

const repository = join(import.meta.dir, "../..");
const frida: MachineUser = { name: "copydfrida", uid: 61_031, gid: 61_031 };
const bootMs = 120_000;
const largeBytes = 8 * 1024 * 1024;
const slow = "bandwidth-limit t 4000000";
const missing = havePrograms("systemd-inhibit") ? null : "systemd-inhibit is not installed";

let machine: Machine;

describeUnless(firstReason(whyNoMachine(), missing), "interrupted jobs on a real systemd", () => {
  beforeAll(async () => {
    await runChecked([process.execPath, "scripts/build.ts"], { cwd: repository, timeoutMs: bootMs });
    machine = await bootMachine([frida], async (root) => {
      await runChecked(["make", "-o", "dist/copyd", "install", `DESTDIR=${root}`, "PREFIX=/usr"], { cwd: repository, timeoutMs: bootMs });
      mkdirSync(join(root, "etc/systemd/logind.conf.d"), { recursive: true });
      writeFileSync(join(root, "etc/systemd/logind.conf.d/copyd-test.conf"), "[Login]\nInhibitDelayMaxSec=60\n");
    });
    await shell(`install -d -o ${frida.name} /home/${frida.name} /srv/small; head -c ${largeBytes} /dev/urandom > /srv/large`);
    // This machine boots into another target than most.
    await shell("systemctl preset copyd-resume.service; systemctl add-wants copyd-test.target copyd-resume.service");
  }, bootMs);

  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test("stopped, it keeps what is paused paused and asks again what was asked; what ran goes on", async () => {
    await shell("mount -t tmpfs -o size=4m,mode=1777 none /srv/small");
    await submit("running", home("running"), slow);
    await submit("paused", home("paused"), slow);
    await submit("asking", "/srv/small/asking");
    await until(async () => (await state("asking")) === "question" && (await isUnderWay("running")) && (await isUnderWay("paused")));
    await job("paused", "Pause");
    await until(async () => (await state("paused")) === "paused");
    await shell("systemctl stop copyd.service");
    expect((await shell("systemctl show --property=ActiveState --property=Result copyd.service")).stdout).toBe(
      "Result=success\nActiveState=inactive\n",
    );
    expect((await machine.run(["pgrep", "-u", frida.name])).stdout).toBe("");
    for (const name of ["running", "paused"]) expect(existsSync(join(machine.root, home(name)))).toBe(false);
    expect((await shell("ls /srv/small")).stdout).toBe("");

    // Any call; it may be the last one.
    expect(await state("paused")).toBe("paused");
    await until(async () => (await state("running")) === "completed" && (await state("asking")) === "question");
    expectWhole("running");
    await shell("mount -o remount,size=64m /srv/small");
    await until(async () => (await state("asking")) === "completed");
    expect((await shell("cmp /srv/large /srv/small/asking; stat -c %u /srv/small/asking")).stdout).toBe(`${frida.uid}\n`);
    expect(await state("paused")).toBe("paused");
    await job("paused", "Resume");
    await until(async () => (await state("paused")) === "completed");
    expectWhole("paused");
    expect((await property("paused", "ResumeCount")).stdout).toBe("u 1\n");
    expect(readdirSync(join(machine.root, home("."))).filter((name) => name.startsWith(".copyd"))).toEqual([]);
  }, 120_000);

  test("switched off, the machine goes on with its copies when it is on again, with nobody calling", async () => {
    await shell("systemctl start systemd-logind");
    for (const name of ["off_running", "off_paused"]) await submit(name, home(name), "bandwidth-limit t 1000000");
    await until(async () => (await isUnderWay("off_running")) && (await isUnderWay("off_paused")));
    await job("off_paused", "Pause");
    await until(async () => (await state("off_paused")) === "paused");
    await until(async () => (await shell("systemd-inhibit --list --no-legend --no-pager")).stdout.includes("copyd"));
    await shell("busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager PowerOff b false");
    await machine.hasGoneDown();
    expect(existsSync(join(machine.root, home("off_running")))).toBe(false);
    expect(existsSync(join(machine.root, "var/lib/copyd/unfinished"))).toBe(true);
    await machine.reboot();
    // Nobody has called: the file alone tells.
    await until(async () => existsSync(join(machine.root, home("off_running"))));
    expectWhole("off_running");
    await until(async () => (await state("off_running")) === "completed");
    expect((await property("off_running", "ResumeCount")).stdout).toBe("u 1\n");
    expect(await state("off_paused")).toBe("paused");
    await job("off_paused", "Cancel");
    await until(async () => (await state("off_paused")) === "cancelled");
  }, 120_000);
});

function shell(script: string): Promise<RunResult> {
  return machine.run(["sh", "-c", script], { timeoutMs: 60_000 });
}

function home(name: string): string {
  return `/home/${frida.name}/${name}`;
}

async function submit(token: string, destination: string, option = ""): Promise<void> {
  const options = `${option === "" ? 1 : 2} token s ${token} ${option}`;
  const call = `busctl call org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager CopyUris 'assa{sv}' 1 /srv/large ${destination} ${options}`;
  expect(await machine.runAs(frida, ["sh", "-c", call])).toMatchObject({ status: 0, stderr: "" });
}

async function job(token: string, method: "Pause" | "Resume" | "Cancel"): Promise<void> {
  const call = `busctl call org.copyd.Copyd1 /org/copyd/Copyd1/jobs/u${frida.uid}/${token} org.copyd.Copyd1.Job ${method} 'a{sv}' 0`;
  expect(await machine.runAs(frida, ["sh", "-c", call])).toMatchObject({ status: 0, stderr: "" });
}

function property(token: string, name: string): Promise<RunResult> {
  const path = `/org/copyd/Copyd1/jobs/u${frida.uid}/${token}`;
  return machine.runAs(frida, ["busctl", "get-property", "org.copyd.Copyd1", path, "org.copyd.Copyd1.Job", name]);
}

async function state(token: string): Promise<string> {
  const { stdout, stderr } = await property(token, "State");
  return /"([a-z]+)"/.exec(stdout)?.[1] ?? stderr;
}

async function isUnderWay(token: string): Promise<boolean> {
  return !(await property(token, "BytesDone")).stdout.startsWith("t 0\n");
}

/** Under its own name, its user's, and the same bytes. */
function expectWhole(name: string): void {
  const path = join(machine.root, home(name));
  expect(statSync(path).uid).toBe(frida.uid);
  expect(readFileSync(path).equals(readFileSync(join(machine.root, "srv/large")))).toBe(true);
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 45_000;
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error(`waited for 45 s in vain: ${isSo}`);
    await Bun.sleep(100);
  }
}
