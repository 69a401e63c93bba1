// A copy whose worker cannot start, or ends before it copies, for want of descriptors, memory or threads: one message, status 1, no waiting.

import { expect } from "bun:test";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { havePrograms, type RunResult, run } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";

const directory = directoryOfEachTest();
const noPrlimit = havePrograms("prlimit") ? null : "prlimit is not installed";
const content = "x".repeat(100_000);

async function copyWith(limit: string): Promise<RunResult & { readonly copied: string }> {
  writeFileSync(join(directory.path, "a"), content);
  const command = ["prlimit", limit, "--", ...copydCommand("cp", "-v", "--local", "a", "b")];
  const result = await run(command, { cwd: directory.path, env: plainEnvironment, timeoutMs: 20_000 });
  const destination = join(directory.path, "b");
  return { ...result, copied: existsSync(destination) ? readFileSync(destination, "utf8") : "" };
}

testUnless(noPrlimit, "too little address space is named", async () => {
  // What a worker reserves for its lists is more than its runtime does.
  const { status, stderr, copied } = await copyWith("--as=6000000000");
  expect(stderr).toMatch(/^cp: The copying process could not begin: mmap of \d+ bytes failed: Cannot allocate memory\.\n$/);
  expect({ status, copied }).toEqual({ status: 1, copied: "" });
});

testUnless(
  noPrlimit,
  "however few descriptors there are, it ends, and says why where it has not copied",
  async () => {
    const seen = new Set<number>();
    for (let descriptors = 10; descriptors <= 24; descriptors++) {
      const { status, stderr, copied, timedOut } = await copyWith(`--nofile=${descriptors}`);
      expect([descriptors, timedOut, stderr === "" ? 0 : 1, copied === content ? 0 : 1]).toEqual([descriptors, false, status, status]);
      seen.add(status);
    }
    expect([...seen].toSorted()).toEqual([0, 1]);
  },
  60_000,
);
