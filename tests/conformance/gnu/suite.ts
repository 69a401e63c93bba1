// Defines a test for each case and kind of user; the cases run a few at a time from the first test on.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync } from "node:fs";
import { unlessRoot } from "../../support/skip.ts";
import { prepareBench } from "./bench.ts";
import { type Bench, differencesOf, type Program, type Who } from "./both.ts";
import type { Case } from "./case.ts";
import type { Differences } from "./differences.ts";

const atOnce = 3;
/** COPYD_RECORD_DIFFERENCES=file appends what every case differs in, as JSON lines. COPYD_CASE=words runs the cases whose names hold them. */
const wanted = process.env.COPYD_CASE ?? "";

interface Planned {
  readonly test: Case;
  readonly who: Who;
  readonly number: number;
  readonly done: PromiseWithResolvers<string[]>;
}

/** Call once in a test file. */
export function defineCases(program: Program, cases: readonly Case[], differences: Differences): void {
  const asRoot = unlessRoot() === null;
  const plans: Planned[] = [];
  for (const one of cases) {
    if (!one.name.includes(wanted)) continue;
    for (const who of ["root", "user"] as const) {
      if (one.as !== undefined && one.as !== who) continue;
      if (asRoot) plans.push({ test: one, who, number: plans.length, done: Promise.withResolvers() });
    }
  }
  const held: AsyncDisposable[] = [];
  beforeAll(async () => {
    const kinds = (["ext4", "xfs"] as const).filter((kind) => plans.some(({ test: one }) => one.on === kind));
    const bench = await prepareBench(program, kinds, held);
    const queue = [...plans];
    for (let worker = 0; worker < atOnce; worker++) void work(queue, bench);
  }, 240_000);
  afterAll(async () => {
    for (const one of held) await one[Symbol.asyncDispose]();
  }, 60_000);
  for (const plan of plans) {
    const name = `${plan.test.name} (${plan.who})`;
    test(name, async () => expect(await plan.done.promise).toEqual([...differences.of(plan.test.name, plan.who)]), 100_000);
  }
}

async function work(queue: Planned[], bench: Bench): Promise<void> {
  for (let plan = queue.shift(); plan !== undefined; plan = queue.shift()) {
    try {
      const lines = await differencesOf(plan.test, plan.who, bench, plan.number);
      const record = process.env.COPYD_RECORD_DIFFERENCES;
      if (record !== undefined) appendFileSync(record, `${JSON.stringify({ name: plan.test.name, who: plan.who, lines })}\n`);
      plan.done.resolve(lines);
    } catch (error) {
      plan.done.resolve([String(error)]);
    }
  }
}
