// A process lets go of the program that it runs, and runs on.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { releaseProgramPages } from "../../src/ffi/program-pages.ts";

function fileKibibytes(): number {
  return Number(/^RssFile:\s+(\d+) kB$/m.exec(readFileSync("/proc/self/status", "latin1"))?.[1]);
}

test("most of the program goes, as often as it is asked for, and comes back when it is run", () => {
  for (let round = 0; round < 3; round++) {
    // More of the program than is needed to look.
    expect([..."compiled anew"].map((letter) => new Function("text", `return text + "${letter}"`)("")).sort()).toHaveLength(13);
    Bun.gc(true);
    const before = fileKibibytes();
    expect(releaseProgramPages()).toBe(true);
    expect(fileKibibytes()).toBeLessThan(before * 0.7);
  }
});
