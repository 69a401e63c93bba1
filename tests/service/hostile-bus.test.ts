// Frames that no dbus-daemon would hand on, as a bus that checks less might: damaged, lying, random. The service goes on.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type BusConnection, connectBus } from "../../src/dbus/connection.ts";
import { managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Service } from "../../src/dbus/service.ts";
import { Variant } from "../../src/dbus/values.ts";
import { type HostileBus, hostileBus } from "../support/hostile-bus.ts";
import { hostileCall } from "../support/hostile-calls.ts";
import { MemoryJobs } from "../support/memory-jobs.ts";
import { Random } from "../support/random.ts";

describe("on a bus that checks nothing", () => {
  let bus: HostileBus;
  let connection: BusConnection;
  const internal: unknown[] = [];
  const random = new Random();
  let serial = 0;

  beforeAll(async () => {
    bus = await hostileBus();
    connection = await connectBus(bus.address);
    const service = new Service({
      connection,
      jobs: new MemoryJobs(),
      kind: "system",
      version: "1",
      reportInternal: (error) => internal.push(error),
    });
    await service.start();
  });
  afterAll(async () => {
    connection.close();
    await bus[Symbol.asyncDispose]();
  });

  const stillAnswers = async (): Promise<void> => {
    const ping = ++serial;
    bus.sendRaw(bus.encodeCall({ path: "/", interface: "org.freedesktop.DBus.Peer", member: "Ping" }, ping));
    expect(await bus.answered(ping)).toBe("return");
    expect(internal, `seed ${random.seed}`).toEqual([]);
  };

  test("frames damaged behind their lengths are answered or dropped", async () => {
    for (let round = 0; round < 40; round++) {
      for (let index = 0; index < 100; index++) {
        const frame = Buffer.from(bus.encodeCall(hostileCall(random), ++serial));
        // The lengths stay, so that the next frame is found: bytes 4 to 7 and 12 to 15. The serial too, so that replies are told apart.
        for (let hit = random.below(5); hit >= 0; hit--) {
          const at = random.below(frame.length);
          if ((at > 0 && at < 4) || at >= 16) frame[at] = random.below(256);
        }
        bus.sendRaw(frame);
      }
      serial += 1000;
      await stillAnswers();
    }
  }, 60_000);

  test("frames with random bodies are answered or dropped", async () => {
    for (let round = 0; round < 20; round++) {
      for (let index = 0; index < 100; index++) {
        const signature = random.pick(["aayaya{sv}", "assa{sv}", "a{sv}", "ssv", "v", "h", "a(sv)", "uu"]);
        const head = Buffer.from(
          bus.encodeCall({ path: rootPath, interface: managerInterface, member: "Copy", signature, body: undefined as never }, ++serial),
        );
        const body = random.bytes(random.below(400));
        head.writeUInt32LE(body.length, 4);
        bus.sendRaw(Buffer.concat([head, body]));
      }
      await stillAnswers();
    }
  }, 60_000);

  test("what a message claims to be from the bus is believed only as far as it makes sense", async () => {
    const odd: [string, unknown[]][] = [
      ["sss", ["", "", ""]],
      ["ss", [":1.5", ""]],
      ["v", [new Variant("s", "x")]],
      ["", []],
      ["sss", ["org.copyd.Copyd1", ":1.1", ""]],
    ];
    for (const [signature, body] of odd) {
      const signal = { path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus", member: "NameOwnerChanged", signature, body };
      bus.sendRaw(Buffer.from(bus.encodeCall(signal, ++serial)).fill(4, 1, 2));
    }
    await stillAnswers();
  });

  test("a stream out of step ends the connection, not the process", async () => {
    bus.sendRaw(Buffer.alloc(64, 0x41));
    expect(await connection.closed).toContain("unknown byte order");
  });
});
