// The odd tree, whole: with every engine, on every filesystem, by root and by an ordinary user, by the command alone and by the service.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { engineChoices } from "../../src/request.ts";
import { type PrivateBus, privateBus, whyNoBus } from "../support/bus.ts";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { expectSameTree } from "../support/compare.ts";
import { type DaemonProcess, startDaemon, whyNoOtherWorkers } from "../support/daemon.ts";
import { filesystemKinds, mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, type RunResult, run, runChecked } from "../support/process.ts";
import { describeUnless, firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { remove } from "../support/temporary.ts";
import { asUser, passwdUsers, type TestUsers } from "../support/users.ts";

const unlisted = { uid: 1_234_567, gid: 1_234_567 };
const lacking = firstReason(
  unlessRoot(),
  havePrograms("rsync", "setfacl", "setfattr", "perl") ? null : "rsync, acl, attr or perl is not installed",
  whyNoBus(),
  whyNoOtherWorkers(unlisted),
);

for (const kind of filesystemKinds) {
  describeUnless(firstReason(lacking, whyNoFilesystem(kind)), `the odd tree on ${kind}`, () => {
    let filesystem: TestFilesystem;
    let users: TestUsers;
    let bus: PrivateBus;
    let daemon: DaemonProcess;
    beforeAll(async () => {
      [filesystem, users, bus] = await Promise.all([mountFilesystem(kind), passwdUsers(), privateBus({ kind: "system" })]);
      daemon = await startDaemon(bus);
      chmodSync(join(filesystem.path, ".."), 0o755);
      for (const [name, owner] of [
        ["root", { uid: 0, gid: 0 }],
        ["user", users.first],
      ] as const) {
        const home = `${filesystem.path}/${name}`;
        mkdirSync(home);
        mkdirSync(`${home}/source`);
        for (const path of [home, `${home}/source`]) chownSync(path, owner.uid, owner.gid);
        const command = [process.execPath, join(import.meta.dir, "tree-child.ts"), `${home}/source`];
        await runChecked(name === "root" ? command : asUser(users.first, command), {
          env: { ...plainEnvironment, PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
        });
      }
    }, 120_000);
    afterAll(async () => {
      await daemon[Symbol.asyncDispose]();
      await bus[Symbol.asyncDispose]();
      await filesystem[Symbol.asyncDispose]();
      await users[Symbol.asyncDispose]();
    });

    const copy = async (who: "root" | "user", how: readonly string[], environment: Record<string, string> = {}): Promise<RunResult> => {
      const home = `${filesystem.path}/${who}`;
      await remove(`${home}/copy`);
      const command = copydCommand("cp", ...how, "-a", "-T", `${home}/source`, `${home}/copy`);
      return run(who === "root" ? command : asUser(users.first, command), { env: { ...plainEnvironment, ...environment } });
    };
    const expectCopied = async (who: "root" | "user", result: RunResult): Promise<void> => {
      expect([result.stderr, result.status]).toEqual(["", 0]);
      await expectSameTree(`${filesystem.path}/${who}/source`, `${filesystem.path}/${who}/copy`);
    };

    for (const engine of engineChoices) {
      const isServed = engine !== "reflink" || kind === "xfs" || kind === "btrfs";
      for (const who of ["root", "user"] as const) {
        if (!isServed) {
          test(`${engine}, which cannot serve here, says so to ${who} for each file and leaves none half made`, async () => {
            const { status, stderr } = await copy(who, ["--local", `--engine=${engine}`]);
            expect(status).toBe(1);
            expect(stderr).toMatch(/failed to clone .*several-megabytes/);
            const found = await run(["find", `${filesystem.path}/${who}/copy`, "-type", "f", "-size", "+0"]);
            expect(found.stdout).toBe("");
          });
          continue;
        }
        test(`${engine} copies all of it, as ${who}`, async () => {
          await expectCopied(who, await copy(who, ["--local", `--engine=${engine}`]));
        });
      }
    }

    for (const who of ["root", "user"] as const) {
      test(`the service copies all of it for ${who}`, async () => {
        const result = await copy(who, ["--durability=job"], { DBUS_SYSTEM_BUS_ADDRESS: bus.address });
        await expectCopied(who, result);
        const uid = who === "root" ? 0 : users.first.uid;
        expect(await daemon.log()).toMatch(new RegExp(`job ended.*uid=${uid}\\b`));
      });
    }
  });
}

testUnless(
  firstReason(lacking, process.env.COPYD_TORTURE === undefined ? "set COPYD_TORTURE to copy /usr" : null),
  "/usr is copied whole",
  async () => {
    await using filesystem = await mountFilesystem("ext4", { sizeBytes: 20 * 1024 ** 3 });
    const result = await run(copydCommand("cp", "--local", "-a", "-T", "/usr", `${filesystem.path}/usr`), {
      env: plainEnvironment,
      timeoutMs: 600_000,
    });
    expect([result.stderr, result.status]).toEqual(["", 0]);
    await expectSameTree("/usr", `${filesystem.path}/usr`, { holes: "any" });
  },
  1_200_000,
);
