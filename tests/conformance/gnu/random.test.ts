// Random trees copied with random options by cp and by copyd come to the same. COPYD_SEEDS=1000 runs more, COPYD_SEED=17 that one.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { unlessRoot } from "../../support/skip.ts";
import { prepareBench } from "./bench.ts";
import { type Bench, differencesOf } from "./both.ts";
import { randomCase } from "./random.ts";

const one = process.env.COPYD_SEED || undefined;
const count = one === undefined ? Number(process.env.COPYD_SEEDS ?? 40) : 1;
// Another few each day; a failure names its seed.
const first = one === undefined ? Math.floor(Date.now() / 86_400_000) * 1000 : Number(one);
const held: AsyncDisposable[] = [];
let bench: Bench | null = null;

beforeAll(async () => {
  if (unlessRoot() === null) bench = await prepareBench("cp", [], held);
}, 240_000);
afterAll(async () => {
  for (const each of held) await each[Symbol.asyncDispose]();
}, 60_000);

/** What newer coreutils says otherwise than 9.1; the differences that cases list one by one. */
function reading(line: string): string {
  return line.replace(/(cannot overwrite directory .*? with non-directory) .*$/, "$1");
}

for (let seed = first; seed < first + count; seed++) {
  const who = seed % 2 === 0 ? "root" : "user";
  test(`seed ${seed} (${who})`, async () => {
    if (bench === null) return;
    const random = randomCase(seed);
    const lines = await differencesOf(random, who, bench, seed, reading);
    if (lines.length > 0) throw new Error(`${random.run}\n${random.setup}\n\n${lines.join("\n")}`);
    expect(lines).toEqual([]);
  }, 60_000);
}
