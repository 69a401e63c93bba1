// One user's flood of calls and jobs: another user's copies and calls go on nearly as before.

import { expect } from "bun:test";
import { chmodSync, chownSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { startDaemon, whyNoOtherWorkers } from "../support/daemon.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { asUser, passwdUsers, runAs, type TestUsers } from "../support/users.ts";

const client = [process.execPath, join(import.meta.dir, "flood-client.ts")];
const rounds = process.env.COPYD_TORTURE === "1" ? 50 : 6;

const median = (values: readonly number[]): number => values.toSorted((one, other) => one - other)[values.length >> 1] ?? 0;

testUnless(
  firstReason(whyNoBus(), unlessRoot(), whyNoOtherWorkers({ uid: 65534, gid: 65534 })),
  "another user's copies and calls go on while a flood of calls and jobs lasts",
  async () => {
    await using users = await passwdUsers();
    await using temporary = await temporaryDirectory();
    chmodSync(temporary.path, 0o755);
    const homeOf = (user: TestUsers["first"]): string => {
      const home = join(temporary.path, user.name);
      mkdirSync(home);
      chownSync(home, user.uid, user.gid);
      writeFileSync(join(home, "small"), "small");
      writeFileSync(join(home, "large"), Buffer.alloc(4 << 20));
      for (const name of ["small", "large"]) chownSync(join(home, name), user.uid, user.gid);
      return home;
    };
    const homes = { first: homeOf(users.first), second: homeOf(users.second) };
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus);
    const measure = async (): Promise<{ readonly copies: number[]; readonly calls: number[] }> => {
      const { stdout, stderr, status } = await runAs(users.second, [...client, "quiet", bus.address, homes.second, String(rounds)], {
        timeoutMs: 180_000,
      });
      if (status !== 0) throw new Error(stderr);
      return JSON.parse(stdout);
    };
    await measure();
    const quiet = await measure();
    const flood = Bun.spawn(asUser(users.first, [...client, "flood", bus.address, homes.first]), { stdout: "pipe", stderr: "ignore" });
    try {
      await flood.stdout.getReader().read();
      const flooded = await measure();
      const figures = [
        median(quiet.copies),
        median(flooded.copies),
        median(quiet.calls),
        median(flooded.calls),
        Math.max(...flooded.calls),
      ];
      const [quietCopy = 0, copy = 0, quietCall = 0, call = 0, worst = 0] = figures;
      const shown = figures.map((ms) => ms.toFixed(1));
      console.log(`copy ${shown[0]} -> ${shown[1]} ms, call ${shown[2]} -> ${shown[3]} ms, worst ${shown[4]} ms (quiet -> flooded)`);
      expect(flood.exitCode).toBeNull();
      // The machine is shared with the flood itself, with its workers and with whatever else runs the tests.
      expect(copy).toBeLessThan(Math.max(4 * quietCopy, 2_000));
      expect(call).toBeLessThan(Math.max(20 * quietCall, 200));
      expect(worst).toBeLessThan(5_000);
    } finally {
      flood.kill("SIGKILL");
      await flood.exited;
    }
    expect(await daemon.log()).not.toContain("internal error");
  },
  300_000,
);
