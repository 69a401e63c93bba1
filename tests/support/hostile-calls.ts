// Calls that no honest client makes, as many as one likes: each is a valid message with something wrong in it.

import { jobInterface, managerInterface, rootPath } from "../../src/dbus/contract.ts";
import { Variant, type WireValue } from "../../src/dbus/values.ts";
import type { Random } from "./random.ts";

export interface HostileCall {
  readonly path: string;
  readonly interface?: string;
  readonly member: string;
  readonly signature: string;
  readonly body: readonly WireValue[];
}

const properties = "org.freedesktop.DBus.Properties";
const copyMembers = ["Copy", "Move", "CopyAsAdmin", "Preview"] as const;
const oddNames = [
  "__proto__",
  "constructor",
  "toString",
  "hasOwnProperty",
  "valueOf",
  "then",
  "",
  "\u{1f4a9}",
  "x".repeat(3000),
  "on-conflict ",
  "../..",
  "option\n",
];
const basic: readonly [string, (random: Random) => WireValue][] = [
  ["y", (random) => random.below(256)],
  ["b", (random) => random.below(2) === 1],
  ["n", () => -32768],
  ["q", () => 65535],
  ["i", () => -1],
  ["u", (random) => random.below(2 ** 32)],
  ["x", () => -(2n ** 63n)],
  ["t", () => 2n ** 64n - 1n],
  ["d", () => Number.MIN_VALUE],
  ["s", (random) => random.pick(oddNames)],
  ["o", () => "/__proto__"],
  ["g", () => "a{sv}"],
  // An index of a descriptor that never came.
  ["h", (random) => random.below(5)],
];

/** A value of a random type, nested to a random depth. */
export function randomVariant(random: Random, depth = random.below(6)): Variant {
  if (depth === 0) {
    const [signature, make] = random.pick(basic);
    return new Variant(signature, make(random));
  }
  const inner = randomVariant(random, depth - 1);
  switch (random.below(5)) {
    case 0:
      return new Variant("v", inner);
    case 1:
      return new Variant("av", [inner, inner]);
    case 2:
      return new Variant("a{sv}", new Map([[random.pick(oddNames), inner]]));
    case 3:
      return new Variant(`(v${inner.signature})`, [inner, inner.value]);
    default:
      return new Variant(`a${inner.signature}`, inner.signature === "y" ? Buffer.from([Number(inner.value)]) : [inner.value]);
  }
}

/** A variant in a variant in a variant; the bus allows 64 levels. */
export function deepVariant(depth: number): Variant {
  let variant = new Variant("y", 1);
  for (let level = 1; level < depth; level++) variant = new Variant("v", variant);
  return variant;
}

/** One of the wrong calls, at random. None of them starts a job. */
export function hostileCall(random: Random): HostileCall {
  const path = random.pick([
    rootPath,
    rootPath,
    rootPath,
    "/",
    "/org",
    `${rootPath}/jobs`,
    `${rootPath}/jobs/u0/x`,
    `${rootPath}/jobs/u0`,
    "/__proto__",
  ]);
  switch (random.below(9)) {
    case 0:
      return copyCall(random, [badPath(random)], Buffer.from("/destination"), new Map());
    case 1:
      return copyCall(random, [Buffer.from("/source")], badPath(random), new Map());
    case 2:
      return copyCall(
        random,
        [Buffer.from("/source")],
        Buffer.from("/destination"),
        new Map([[random.pick(oddNames), randomVariant(random)]]),
      );
    case 3:
      return copyCall(
        random,
        [Buffer.from("/source")],
        Buffer.from("/destination"),
        new Map([[random.pick(["on-conflict", "preserve", "umask", "token", "include"]), wrongVariant(random)]]),
      );
    case 4:
      return {
        path: rootPath,
        interface: managerInterface,
        member: random.pick(["CopyUris", "MoveUris"]),
        signature: "assa{sv}",
        body: [[random.pick(["", "a", "file:", "http://x/", "file:///%", "file:///%00", "/a\u{fffd}".repeat(3000)])], "/d", new Map()],
      };
    case 5:
      return {
        path,
        interface: random.pick([managerInterface, jobInterface, properties, "org.freedesktop.DBus.ObjectManager"]),
        member: random.pick(["Copy", "Cancel", "Get", "toString", "__proto__", "Wait"]),
        ...randomBody(random),
      };
    case 6:
      return { path, member: random.pick(["Copy", "Nothing", "constructor", "GetAll"]), ...randomBody(random) };
    case 7:
      return {
        path,
        interface: properties,
        member: "Set",
        signature: "ssv",
        body: [
          random.pick([managerInterface, jobInterface, "__proto__"]),
          random.pick(["Version", "State", "__proto__"]),
          deepVariant(1 + random.below(58)),
        ],
      };
    default:
      return {
        path: `${rootPath}/jobs/u${random.below(70_000)}/x`,
        interface: jobInterface,
        member: random.pick(["Cancel", "Forget", "SetOptions", "Wait"]),
        signature: "a{sv}",
        body: [new Map([["x", randomVariant(random)]])],
      };
  }
}

function copyCall(random: Random, sources: WireValue, destination: Buffer, options: ReadonlyMap<string, Variant>): HostileCall {
  return {
    path: rootPath,
    interface: managerInterface,
    member: random.pick(copyMembers),
    signature: "aayaya{sv}",
    body: [sources, destination, options],
  };
}

function badPath(random: Random): Buffer {
  return random.pick([
    Buffer.alloc(0),
    Buffer.from("relative"),
    Buffer.from("/a\0b"),
    Buffer.from("\0"),
    Buffer.from("/a\0\0"),
    Buffer.alloc(5000, 0x2f),
    random.bytes(40).fill(0, 0, 1),
  ]);
}

/** A variant that no option is of. */
function wrongVariant(random: Random): Variant {
  return random.pick([
    new Variant("h", 0),
    new Variant("x", -1n),
    deepVariant(50),
    new Variant("a{sv}", new Map()),
    new Variant("s", "no such value"),
    new Variant("v", new Variant("s", "skip")),
  ]);
}

function randomBody(random: Random): { readonly signature: string; readonly body: readonly WireValue[] } {
  const values = Array.from({ length: random.below(4) }, () => randomVariant(random));
  return { signature: values.map(({ signature }) => signature).join(""), body: values.map(({ value }) => value) };
}
