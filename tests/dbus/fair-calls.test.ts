// Calls are served one of each user after the other, and who sends more than may wait is refused before anything is decoded.

import { expect, test } from "bun:test";
import type { Message, MessageHeader } from "../../src/dbus/codec.ts";
import { FairCalls, type RawCall } from "../../src/dbus/fair-calls.ts";

interface Fixture {
  readonly calls: FairCalls;
  readonly served: string[];
  readonly refused: string[];
  take(sender: string, member: string, bytes?: number): void;
  untilIdle(): Promise<void>;
}

function fixture(changes: { readonly mayServe?: () => boolean; readonly serve?: (message: Message) => void } = {}): Fixture {
  const served: string[] = [];
  const refused: string[] = [];
  const calls = new FairCalls({
    // ":7.1" and ":7.2" are two connections of user 7.
    userOf: async (sender) => Number(/^:(\d+)/.exec(sender)?.[1]),
    serve: (message) => {
      served.push(`${message.sender} ${message.member}`);
      changes.serve?.(message);
    },
    mayServe: changes.mayServe ?? (() => true),
    refuse: ({ sender, member }, reason) => refused.push(`${sender} ${member} ${reason}`),
  });
  return {
    calls,
    served,
    refused,
    take(sender, member, bytes = 100) {
      const header = { type: 1, flags: 0, serial: 1, sender, member, path: "/", signature: "" } as MessageHeader;
      const decode: RawCall["decode"] = () => (member === "Broken" ? "malformed" : { ...header, body: [] });
      calls.take({ header, bytes, decode });
    },
    async untilIdle() {
      await Bun.sleep(0);
      while (calls.waiting > 0) await Bun.sleep(1);
    },
  };
}

test("a user who comes late waits for one call of another's flood, whatever number of connections that came from", async () => {
  const { take, served, untilIdle } = fixture();
  for (let index = 0; index < 300; index++) take(`:7.${index % 10}`, `flood${index}`);
  take(":8.1", "a");
  take(":8.1", "b");
  take(":9.1", "c");
  await untilIdle();
  expect(served).toHaveLength(303);
  expect(served.slice(0, 6)).toEqual([":7.0 flood0", ":8.1 a", ":9.1 c", ":7.1 flood1", ":8.1 b", ":7.2 flood2"]);
  // And each one's in the order in which they came.
  const flood = served.filter((call) => call.startsWith(":7"));
  expect(flood).toEqual(Array.from({ length: 300 }, (_, index) => `:7.${index % 10} flood${index}`));
});

test("beyond what may wait of one user, calls are refused, by number and by bytes, and others' are taken", async () => {
  const { take, refused, served, untilIdle } = fixture();
  for (let index = 0; index < 5000; index++) take(":7.1", "x");
  for (let index = 0; index < 10; index++) take(":8.1", "large", 8 * 1024 * 1024);
  take(":9.1", "y");
  await untilIdle();
  expect(refused.filter((call) => call === ":7.1 x too-many").length).toBe(5000 - 4096);
  expect(refused.filter((call) => call === ":8.1 large too-many").length).toBe(6);
  expect(served).toContain(":9.1 y");
  // What was served makes room again.
  take(":8.1", "again", 8 * 1024 * 1024);
  await untilIdle();
  expect(served.at(-1)).toBe(":8.1 again");
});

test("what cannot be decoded is refused in its turn", async () => {
  const { take, refused, served, untilIdle } = fixture();
  take(":7.1", "Broken");
  take(":7.1", "fine");
  await untilIdle();
  expect([refused, served]).toEqual([[":7.1 Broken malformed"], [":7.1 fine"]]);
});

test("nothing is served while the bus takes nothing", async () => {
  let mayServe = false;
  const { take, served, untilIdle } = fixture({ mayServe: () => mayServe });
  take(":7.1", "x");
  await Bun.sleep(20);
  expect(served).toEqual([]);
  mayServe = true;
  await untilIdle();
  expect(served).toEqual([":7.1 x"]);
});

const busyFor = (ms: number): void => {
  const untilMs = performance.now() + ms;
  while (performance.now() < untilMs);
};

/** How much of this much time a user's calls, as many as can be, take. */
async function shareOf(
  flood: { readonly callMs: number; readonly forMs: number },
  others: (take: Fixture["take"]) => void,
): Promise<number> {
  let spentMs = 0;
  const { take } = fixture({
    serve: ({ sender }) => {
      if (!sender.startsWith(":7")) return;
      busyFor(flood.callMs);
      spentMs += flood.callMs;
      setTimeout(() => take(":7.1", "next"), 0);
    },
  });
  for (let index = 0; index < 10; index++) take(":7.1", "first");
  const beganMs = performance.now();
  while (performance.now() - beganMs < flood.forMs) {
    others(take);
    await Bun.sleep(5);
  }
  return spentMs / (performance.now() - beganMs);
}

test("a user's calls, large or small, take an eighth of the time while others call, and no more than half of it ever", async () => {
  for (const callMs of [0.5, 20]) {
    // With what is free at first, and what one more call may add.
    const crowded = await shareOf({ callMs, forMs: 1_000 }, (take) => take(":8.1", "quick"));
    expect(crowded).toBeLessThan(0.25);
    const alone = await shareOf({ callMs, forMs: 500 }, () => undefined);
    expect(alone).toBeGreaterThan(crowded);
    expect(alone).toBeLessThan(0.65);
  }
});

test("who takes long rests, and others are served meanwhile", async () => {
  const slowAtMs: number[] = [];
  const { take, served, untilIdle } = fixture({
    serve: ({ member }) => {
      if (member !== "slow") return;
      slowAtMs.push(performance.now());
      busyFor(60);
    },
  });
  for (let index = 0; index < 2; index++) take(":7.1", "slow");
  for (let index = 0; index < 5; index++) take(":8.1", "quick");
  await untilIdle();
  // How many of the quick ones, a busy machine may decide.
  expect(served.slice(0, 2)).toEqual([":7.1 slow", ":8.1 quick"]);
  expect((slowAtMs[1] ?? 0) - (slowAtMs[0] ?? 0)).toBeGreaterThan(60 + 200);
});
