// The service under thousands of calls with something wrong in them: each gets a named error, it keeps answering, its memory stays.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { type BusConnection, BusError } from "../../src/dbus/connection.ts";
import { busName, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant } from "../../src/dbus/values.ts";
import { privateBus, whyNoBus } from "../support/bus.ts";
import { callService, errorOf } from "../support/bus-client.ts";
import { startDaemon } from "../support/daemon.ts";
import { type HostileCall, hostileCall } from "../support/hostile-calls.ts";
import { Random } from "../support/random.ts";
import { describeUnless, firstReason, unlessRoot } from "../support/skip.ts";

const named =
  /^(org\.freedesktop\.DBus\.Error\.(InvalidArgs|UnknownObject|UnknownMethod|UnknownInterface|UnknownProperty|PropertyReadOnly|LimitsExceeded|NotSupported)|org\.copyd\.Copyd1\.Error\.(BadPath|UnknownOption|NoSuchJob))$/;

async function outcomeOf(connection: BusConnection, call: HostileCall): Promise<string> {
  try {
    // The bus's policy wants an interface on the system bus; a call without one is turned away there.
    await connection.call({ destination: busName, interface: managerInterface, ...call }, 30_000);
    return "answered";
  } catch (error) {
    return error instanceof BusError ? error.dbusName : String(error);
  }
}

function residentKilobytes(pid: number): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1]);
}

describeUnless(firstReason(whyNoBus(), unlessRoot()), "hostile calls", () => {
  test("ten thousand of them: named errors, answers as before, flat memory", async () => {
    const random = Random.announced();
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus, ["--log-level", "debug"]);
    const connection = await bus.connect();
    const outcomes = new Map<string, number>();
    const storm = async (calls: number): Promise<void> => {
      for (let sent = 0; sent < calls; sent += 50) {
        const batch = Array.from({ length: 50 }, () => hostileCall(random));
        for (const [index, outcome] of (await Promise.all(batch.map((call) => outcomeOf(connection, call)))).entries()) {
          outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
          if (outcome !== "answered" && !named.test(outcome)) {
            throw new Error(`seed ${random.seed}: ${outcome} to ${Bun.inspect(batch[index])}`);
          }
        }
      }
    };
    await storm(4000);
    const before = residentKilobytes(daemon.pid);
    await storm(10_000);
    const after = residentKilobytes(daemon.pid);
    expect(after - before, `seed ${random.seed}: ${before} kB, then ${after} kB`).toBeLessThan(30_000);
    expect(outcomes.get("org.copyd.Copyd1.Error.BadPath")).toBeGreaterThan(100);
    expect(outcomes.get("org.copyd.Copyd1.Error.UnknownOption")).toBeGreaterThan(100);
    expect(outcomes.get("org.freedesktop.DBus.Error.InvalidArgs")).toBeGreaterThan(100);
    const [jobs] = await callService(connection, rootPath, managerInterface, "ListJobs", "a{sv}", [new Map()]);
    expect(jobs).toEqual([]);
    expect(await daemon.log()).not.toContain("internal error");
    connection.close();
  }, 180_000);

  test("very large ones are refused, and their memory is given back", async () => {
    await using bus = await privateBus({ kind: "system" });
    await using daemon = await startDaemon(bus);
    const connection = await bus.connect();
    const copyOf = async (sources: unknown, options = new Map<string, Variant>()): Promise<string> => {
      const call = callService(connection, rootPath, managerInterface, "Copy", "aayaya{sv}", [sources, Buffer.from("/d"), options]);
      return (await errorOf(call)).dbusName.split(".").at(-1) ?? "";
    };
    const rounds: (() => Promise<void>)[] = [
      async () =>
        expect(await copyOf(Array.from({ length: 100_000 }, (_, index) => Buffer.from(`/source/${index}`)))).toBe("LimitsExceeded"),
      // More bytes than a message may have here, and more values.
      async () => expect(await copyOf([Buffer.alloc(17 * 1024 * 1024, 0x2f)])).toBe("LimitsExceeded"),
      async () => expect(await copyOf(Array(100_000).fill(Buffer.alloc(0)))).toBe("LimitsExceeded"),
      async () =>
        expect(await copyOf([Buffer.from("/a")], new Map([["include", new Variant("as", Array(30_000).fill("x"))]]))).toBe("InvalidArgs"),
      // Root may have more than one call's bytes, but nobody four times as many; and what it has are still paths.
      async () => expect(await copyOf([Buffer.alloc(4 * 1024 * 1024 + 1, 0x2f)])).toBe("BadPath"),
      async () => expect(await copyOf(Array(4200).fill(Buffer.alloc(4000, 0x2f)))).toBe("LimitsExceeded"),
    ];
    const storm = async (repeats: number): Promise<void> => {
      for (let repeat = 0; repeat < repeats; repeat++) for (const round of rounds) await round();
    };
    await storm(6);
    const before = residentKilobytes(daemon.pid);
    // Garbage of one storm may still lie there; a leak grows with each.
    let least = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 4 && least >= 60_000; round++) {
      await storm(10);
      least = Math.min(least, residentKilobytes(daemon.pid) - before);
    }
    expect(least).toBeLessThan(60_000);
    expect(await callService(connection, rootPath, "org.freedesktop.DBus.Peer", "Ping")).toEqual([]);
    connection.close();
  }, 180_000);
});
