// Decoding what callers ask for: options of exactly their types, every one there and back, and errors that name the option.

import { describe, expect, test } from "bun:test";
import type { ByteString } from "../../src/bytes.ts";
import { encodeOptions, optionKeys, optionsAsTold } from "../../src/dbus/option-keys.ts";
import { checkKeys, decodeCopyOptions, decodeRunningOptions } from "../../src/dbus/options.ts";
import { Variant, variantDict } from "../../src/dbus/values.ts";
import { CopyError } from "../../src/errors.ts";
import type { JobOptions } from "../../src/request.ts";
import { optionsSchema } from "../../src/request-schema.ts";

function errorOf(action: () => unknown): CopyError {
  try {
    action();
  } catch (error) {
    if (error instanceof CopyError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

const decode = (entries: Record<string, Variant>): JobOptions => decodeCopyOptions(variantDict(entries)).options;

/** Options whose every field differs from its default. */
const unusual: JobOptions = optionsSchema.parse({
  onConflict: "rename",
  preserve: ["mode", "links"],
  recursive: false,
  symlinks: "follow",
  specials: false,
  target: "exact",
  reflink: "never",
  sparse: "always",
  engine: "io-uring",
  manifest: "/sums\xff" as ByteString,
  verify: "blake3",
  durability: "file",
  oneFileSystem: true,
  bandwidthLimit: Number.MAX_SAFE_INTEGER,
  priority: "now",
  onDisconnect: "cancel",
  onError: "stop",
  onFull: "fail",
  onLost: "fail",
  cache: "drop",
  umask: 0o077,
  renameMatch: "^(.*)\\.jpeg$",
  renameReplace: "$1.jpg",
  include: ["*.jpeg", "größe"],
  exclude: ["tmp"],
  maxFileSize: 1,
  gnu: {
    names: { program: "mv", sources: ["a\xff", ""], destination: "./d", charset: "ascii" },
    inPlace: true,
    force: true,
    removeDestination: true,
    onlyOlder: true,
    askIfUnwritable: true,
    backup: "numbered",
    backupSuffix: ".\xfe",
    attributesOnly: true,
    make: "hard-link",
    parents: true,
    keepDirectorySymlink: true,
    followDanglingDestination: true,
    exchange: true,
    noCopy: true,
    copyContents: true,
    defaultMode: true,
    required: ["xattr"],
    reduceDiagnostics: true,
    verbose: true,
    debug: true,
  },
});

describe("options there and back", () => {
  test("every option that differs from its default survives the bus", () => {
    const dict = encodeOptions(unusual);
    expect(dict.size).toBe(optionKeys.length);
    expect(decodeCopyOptions(dict).options).toEqual(unusual);
    expect(optionsAsTold(dict)).toEqual(unusual);
  });

  test("the defaults survive the bus, and nothing given means the defaults", () => {
    const defaults = optionsSchema.parse({});
    expect(decodeCopyOptions(encodeOptions(defaults)).options).toEqual(defaults);
    expect(optionsAsTold(encodeOptions(defaults))).toEqual(defaults);
    expect(decode({})).toEqual(defaults);
  });

  test("this test changes every option", () => {
    const defaults = encodeOptions(optionsSchema.parse({}));
    for (const [key, { value }] of encodeOptions(unusual)) expect(value, key).not.toEqual(defaults.get(key)?.value);
  });

  test("a byte string may come with its NUL or without", () => {
    expect(decode({ "backup-suffix": new Variant("ay", Buffer.from(".old")) }).gnu.backupSuffix).toBe(".old" as ByteString);
    expect(decode({ "backup-suffix": new Variant("ay", Buffer.from(".old\0")) }).gnu.backupSuffix).toBe(".old" as ByteString);
  });
});

describe("options refused", () => {
  const refused: [string, Record<string, Variant>, CopyError["code"], string][] = [
    ["an unknown key", { frobnicate: new Variant("b", true) }, "unknown-option", "'frobnicate'"],
    ["__proto__", Object.fromEntries([["__proto__", new Variant("b", true)]]), "unknown-option", "'__proto__'"],
    ["constructor", { constructor: new Variant("s", "x") } as never, "unknown-option", "'constructor'"],
    ["the field's name rather than its key", { onConflict: new Variant("s", "skip") }, "unknown-option", "'onConflict'"],
    ["a nested field", { gnu: new Variant("a{sv}", new Map()) }, "unknown-option", "'gnu'"],
    ["a wrong type", { "on-conflict": new Variant("u", 1) }, "bad-option", "'on-conflict' is of type 's', not 'u'"],
    ["a variant in the variant", { "on-conflict": new Variant("v", new Variant("s", "skip")) }, "bad-option", "not 'v'"],
    ["a descriptor", { umask: new Variant("h", 0) }, "bad-option", "'umask' is of type 'u', not 'h'"],
    ["an unknown value", { "on-conflict": new Variant("s", "explode") }, "bad-option", "takes 'fail', 'skip', 'overwrite'"],
    ["an unknown value in a list", { preserve: new Variant("as", ["mode", "soul"]) }, "bad-option", "'preserve' takes 'mode'"],
    ["a number out of range", { umask: new Variant("u", 0o7777) }, "bad-option", "'umask'"],
    ["a size that a number cannot hold", { "max-file-size": new Variant("t", 2n ** 64n - 1n) }, "bad-option", "'max-file-size'"],
    ["a rate beyond all rates", { "bandwidth-limit": new Variant("t", 2n ** 64n - 1n) }, "bad-option", "bytes a second are a whole number"],
    ["a rate below none", { "bandwidth-limit": new Variant("x", -1n) }, "bad-option", "'bandwidth-limit' is of type 't', not 'x'"],
    ["too long a text", { "rename-match": new Variant("s", "x".repeat(5000)) }, "bad-option", "'rename-match'"],
    ["too many patterns", { include: new Variant("as", Array(1000).fill("x")) }, "bad-option", "'include'"],
    ["a NUL in bytes", { "backup-suffix": new Variant("ay", Buffer.from("a\0b")) }, "bad-option", "'backup-suffix' contains a NUL"],
    [
      "a suffix that leads elsewhere",
      { "backup-suffix": new Variant("ay", Buffer.from("/../x")) },
      "bad-option",
      "'backup-suffix' is refused",
    ],
    ["a suffix that gives the backup the new file's name", { "backup-suffix": new Variant("ay", Buffer.from("")) }, "bad-option", "empty"],
    ["half of the names", { "names-program": new Variant("s", "cp") }, "bad-option", "'names-sources'"],
    ["an empty token", { token: new Variant("s", "") }, "bad-option", "token"],
    ["a token that is no path element", { token: new Variant("s", "../x") }, "bad-option", "'../x'"],
    ["a token that is too long", { token: new Variant("s", "x".repeat(49)) }, "bad-option", "token"],
  ];
  for (const [what, entries, code, text] of refused) {
    test(`${what} is refused by name`, () => {
      const error = errorOf(() => decodeCopyOptions(new Map(Object.entries(entries))));
      expect(error.code).toBe(code);
      expect(error.message).toContain(text);
      expect(error.message.length).toBeLessThan(400);
    });
  }

  test("keys that begin with x- are ignored, whatever they hold", () => {
    expect(decode({ "x-desktop": new Variant("v", new Variant("h", 3)), "x-": new Variant("b", true) })).toEqual(optionsSchema.parse({}));
  });

  test("smaller dicts know their own keys only", () => {
    expect(() =>
      checkKeys(variantDict({ "for-all": new Variant("b", true), "x-y": new Variant("u", 1) }), { "for-all": "b" }),
    ).not.toThrow();
    expect(errorOf(() => checkKeys(variantDict({ "for-all": new Variant("s", "") }), { "for-all": "b" })).code).toBe("bad-option");
    expect(errorOf(() => checkKeys(new Map([["toString", new Variant("b", true)]]), { "for-all": "b" })).code).toBe("unknown-option");
  });

  test("a running job takes its limit and its priority, and nothing else", () => {
    expect(decodeRunningOptions(variantDict({ "bandwidth-limit": new Variant("t", 5n) }))).toEqual({ bandwidthLimit: 5 });
    expect(decodeRunningOptions(variantDict({ priority: new Variant("s", "high") }))).toEqual({ priority: "high" });
    expect(decodeRunningOptions(new Map())).toEqual({});
    expect(errorOf(() => decodeRunningOptions(variantDict({ engine: new Variant("s", "splice") }))).code).toBe("unknown-option");
    expect(errorOf(() => decodeRunningOptions(variantDict({ priority: new Variant("s", "best") }))).code).toBe("bad-option");
  });
});

test("the XML documents every option with its type", async () => {
  const xml = await Bun.file(new URL("../../dbus/org.copyd.Copyd1.xml", import.meta.url)).text();
  const undocumented = optionKeys.filter(({ key, signature }) => !new RegExp(`^      ${key} ${signature}( |$)`, "m").test(xml));
  expect(undocumented.map(({ key }) => key)).toEqual([]);
});
