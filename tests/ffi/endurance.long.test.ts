// FFI stays right when the JIT and the garbage collector do their worst, for long, and in threads; and it leaks nothing.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ring } from "../../src/ffi/ring.ts";
import { runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { endureErrno, endureLifecycles, endureRing } from "./endurance.ts";
import { endureThreads } from "./endurance-threads.ts";

const timeoutMs = 240_000;
const noRing = ((): string | null => {
  const ring = Ring.create(2);
  if (!ring.available) return ring.message;
  ring[Symbol.dispose]();
  return null;
})();

let directory: TemporaryDirectory;
let file: string;
beforeAll(async () => {
  directory = await temporaryDirectory();
  file = `${directory.path}/file`;
  writeFileSync(file, "some bytes that can be read");
});
afterAll(() => directory[Symbol.asyncDispose]());

test("a million calls each get their own errno or result", () => expect(endureErrno(100_000, file)).toEqual([]), timeoutMs);

testUnless(
  noRing,
  "what goes through a ring comes back unchanged, collection after collection",
  () => expect(endureRing(3_000, `${file}-ring`)).toEqual([]),
  timeoutMs,
);

testUnless(noRing, "50,000 rings leak neither descriptors nor memory", () => expect(endureLifecycles(50_000)).toEqual([]), timeoutMs);

testUnless(
  noRing,
  "threads have errnos and rings of their own",
  async () => expect(await endureThreads(4, 10_000, file)).toEqual([]),
  timeoutMs,
);

testUnless(
  noRing,
  "the compiled binary endures the same",
  async () => {
    const files = ["endurance-child.ts", "endurance-thread.ts"].map((name) => join(import.meta.dir, name));
    const binary = `${directory.path}/child`;
    await runChecked([process.execPath, "build", "--compile", "--minify", "--bytecode", "--format=esm", ...files, "--outfile", binary]);
    const result = await runChecked([binary, file], { cwd: "/", env: {}, timeoutMs });
    expect(JSON.parse(result.stdout)).toEqual([]);
  },
  timeoutMs,
);
