// The installed service as its users meet it: the README's examples as written, root's copies inside the unit's sandbox, the doctor.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { version } from "../../src/version.ts";
import { bootMachine, type Machine, type MachineUser, whyNoMachine } from "../support/machine.ts";
import { havePrograms, type RunResult, runChecked } from "../support/process.ts";
import { describeUnless, firstReason, testUnless } from "../support/skip.ts";

const repository = join(import.meta.dir, "../..");
const readme = readFileSync(join(repository, "README.md"), "utf8");
const carol: MachineUser = { name: "copydcarol", uid: 61_011, gid: 61_011 };
const bootMs = 120_000;
const noTools = havePrograms("rsync", "setfattr", "setcap", "dbus-run-session")
  ? null
  : "rsync, attr, libcap2-bin or dbus is not installed";
const pythonModules = ["dbus", "gi"].map((name) => `/usr/lib/python3/dist-packages/${name}/__init__.py`);
const noPython = pythonModules.every((path) => existsSync(path)) ? null : "python3-dbus or python3-gi is not installed";

let machine: Machine;

describeUnless(firstReason(whyNoMachine(), noTools), "the installed service", () => {
  beforeAll(async () => {
    await runChecked([process.execPath, "scripts/build.ts"], { cwd: repository, timeoutMs: bootMs });
    machine = await bootMachine([carol], async (root) => {
      await runChecked(["make", "-o", "dist/copyd", "install", `DESTDIR=${root}`, "PREFIX=/usr"], { cwd: repository, timeoutMs: bootMs });
    });
    await machine.runChecked(["install", "-d", "-o", carol.name, "-g", carol.name, "/home/copydcarol"]);
  }, bootMs);

  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test("root's copy keeps owners, setuid bits, capabilities, attributes, links and devices inside the unit's sandbox", async () => {
    await shell(`mkdir /root/in; cd /root/in; echo x > file; chown 5:6 file; chmod 6755 file; ln file link; ln -s file symlink
      setcap cap_net_raw+ep file; setfattr -n user.x -v y file; mknod device c 1 3; mkfifo fifo; chown -h 7:8 fifo symlink`);
    expect(await shell("copyd cp -a /root/in /root/copy")).toMatchObject({ status: 0, stdout: "", stderr: "" });
    expect((await shell("rsync -aHAXnic --delete /root/in/ /root/copy/")).stdout).toBe("");
    expect((await shell("copyd jobs --all")).stdout).toContain("/root/copy");
  });

  test("copyd cp of an ordinary user goes through the service, and the copy is true", async () => {
    const copied = await machine.runAs(carol, ["copyd", "cp", "-a", "/usr/share/doc/dbus", "/home/copydcarol/doc"], { cwd: "/" });
    expect(copied).toMatchObject({ status: 0, stderr: "" });
    expect((await shell("diff -r --no-dereference /usr/share/doc/dbus /home/copydcarol/doc")).stdout).toBe("");
    expect((await machine.runAs(carol, ["copyd", "jobs", "--all"])).stdout).toContain("/home/copydcarol/doc");
  });

  test("the doctor finds Landlock and the service", async () => {
    const { stdout } = await machine.runAs(carol, ["copyd", "doctor"]);
    expect(stdout).toMatch(/Landlock +yes/);
    expect(stdout).toMatch(/system service +yes/);
  });

  test("on a session bus the first call starts the user's own service", async () => {
    const call = "busctl --user --timeout=30 get-property org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager Version";
    const env = ["env", "HOME=/home/copydcarol", "XDG_RUNTIME_DIR=/home/copydcarol"];
    const { stdout } = await machine.runAs(carol, [...env, "dbus-run-session", "--", "sh", "-c", call]);
    expect(stdout).toBe(`s "${version}"\n`);
  });

  test("the README's shell examples work as written", async () => {
    await shell("mkdir -p /root/photos /mnt/disk; head -c 3000000 /dev/urandom > /root/photos/one");
    const examples = exampleBlocks("sh")
      .filter((block) => !block.includes("Question"))
      .join("");
    expect(examples).toContain("CopyUris");
    const { stdout } = await shell(`set -e; export HOME=/root; ${examples}`);
    expect(stdout).toContain('o "/org/copyd/Copyd1/jobs/u0/photos1"');
    expect(stdout).toContain('sa{sv} "completed"');
    expect(stdout).toMatch(/s "completed"\nt 3000000\ns "[a-z-]+"\na\(ayussa{sv}\) 0\n/);
    expect(stdout).toContain("(objectpath '/org/copyd/Copyd1/jobs/u0/");
    expect((await shell("cmp /root/photos/one /mnt/disk/photos/one")).status).toBe(0);
  });

  test("the README's example of a question answers one", async () => {
    const [example = "", ...others] = exampleBlocks("sh").filter((block) => block.includes("Question"));
    expect(others).toEqual([]);
    const asks = "/org/copyd/Copyd1/jobs/u0/asks";
    const copy = `busctl call org.copyd.Copyd1 /org/copyd/Copyd1 org.copyd.Copyd1.Manager CopyUris 'assa{sv}' 1 /root/eight /srv/small/ 1 token s asks`;
    const state = `busctl get-property org.copyd.Copyd1 ${asks} org.copyd.Copyd1.Job State`;
    await shell("mkdir /srv/small; mount -t tmpfs -o size=4m none /srv/small; head -c 8M /dev/urandom > /root/eight");
    await shell(`${copy}; until ${state} | grep -q question; do sleep 0.1; done`);
    // Abort, not retry: a job that finds no room again would ask the next question.
    const { stdout, stderr } = await shell(`set -e; ${example.replaceAll("/photos1 ", "/asks ").replace(" retry ", " abort ")}`);
    expect([stderr, stdout]).toEqual(["", expect.stringContaining('"id" u 1 "kind" s "space"')]);
    await shell(`busctl call --timeout=30 org.copyd.Copyd1 ${asks} org.copyd.Copyd1.Job Wait 'a{sv}' 0`);
    expect((await shell(state)).stdout).toMatch(/"(failed|cancelled)"/);
  });

  testUnless(noPython, "the README's Python example works as written", async () => {
    writeFileSync(join(machine.root, "root/example.py"), exampleBlocks("python").join(""));
    for (let run = 0; run < 2; run++) {
      const { stdout, stderr } = await shell("timeout 30 /usr/bin/python3 /root/example.py");
      expect(stderr).toBe("");
      expect(stdout).toEndWith("completed 1 file copied.\n");
    }
    expect((await shell("cmp /etc/hostname /tmp/hostname")).status).toBe(0);
  });
});

function shell(script: string): Promise<RunResult> {
  return machine.run(["sh", "-c", script], { cwd: "/" });
}

/** The README's blocks of code of one language in its section about the API. */
function exampleBlocks(language: "sh" | "python"): string[] {
  const section = readme.slice(readme.indexOf("## The D-Bus API"));
  return [...section.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, "gms"))].map(([, code = ""]) => code);
}
