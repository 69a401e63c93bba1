// The service as a distribution would install it, on a real systemd with a real bus and a real polkit.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootMachine, type Machine, type MachineUser, whyNoMachine } from "../support/machine.ts";
import { type RunResult, runChecked } from "../support/process.ts";
import { describeUnless } from "../support/skip.ts";

const repository = join(import.meta.dir, "../..");
const alice: MachineUser = { name: "copydalice", uid: 61_001, gid: 61_001, groups: [61_001, 61_009] };
const bob: MachineUser = { name: "copydbob", uid: 61_002, gid: 61_002 };
const manager = ["org.copyd.Copyd1", "/org/copyd/Copyd1", "org.copyd.Copyd1.Manager"];
const bootMs = 120_000;

let machine: Machine;

describeUnless(whyNoMachine(), "on a real systemd", () => {
  beforeAll(async () => {
    machine = await bootMachine([alice, bob], (root) =>
      runChecked(["make", "install", `DESTDIR=${root}`, "PREFIX=/usr"], { cwd: repository, timeoutMs: bootMs }).then(() => undefined),
    );
    for (const user of [alice, bob]) makeHome(user);
    writeFileSync(join(machine.root, "srv/large"), Buffer.alloc(8 * 1024 * 1024, 7));
  }, bootMs);

  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test("the first call starts the service, and an ordinary user's copy is that user's", async () => {
    expect(await unitProperty("ActiveState")).toBe("inactive");
    const file = join(machine.root, "srv/for-the-group");
    writeFileSync(file, "only for the group");
    chownSync(file, 0, 61_009);
    chmodSync(file, 0o640);
    const job = await copy(alice, "/srv/for-the-group", "/home/copydalice/", "first");
    expect(job).toEqual({ path: "/org/copyd/Copyd1/jobs/u61001/first", state: "completed" });
    const { uid, mode, size } = statSync(join(machine.root, "home/copydalice/for-the-group"));
    expect([uid, mode & 0o777, size]).toEqual([alice.uid, 0o640, 18]);
    expect(await unitProperty("ActiveState")).toBe("active");
  });

  test("what a user may not read is not copied for that user, and another user does not see the job", async () => {
    const job = await copy(bob, "/srv/for-the-group", "/home/copydbob/", "refused");
    expect(job.state).toBe("failed");
    expect(readdirSync(join(machine.root, "home/copydbob"))).toEqual([]);
    const foreign = await call(alice, [job.path, "org.copyd.Copyd1.Job", "GetErrors", "uu", "0", "10"]);
    const missing = await call(alice, ["/org/copyd/Copyd1/jobs/u61002/none", "org.copyd.Copyd1.Job", "GetErrors", "uu", "0", "10"]);
    // No oracle: the same words for a job of somebody else as for one that is not there.
    expect(foreign.stderr.replaceAll("refused", "none")).toBe(missing.stderr);
    expect((await call(bob, [job.path, "org.copyd.Copyd1.Job", "GetErrors", "uu", "0", "10"])).stdout).toContain("Permission denied");
  });

  test("the service has exactly the capabilities that copying takes, and sees the mounts that its callers see", async () => {
    const pid = await servicePid();
    const status = (await machine.runChecked(["cat", `/proc/${pid}/status`])).stdout;
    const field = (name: string): string | undefined => new RegExp(`^${name}:\\s*(.*)$`, "m").exec(status)?.[1];
    // CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID, KILL SETGID SETUID, SETPCAP, MKNOD, SETFCAP.
    const mask = [0, 1, 2, 3, 4, 5, 6, 7, 8, 27, 31].reduce((sum, bit) => sum | (1n << BigInt(bit)), 0n);
    const expected = mask.toString(16).padStart(16, "0");
    expect([field("CapBnd"), field("CapPrm"), field("CapEff")]).toEqual([expected, expected, expected]);
    expect([field("CapInh"), field("CapAmb"), field("NoNewPrivs"), field("Seccomp")]).toEqual(["0".repeat(16), "0".repeat(16), "1", "2"]);
    const namespace = async (of: string, kind: string): Promise<string> =>
      (await machine.runChecked(["readlink", `/proc/${of}/ns/${kind}`])).stdout;
    expect(await namespace(pid, "mnt")).toBe(await namespace("1", "mnt"));
    expect(await namespace(pid, "net")).not.toBe(await namespace("1", "net"));
    expect(await machine.runChecked(["stat", "-c", "%a %U", "/var/lib/copyd", "/run/copyd"])).toMatchObject({
      stdout: "700 root\n700 root\n",
    });
  });

  test("the bus policy lets nobody else have the name, eavesdrop, or send the service anything but calls of its interfaces", async () => {
    const own = await machine.runAs(alice, [
      "busctl",
      "call",
      "org.freedesktop.DBus",
      "/",
      "org.freedesktop.DBus",
      "RequestName",
      "su",
      "org.copyd.Copyd1",
      "0",
    ]);
    expect(own.stderr).toContain("Access denied");
    const other = await call(alice, ["/org/copyd/Copyd1", "org.example.Other", "Do"]);
    expect(other.stderr).toContain("Access denied");
    const without = await machine.runAs(alice, [
      "dbus-send",
      "--system",
      "--print-reply",
      "--dest=org.copyd.Copyd1",
      "/org/copyd/Copyd1",
      "org.freedesktop.DBus.Debug.Stats.GetStats",
    ]);
    expect(without.stderr).toContain("AccessDenied");
    const monitor = await machine.runAs(alice, ["timeout", "10", "busctl", "monitor", "org.copyd.Copyd1"]);
    expect([monitor.status, monitor.stderr]).not.toEqual([0, ""]);
    expect(monitor.stderr.toLowerCase()).toMatch(/access denied|not allowed|rejected/);
    expect((await call(alice, ["/org/copyd/Copyd1", "org.freedesktop.DBus.Peer", "Ping"])).status).toBe(0);
  });

  test("polkit decides what goes beyond one's own: asked for a password, refused without an agent, granted by a rule", async () => {
    const listAll = ["/org/copyd/Copyd1", manager[2] ?? "", "ListJobs", "a{sv}", "1", "all-users", "b", "true"];
    const secret = join(machine.root, "srv/secret");
    writeFileSync(secret, "root's own");
    chmodSync(secret, 0o600);
    const asAdmin = [
      "/org/copyd/Copyd1",
      manager[2] ?? "",
      "CopyAsAdmin",
      "aayaya{sv}",
      "1",
      ...bytesOf("/srv/secret"),
      ...bytesOf("/home/copydalice/secret"),
      "1",
      "token",
      "s",
      "admin",
    ];
    for (const action of [listAll, asAdmin]) {
      const silent = await call(alice, action, { interactive: false });
      expect(silent.stderr).toContain("needs a question to the user");
      const nobodyToAsk = await call(alice, action);
      expect(nobodyToAsk.stderr).toContain("polkit does not allow");
    }
    expect((await machine.run(["test", "-e", "/home/copydalice/secret"])).status).toBe(1);
    // root is polkit's own administrator.
    expect((await machine.run(["busctl", "call", "org.copyd.Copyd1", ...listAll])).status).toBe(0);

    const rule = `polkit.addRule(function (action, subject) {
  if (action.id === "org.copyd.copy-as-admin" && subject.user === "copydalice") return polkit.Result.YES;
});\n`;
    const rules = join(machine.root, "etc/polkit-1/rules.d");
    mkdirSync(rules, { recursive: true });
    writeFileSync(join(rules, "00-copyd-test.rules"), rule);
    await machine.runChecked(["systemctl", "restart", "polkit.service"]);
    expect((await call(bob, asAdmin)).stderr).toContain("polkit does not allow");
    const granted = await call(alice, asAdmin, { interactive: false });
    expect(granted.stderr).toBe("");
    expect(await stateOf(alice, "/org/copyd/Copyd1/jobs/u61001/admin")).toBe("completed");
    // An administrator's copy keeps the owner.
    expect(statSync(join(machine.root, "home/copydalice/secret")).uid).toBe(0);

    await machine.runChecked(["systemctl", "mask", "--now", "polkit.service"]);
    const again = [...asAdmin.slice(0, -1), "admin2"];
    expect((await call(alice, again)).stderr).toContain("polkit could not be asked");
    expect((await copy(alice, "/etc/hostname", "/home/copydalice/without-polkit", "plain")).state).toBe("completed");
    await machine.runChecked(["systemctl", "unmask", "polkit.service"]);
  });

  test("the journal has a line of each change, with its level", async () => {
    const { stdout } = await machine.runChecked(["journalctl", "--unit=copyd.service", "--output=json", "--no-pager"]);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { readonly MESSAGE: unknown; readonly PRIORITY: string });
    const ofJob = lines
      .filter(({ MESSAGE }) => String(MESSAGE).includes("job=first"))
      .map(({ MESSAGE, PRIORITY }) => `${PRIORITY} ${String(MESSAGE).split(" job=")[0]}`);
    expect(ofJob).toEqual(["6 job queued", "6 job started", "6 job ended"]);
    const ready = lines.find(({ MESSAGE }) => String(MESSAGE).startsWith("the service is ready"));
    expect(ready?.PRIORITY).toBe("5");
  });

  test("the journal finds a user's jobs, and what was refused, by fields", async () => {
    await call(alice, [...manager.slice(1), "GetJob", "s", "no_such_job"]);
    const entries = async (...matches: readonly string[]): Promise<Record<string, string>[]> =>
      (await machine.runChecked(["journalctl", "--unit=copyd.service", "--output=json", "--no-pager", ...matches])).stdout
        .trim()
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as Record<string, string>);
    const [queued] = await entries("COPYD_JOB=first");
    expect(queued).toMatchObject({ COPYD_UID: String(alice.uid), COPYD_OPERATION: "copy", _COMM: expect.any(String) });
    await until(async () => (await entries("COPYD_CODE=no-such-job")).length > 0);
    const [refused] = await entries("COPYD_CODE=no-such-job");
    expect(refused).toMatchObject({ COPYD_UID: String(alice.uid), COPYD_METHOD: "GetJob", PRIORITY: "5" });
  });

  test("systemctl stop is orderly: who waits is told, nothing half-made shows, and all jobs go on with the next call", async () => {
    await configure("Environment=COPYD_JOBS_MAX_RUNNING_PER_USER=1");
    const running = "/org/copyd/Copyd1/jobs/u61001/running";
    const home = join(machine.root, "home/copydalice");
    const before = readdirSync(home);
    await submit(alice, "/srv/large", "/home/copydalice/large", "running", ["bandwidth-limit", "t", "4000000"]);
    await submit(alice, "/etc/hostname", "/home/copydalice/waited", "waiting");
    await until(async () => (await property(alice, running, "BytesDone")) !== "t 0");
    const waiting = stateOf(alice, running);
    await Bun.sleep(300);
    await machine.runChecked(["systemctl", "stop", "copyd.service"], { timeoutMs: 30_000 });
    expect(await waiting).toContain("the service is stopping");
    expect([await unitProperty("ActiveState"), await unitProperty("Result")]).toEqual(["inactive", "success"]);
    expect((await machine.run(["pgrep", "-u", alice.name])).stdout).toBe("");
    expect(readdirSync(home).filter((name) => !name.startsWith(".copyd"))).toEqual(before);
    expect(existsSync(join(machine.root, "var/lib/copyd/unfinished"))).toBe(true);
    for (const token of ["running", "waiting"]) expect(await stateOf(alice, `/org/copyd/Copyd1/jobs/u61001/${token}`)).toBe("completed");
    expect(statSync(join(home, "waited")).uid).toBe(alice.uid);
    expect(readFileSync(join(home, "large")).equals(readFileSync(join(machine.root, "srv/large")))).toBe(true);
    expect(await property(alice, running, "ResumeCount")).toBe("u 1\n");
    expect(existsSync(join(machine.root, "var/lib/copyd/unfinished"))).toBe(false);
  });

  test("a service that is killed is started again by systemd, and goes on without a call", async () => {
    await configure("Environment=COPYD_SERVICE_IDLE_EXIT_SECONDS=60");
    await submit(alice, "/srv/large", "/home/copydalice/killed_once", "killed_once", ["bandwidth-limit", "t", "4000000"]);
    await until(async () => (await property(alice, "/org/copyd/Copyd1/jobs/u61001/killed_once", "BytesDone")) !== "t 0");
    const pid = await servicePid();
    await machine.runChecked(["kill", "-KILL", pid]);
    const copied = join(machine.root, "home/copydalice/killed_once");
    await until(async () => existsSync(copied));
    expect([statSync(copied).size, (await servicePid()) !== pid]).toEqual([8 * 1024 * 1024, true]);
    expect(await stateOf(alice, "/org/copyd/Copyd1/jobs/u61001/killed_once")).toBe("completed");
  });

  test("systemctl reload takes up changed settings, and keeps those in force when the new ones are wrong", async () => {
    await configure("Environment=COPYD_SERVICE_IDLE_EXIT_SECONDS=60");
    const file = join(machine.root, "etc/copyd/copyd.toml");
    mkdirSync(join(machine.root, "etc/copyd"), { recursive: true });
    await call(alice, ["/org/copyd/Copyd1", "org.freedesktop.DBus.Peer", "Ping"]);
    const pid = await servicePid();
    const journal = async (): Promise<string> =>
      (await machine.runChecked(["journalctl", "--unit=copyd.service", "--no-pager", `_PID=${pid}`])).stdout;
    writeFileSync(file, "[jobs]\nmax-jobs-per-user = 1\n");
    expect(await machine.runChecked(["copyd", "config", "check"])).toMatchObject({ stdout: "/etc/copyd/copyd.toml: no mistakes\n" });
    await machine.runChecked(["systemctl", "reload", "copyd.service"]);
    await until(async () => (await journal()).includes("the settings were read anew"));
    await submit(alice, "/srv/large", "/home/copydalice/slow", "slow", ["bandwidth-limit", "t", "1000000"]);
    expect((await submit(alice, "/etc/hostname", "/home/copydalice/more", "more")).stderr).toContain("1 are allowed");

    writeFileSync(file, "[jobs]\nmax-jobs-per-user = -1\n");
    const check = await machine.run(["copyd", "config", "check"]);
    expect([check.status, check.stderr]).toEqual([78, expect.stringContaining("/etc/copyd/copyd.toml:2: jobs.max-jobs-per-user = -1: ")]);
    await machine.runChecked(["systemctl", "reload", "copyd.service"]);
    await until(async () => (await journal()).includes("the settings stay as they are: /etc/copyd/copyd.toml:2: "));
    expect((await submit(alice, "/etc/hostname", "/home/copydalice/more", "more")).stderr).toContain("1 are allowed");
    await call(alice, ["/org/copyd/Copyd1/jobs/u61001/slow", "org.copyd.Copyd1.Job", "Cancel", "a{sv}", "0"]);
    expect(await stateOf(alice, "/org/copyd/Copyd1/jobs/u61001/slow")).toBe("cancelled");

    // At its start, wrong settings are the end, told to whoever called, and it is not tried again.
    await machine.runChecked(["systemctl", "stop", "copyd.service"]);
    const ping = ["org.copyd.Copyd1", "/org/copyd/Copyd1", "org.freedesktop.DBus.Peer", "Ping"];
    const refused = await machine.runAs(alice, ["busctl", "--timeout=20", "call", ...ping]);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringContaining("/etc/copyd/copyd.toml:2: jobs.max-jobs-per-user = -1: "),
    ]);
    const told = await machine.runAs(alice, ["copyd", "jobs"]);
    expect([told.status, told.stderr]).toEqual([78, expect.stringContaining("/etc/copyd/copyd.toml:2: ")]);
    await until(async () => (await unitProperty("ActiveState")) === "failed");
    expect([await unitProperty("ExecMainStatus"), await unitProperty("NRestarts")]).toEqual(["78", "0"]);
    rmSync(file);
    expect((await call(alice, ["/org/copyd/Copyd1", "org.freedesktop.DBus.Peer", "Ping"])).status).toBe(0);
  }, 60_000);

  test("a hung service is killed by the watchdog and serves again", async () => {
    await configure("WatchdogSec=2");
    expect((await call(alice, ["/org/copyd/Copyd1", "org.freedesktop.DBus.Peer", "Ping"])).status).toBe(0);
    const pid = await servicePid();
    // It lives as long as it says so.
    await Bun.sleep(3_000);
    expect(await servicePid()).toBe(pid);
    await machine.runChecked(["kill", "-STOP", pid]);
    await until(async () => (await machine.run(["test", "-d", `/proc/${pid}`])).status !== 0);
    expect((await copy(alice, "/etc/hostname", "/home/copydalice/after-the-watchdog", "again")).state).toBe("completed");
    expect(await servicePid()).not.toBe(pid);
    const { stdout } = await machine.runChecked(["journalctl", "--unit=copyd.service", "--no-pager"]);
    expect(stdout).toContain("Watchdog timeout");
  });

  test("no call is lost between the end of an idle service and the start of the next", async () => {
    await configure("Environment=COPYD_SERVICE_IDLE_EXIT_SECONDS=1");
    const pids = new Set<string>();
    const files: string[] = [];
    const deadlineMs = performance.now() + 12_000;
    for (let round = 0; performance.now() < deadlineMs; round++) {
      const burst = [0, 1, 2, 3].map(async (index): Promise<void> => {
        // Milliseconds apart, around the very moment at which it decides.
        await Bun.sleep(index * 4);
        const name = `idle_${round}_${index}`;
        if (index < 2) {
          const answer = await machine.runAs(alice, ["busctl", "get-property", ...manager, "Version"]);
          expect([answer.status, answer.stderr]).toEqual([0, ""]);
          return;
        }
        const answer = await submit(alice, "/etc/hostname", `/home/copydalice/${name}`, name);
        expect([answer.status, answer.stderr]).toEqual([0, ""]);
        files.push(name);
      });
      await Promise.all(burst);
      pids.add(await servicePid());
      await until(async () => (await unitProperty("ActiveState")) !== "deactivating");
      // Its second begins with the end of the last job.
      await until(async () => files.every((name) => existsSync(join(machine.root, "home/copydalice", name))));
      await Bun.sleep(930 + ((round * 7) % 70));
    }
    expect(pids.size).toBeGreaterThan(2);
    await until(async () => (await unitProperty("ActiveState")) === "inactive");
    expect([await unitProperty("Result"), await unitProperty("NRestarts")]).toEqual(["success", "0"]);
    const { stdout } = await machine.runChecked(["journalctl", "--unit=copyd.service", "--no-pager", "--lines=200"]);
    const stops = stdout.match(/the service stops.*/g)?.slice(-pids.size) ?? [];
    expect(stops.map((line) => line.includes('"nothing to do for 1 s"'))).toEqual(Array.from(pids, () => true));
  });

  test("after a power cut the copies go on when the machine starts, with nobody calling; without any, the service stays off", async () => {
    await configure("Environment=COPYD_SERVICE_IDLE_EXIT_SECONDS=60");
    // As a distribution enables it; this machine boots into another target than most.
    await machine.runChecked(["systemctl", "preset", "copyd-resume.service"]);
    expect((await machine.runChecked(["systemctl", "is-enabled", "copyd-resume.service"])).stdout).toBe("enabled\n");
    await machine.runChecked(["systemctl", "add-wants", "copyd-test.target", "copyd-resume.service"]);
    const tokens = ["cut_one", "cut_two"];
    for (const token of tokens) await submit(alice, "/srv/large", `/home/copydalice/${token}`, token, ["bandwidth-limit", "t", "2000000"]);
    await submit(alice, "/srv/large", "/home/copydalice/cut_paused", "cut_paused", ["bandwidth-limit", "t", "2000000"]);
    await call(alice, ["/org/copyd/Copyd1/jobs/u61001/cut_paused", "org.copyd.Copyd1.Job", "Pause", "a{sv}", "0"]);
    for (const token of tokens)
      await until(async () => (await property(alice, `/org/copyd/Copyd1/jobs/u61001/${token}`, "BytesDone")) !== "t 0");
    await machine.reboot();
    const home = join(machine.root, "home/copydalice");
    await until(async () => tokens.every((token) => existsSync(join(home, token))));
    expect(await unitProperty("ActiveState")).toBe("active");
    for (const token of tokens) {
      expect(await stateOf(alice, `/org/copyd/Copyd1/jobs/u61001/${token}`)).toBe("completed");
      expect(readFileSync(join(home, token)).equals(readFileSync(join(machine.root, "srv/large")))).toBe(true);
    }
    expect(await property(alice, "/org/copyd/Copyd1/jobs/u61001/cut_paused", "State")).toBe("paused");
    await machine.reboot();
    expect(await unitProperty("ActiveState")).toBe("inactive");
    expect(await property(alice, "/org/copyd/Copyd1/jobs/u61001/cut_paused", "State")).toBe("paused");
    await call(alice, ["/org/copyd/Copyd1/jobs/u61001/cut_paused", "org.copyd.Copyd1.Job", "Cancel", "a{sv}", "0"]);
  }, 120_000);

  test("the service's own errors are none", async () => {
    const { stdout } = await machine.runChecked(["journalctl", "--unit=copyd.service", "--no-pager", "--output=cat"]);
    expect(stdout).not.toContain("internal error");
    expect(stdout).not.toContain("crashed");
  });
});

function makeHome({ name, uid, gid }: MachineUser): void {
  const home = join(machine.root, "home", name);
  mkdirSync(home, { recursive: true, mode: 0o700 });
  chownSync(home, uid, gid);
}

/** busctl's way to write an `ay`: its length and its bytes. */
function bytesOf(path: string): string[] {
  return [String(Buffer.byteLength(path)), ...[...Buffer.from(path)].map(String)];
}

function call(user: MachineUser, words: readonly string[], { interactive = true } = {}): Promise<RunResult> {
  return machine.runAs(user, [
    "busctl",
    "--timeout=40",
    `--allow-interactive-authorization=${interactive ? "yes" : "no"}`,
    "call",
    "org.copyd.Copyd1",
    ...words,
  ]);
}

function submit(
  user: MachineUser,
  source: string,
  destination: string,
  token: string,
  options: readonly string[] = [],
): Promise<RunResult> {
  const count = String(1 + options.length / 3);
  const words = ["CopyUris", "assa{sv}", "1", source, destination, count, "token", "s", token, ...options];
  return call(user, [...manager.slice(1), ...words]);
}

/** Copies and waits for the end. */
async function copy(
  user: MachineUser,
  source: string,
  destination: string,
  token: string,
): Promise<{ readonly path: string; readonly state: string }> {
  const submitted = await submit(user, source, destination, token);
  if (submitted.status !== 0) throw new Error(submitted.stderr);
  const path = /"(.*)"/.exec(submitted.stdout)?.[1] ?? "";
  return { path, state: await stateOf(user, path) };
}

async function stateOf(user: MachineUser, path: string): Promise<string> {
  const waited = await call(user, [path, "org.copyd.Copyd1.Job", "Wait", "a{sv}", "0"]);
  return /"([a-z]+)"/.exec(waited.stdout)?.[1] ?? waited.stderr;
}

async function property(user: MachineUser, path: string, name: string): Promise<string> {
  const { stdout, stderr } = await machine.runAs(user, ["busctl", "get-property", "org.copyd.Copyd1", path, "org.copyd.Copyd1.Job", name]);
  return /"(.*)"/.exec(stdout)?.[1] ?? `${stdout}${stderr}`;
}

async function unitProperty(name: string): Promise<string> {
  return (await machine.runChecked(["systemctl", "show", `--property=${name}`, "--value", "copyd.service"])).stdout.trim();
}

async function servicePid(): Promise<string> {
  return unitProperty("MainPID");
}

/** A drop-in for the unit instead of any former one, and a fresh start with it by the next call. */
async function configure(line: string): Promise<void> {
  const folder = join(machine.root, "etc/systemd/system/copyd.service.d");
  mkdirSync(folder, { recursive: true });
  // Started and ended every second or so, it would be held for a service that cannot start.
  writeFileSync(join(folder, "test.conf"), `[Unit]\nStartLimitIntervalSec=0\n[Service]\n${line}\n`);
  await machine.runChecked(["systemctl", "daemon-reload"]);
  await machine.runChecked(["systemctl", "stop", "copyd.service"]);
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error(`waited for 30 s in vain: ${isSo}`);
    await Bun.sleep(100);
  }
}
