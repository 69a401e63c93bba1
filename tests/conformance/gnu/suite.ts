// Defines a test for each case and kind of user; the cases run a few at a time from the first test on.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { appendFileSync } from "node:fs";
import type { DaemonProcess } from "../../support/daemon.ts";
import { firstReason, testUnless, unlessRoot } from "../../support/skip.ts";
import { addService, prepareBench, whyNoService } from "./bench.ts";
import { type Bench, differencesByMode, type Mode, type Program, referenceRelease, type Who } from "./both.ts";
import type { Case } from "./case.ts";
import type { Differences } from "./differences.ts";

const atOnce = 3;
/**
 * COPYD_TEST_CP and COPYD_TEST_MV name other builds of GNU's to compare with. COPYD_RECORD_DIFFERENCES=file appends what every case
 * differs in, as JSON lines. COPYD_CASE=words runs the cases whose names hold them.
 */
const wanted = process.env.COPYD_CASE ?? "";
/** Through the service each case is run by one kind of user, by turns; by both with COPYD_TORTURE=1. */
const everyone = process.env.COPYD_TORTURE !== undefined;

interface Planned {
  readonly test: Case;
  readonly who: Who;
  readonly number: number;
  readonly modes: readonly Mode[];
  readonly done: PromiseWithResolvers<ReadonlyMap<Mode, string[]>>;
}

/** Call once in a test file. */
export function defineCases(program: Program, cases: readonly Case[], differences: Differences): void {
  const asRoot = unlessRoot() === null;
  const lacking = whyNoService();
  const release = referenceRelease(program);
  const plans: Planned[] = [];
  for (const [index, one] of cases.entries()) {
    if (!one.name.includes(wanted)) continue;
    const served = everyone ? "both" : (one.as ?? (index % 2 === 0 ? "root" : "user"));
    for (const who of ["root", "user"] as const) {
      if (one.as !== undefined && one.as !== who) continue;
      const modes: Mode[] = lacking === null && (served === "both" || served === who) ? ["embedded", "service"] : ["embedded"];
      if (asRoot) plans.push({ test: one, who, number: plans.length, modes, done: Promise.withResolvers() });
    }
  }
  const held: AsyncDisposable[] = [];
  let daemon: DaemonProcess | null = null;
  beforeAll(async () => {
    const kinds = (["ext4", "xfs"] as const).filter((kind) => plans.some(({ test: one }) => one.on === kind));
    let bench = await prepareBench(program, kinds, held);
    if (lacking === null) ({ bench, daemon } = await addService(bench, held));
    const queue = [...plans];
    for (let worker = 0; worker < atOnce; worker++) void work(queue, bench);
  }, 240_000);
  afterAll(async () => {
    for (const one of held) await one[Symbol.asyncDispose]();
  }, 60_000);
  for (const { test: one, who, modes, done } of plans) {
    for (const mode of modes) {
      const name = `${one.name} (${who}${mode === "service" ? ", service" : ""})`;
      const right = differences.of(one.name, who, release);
      test(name, async () => {
        const lines = (await done.promise).get(mode) ?? [];
        expect(lines).toEqual([...(right.find((outcome) => Bun.deepEquals(outcome, lines)) ?? right[0] ?? [])]);
      }, 100_000);
    }
  }
  testUnless(
    firstReason(unlessRoot(), lacking),
    "the service did what it was asked to: next to nothing fell back to the embedded mode",
    async () => {
      await Promise.all(plans.map(({ done }) => done.promise));
      const asked = plans.filter(({ modes }) => modes.includes("service")).length;
      const started = (await daemon?.log())?.match(/job started/g)?.length ?? 0;
      expect(started).toBeGreaterThan(0.8 * asked);
    },
  );
}

async function work(queue: Planned[], bench: Bench): Promise<void> {
  for (let plan = queue.shift(); plan !== undefined; plan = queue.shift()) {
    const { test: one, who, number, modes, done } = plan;
    try {
      const found = await differencesByMode(one, who, bench, number, modes);
      const record = process.env.COPYD_RECORD_DIFFERENCES;
      for (const [mode, lines] of found) {
        if (record !== undefined) appendFileSync(record, `${JSON.stringify({ name: one.name, who, mode, lines })}\n`);
      }
      done.resolve(found);
    } catch (error) {
      done.resolve(new Map(modes.map((mode) => [mode, [String(error)]])));
    }
  }
}
