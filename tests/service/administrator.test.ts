// Copies as administrator on a real systemd, with the real polkit and logind: passwords typed, sessions looked at, rules obeyed.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bootMachine, type Machine, type MachineUser, whyNoMachine } from "../support/machine.ts";
import { havePrograms, type RunResult, runChecked } from "../support/process.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { runOnTerminal, type TerminalRun, type Typing, terminalPython } from "../support/terminal.ts";

const repository = join(import.meta.dir, "../..");
const dora: MachineUser = { name: "copyddora", uid: 61_021, gid: 61_021 };
const emil: MachineUser = { name: "copydemil", uid: 61_022, gid: 61_022 };
/** Whose password polkit asks for. */
const boss: MachineUser = { name: "copydboss", uid: 61_023, gid: 61_023 };
const password = "correct horse";
const bootMs = 120_000;
const missing =
  existsSync(terminalPython) && havePrograms("pkttyagent", "usermod", "chpasswd", "systemd-run") ? null : "polkit or python3 is missing";

let machine: Machine;

describeUnless(firstReason(whyNoMachine(), missing), "as administrator", () => {
  beforeAll(async () => {
    await runChecked([process.execPath, "scripts/build.ts"], { cwd: repository, timeoutMs: bootMs });
    machine = await bootMachine([dora, emil, boss], async (root) => {
      await runChecked(["make", "-o", "dist/copyd", "install", `DESTDIR=${root}`, "PREFIX=/usr"], { cwd: repository, timeoutMs: bootMs });
    });
    for (const { name } of [dora, emil]) await machine.runChecked(["install", "-d", "-o", name, "-g", name, `/home/${name}`]);
    await shell(`groupadd -f sudo; usermod -aG sudo ${boss.name}; echo '${boss.name}:${password}' | chpasswd`);
    // A session without a password: pam_systemd is what matters.
    const pam = ["auth required pam_permit.so", "account required pam_permit.so", "session required pam_systemd.so"];
    writeFileSync(join(machine.root, "etc/pam.d/copyd-test"), `${pam.join("\n")}\n`);
    await shell("mkdir /srv/only-root; echo secret > /srv/only-root/file; chmod -R go= /srv/only-root; systemctl start systemd-logind");
  }, bootMs);

  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test("a password typed on the terminal lets cp --admin copy what only root may read, and keep its owner", async () => {
    const run = await copyd(["cp", "--admin", "-a", "/srv/only-root", "/home/copyddora/got it"], [["Password:", `${password}\n`]]);
    expect(run.screen).toContain("Authentication is required to copy '/srv/only-root' to '/home/copyddora/got it' as administrator");
    expect(run.screen).toContain(`Authenticating as: ${boss.name}`);
    expect([run.status, run.echoes]).toEqual([0, true]);
    const { uid, mode } = statSync(join(machine.root, "home/copyddora/got it/file"));
    expect([uid, mode & 0o777]).toEqual([0, 0o600]);
    // The next one asks anew: nothing is kept.
    const again = await copyd(["cp", "--admin", "-a", "/srv/only-root", "/home/copyddora/again"], [["Password:", "wrong\n"]]);
    expect(again.screen).toContain("AUTHENTICATION FAILED");
    expect(again.screen).toContain("cp: polkit does not allow org.copyd.copy-as-admin");
    expect([again.status, again.echoes]).toEqual([2, true]);
    expect(existsSync(join(machine.root, "home/copyddora/again"))).toBe(false);
    expect((await shell("pgrep -x pkttyagent")).stdout).toBe("");
  });

  test("mv --admin moves, and its question says so", async () => {
    await shell("echo mine > /srv/only-root/to-move");
    const run = await copyd(["mv", "--admin", "/srv/only-root/to-move", "/home/copyddora/"], [["Password:", `${password}\n`]]);
    expect(run.screen).toContain("Authentication is required to move '/srv/only-root/to-move' to '/home/copyddora/' as administrator");
    expect(run.status).toBe(0);
    expect(readFileSync(join(machine.root, "home/copyddora/to-move"), "utf8")).toBe("mine\n");
    expect(existsSync(join(machine.root, "srv/only-root/to-move"))).toBe(false);
  });

  test("Ctrl-C at the question ends it all: no copy, no agent, a terminal that shows what is typed", async () => {
    const run = await copyd(["cp", "--admin", "/srv/only-root/file", "/home/copyddora/never"], [["Password:", "\x03"]]);
    expect(run.status).not.toBe(0);
    await until(async () => (await shell("pgrep -x pkttyagent; pgrep -f '[p]olkit-agent-helper'")).stdout === "");
    expect(run.echoes).toBe(true);
    expect(existsSync(join(machine.root, "home/copyddora/never"))).toBe(false);
    // polkit has dropped the question, too: the next one is not held up by it.
    const next = await copyd(["cp", "--admin", "/srv/only-root/file", "/home/copyddora/next"], [["Password:", `${password}\n`]]);
    expect(next.status).toBe(0);
  });

  test("the audit trail and everybody's jobs, too, ask on the terminal, and tell who it was", async () => {
    expect((await shell("copyd cp /etc/hostname /srv/roots-own")).status).toBe(0);
    const jobs = await copyd(["jobs", "--all-users", "--all"], [["Password:", `${password}\n`]]);
    expect(jobs.screen).toMatch(/JOB +USER +STATE/);
    expect(jobs.screen).toMatch(/ root +completed /);
    const audit = await copyd(["audit"], [["Password:", `${password}\n`]]);
    expect(audit.screen).toMatch(/copyddora +grant +org\.copyd\.manage-others/);
    expect([jobs.status, jobs.echoes, audit.status, audit.echoes]).toEqual([0, true, 0, true]);
    expect((await shell("pgrep -x pkttyagent")).stdout).toBe("");
    const own = await machine.runAs(dora, ["copyd", "jobs", "--all"]);
    expect(own.stdout).not.toContain("USER");
    const granted = (await shell("journalctl --unit=copyd --output=cat --no-pager --grep='authorization granted'")).stdout;
    expect(granted).toContain("action=org.copyd.manage-others");
    expect(granted).not.toContain("method=");
  });

  test("another user's job is steered with a password, by root without one, and is not there for anybody else", async () => {
    await machine.runChecked(["sh", "-c", "head -c 8M /dev/zero > /home/copydemil/big; chown copydemil /home/copydemil/big"]);
    const start = "CopyUris assa{sv} 1 /home/copydemil/big /home/copydemil/slow 2 token s emils bandwidth-limit t 4096";
    const manager = "org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager";
    expect((await machine.runAs(emil, ["sh", "-c", `busctl call ${manager} '${start.split(" ").join("' '")}'`])).stderr).toBe("");
    const asked: Typing = [["Password:", `${password}\n`]];
    const missing = await machine.runAs(dora, ["copyd", "show", "emils"]);
    expect(missing.stderr).toContain("there is no job 'emils'; --all-users looks among everybody's");
    expect((await machine.runAs(dora, ["copyd", "pause", "copydemil/emils"])).stderr).toContain("org.copyd.manage-others");
    const path = "org.copyd.Copyd1 /org/copyd/Copyd1/jobs/u61022/emils org.copyd.Copyd1.Job";
    const direct = await machine.runAs(dora, ["sh", "-c", `busctl call ${path} Cancel 'a{sv}' 0; true`]);
    expect(direct.stderr).toContain("no object at");
    const state = async (): Promise<string> => (await machine.runAs(emil, ["copyd", "show", "emils", "--json"])).stdout;

    // One password for all that a command asks the service.
    expect(await copyd(["pause", "--all-users", "emils"], asked)).toMatchObject({ status: 0 });
    await until(async () => (await state()).includes('"state":"paused"'));
    expect((await copyd(["show", "copydemil/emils"], asked)).screen).toContain("/home/copydemil/big");
    expect(await copyd(["resume", "copydemil/em"], asked)).toMatchObject({ status: 0 });
    // root, who has no such job, means this one.
    expect((await shell("copyd show emils")).stdout).toContain("/home/copydemil/slow");
    expect((await shell("copyd limit emils 8K")).status).toBe(0);
    const object = "--dest org.copyd.Copyd1 --object-path /org/copyd/Copyd1/jobs/u61022/emils";
    expect((await shell(`gdbus call --system ${object} --method org.copyd.Copyd1.Job.Pause '@a{sv} {}'`)).stdout).toBe("()\n");
    await until(async () => (await state()).includes('"state":"paused"'));
    const waiting = shell("copyd wait emils; echo $?");
    const watching = copyd(["watch", "copydemil/emils"], asked);
    // Both have asked for leave, and follow it.
    await Bun.sleep(3000);
    await shell("systemctl mask --now polkit.service");
    try {
      expect((await machine.runAs(dora, ["copyd", "cancel", "copydemil/emils"])).stderr).toContain("polkit could not be asked");
      expect((await shell("copyd cancel emils")).status).toBe(0);
    } finally {
      await shell("systemctl unmask polkit.service");
    }
    expect((await waiting).stdout).toBe("130\n");
    expect((await watching).status).toBe(130);
    const audit = (await shell("copyd audit --job emils")).stdout;
    expect(audit).toMatch(/copyddora +refusal +Cancel +emils of copydemil +authorization-required/);
    expect(audit).toMatch(/copyddora +grant +org\.copyd\.manage-others +emils of copydemil/);
    expect(audit).toMatch(/copyddora +request +Pause +emils of copydemil/);
    expect(audit).toMatch(/root +request +Cancel +emils of copydemil/);
  });

  test("where nobody can be asked, it says why", async () => {
    const silent = await machine.runAs(dora, ["copyd", "cp", "--admin", "/srv/only-root/file", "/home/copyddora/x"], { cwd: "/" });
    expect(silent.status).toBe(2);
    expect(silent.stderr).toContain("knows no agent that could ask for one; standard input is no terminal");
    await shell("mv /usr/bin/pkttyagent /usr/bin/pkttyagent.away");
    try {
      const without = await copyd(["cp", "--admin", "/srv/only-root/file", "/home/copyddora/x"]);
      expect(without.screen).toContain("/usr/bin/pkttyagent is not installed (it comes with polkit)");
      expect(without.status).toBe(2);
    } finally {
      await shell("mv /usr/bin/pkttyagent.away /usr/bin/pkttyagent");
    }
    await shell("systemctl mask --now polkit.service");
    try {
      const without = await copyd(["cp", "--admin", "/srv/only-root/file", "/home/copyddora/x"]);
      expect(without.screen).toContain("cp: polkit could not be asked about org.copyd.copy-as-admin");
      expect(without.status).toBe(2);
    } finally {
      await shell("systemctl unmask polkit.service");
    }
    expect(existsSync(join(machine.root, "home/copyddora/x"))).toBe(false);
  });

  test("root needs neither polkit nor a terminal", async () => {
    expect(await machine.run(["copyd", "cp", "--admin", "/srv/only-root/file", "/srv/root-copied"], { cwd: "/" })).toMatchObject({
      status: 0,
      stderr: "",
    });
  });

  test("a rule for active local sessions holds for those, and not for inactive ones or callers without a session", async () => {
    await rule(`if (action.id === "org.copyd.copy-as-admin" && subject.local && subject.active) return polkit.Result.YES;`);
    const call = (name: string): string => `${asAdmin("CopyAsAdmin", "/srv/only-root/file", `/srv/${name}`)} > /srv/${name}.said 2>&1`;
    const said = (name: string): string => readFileSync(join(machine.root, `srv/${name}.said`), "utf8");
    const session = (user: MachineUser, unit: string, script: string): Promise<RunResult> => {
      const place = [`--uid=${user.name}`, `--unit=${unit}`, "--property=PAMName=copyd-test", "--setenv=XDG_SEAT=seat0"];
      return machine.runChecked(["systemd-run", "--quiet", ...place, "sh", "-c", script]);
    };
    await shell("chmod 1777 /srv");
    // On a seat without virtual terminals the newest session is the active one.
    await session(dora, "inactive", `while [ ! -e /srv/go ]; do sleep 0.1; done; ${call("inactive")}; touch /srv/inactive.done`);
    await until(async () => (await shell("loginctl --no-legend | wc -l")).stdout.trim() === "1");
    await session(emil, "active", `${call("active")}; touch /srv/active.done; sleep 60`);
    await until(async () => existsSync(join(machine.root, "srv/active.done")));
    const states = (await shell("for s in $(loginctl --no-legend | cut -c1-8); do loginctl show-session $s -p Name -p Active; done"))
      .stdout;
    expect(states.split("\n").sort().join(" ").trim()).toBe(`Active=no Active=yes Name=${dora.name} Name=${emil.name}`);
    writeFileSync(join(machine.root, "srv/go"), "");
    await until(async () => existsSync(join(machine.root, "srv/inactive.done")));
    expect(said("active")).toMatch(/^o "/);
    expect(said("inactive")).toContain("org.copyd.copy-as-admin needs a question to the user");
    const without = await machine.runAs(emil, ["sh", "-c", asAdmin("CopyAsAdmin", "/srv/only-root/file", "/srv/without")]);
    expect(without.stderr).toContain("org.copyd.copy-as-admin needs a question to the user");
    await shell("systemctl stop active inactive");
    await until(async () => existsSync(join(machine.root, "srv/active")));
    expect(existsSync(join(machine.root, "srv/inactive"))).toBe(false);
  });

  test("rules see the files, and a rule for copying does not let anybody move", async () => {
    await rule(
      `if (action.id === "org.copyd.copy-as-admin" && action.lookup("source") === "'/srv/only-root/file'") return polkit.Result.YES;`,
    );
    const as = (method: string, source: string): Promise<RunResult> =>
      machine.runAs(dora, ["sh", "-c", asAdmin(method, source, "/srv/by-rule")]);
    expect((await as("CopyAsAdmin", "/srv/only-root/file")).stdout).toMatch(/^o "/);
    expect((await as("CopyAsAdmin", "/srv/only-root/other")).stderr).toContain("needs a question");
    expect((await as("MoveAsAdmin", "/srv/only-root/file")).stderr).toContain("org.copyd.move-as-admin needs a question");
  });

  test("a rule lets one user go beyond the limits, and no other", async () => {
    mkdirSync(join(machine.root, "etc/copyd"), { recursive: true });
    writeFileSync(join(machine.root, "etc/copyd/copyd.toml"), "[calls]\nmax-sources = 1\n");
    await shell("systemctl stop copyd.service");
    await rule(`if (action.id === "org.copyd.override-limits" && subject.user === "${dora.name}") return polkit.Result.YES;`);
    const manager = "org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager";
    const two = `busctl call ${manager} CopyUris 'assa{sv}' 2 /etc/hostname /etc/passwd /tmp 0`;
    expect((await machine.runAs(dora, ["sh", "-c", two])).stdout).toMatch(/^o "/);
    expect((await machine.runAs(emil, ["sh", "-c", two])).stderr).toContain("2 sources are more than the 1 that one call may have");
    const denied = await shell("journalctl --unit=copyd --output=cat --no-pager | grep -E 'granted.*override-limits'");
    expect(denied.stdout).toContain(`uid=${dora.uid}`);
    rmSync(join(machine.root, "etc/copyd/copyd.toml"));
    await shell("systemctl stop copyd.service");
  });

  test("links in an administrator's paths are followed where root made them, and nowhere else", async () => {
    await rule(`if (action.id === "org.copyd.copy-as-admin") return polkit.Result.YES;`);
    const home = join(machine.root, "home/copyddora");
    await shell("mkdir /srv/real; chmod 755 /srv; ln -s /srv/only-root /srv/roots-link; echo planted > /home/copyddora/planted");
    symlinkSync("/srv/only-root", join(home, "link"));
    await shell("chown -h copyddora /home/copyddora/link /home/copyddora/planted");
    const refused = async (source: string, destination: string): Promise<string> => {
      const run = await copyd(["cp", "--admin", source, destination]);
      expect(run.status).toBe(1);
      return run.screen;
    };
    expect(await refused("/home/copyddora/link/file", "/home/copyddora/stolen")).toContain(
      "'/home/copyddora/link' is a symbolic link of user 61021",
    );
    expect(await refused("/home/copyddora/planted", "/home/copyddora/link/")).toContain(
      "'/home/copyddora/link' is a symbolic link of user 61021",
    );
    expect(await refused("/home/copyddora/planted", "/home/copyddora/link/planted")).toContain("is a symbolic link of user 61021");
    expect(existsSync(join(home, "stolen"))).toBe(false);
    expect(existsSync(join(machine.root, "srv/only-root/planted"))).toBe(false);
    expect((await copyd(["cp", "--admin", "/srv/roots-link/file", "/srv/real/followed"])).status).toBe(0);
    // What is a link itself is copied as one.
    expect((await copyd(["cp", "--admin", "-P", "/home/copyddora/link", "/srv/real/link"])).status).toBe(0);
    expect((await shell("readlink /srv/real/link; cat /srv/real/followed")).stdout).toBe("/srv/only-root\nsecret\n");
  });
});

function copyd(command: readonly string[], typing: Typing = []): Promise<TerminalRun> {
  return runOnTerminal(machine, dora, ["copyd", ...command], typing);
}

function shell(script: string): Promise<RunResult> {
  return machine.run(["sh", "-c", script], { timeoutMs: 60_000 });
}

/** What a shell runs to call a method that takes one source. No interaction. */
function asAdmin(method: string, source: string, destination: string): string {
  const bytes = (path: string): string => `${path.length} ${[...Buffer.from(path)].join(" ")}`;
  const call = `busctl --allow-interactive-authorization=no call org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager ${method}`;
  return `${call} 'aayaya{sv}' 1 ${bytes(source)} ${bytes(destination)} 0`;
}

async function rule(body: string): Promise<void> {
  const folder = join(machine.root, "etc/polkit-1/rules.d");
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "00-copyd-test.rules"), `polkit.addRule(function (action, subject) {\n${body}\n});\n`);
  await machine.runChecked(["systemctl", "restart", "polkit.service"]);
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadlineMs = performance.now() + 30_000;
  while (!(await isSo())) {
    if (performance.now() > deadlineMs) throw new Error(`waited for 30 s in vain: ${isSo}`);
    await Bun.sleep(100);
  }
}
