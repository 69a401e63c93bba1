// A job on a real bus: what it tells, how it is steered and waited for.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import type { ByteString } from "../../src/bytes.ts";
import { contract, jobInterface } from "../../src/dbus/contract.ts";
import { asVariantDict, Variant } from "../../src/dbus/values.ts";
import { whyNoBus } from "../support/bus.ts";
import { callService, copy, errorOf, variant } from "../support/bus-client.ts";
import { type ServiceFixture, startServiceFixture } from "../support/service.ts";
import { describeUnless } from "../support/skip.ts";

const properties = "org.freedesktop.DBus.Properties";
const dbusError = "org.freedesktop.DBus.Error";
const ownError = "org.copyd.Copyd1.Error";

describeUnless(whyNoBus(), "a job", () => {
  let fixture: ServiceFixture;
  beforeAll(async () => {
    fixture = await startServiceFixture();
  });
  afterAll(async () => {
    expect(fixture.internal).toEqual([]);
    await fixture[Symbol.asyncDispose]();
  });

  describe("a job", () => {
    test("tells all its properties", async () => {
      const path = await copy(fixture.client, ["/a"], { "rename-match": variant.s("x") });
      fixture.jobs.update(fixture.jobAt(path), {
        state: "running",
        rate: 12.7,
        bytesDone: 5e15,
        currentFile: "/a\xfe" as ByteString,
        expectedEndTimeUs: Number.NaN,
      });
      const [all] = await callService(fixture.client, path, properties, "GetAll", "s", [jobInterface]);
      const dict = all as Map<string, Variant>;
      for (const [name, { type }] of Object.entries(contract[jobInterface].properties)) expect(dict.get(name)?.signature, name).toBe(type);
      expect(dict.get("BytesDone")?.value).toBe(5_000_000_000_000_000n);
      expect(dict.get("Rate")?.value).toBe(13n);
      expect(dict.get("ExpectedEndTime")?.value).toBe(0n);
      expect(dict.get("CurrentFile")?.value).toEqual(Buffer.from("/a\xfe\0", "latin1"));
      expect(dictOf(dict.get("Options")).get("rename-match")?.value).toBe("x");
    });

    test("is paused, resumed, tuned, answered and cancelled", async () => {
      const path = await copy(fixture.client, ["/a"], { token: variant.s("steered") });
      const none = [new Map()];
      await callService(fixture.client, path, jobInterface, "Pause", "a{sv}", none);
      expect(await fixture.property(path, "State")).toBe("paused");
      await callService(fixture.client, path, jobInterface, "Resume", "a{sv}", none);
      await callService(fixture.client, path, jobInterface, "SetOptions", "a{sv}", [new Map([["bandwidth-limit", new Variant("t", 7n)]])]);
      await callService(fixture.client, path, jobInterface, "Answer", "usa{sv}", [3, "skip", new Map([["for-all", variant.b(true)]])]);
      expect((await errorOf(callService(fixture.client, path, jobInterface, "Answer", "usa{sv}", [3, "maybe", new Map()]))).dbusName).toBe(
        `${dbusError}.InvalidArgs`,
      );
      expect((await errorOf(callService(fixture.client, path, jobInterface, "Forget", "a{sv}", none))).dbusName).toBe(
        `${ownError}.InvalidState`,
      );
      expect(
        (await errorOf(callService(fixture.client, path, jobInterface, "Cancel", "a{sv}", [new Map([["force", variant.b(true)]])])))
          .dbusName,
      ).toBe(`${ownError}.UnknownOption`);
      await callService(fixture.client, path, jobInterface, "Cancel", "a{sv}", none);
      expect((await errorOf(callService(fixture.client, path, jobInterface, "Pause", "a{sv}", none))).dbusName).toBe(
        `${ownError}.InvalidState`,
      );
      expect(fixture.jobs.asked.filter((line) => line.includes("steered"))).toEqual([
        "pause steered",
        "resume steered",
        'set-options steered {"bandwidthLimit":7}',
        "answer steered 3 skip true",
        "cancel steered",
      ]);
      await callService(fixture.client, path, jobInterface, "Forget", "a{sv}", none);
      expect((await errorOf(callService(fixture.client, path, jobInterface, "Forget", "a{sv}", none))).dbusName).toBe(
        `${dbusError}.UnknownObject`,
      );
    });

    test("lists its errors in pages", async () => {
      const path = await copy(fixture.client, ["/a"]);
      const error = {
        side: "source",
        code: "source-unreadable",
        errno: 13,
        syscall: "openat",
        severity: "error",
        engine: "",
        offset: -1,
      } as const;
      const errors = Array.from({ length: 25 }, (_, index) => ({
        ...error,
        path: `/a/${index}\xff` as ByteString,
        message: `cannot open '/a/${index}\xff': Permission denied`,
      }));
      fixture.jobs.addErrors(fixture.jobAt(path), errors);
      const page = async (offset: number, limit: number): Promise<unknown[][]> =>
        (await callService(fixture.client, path, jobInterface, "GetErrors", "uu", [offset, limit]))[0] as unknown[][];
      expect(await page(0, 0)).toHaveLength(10);
      expect(await page(20, 100)).toHaveLength(5);
      const [only] = await page(3, 1);
      expect(only?.slice(0, 4)).toEqual([
        Buffer.from("/a/3\xff\0", "latin1"),
        13,
        "source-unreadable",
        "cannot open '/a/3\ufffd': Permission denied",
      ]);
      const details = only?.[4] as Map<string, Variant>;
      expect(details.get("message-bytes")?.value).toEqual(Buffer.from("cannot open '/a/3\xff': Permission denied", "latin1"));
      expect(details.get("offset")?.value).toBe(-1n);
      expect(details.get("advice")?.value).toContain("You may not read it");
    });

    test("is waited for, by several, and answers at once when it has ended", async () => {
      const path = await copy(fixture.client, ["/a"]);
      const waits = [1, 2].map(() => callService(fixture.client, path, jobInterface, "Wait", "a{sv}", [new Map()]));
      await callService(fixture.client, path, "org.freedesktop.DBus.Peer", "Ping");
      fixture.jobs.end(fixture.jobAt(path), "failed");
      for (const wait of [...waits, callService(fixture.client, path, jobInterface, "Wait", "a{sv}", [new Map()])]) {
        const [state, result] = await wait;
        expect(state).toBe("failed");
        expect((result as Map<string, Variant>).get("message")?.value).toBe("the job has failed");
      }
    });

    test("is waited for no more often than the limit allows, and waits end with their caller", async () => {
      const path = await copy(fixture.client, ["/a"]);
      const waiter = await fixture.bus.connect();
      for (let index = 0; index < 3; index++) {
        void callService(waiter, path, jobInterface, "Wait", "a{sv}", [new Map()]).catch(() => undefined);
      }
      const fourth = await errorOf(callService(waiter, path, jobInterface, "Wait", "a{sv}", [new Map()]));
      expect(fourth.dbusName).toBe(`${dbusError}.LimitsExceeded`);
      waiter.close();
      await Bun.sleep(50);
      const wait = callService(fixture.client, path, jobInterface, "Wait", "a{sv}", [new Map()]);
      await Bun.sleep(20);
      fixture.jobs.end(fixture.jobAt(path), "completed");
      expect((await wait)[0]).toBe("completed");
    });

    test("ends with its caller when that was asked, and else does not", async () => {
      const caller = await fixture.bus.connect();
      const companion = await copy(caller, ["/a"], { "on-disconnect": variant.s("cancel") });
      const independent = await copy(caller, ["/a"]);
      caller.close();
      for (let tries = 0; fixture.jobAt(companion).state !== "cancelled" && tries < 400; tries++) await Bun.sleep(10);
      expect(fixture.jobAt(companion).state).toBe("cancelled");
      expect(fixture.jobAt(independent).state).toBe("queued");
    });
  });
});

function dictOf(variant: Variant | undefined): Map<string, Variant> {
  return new Map(asVariantDict(variant?.value));
}
