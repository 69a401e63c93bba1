// A common limit shared out: by the rule itself, and over jobs that copy as fast as they are let, in simulated time.

import { expect, test } from "bun:test";
import { Bandwidth, type BandwidthLimits, bandwidthStepMs, shares } from "../../src/jobs/bandwidth.ts";
import { advance, type Job, newJob } from "../../src/jobs/job.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { emptySnapshot } from "../../src/worker/protocol.ts";
import { Random } from "../support/random.ts";

const none = Number.POSITIVE_INFINITY;
const all = { most: none, wish: none };

for (const [what, whole, claims, wanted] of [
  ["even parts for who wants all", 100, [all, all], [50, 50]],
  ["what one does not want goes to the others", 100, [{ most: none, wish: 10 }, all, all], [10, 45, 45]],
  ["nobody gets more than its own limit", 100, [{ most: 20, wish: none }, all], [20, 80]],
  [
    "where all are content, the rest is room for each",
    100,
    [
      { most: none, wish: 10 },
      { most: 15, wish: 10 },
    ],
    [85, 15],
  ],
  ["no limit is none for anybody but by its own", none, [{ most: 20, wish: 5 }, all], [20, none]],
  ["nobody is nobody", 100, [], []],
] as const) {
  test(what, () => expect(shares(whole, claims)).toEqual([...wanted]));
}

/** A job that would copy `speed` bytes a second, and starts and ends when it is told. */
interface Simulated {
  job: Job;
  speed: number;
  limit: number;
  moved: number;
  /** Bytes moved and not yet told: workers count whole blocks. */
  untold: number;
}

let lastId = 0;

class Simulation {
  readonly jobs: Simulated[] = [];
  readonly limits: BandwidthLimits;
  messages = 0;
  private readonly bandwidth: Bandwidth;
  private nowUs = 1_000_000;

  constructor(limits: Partial<BandwidthLimits>) {
    this.limits = { bandwidthLimit: 0, bandwidthLimitPerUser: 0, ...limits };
    this.bandwidth = new Bandwidth(this.limits);
  }

  add(speed: number, { uid = 1, limit = 0 } = {}): Simulated {
    const request = requestSchema.parse({ operation: "copy", sources: ["/a"], destination: "/b", options: { bandwidthLimit: limit } });
    const id = ++lastId;
    const owner = { uid, gid: uid, groups: [] };
    const waiting = newJob({ id, token: `t${id}`, workToken: `t${id}`, owner, asAdmin: false, request }, this.nowUs);
    const simulated = {
      job: advance(waiting, { type: "started", bootId: "boot", mounts: [] }, this.nowUs),
      speed,
      limit: 0,
      moved: 0,
      untold: 0,
    };
    this.jobs.push(simulated);
    this.share();
    simulated.limit = this.bandwidth.limitOf(simulated.job);
    return simulated;
  }

  end(simulated: Simulated): void {
    this.jobs.splice(this.jobs.indexOf(simulated), 1);
    this.share();
  }

  /** Lets time pass; returns what each job moved a second meanwhile. */
  run(seconds: number): number[] {
    const before = this.jobs.map(({ moved }) => moved);
    for (let step = 0; step < (seconds * 1000) / bandwidthStepMs; step++) {
      this.nowUs += bandwidthStepMs * 1000;
      for (const each of this.jobs) {
        const rate = each.limit === 0 ? each.speed : Math.min(each.limit, each.speed);
        each.moved += (rate * bandwidthStepMs) / 1000;
        const bytesDone = Math.floor(each.moved / 2 ** 20) * 2 ** 20;
        each.job = advance(each.job, { type: "snapshot", snapshot: { ...emptySnapshot, phase: "copying", bytesDone } }, this.nowUs);
      }
      this.share();
    }
    return this.jobs.map(({ moved }, index) => (moved - (before[index] ?? 0)) / seconds);
  }

  share(): void {
    this.bandwidth.share(
      this.jobs.map(({ job }) => job),
      this.nowUs,
      (job, limit) => {
        this.messages++;
        const simulated = this.jobs.find((each) => each.job.id === job.id);
        if (simulated !== undefined) simulated.limit = limit;
      },
    );
  }
}

const mega = 1_000_000;

function expectNear(rates: readonly number[], wanted: readonly number[], tolerance = 0.05): void {
  const told = rates.map((rate) => `${(rate / mega).toFixed(2)} MB/s`).join(", ");
  for (const [index, rate] of wanted.entries()) {
    const difference = Math.abs((rates[index] ?? 0) / rate - 1);
    if (difference > tolerance)
      throw new Error(`job ${index} moved ${(100 * difference).toFixed(1)} % beside ${rate / mega} MB/s: ${told}`);
  }
}

test("jobs of one user share evenly within 5 % over ten seconds, and a job that ends leaves its share to the others at once", () => {
  const simulation = new Simulation({ bandwidthLimit: 30 * mega });
  const first = simulation.add(500 * mega);
  expectNear(simulation.run(10), [30 * mega]);
  simulation.add(400 * mega);
  simulation.add(90 * mega);
  expectNear(simulation.run(10), [10 * mega, 10 * mega, 10 * mega]);
  simulation.end(first);
  expectNear(simulation.run(10), [15 * mega, 15 * mega]);
});

test("users share evenly, whatever the number of their jobs", () => {
  const simulation = new Simulation({ bandwidthLimit: 40 * mega });
  for (const uid of [1, 1, 1, 2]) simulation.add(500 * mega, { uid });
  expectNear(simulation.run(10), [(20 / 3) * mega, (20 / 3) * mega, (20 / 3) * mega, 20 * mega]);
});

test("what a slow device leaves goes to the others, and comes back when it is wanted", () => {
  const simulation = new Simulation({ bandwidthLimit: 30 * mega });
  const slow = simulation.add(4 * mega);
  simulation.add(500 * mega);
  simulation.run(3);
  expectNear(simulation.run(10), [4 * mega, 26 * mega]);
  slow.speed = 500 * mega;
  simulation.run(3);
  expectNear(simulation.run(10), [15 * mega, 15 * mega]);
  slow.speed = 0;
  simulation.run(3);
  expectNear(simulation.run(10).slice(1), [30 * mega]);
});

test("a limit for each user holds beside the one for all, and beside a job's own", () => {
  const simulation = new Simulation({ bandwidthLimit: 100 * mega, bandwidthLimitPerUser: 20 * mega });
  simulation.add(500 * mega, { uid: 1, limit: 5 * mega });
  simulation.add(500 * mega, { uid: 1 });
  simulation.add(500 * mega, { uid: 2 });
  expectNear(simulation.run(10), [5 * mega, 15 * mega, 20 * mega]);
});

test("without a common limit each job has its own and hears nothing more", () => {
  const simulation = new Simulation({});
  const limited = simulation.add(500 * mega, { limit: 7 * mega });
  const free = simulation.add(500 * mega);
  simulation.run(10);
  expect([limited.limit, free.limit]).toEqual([7 * mega, 0]);
  expect(simulation.messages).toBe(2);
});

test("a limit that is set, changed and lifted while jobs run is theirs at the next step", () => {
  const simulation = new Simulation({});
  const limits = simulation.limits as { -readonly [Name in keyof BandwidthLimits]: number };
  simulation.add(100 * mega);
  simulation.add(100 * mega);
  simulation.run(1);
  limits.bandwidthLimit = 20 * mega;
  simulation.share();
  simulation.run(3);
  expectNear(simulation.run(10), [10 * mega, 10 * mega]);
  limits.bandwidthLimit = 0;
  simulation.share();
  expectNear(simulation.run(10), [100 * mega, 100 * mega]);
});

test("steady jobs are not told a limit at every step", () => {
  const simulation = new Simulation({ bandwidthLimit: 30 * mega });
  simulation.add(500 * mega);
  simulation.add(500 * mega);
  simulation.run(10);
  const before = simulation.messages;
  simulation.run(60);
  expect(simulation.messages - before).toBeLessThan(60);
});

test("whatever comes and goes, no ten seconds move more than 5 % beyond the limit, and none less where somebody wants it all", () => {
  const random = new Random();
  const limit = 50 * mega;
  const simulation = new Simulation({ bandwidthLimit: limit });
  // This one always wants all.
  simulation.add(1000 * mega, { uid: 9 });
  let highest = 0;
  let lowest = none;
  for (let round = 0; round < 60; round++) {
    const at = 1 + random.below(Math.max(1, simulation.jobs.length));
    const chosen = simulation.jobs[at];
    if (simulation.jobs.length < 8 && random.below(3) > 0) simulation.add(random.below(40) * mega, { uid: random.below(3) });
    else if (chosen !== undefined && random.below(2) === 0) simulation.end(chosen);
    else if (chosen !== undefined) chosen.speed = random.below(3) === 0 ? 0 : random.below(200) * mega;
    const total = simulation.run(10).reduce((sum, rate) => sum + rate, 0);
    highest = Math.max(highest, total);
    lowest = Math.min(lowest, total);
  }
  expect(highest, `COPYD_TEST_SEED=${random.seed}`).toBeLessThan(limit * 1.05);
  expect(lowest, `COPYD_TEST_SEED=${random.seed}`).toBeGreaterThan(limit * 0.95);
});
