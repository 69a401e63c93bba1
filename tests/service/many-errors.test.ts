// Every error of a job reaches whoever runs it through the service, however many there are and however slowly they are read.

import { expect } from "bun:test";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { startDaemon, whyNoOtherWorkers } from "../support/daemon.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { passwdUsers, runAs, unlistedUser } from "../support/users.ts";

// More than the service keeps of one job, in number and in bytes.
const files = process.env.COPYD_TORTURE === undefined ? 25_000 : 250_000;
/** What keeping all of them would take, encoded, is beyond what a daemon with the limits' worth of errors uses. */
const maxGrowthBytes = 120_000_000;

testUnless(
  firstReason(whyNoBus(), whyNoOtherWorkers(unlistedUser())),
  `cp through the service names ${files} files that cannot be read, to a reader that comes late`,
  async () => {
    await using users = await passwdUsers();
    await using bus = await privateBus({ kind: "system" });
    chmodSync(bus.directory, 0o755);
    const source = `${bus.directory}/source`;
    const mine = `${bus.directory}/mine`;
    mkdirSync(source);
    mkdirSync(mine);
    chmodSync(mine, 0o777);
    for (let index = 0; index < files; index++) writeFileSync(`${source}/${index}`, "", { mode: 0 });
    await using daemon = await startDaemon(bus);
    const before = peakBytes(daemon.pid);
    const script = '"$@" cp -r source mine/copy 2>&1 >/dev/null | { sleep 2; cat >mine/errors; }; exit "$PIPESTATUS"';
    const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: bus.address };
    const result = await runAs(users.first, ["bash", "-c", script, "bash", ...copydCommand()], {
      cwd: bus.directory,
      env,
      timeoutMs: 300_000,
    });
    expect(result.status).toBe(1);
    expect(await daemon.log()).toContain("job started");
    const told = readFileSync(`${mine}/errors`, "utf8").trimEnd().split("\n");
    expect(told.find((line) => !/^cp: cannot open 'source\/\d+' for reading: Permission denied$/.test(line))).toBeUndefined();
    expect(told).toHaveLength(files);
    expect(new Set(told).size).toBe(files);
    expect(peakBytes(daemon.pid) - before).toBeLessThan(maxGrowthBytes);
  },
  600_000,
);

function peakBytes(pid: number): number {
  return 1024 * Number(/^VmHWM:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
}
