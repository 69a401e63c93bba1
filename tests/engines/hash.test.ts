// The hashes against known digests, and a file's hash whatever the pieces in which its data comes.

import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { FileHasher, hashBlockBytes } from "../../src/engines/file-hasher.ts";
import { type HashMethod, loadHash } from "../../src/engines/hash.ts";
import { NativeMemory } from "../../src/ffi/memory.ts";
import { Random } from "../support/random.ts";

const known: Readonly<Record<HashMethod, readonly [empty: string, abc: string]>> = {
  xxh3: ["2d06800538d394c2", "78af5f94892f3950"],
  blake3: [
    "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    "6437b3ac38465133ffb63b75273a8db548c558465d79db03fd359c6cd5bd9d85",
  ],
  sha256: [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
  ],
  md5: ["d41d8cd98f00b204e9800998ecf8427e", "900150983cd24fb0d6963f7d28e17f72"],
  crc32: ["00000000", "352441c2"],
};
const methods = Object.keys(known) as HashMethod[];

test.each(methods)("%s gives the digests that everybody knows", async (method) => {
  const hash = await loadHash(method);
  for (const [index, text] of ["", "abc"].entries()) {
    hash.reset();
    for (const letter of text) hash.update(Buffer.from(letter));
    expect(digestOf(hash)).toBe(known[method][index] ?? "");
  }
});

test.each(methods)("%s forgets an unfinished file", async (method) => {
  const hash = await loadHash(method);
  hash.update(Buffer.from("half a fi"));
  hash.reset();
  hash.update(Buffer.from("abc"));
  expect(digestOf(hash)).toBe(known[method][1]);
});

test("a file's hash does not depend on the pieces it comes in, nor on whether its zeros are read or left out", async () => {
  using memory = new NativeMemory(4 * 1024 * 1024);
  const size = 3 * 1024 * 1024 + 12_345;
  const random = new Random(7);
  memory.bytes.fill(0);
  for (let index = 0; index < size; index++) if (index < 700_000 || index > 2_500_000) memory.bytes[index] = random.below(256);
  const wanted = createHash("sha256").update(memory.bytes.subarray(0, size)).digest("hex");
  const takes: readonly ((hasher: FileHasher) => void)[] = [
    (hasher) => hasher.take(memory.bytes, 0, size, 0),
    (hasher) => {
      for (let at = 0; at < size; at += 100_003) hasher.take(memory.bytes, at, Math.min(100_003, size - at), at);
    },
    (hasher) => {
      for (let at = 0; at < size; at += hashBlockBytes) hasher.take(memory.bytes, at, Math.min(hashBlockBytes, size - at), at);
    },
    (hasher) => {
      hasher.take(memory.bytes, 0, 700_000, 0);
      hasher.take(memory.bytes, 2_500_001, size - 2_500_001, 2_500_001);
    },
  ];
  using hasher = new FileHasher(await loadHash("sha256"), () => true);
  const seen = new Set<string>();
  for (const take of takes) {
    hasher.begin(size);
    take(hasher);
    expect(hasher.finish(size)).toBe(true);
    expect(Buffer.from(hasher.digest.subarray(0, hasher.digestBytes)).toString("hex")).toBe(wanted);
    seen.add(stretchesOf(hasher));
  }
  expect(hasher.stretchCount).toBe(4);
  expect(seen.size).toBe(1);
});

test("one changed bit changes its stretch and no other", () => {
  using memory = new NativeMemory(5 * 1024 * 1024);
  memory.bytes.fill(0x5a);
  using hasher = new FileHasher(null, () => true);
  const hash = (): string[] => {
    hasher.begin(memory.length);
    hasher.take(memory.bytes, 0, memory.length, 0);
    hasher.finish(memory.length);
    return stretchesOf(hasher).split(" ");
  };
  const before = hash();
  memory.bytes[2 * 1024 * 1024 + 17] = 0x5b;
  const after = hash();
  expect(before.map((stretch, index) => (stretch === after[index] ? "same" : index))).toEqual(["same", "same", 2, "same", "same"]);
});

test("a file that outgrows its record still has every block in it", () => {
  using hasher = new FileHasher(null, () => true);
  using memory = new NativeMemory(4096);
  const size = 70 * 2 ** 30;
  const last = (byte: number): string => {
    // It was empty when it was looked at.
    hasher.begin(0);
    memory.bytes[0] = byte;
    hasher.take(memory.bytes, 0, 1, size - 1);
    hasher.finish(size);
    return stretchesOf(hasher);
  };
  expect(last(1)).not.toBe(last(2));
  expect(hasher.stretchCount).toBe(65536);
});

test("hashing a huge hole ends when the job is cancelled", () => {
  using hasher = new FileHasher(null, () => false);
  hasher.begin(2 ** 50);
  expect(hasher.finish(2 ** 50)).toBe(false);
});

function digestOf(hash: Awaited<ReturnType<typeof loadHash>>): string {
  const target = Buffer.alloc(hash.digestBytes);
  hash.digest(target, 0);
  return target.toString("hex");
}

function stretchesOf(hasher: FileHasher): string {
  const words = Array.from(hasher.stretches.subarray(0, hasher.stretchCount * 2));
  return Array.from({ length: hasher.stretchCount }, (_, index) => `${words[index * 2]}:${words[index * 2 + 1]}`).join(" ");
}
