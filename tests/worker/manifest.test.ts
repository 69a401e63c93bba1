// Manifest lines: what is written is read back, what the sum programs write is understood, and what is odd is named.

import { expect, test } from "bun:test";
import { manifestLine, parseManifestLine } from "../../src/worker/manifest.ts";
import { Random } from "../support/random.ts";

const digests = { sha256: "a".repeat(64), blake3: "b".repeat(64), md5: "c".repeat(32), xxh3: "d".repeat(16), crc32: "e".repeat(8) };
const methods = Object.keys(digests) as (keyof typeof digests)[];

test.each(methods)("every name comes back from a line of %s", (method) => {
  const random = new Random(3);
  const letters = ["a", "\\", "\n", "\r", " ", "*", "(", ")", "=", "#", "\xff", "\x01", "é"];
  const names = ["plain", " lead", "trail ", "a\\nb", "\\", "x\r", "#hash", "(a) = b", "*star", "\u00e9", "a\\\\\nb"];
  for (let index = 0; index < 500; index++) names.push(Array.from({ length: 1 + random.below(12) }, () => random.pick(letters)).join(""));
  for (const name of names) {
    // b3sum has no escape for a carriage return, and takes one at the end for a part of the line's end.
    if (method === "blake3" && name.endsWith("\r")) continue;
    const line = manifestLine(method, digests[method], name);
    expect(line.slice(0, -1)).not.toContain("\n");
    expect(parseManifestLine(line.slice(0, -1), method)).toEqual({ kind: "file", methods: [method], digest: digests[method], name });
  }
});

test("lines of the sum programs in all their forms are understood", () => {
  const { sha256, md5, blake3 } = digests;
  const file = (method: string, digest: string, name: string) => ({ kind: "file", methods: method.split(" "), digest, name });
  expect(parseManifestLine(`${sha256}  a b`, null)).toEqual(file("sha256 blake3", sha256, "a b") as never);
  expect(parseManifestLine(`${md5} *binary`, null)).toEqual(file("md5", md5, "binary") as never);
  expect(parseManifestLine(`${sha256.toUpperCase()}  a`, null)).toEqual(file("sha256 blake3", sha256, "a") as never);
  expect(parseManifestLine(`${blake3}  a`, "blake3")).toEqual(file("blake3", blake3, "a") as never);
  expect(parseManifestLine(`SHA256 (a) (b) = ${sha256}`, null)).toEqual(file("sha256", sha256, "a) (b") as never);
  expect(parseManifestLine(`\\MD5 (a\\nb) = ${md5}`, null)).toEqual(file("md5", md5, "a\nb") as never);
  expect(parseManifestLine(`XXH3_${digests.xxh3}  a`, "sha256")).toEqual(file("xxh3", digests.xxh3, "a") as never);
  for (const nothing of ["", "\r", "# a remark"]) expect(parseManifestLine(nothing, null)).toEqual({ kind: "nothing" });
});

test.each([
  ["hello", "digest, two spaces"],
  [`${"a".repeat(64)}`, "digest, two spaces"],
  [`${"a".repeat(63)}  x`, "no digest has 63 digits"],
  [`${"a".repeat(40)}  x`, "SHA-1 is not supported"],
  [`${"a".repeat(16)}  x`, "XXH64 is not supported"],
  [`SHA512 (x) = ${"a".repeat(128)}`, "SHA512 is not supported"],
  [`SHA256 (x) = ${"a".repeat(32)}`, "has 64 digits, not 32"],
  [`__proto__ (x) = ${"a".repeat(32)}`, "digest, two spaces"],
  [`\\${"a".repeat(64)}  x\\ty`, "escape that means nothing"],
  [`\\${"a".repeat(64)}  x\\`, "escape that means nothing"],
  [`${"a".repeat(64)}  x\0y`, "NUL byte"],
  [`${"a".repeat(64)}  -`, "standard input"],
])("the odd line %j is named: %s", (line, problem) => {
  const parsed = parseManifestLine(line, null);
  expect(parsed).toMatchObject({ kind: "odd" });
  expect(parsed.kind === "odd" && parsed.problem).toContain(problem);
});

test("a method that was asked for holds for lines that do not say theirs", () => {
  expect(parseManifestLine(`${"a".repeat(64)}  x`, "md5")).toMatchObject({ kind: "odd" });
  expect(parseManifestLine(`SHA256 (x) = ${"a".repeat(64)}`, "md5")).toMatchObject({ kind: "file", methods: ["sha256"] });
});
