// An upgrade while copyd runs: workers begin from the binary that runs, whatever has become of its file.

import { expect, test } from "bun:test";
import { chmodSync, copyFileSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { plainEnvironment } from "../support/cli.ts";
import { startDaemon } from "../support/daemon.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { run, runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { passwdUsers, runAs, whyNoPasswdUsers } from "../support/users.ts";

const build = (binary: string) => runChecked([process.execPath, join(import.meta.dir, "../../scripts/build.ts"), binary]);

testUnless(
  firstReason(whyNoBus(), whyNoPasswdUsers()),
  "a service whose binary was replaced, and one whose binary was removed, start workers of their own version for every user",
  async () => {
    await using users = await passwdUsers();
    await using bus = await privateBus({ kind: "system" });
    chmodSync(bus.directory, 0o755);
    mkdirSync(`${bus.directory}/mine`);
    chmodSync(`${bus.directory}/mine`, 0o777);
    const [binary, client] = [`${bus.directory}/copyd`, `${bus.directory}/client`];
    await build(binary);
    copyFileSync(binary, client);
    await using daemon = await startDaemon(bus, [], [binary, "daemon"]);
    const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: bus.address };
    writeFileSync(`${bus.directory}/source`, "content");
    let copies = 0;
    const copy = async (): Promise<void> => {
      const command = [client, "cp", "--verify=xxh3", "../source", `copy${copies++}`];
      for (const { status, stderr } of [
        await runAs(users.first, command, { cwd: `${bus.directory}/mine`, env }),
        await run([...command.slice(0, -1), `copy${copies++}`], { cwd: `${bus.directory}/mine`, env }),
      ]) {
        expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
      }
    };
    await copy();
    // What an upgrade does, with a binary that would be no worker at all.
    copyFileSync("/bin/false", `${binary}.new`);
    renameSync(`${binary}.new`, binary);
    await copy();
    rmSync(binary);
    await copy();
    // The service's, not the client's own.
    expect((await daemon.log()).match(/job started/g)).toHaveLength(copies);
    const asking = Bun.spawn([client, "cp", "-i", "source", "mine/copy0"], { cwd: bus.directory, env, stdin: "pipe", stderr: "pipe" });
    await asking.stderr.getReader().read();
    const [worker] = childrenOf(daemon.pid);
    expect(statSync(`/proc/${worker}/exe`).ino).toBe(statSync(`/proc/${daemon.pid}/exe`).ino);
    expect(readFileSync(`/proc/${worker}/comm`, "latin1")).toBe("copyd\n");
    asking.stdin.write("n\n");
    asking.stdin.end();
    expect(await asking.exited).toBe(1);
  },
  120_000,
);

test("cp, doctor and verify of a binary that has been removed work by themselves", async () => {
  await using directory = await temporaryDirectory();
  const script = `exec 9<copyd; rm copyd; run() { /proc/self/fd/9 "$@"; }
    echo content >a; run cp --local --manifest=sums a b && run cp --local --remove-destination b c && cmp a c && run verify sums && run doctor --json`;
  await build(`${directory.path}/copyd`);
  const result = await run(["bash", "-c", script], { cwd: directory.path, env: plainEnvironment });
  expect(result.stderr).toBe("");
  expect(result.status).toBe(0);
});
