// What is installed is what systemd, the bus and polkit take without a complaint, as tight as it is said to be.

import { expect, test } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { havePrograms, run, runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const repository = join(import.meta.dir, "../..");
const unit = readFileSync(join(repository, "systemd/copyd.service"), "utf8");
const policy = readFileSync(join(repository, "dbus/org.copyd.policy"), "utf8");
const unlessAnalyze = havePrograms("systemd-analyze") ? null : "systemd-analyze is not installed";
const unlessXmllint = havePrograms("xmllint") ? null : "xmllint is not installed";
const polkitDtd = "/usr/share/polkit-1/policyconfig-1.dtd";

for (const name of [
  "systemd/copyd.service",
  "systemd/copyd-resume.service",
  "systemd/user/copyd.service",
  "systemd/user/copyd-resume.service",
]) {
  testUnless(unlessAnalyze, `systemd-analyze verify has nothing to say about ${name}`, async () => {
    await using directory = await temporaryDirectory();
    const copy = join(directory.path, "copyd.service");
    // The program need not be installed where this is checked, nor its man pages.
    const text = readFileSync(join(repository, name), "utf8").replace("/usr/bin/copyd", "/bin/true");
    writeFileSync(copy, text.replace(/^Documentation=.*\n/m, ""));
    const user = name.includes("user") ? ["--user"] : [];
    // Only what concerns this unit: those it needs, which the system brings, may have their own faults.
    const { stderr, stdout } = await run(["systemd-analyze", ...user, "verify", copy]);
    expect(`${stderr}${stdout}`.split("\n").filter((line) => line.includes("copyd"))).toEqual([]);
  });
}

testUnless(unlessAnalyze, "the unit's exposure, as systemd-analyze security has it, is 4.0 at most", async () => {
  const command = [
    "systemd-analyze",
    "security",
    "--offline=true",
    "--threshold=40",
    "--no-pager",
    join(repository, "systemd/copyd.service"),
  ];
  const { status, stdout, stderr } = await run(command);
  expect(`${stdout}${stderr}`).toMatch(/Overall exposure level for copyd.service: [0-4]\.\d /);
  expect(status).toBe(0);
});

test("the unit keeps exactly the capabilities that copying takes", () => {
  const set = /^CapabilityBoundingSet=(.*)$/m.exec(unit)?.[1]?.split(" ").sort();
  const copying = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP"];
  const becomingTheCaller = ["CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID"];
  const endingTheCallersWorker = ["CAP_KILL"];
  expect(set).toEqual([...copying, ...becomingTheCaller, ...endingTheCallersWorker].sort());
  expect(unit.match(/^(CapabilityBoundingSet|AmbientCapabilities)=/gm)).toHaveLength(1);
});

test("nothing in the unit hides from the service what its callers see and copy", () => {
  const hiding =
    /^(ProtectHome|ProtectSystem|PrivateTmp|PrivateDevices|PrivateUsers|ProtectProc|ProcSubset|ProtectKernel\w+|ProtectControlGroups|ReadOnlyPaths|InaccessiblePaths|TemporaryFileSystem|DevicePolicy|DeviceAllow|ProtectClock|RestrictSUIDSGID|MemoryDenyWriteExecute|RootDirectory)=/m;
  expect(unit).not.toMatch(hiding);
  // Without this, PrivateNetwork would bring a mount namespace.
  expect(unit).toContain("\nPrivateMounts=no\n");
});

for (const name of ["dbus/org.copyd.Copyd1.xml", "dbus/org.copyd.Copyd1.conf", "dbus/org.copyd.policy"]) {
  testUnless(unlessXmllint, `${name} is well-formed XML`, async () => {
    await runChecked(["xmllint", "--noout", "--nonet", join(repository, name)]);
  });
}

testUnless(whyNoBus(), "dbus-daemon takes the bus's policy, on a bus of the system kind, without a word", async () => {
  await using bus = await privateBus({ kind: "system" });
  const connection = await bus.connect();
  expect(connection.uniqueName).toStartWith(":");
  const said = readFileSync(join(bus.directory, "dbus-daemon.log"), "utf8").split("\n");
  expect(said.filter((line) => line !== "" && !line.includes("Failed to set fd limit"))).toEqual([]);
});

testUnless(
  unlessXmllint ?? (existsSync(polkitDtd) ? null : "polkit's DTD is not installed"),
  "the polkit policy is valid by polkit's DTD",
  async () => {
    await runChecked(["xmllint", "--noout", "--nonet", "--dtdvalid", polkitDtd, join(repository, "dbus/org.copyd.policy")]);
  },
);

test("the policy has the five actions, each for administrators only, asked anew every time but for what comes in pages", () => {
  const actions = [...policy.matchAll(/<action id="([^"]+)">([\s\S]*?)<\/action>/g)];
  expect(actions.map(([, id]) => id)).toEqual([
    "org.copyd.copy-as-admin",
    "org.copyd.move-as-admin",
    "org.copyd.manage-others",
    "org.copyd.read-audit",
    "org.copyd.override-limits",
  ]);
  for (const [, id, body = ""] of actions) {
    const allowed = id === "org.copyd.read-audit" || id === "org.copyd.manage-others" ? "auth_admin_keep" : "auth_admin";
    expect([...body.matchAll(/<allow_(any|inactive|active)>(\w+)</g)].map(([, , value]) => value)).toEqual([allowed, allowed, allowed]);
  }
  for (const id of ["copy-as-admin", "move-as-admin"])
    expect(policy).toMatch(new RegExp(`${id}">[^/]*/description>[^/]*\\$\\(source\\) to \\$\\(destination\\)`));
  // Every action that the code asks about is in the policy.
  const asked = readFileSync(join(repository, "src/dbus/authorization.ts"), "utf8").match(/org\.copyd\.[a-z]+-[a-z-]+/g) ?? [];
  for (const action of asked) expect(actions.map(([, id]) => id)).toContain(action);
});
