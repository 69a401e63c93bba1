// copyd cp and mv against what coreutils 9.10 was seen to do where it does not do what older releases did.
//
// COPYD_TEST_CP and COPYD_TEST_MV put those programs in the place of ours: whether the expectations are theirs.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { unlessRoot } from "../../support/skip.ts";
import { prepareBench } from "./bench.ts";
import { type Bench, outcomeOf, type Program, reference } from "./both.ts";
import { newerCp } from "./cp/newer.ts";
import { exchanges } from "./mv/exchange.ts";
import { newerMv } from "./mv/newer.ts";
import type { Known } from "./newer.ts";

const held: AsyncDisposable[] = [];
let bench: Bench | null = null;

beforeAll(async () => {
  if (unlessRoot() === null) bench = await prepareBench("cp", [], held);
}, 240_000);
afterAll(async () => {
  for (const each of held) await each[Symbol.asyncDispose]();
}, 60_000);

/** --debug tells the engines that served, which are not coreutils'. */
function reading(line: string): string {
  return line.replace(/copy offload: .*, reflink: .*, sparse/, "copy offload: any, reflink: any, sparse");
}

const programs: Readonly<Record<Program, readonly Known[]>> = { cp: newerCp, mv: [...exchanges, ...newerMv] };

for (const program of ["cp", "mv"] as const) {
  for (const [number, { test: one, expected }] of programs[program].entries()) {
    for (const who of ["root", "user"] as const) {
      test(`${program} ${one.name} (${who})`, async () => {
        if (bench === null) return;
        const mode = reference[program] === undefined ? "embedded" : "gnu";
        const lines = await outcomeOf(one, who, { ...bench, program }, number, mode);
        expect(lines.map(reading)).toEqual(expected.map(reading));
      }, 60_000);
    }
  }
}
