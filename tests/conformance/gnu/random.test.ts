// Random trees copied and moved with random options by GNU's programs and by copyd come to the same.
//
// COPYD_SEEDS=1000 runs more of each, COPYD_SEED=17 that one; COPYD_TEST_CP and COPYD_TEST_MV name another cp and mv to compare with.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { run } from "../../support/process.ts";
import { unlessRoot } from "../../support/skip.ts";
import { prepareBench } from "./bench.ts";
import { type Bench, differencesOf, type Program, reference } from "./both.ts";
import { randomCase } from "./random.ts";

const one = process.env.COPYD_SEED || undefined;
const count = one === undefined ? Number(process.env.COPYD_SEEDS ?? 40) : 1;
// The same few by default: among thousands of others are some in which a release of coreutils errs, and a person has to judge.
const first =
  one !== undefined ? Number(one) : process.env.COPYD_SEEDS === undefined ? 20_779_000 : Math.floor(Date.now() / 86_400_000) * 1000;
const held: AsyncDisposable[] = [];
let bench: Bench | null = null;
let isNew = false;

beforeAll(async () => {
  if (unlessRoot() !== null) return;
  bench = await prepareBench("cp", [], held);
  const { stdout } = await run([reference.mv ?? "mv", "--version"]);
  isNew = /coreutils\) (9\.[5-9]|9\.[1-9][0-9]|[1-9][0-9])/.test(stdout);
}, 240_000);
afterAll(async () => {
  for (const each of held) await each[Symbol.asyncDispose]();
}, 60_000);

/** What newer coreutils says otherwise than 9.1; the differences that cases list one by one. */
function reading(line: string): string {
  // coreutils 9.10 forgets why it could not exchange what is on two filesystems.
  if (line.startsWith("err: mv: cannot exchange")) return line.replace(/: [^:]*$/, "");
  return line.replace(/(cannot overwrite directory .*? with non-directory) .*$/, "$1");
}

for (const program of ["cp", "mv"] satisfies Program[]) {
  for (let seed = first; seed < first + count; seed++) {
    const who = seed % 2 === 0 ? "root" : "user";
    test(`${program} seed ${seed} (${who})`, async () => {
      if (bench === null) return;
      const random = randomCase(program, seed, isNew);
      const lines = await differencesOf(random, who, { ...bench, program }, seed, reading);
      if (lines.length > 0) throw new Error(`${random.run}\n${random.setup}\n\n${lines.join("\n")}`);
      expect(lines).toEqual([]);
    }, 60_000);
  }
}
