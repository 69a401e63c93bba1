// While a job lasts, the command, the service and the worker hold little of the program's code that they have read to get there.

import { expect } from "bun:test";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { descendants } from "../../bench/process-memory.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { startDaemon } from "../support/daemon.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";

/** Measured: a tenth of the highest, right after it was let go. */
const heldShare = 0.6;

testUnless(
  firstReason(unlessRoot(), whyNoBus()),
  "of a lasting job's processes, each lets go of the code that its start has read",
  async () => {
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus);
    const [source, destination] = [join(bus.directory, "source"), join(bus.directory, "copy")];
    writeFileSync(source, Buffer.alloc(64 * 1024 * 1024));
    const client = Bun.spawn(copydCommand("cp", "--limit-rate=1M", source, destination), {
      env: { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: bus.address },
      stdout: "ignore",
      stderr: "inherit",
    });
    const most = new Map<number, number>();
    const held = new Map<number, number>();
    const shares = (): number[] => [...held].map(([pid, least]) => least / (most.get(pid) ?? 1));
    const isDone = (): boolean => held.size === 3 && shares().every((share) => share < heldShare);
    for (const deadline = performance.now() + 30_000; !isDone() && performance.now() < deadline; await Bun.sleep(10)) {
      const present = descendants([client.pid, daemon.pid]);
      // A child that is over soon is none of them.
      for (const pid of held.keys()) if (!present.includes(pid)) held.delete(pid);
      for (const pid of present) {
        const bytes = fileBytes(pid);
        // What has not loaded yet holds little, too.
        if (bytes > (most.get(pid) ?? 0)) most.set(pid, bytes);
        if (bytes === most.get(pid)) held.set(pid, bytes);
        held.set(pid, Math.min(held.get(pid) ?? bytes, bytes));
      }
    }
    expect(client.exitCode).toBeNull();
    client.kill("SIGINT");
    await client.exited;
    console.log(`held at least, of the highest: ${shares().map((share) => share.toFixed(2))}`);
    expect(shares()).toHaveLength(3);
    for (const share of shares()) expect(share).toBeLessThan(heldShare);
  },
  60_000,
);

function fileBytes(pid: number): number {
  try {
    return Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0) * 1024;
  } catch {
    // It has ended.
    return 0;
  }
}
