// What hundreds of jobs leave in the service's memory is given back when it is quiet.

import { expect } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { byteStringFromText } from "../../src/bytes.ts";
import { connectService } from "../../src/dbus/client.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { startDaemon } from "../support/daemon.ts";
import { runChecked } from "../support/process.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";

const jobs = 250;
/** Measured: 5 to 10 with what is given back, and 18 to 20 without. */
const growthMebibytes = 14;

testUnless(firstReason(unlessRoot(), whyNoBus()), `after ${jobs} jobs and a pause the service is little larger than before`, async () => {
  await using bus = await privateBus({ kind: "system" });
  // The binary, as it is installed: from the source, the compiler's memory would be measured too.
  const binary = `${bus.directory}/copyd`;
  await runChecked([process.execPath, join(import.meta.dir, "../../scripts/build.ts"), binary]);
  await using daemon = await startDaemon(bus, [], [binary, "daemon"]);
  using client = await connectService({ address: bus.address });
  await Bun.write(`${bus.directory}/source`, "a few bytes");
  const source = byteStringFromText(`${bus.directory}/source`);
  const before = ownMebibytes(daemon.pid);
  for (let job = 0; job < jobs; job++) {
    const destination = byteStringFromText(`${bus.directory}/copy-${job}`);
    const request = requestSchema.parse({ operation: "copy", sources: [source], destination, options: { durability: "none" } });
    const watch = await client.submitAndWatch(request);
    for await (const event of watch) if (event.type === "ended") break;
    expect(watch.job.state).toBe("completed");
  }
  const most = ownMebibytes(daemon.pid);
  let growth = most - before;
  for (let tries = 0; growth > growthMebibytes && tries < 50; tries++) {
    await Bun.sleep(100);
    growth = ownMebibytes(daemon.pid) - before;
  }
  console.log(`${before.toFixed(1)} MiB before, at most ${most.toFixed(1)}, ${(before + growth).toFixed(1)} after a pause`);
  expect(growth).toBeLessThan(growthMebibytes);
});

function ownMebibytes(pid: number): number {
  return Number(/^RssAnon:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]) / 1024;
}
