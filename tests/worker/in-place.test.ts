// cp writes into existing files: into those that it looked at, and into no others that have got their names meanwhile.

import { expect } from "bun:test";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runCopyd } from "../support/cli.ts";
import { firstReason, testUnless, unlessRoot } from "../support/skip.ts";
import { startSwapper, whyNoSwapper } from "../support/swapper.ts";
import { temporaryDirectory } from "../support/temporary.ts";

testUnless(
  firstReason(whyNoSwapper(), unlessRoot()),
  "a file that takes another's place before it is opened is not written into",
  async () => {
    await using directory = await temporaryDirectory("/dev/shm");
    const at = (...names: string[]): string => join(directory.path, ...names);
    const pairs = 8;
    mkdirSync(at("stage"));
    const names = Array.from({ length: pairs }, (_, index) => `p${index}`);
    for (const name of names) writeFileSync(at(name), "new");
    for (const name of [...names, ...names.map((name) => name.replace("p", "q"))]) writeFileSync(at("stage", name), "old");
    await using swapper = await startSwapper({ uid: 0, gid: 0, groups: [0] }, at("stage"), pairs, at("count"), 1);
    let replaced = 0;
    for (let round = 0; round < 60 && replaced < 3; round++) {
      swapper.go();
      const { stderr } = await runCopyd(["cp", "--local", ...names.map((name) => at(name)), at("stage")]);
      swapper.stand();
      const lines = stderr.split("\n").filter((line) => line !== "");
      for (const line of lines) expect(line).toMatch(/^cp: '.*\/stage\/p\d' was replaced while it was being copied to$/);
      replaced += lines.length;
    }
    expect(replaced).toBeGreaterThanOrEqual(3);
    for (const name of names) expect(["old", "new"]).toContain(readFileSync(at("stage", name), "utf8"));
  },
);
