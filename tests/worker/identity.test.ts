// A worker knows who it is, and every way of being somebody else is found.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { currentIdentity, verifyIdentity } from "../../src/worker/identity.ts";
import type { Identity } from "../../src/worker/protocol.ts";
import { expectedIdentity, workerCommand } from "../../src/worker/spawn.ts";
import { runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { unlistedUser, whyNoUsers } from "../support/users.ts";

let directory: TemporaryDirectory;
beforeAll(async () => {
  directory = await temporaryDirectory();
  chmodSync(directory.path, 0o755);
  const file = join(import.meta.dir, "identity-child.ts");
  await runChecked([process.execPath, "build", "--compile", "--format=esm", file, "--outfile", `${directory.path}/child`]);
}, 60_000);
afterAll(() => directory[Symbol.asyncDispose]());

interface Answer {
  readonly current: Identity;
  readonly problem: string | null;
}

/** Starts a process as `identity` that was told to be `expected`. */
async function ask(
  identity: Identity,
  expected: Identity,
  change: (command: string[]) => string[] = (command) => command,
): Promise<Answer> {
  const command = change(workerCommand(identity, [`${directory.path}/child`, JSON.stringify(expected)]));
  return JSON.parse((await runChecked(command)).stdout) as Answer;
}

testUnless(whyNoUsers(), "an ordinary user's worker is that user with those groups and nothing more", async () => {
  const user = unlistedUser();
  const identity = expectedIdentity({ ...user, groups: [user.gid, 4242, 7] });
  expect(await ask(identity, identity)).toEqual({ current: identity, problem: null });
  expect(identity).toEqual({ uid: user.uid, gid: user.gid, groups: [7, 4242, user.gid], capabilities: "0" });
});

testUnless(whyNoUsers(), "root's worker holds exactly what copying needs", async () => {
  const identity = expectedIdentity({ uid: 0, gid: 0, groups: [0] });
  expect(await ask(identity, identity)).toEqual({ current: identity, problem: null });
});

testUnless(whyNoUsers(), "another uid, gid, group or capability is refused", async () => {
  const user = unlistedUser();
  const identity = expectedIdentity(user);
  expect((await ask(identity, { ...identity, uid: user.uid + 1 })).problem).toContain("uids");
  expect((await ask(identity, { ...identity, gid: user.gid + 1 })).problem).toContain("gids");
  expect((await ask(identity, { ...identity, groups: [] })).problem).toContain("groups");
  expect((await ask(identity, { ...identity, groups: [1, user.gid] })).problem).toContain("groups");
  expect((await ask(identity, { ...identity, capabilities: "1" })).problem).toContain("effective capabilities");
  const root = expectedIdentity({ uid: 0, gid: 0, groups: [0] });
  expect((await ask(root, { ...root, capabilities: "0" })).problem).toContain("effective capabilities");
});

testUnless(whyNoUsers(), "a worker that could gain privileges is refused", async () => {
  const identity = expectedIdentity(unlistedUser());
  const without = (flag: string) => (command: string[]) => command.filter((word) => !word.startsWith(flag));
  expect((await ask(identity, identity, without("--no-new-privs"))).problem).toContain("no_new_privs");
  expect((await ask(identity, identity, without("--bounding-set"))).problem).toContain("bounding");
});

const status = `Name:\tcopyd
Uid:\t1000\t1000\t1000\t1000
Gid:\t1000\t1000\t1000\t1000
Groups:\t27 100 1000 
NoNewPrivs:\t1
CapInh:\t0000000000000000
CapPrm:\t0000000000000000
CapEff:\t0000000000000000
CapBnd:\t0000000000000000
CapAmb:\t0000000000000000
`;
const asked: Identity = { uid: 1000, gid: 1000, groups: [1000, 27, 100], capabilities: "0" };

test("every field that says something else is refused, and so is half an answer", () => {
  const verify = (text: string): string | null => {
    writeFileSync(`${directory.path}/status`, text);
    return verifyIdentity(asked, `${directory.path}/status`);
  };
  expect(verify(status)).toBeNull();
  const changes: readonly (readonly [string | RegExp, string, string])[] = [
    [/^Uid:.*$/m, "Uid:\t1000\t1000\t0\t1000", "1000 1000 0 1000"],
    [/^Uid:.*$/m, "Uid:\t1000\t1000\t1000\t0", "file system"],
    [/^Gid:.*$/m, "Gid:\t1000\t1000\t1000\t5", "gids"],
    ["27 100", "27 100 101", "groups"],
    ["27 100 1000", "", "groups are none"],
    ["CapPrm:\t0", "CapPrm:\t8", "permitted"],
    ["CapInh:\t0", "CapInh:\t8", "inheritable"],
    ["CapAmb:\t0", "CapAmb:\t8", "ambient"],
    ["NoNewPrivs:\t1", "NoNewPrivs:\t0", "no_new_privs"],
    [/^CapBnd.*\n/m, "", "does not say"],
    [/^Groups.*\n/m, "", "does not say"],
    [/^Uid:.*$/m, "Uid:\t1000", "does not say"],
    ["CapEff:\t0000000000000000", "CapEff:\tnonsense", "does not say"],
  ];
  for (const [from, to, expected] of changes) expect(verify(status.replace(from, to))).toContain(expected);
  expect(verifyIdentity(asked, `${directory.path}/missing`)).toContain("cannot be read");
});

test("without /proc the ids are libc's", () => {
  const identity = currentIdentity(`${directory.path}/missing`);
  expect(identity.uid).toBe(process.geteuid?.() ?? -1);
  expect(identity.capabilities).toBe("0");
  expect(currentIdentity().uid).toBe(identity.uid);
});
