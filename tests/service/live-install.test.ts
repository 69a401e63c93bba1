// `make install` and `make uninstall` on a system that runs, as whoever builds it there calls them.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { bootMachine, type Machine, type MachineUser, whyNoMachine } from "../support/machine.ts";
import { type RunResult, runChecked } from "../support/process.ts";
import { describeUnless } from "../support/skip.ts";

const repository = join(import.meta.dir, "../..");
const fred: MachineUser = { name: "copydfred", uid: 61_031, gid: 61_031 };
const bootMs = 120_000;
/** What the Makefile installs, and what it does that with. */
const parts = ["Makefile", "scripts", "dist", "dbus", "systemd", "man", "docs", "completions"];
const texts = ["README.md", "CHANGELOG.md", "LICENSE", "SECURITY.md"];

let machine: Machine;

describeUnless(whyNoMachine(), "on a running system", () => {
  beforeAll(async () => {
    await runChecked(["make", "dist/copyd"], { cwd: repository, timeoutMs: bootMs });
    machine = await bootMachine([fred], async (root) => {
      mkdirSync(join(root, "srv/source"));
      await runChecked(["cp", "-r", ...[...parts, ...texts].map((name) => join(repository, name)), join(root, "srv/source")]);
    });
  }, bootMs);

  afterAll(async () => {
    await machine?.[Symbol.asyncDispose]();
  });

  test("install enables what goes on at boot, an upgrade leaves it disabled where it was, and uninstall leaves nothing but state", async () => {
    await make("install");
    expect([await isEnabled(), (await callService()).stdout]).toEqual(["enabled", 's "0.1.0"\n']);
    await machine.runChecked(["systemctl", "disable", "copyd-resume.service"]);
    await make("install");
    expect([await isEnabled(), (await callService()).stdout]).toEqual(["disabled", 's "0.1.0"\n']);
    await machine.runChecked(["systemctl", "enable", "copyd-resume.service"]);
    await make("uninstall");
    expect((await callService()).stderr).toContain("was not provided by any .service files");
    expect(
      (await machine.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", "copyd.service", "copyd-resume.service"])).stdout,
    ).toBe("");
    const { stdout } = await machine.runChecked(["find", "/etc", "/usr", "/run", "/var", "-xdev", "-name", "*copyd*"]);
    const isOurs = /\/copyd(?!\w|-test)|org\.copyd|\/_copyd|-copyd\.preset/;
    expect(stdout.split("\n").filter((path) => isOurs.test(path))).toEqual(["/var/lib/copyd"]);
  }, 120_000);
});

function make(target: string): Promise<RunResult> {
  return machine.runChecked(["make", "-C", "/srv/source", "-o", "dist/copyd", target, "PREFIX=/usr"], { timeoutMs: 30_000 });
}

async function isEnabled(): Promise<string> {
  return (await machine.run(["systemctl", "is-enabled", "copyd-resume.service"])).stdout.trim();
}

function callService(): Promise<RunResult> {
  const property = ["org.copyd.Copyd1", "/org/copyd/Copyd1", "org.copyd.Copyd1.Manager", "Version"];
  return machine.runAs(fred, ["busctl", "get-property", ...property]);
}
