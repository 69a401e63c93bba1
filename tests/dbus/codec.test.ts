// The bus codec: what goes out comes back, and no bytes whatever make the reader fail, loop or hold more than its limits.

import { describe, expect, test } from "bun:test";
import { encodeMessage, type Message, type MessageHeader, MessageReader, MessageType, StreamBroken } from "../../src/dbus/codec.ts";
import { Variant } from "../../src/dbus/values.ts";

interface Seen {
  readonly messages: Message[];
  readonly refused: [MessageHeader, string][];
  readonly reader: MessageReader;
}

function newReader(limits = { maxMessageBytes: 1024 * 1024, maxValues: 100_000 }): Seen {
  const messages: Message[] = [];
  const refused: [MessageHeader, string][] = [];
  const reader = new MessageReader(limits, {
    message: (message) => messages.push(message),
    refused: (header, reason) => refused.push([header, reason]),
  });
  return { messages, refused, reader };
}

function call(signature: string, body: unknown[]): Buffer {
  return encodeMessage({ type: MessageType.call, path: "/a/b", interface: "x.y", member: "M", signature, body }, 7);
}

/** A call whose header says one signature over the bytes of another. */
function callWithBody(signature: string, body: Buffer): Buffer {
  const head = Buffer.from(encodeMessage({ type: MessageType.call, path: "/a", member: "M", signature, body: undefined as never }, 9));
  head.writeUInt32LE(body.length, 4);
  return Buffer.concat([head, body]);
}

function decodeBody(signature: string, body: Buffer): readonly unknown[] | string {
  const seen = newReader();
  seen.reader.push(callWithBody(signature, body));
  return seen.messages[0]?.body ?? seen.refused[0]?.[1] ?? "dropped";
}

test("of a key that comes twice in a dict, the last one counts", () => {
  const pairs = call("a(su)", [[["k", 1], ["k", 2]]]); // biome-ignore format: a row of a table
  // On the wire a dict's entries are structs.
  const body = pairs.subarray(pairs.length - pairs.readUInt32LE(4));
  expect(decodeBody("a{su}", body)).toEqual([new Map([["k", 2]])]);
});

describe("values", () => {
  const cases: [string, unknown[]][] = [
    ["ybnqiuxtd", [255, true, -5, 65535, -70000, 4_000_000_000, -9_007_199_254_740_993n, 18_446_744_073_709_551_615n, 1.5]],
    ["sog", ["grüße €", "/org/copyd", "a{sv}"]],
    ["ay", [Buffer.from([0, 255, 10, 47])]],
    ["aay", [[Buffer.from("/a\0"), Buffer.alloc(0), Buffer.from([0xff])]]],
    ["a(sx)(yt)", [[["a", 1n], ["b", -1n]], [7, 9n]]], // biome-ignore format: a row of a table
    ["a{sv}", [new Map([["k", new Variant("as", ["x", "y"])], ["__proto__", new Variant("b", true)]])]], // biome-ignore format: a row
    ["v", [new Variant("v", new Variant("a{st}", new Map([["n", 1n]])))]],
    ["yat", [1, []]],
    ["yt", [1, 2n]],
  ];
  for (const [signature, body] of cases) {
    test(`${signature} comes back as it was sent`, () => {
      const seen = newReader();
      seen.reader.push(call(signature, body));
      expect(seen.messages[0]?.body).toEqual(body);
      expect(seen.messages[0]).toMatchObject({ signature, path: "/a/b", interface: "x.y", member: "M", serial: 7 });
    });
  }

  test("messages of any length come back, wherever the writer's buffer has to grow", () => {
    for (let length = 0; length < 2200; length++) {
      const body = ["x".repeat(length), new Variant("ay", Buffer.from("b")), new Map([["k", new Variant("g", "a{sv}")]]), [[true, 5n]]];
      const seen = newReader();
      seen.reader.push(call("sva{sv}a(bt)", body));
      if (!Bun.deepEquals(seen.messages[0]?.body, body)) throw new Error(`length ${length}`);
    }
  });

  test("a dict key named __proto__ is a key like any other", () => {
    const seen = newReader();
    seen.reader.push(call("a{sv}", [new Map([["__proto__", new Variant("s", "polluted")]])]));
    const [dict] = seen.messages[0]?.body ?? [];
    expect(dict).toBeInstanceOf(Map);
    expect((dict as Map<string, Variant>).get("__proto__")?.value).toBe("polluted");
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });

  test("a value that is not of its type is not sent", () => {
    const bad: [string, unknown[]][] = [["s", [1]], ["u", [-1]], ["u", [1.5]], ["y", [256]], ["b", [1]], ["ay", ["text"]], ["s", ["a\0b"]], ["v", ["x"]], ["as", ["x"]], ["s", []]]; // biome-ignore format: a table
    for (const [signature, body] of bad) expect(() => call(signature, body), signature).toThrow();
  });

  test("100 kB of bytes cost no more than copying them", () => {
    const bytes = Buffer.alloc(100_000, 7);
    const started = performance.now();
    for (let round = 0; round < 20; round++) newReader().reader.push(call("ay", [bytes]));
    // Byte by byte it was 65 ms each; the bound is wide for a busy machine.
    expect((performance.now() - started) / 20).toBeLessThan(10);
  });
});

describe("messages that lie", () => {
  const le = (...words: number[]): Buffer => {
    const bytes = Buffer.alloc(words.length * 4);
    words.forEach((word, index) => {
      bytes.writeUInt32LE(word, index * 4);
    });
    return bytes;
  };
  const string = (text: string | Buffer): Buffer => Buffer.concat([le(text.length), Buffer.from(text), Buffer.alloc(1)]);
  const cases: [string, string, Buffer][] = [
    ["a string longer than the message", "s", le(1000)],
    ["a string without its NUL", "s", Buffer.concat([le(3), Buffer.from("abcd")])],
    ["a string with a NUL inside", "s", string("a\0b")],
    ["a string that is not UTF-8", "s", string(Buffer.from([0xff, 0xfe]))],
    ["a boolean of 2", "b", le(2)],
    ["an array longer than the message", "ay", le(0xffff_ffff)],
    ["an array that ends within an element", "au", le(6, 1, 2)],
    ["an invalid object path", "o", string("no/slash")],
    ["a variant of two values", "v", Buffer.concat([Buffer.from([2]), Buffer.from("uu\0"), le(1, 2)])],
    ["a variant of no value", "v", Buffer.from([0, 0])],
    ["a variant of an empty struct array", "v", Buffer.concat([Buffer.from([3]), Buffer.from("a()\0"), le(8, 0, 0, 0)])],
    ["more bytes than the signature says", "u", le(1, 2)],
    ["fewer bytes than the signature says", "uu", le(1)],
    ["no body at all", "s", Buffer.alloc(0)],
  ];
  for (const [what, signature, body] of cases) {
    test(`${what} is refused`, () => {
      expect(decodeBody(signature, body)).toBe("malformed");
    });
  }

  test("a descriptor that was never sent is a number", () => {
    expect(decodeBody("h", le(5))).toEqual([5]);
  });

  test("variants nested 63 deep are read, 100 deep are refused", () => {
    const nested = (depth: number): Buffer =>
      Buffer.concat([...Array.from({ length: depth - 1 }, () => Buffer.from("\x01v\0")), Buffer.from("\x01y\0"), Buffer.from([7])]);
    expect(typeof decodeBody("v", nested(63))).toBe("object");
    expect(decodeBody("v", nested(100))).toBe("malformed");
    expect(decodeBody("v", nested(100_000))).toBe("malformed");
  });

  test("more values than the limit are refused before they fill memory", () => {
    const seen = newReader({ maxMessageBytes: 1024 * 1024, maxValues: 1000 });
    seen.reader.push(callWithBody("aay", Buffer.concat([le(4004), Buffer.alloc(4004)])));
    expect(seen.refused[0]?.[1]).toBe("too-large");
  });

  test("signatures that D-Bus does not allow are dropped with their message", () => {
    for (const signature of ["a", "()", "{sv}", "a{vs}", "a{s}", "a{sss}", "(s", "z", `${"a".repeat(33)}y`, "y".repeat(256)]) {
      expect(() => call(signature, []), signature).toThrow();
    }
  });

  test("the stream goes on after a refused message, and after one without a readable header", () => {
    const seen = newReader();
    const unreadable = call("s", ["x"]);
    unreadable[1] = 99;
    seen.reader.push(Buffer.concat([callWithBody("s", le(1000)), unreadable, call("s", ["still here"])]));
    expect(seen.refused).toHaveLength(1);
    expect(seen.reader.dropped).toBe(1);
    expect(seen.messages.map(({ body }) => body)).toEqual([["still here"]]);
  });

  test("a message beyond the limit is skipped without being held, and its sender can be told", () => {
    const seen = newReader({ maxMessageBytes: 1000, maxValues: 1000 });
    const large = call("ay", [Buffer.alloc(500_000)]);
    for (let at = 0; at < large.length; at += 4096) seen.reader.push(large.subarray(at, at + 4096));
    seen.reader.push(call("s", ["next"]));
    expect(seen.refused.map(([header, reason]) => [header.serial, reason])).toEqual([[7, "too-large"]]);
    expect(seen.messages).toHaveLength(1);
  });

  test("what is no message at all ends the stream", () => {
    expect(() => newReader().reader.push(Buffer.alloc(64, 0x41))).toThrow(StreamBroken);
    const huge = call("s", ["x"]);
    huge.writeUInt32LE(0xffff_ffff, 4);
    expect(() => newReader().reader.push(huge)).toThrow(StreamBroken);
  });
});

describe("the stream", () => {
  test("messages may arrive in pieces of any size", () => {
    const stream = Buffer.concat(Array.from({ length: 20 }, (_, index) => call("sau", [`message ${index}`, [index]])));
    for (const size of [1, 2, 3, 7, 15, 16, 17, 100, 1000]) {
      const seen = newReader();
      for (let at = 0; at < stream.length; at += size) seen.reader.push(stream.subarray(at, at + size));
      expect(seen.messages.map(({ body }) => body[0])).toEqual(Array.from({ length: 20 }, (_, index) => `message ${index}`));
    }
  });

  test("both byte orders are read", () => {
    const fields = "01016f00 00000002 2f6100 0000000000 03017300 00000001 4d00 000000000000 08016700 017500";
    const big = Buffer.from(`42010001 00000004 00000009 00000027 ${fields} 00 00010203`.replaceAll(" ", ""), "hex");
    const seen = newReader();
    seen.reader.push(big);
    expect(seen.messages[0]).toMatchObject({ serial: 9, path: "/a", member: "M", signature: "u", body: [0x00010203] });
  });

  test("random damage to a real message never escapes the reader", () => {
    const seed = Number(process.env.COPYD_TEST_SEED ?? Date.now() % 1_000_000);
    let state = seed;
    const random = (below: number): number => {
      state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
      return (state >>> 8) % below;
    };
    const whole = call("aayaya{sv}", [
      [Buffer.from("/a/b\0")],
      Buffer.from("/c"),
      new Map([["on-conflict", new Variant("s", "skip")], ["x-deep", new Variant("v", new Variant("a(sv)", [["q", new Variant("t", 1n)]]))]]), // biome-ignore format: a table
    ]);
    for (let round = 0; round < 5000; round++) {
      const damaged = Buffer.from(whole);
      for (let hit = random(6); hit >= 0; hit--) damaged[random(damaged.length)] = random(256);
      const seen = newReader();
      try {
        seen.reader.push(damaged);
      } catch (error) {
        if (!(error instanceof StreamBroken)) throw new Error(`seed ${seed}, round ${round}`, { cause: error });
      }
    }
  });
});
