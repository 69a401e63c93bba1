// Who is next: nobody waits for ever behind somebody else's jobs, and priorities order one's own.

import { expect, test } from "bun:test";
import { type Job, newJob } from "../../src/jobs/job.ts";
import { defaultJobLimits } from "../../src/jobs/limits.ts";
import { JobQueue, type Load, type Priority, type Queued, type QueueLimits } from "../../src/jobs/queue.ts";
import { Schedule } from "../../src/jobs/schedule.ts";
import { testCaller, testRequest } from "../support/jobs.ts";
import { Random } from "../support/random.ts";

const limits: QueueLimits = { maxRunning: 2, maxRunningNow: 1, maxRunningPerUser: 2, maxWorkersPerUser: 3 };

let lastOrder = 0;

function queued(uid: number, token: string, priority: Priority = "normal", order = ++lastOrder): Queued {
  return { uid, token, priority, order, group: null };
}

function load(running: readonly Queued[] = [], paused: readonly Queued[] = [], resting: readonly number[] = []): Load {
  const now = (jobs: readonly Queued[]): number => jobs.filter(({ priority }) => priority === "now").length;
  return {
    running: running.length,
    runningNow: now(running),
    rests: (uid) => resting.includes(uid),
    ofUser: (uid) => {
      const own = running.filter((job) => job.uid === uid);
      const workers = own.length + paused.filter((job) => job.uid === uid).length;
      return { running: own.length, runningNow: now(own), workers, groups: new Set<string>() };
    },
  };
}

/** The tokens in the order in which they would run if each ended before the next began. */
function order(queue: JobQueue): string {
  const tokens: string[] = [];
  for (let job = queue.next(load()); job !== null; job = queue.next(load())) tokens.push(job.token);
  return tokens.join(" ");
}

function filled(...jobs: readonly Queued[]): JobQueue {
  const queue = new JobQueue(limits);
  for (const job of jobs) queue.add(job);
  return queue;
}

test("one user's jobs go by priority, then by age", () => {
  const queue = filled(queued(1, "a"), queued(1, "b", "low"), queued(1, "c", "high"), queued(1, "d"), queued(1, "e", "now"));
  expect(queue.size).toBe(5);
  expect(order(queue)).toBe("e c a d b");
  expect(queue.size).toBe(0);
});

test("users take turns, whatever each has queued and however urgent it calls it", () => {
  const many = Array.from({ length: 4 }, (_, index) => queued(1, `a${index}`, "high"));
  expect(order(filled(...many, queued(2, "b0"), queued(2, "b1", "low"), queued(3, "c0")))).toBe("a0 b0 c0 a1 b1 a2 a3");
});

test("a user who comes later is served before the next job of one who was just served", () => {
  const queue = filled(queued(1, "a0"), queued(1, "a1"), queued(1, "a2"));
  expect(queue.next(load())?.token).toBe("a0");
  queue.add(queued(2, "b0"));
  queue.add(queued(3, "c0"));
  expect(order(queue)).toBe("a1 b0 c0 a2");
});

test("no more run than the limit, of all and of one user, and paused ones take no place but a worker", () => {
  const running = [queued(1, "x"), queued(1, "y")];
  expect(filled(queued(2, "a")).next(load(running))).toBeNull();
  expect(filled(queued(2, "a")).next(load(running.slice(1)))?.token).toBe("a");
  const wide = new JobQueue({ ...limits, maxRunning: 10 });
  wide.add(queued(1, "a"));
  expect(wide.next(load(running))).toBeNull();
  const paused = [queued(1, "p"), queued(1, "q")];
  expect(filled(queued(1, "a")).next(load([], paused))?.token).toBe("a");
  expect(filled(queued(1, "a")).next(load([], [...paused, queued(1, "r")]))).toBeNull();
  expect(filled(queued(1, "a"), queued(2, "b")).next(load([], [...paused, queued(1, "r")]))?.token).toBe("b");
});

test("now does not wait for a place, one for each user and only so many", () => {
  const running = [queued(1, "x"), queued(2, "y")];
  const first = queued(1, "n", "now");
  expect(filled(queued(1, "a", "high"), first).next(load(running))?.token).toBe("n");
  expect(filled(queued(1, "m", "now")).next(load([...running, first]))).toBeNull();
  expect(filled(queued(3, "m", "now")).next(load([...running, first]))).toBeNull();
});

test("who rests starts nothing, however urgent, but a job that is the only one; others go on", () => {
  const [a, b, other] = [queued(1, "a", "now"), queued(1, "b"), queued(2, "other")];
  expect(filled(a, b, other).next(load([], [], [1]))?.token).toBe("other");
  expect(filled(a, b).next(load([], [], [1]))).toBeNull();
  expect(filled(a).next(load([b], [], [1]))).toBeNull();
  expect(filled(a).lack(a, load([b], [], [1]))).toBe("rest");
  // One after the other.
  expect(filled(a).next(load([], [], [1]))?.token).toBe("a");
  expect(filled(a).next(load([], [b], [1]))?.token).toBe("a");
});

test("a job that may not start yet is passed over, not waited for", () => {
  const queue = filled(queued(1, "usb1"), queued(1, "ssd"), queued(2, "usb2"));
  expect(queue.next(load(), ({ token }) => !token.startsWith("usb"))?.token).toBe("ssd");
  expect(queue.next(load(), ({ token }) => !token.startsWith("usb"))).toBeNull();
  expect(queue.size).toBe(2);
});

test("a job that is moved stands before or behind its user's others of its priority, and everybody's place can be asked for", () => {
  const queue = filled(queued(1, "a"), queued(1, "b"), queued(1, "c"), queued(1, "h", "high"), queued(2, "x"));
  const places = (): string => ["h", "a", "b", "c"].map((token) => `${token}${queue.position(1, token)}`).join(" ");
  expect(places()).toBe("h1 a2 b3 c4");
  queue.remove(1, "c");
  queue.add(queued(1, "c", "normal", queue.ends(1, "normal").first));
  expect(places()).toBe("h1 a3 b4 c2");
  queue.remove(1, "a");
  queue.add(queued(1, "a", "normal", queue.ends(1, "normal").last));
  expect(places()).toBe("h1 a4 b3 c2");
  expect([queue.position(2, "x"), queue.position(2, "a"), queue.position(3, "a")]).toEqual([1, 0, 0]);
  // Of an empty class both ends are a place.
  expect(queue.ends(3, "low")).toEqual({ first: -1, last: 1 });
  expect(order(queue)).toBe("h x c b a");
});

test("what is removed is not served, and removing what is not there says so", () => {
  const queue = filled(queued(1, "a"), queued(1, "b"));
  expect(queue.remove(1, "a")).toBe(true);
  expect(queue.remove(1, "a")).toBe(false);
  expect(queue.remove(9, "a")).toBe(false);
  expect(order(queue)).toBe("b");
});

test("random queues serve everybody, and nobody more than once more than another who waits", () => {
  const seed = Number(process.env.TEST_SEED ?? Math.floor(Math.random() * 2 ** 31));
  let state = seed;
  const random = (below: number): number => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  for (let round = 0; round < 200; round++) {
    const queue = new JobQueue(limits);
    const waiting = new Map<number, number>();
    for (let index = random(40); index >= 0; index--) {
      const uid = random(5);
      queue.add(queued(uid, `${round}-${index}`, (["low", "normal", "high", "now"] as const)[random(4)] ?? "low"));
      waiting.set(uid, (waiting.get(uid) ?? 0) + 1);
    }
    const served = new Map<number, number>();
    for (let job = queue.next(load()); job !== null; job = queue.next(load())) {
      served.set(job.uid, (served.get(job.uid) ?? 0) + 1);
      waiting.set(job.uid, (waiting.get(job.uid) ?? 0) - 1);
      for (const [uid, left] of waiting) {
        const ahead = (served.get(job.uid) ?? 0) - (served.get(uid) ?? 0);
        if (left > 0 && ahead > 1) throw new Error(`TEST_SEED=${seed}: user ${job.uid} is ${ahead} ahead of ${uid}`);
      }
    }
    expect([...waiting.values()].every((left) => left === 0)).toBe(true);
  }
});

test("the places told are those of the order, whatever came, went and was moved before", () => {
  const random = new Random();
  const queue = new JobQueue(limits);
  const waiting = new Map<string, Queued>();
  for (let step = 0; step < 400; step++) {
    const token = `t${random.below(60)}`;
    if (waiting.has(token)) {
      queue.remove(1, token);
      waiting.delete(token);
    } else {
      const job = queued(
        1,
        token,
        random.pick(["low", "normal", "normal", "high"]),
        random.below(4) === 0 ? -random.below(100) : ++lastOrder,
      );
      queue.add(job);
      waiting.set(token, job);
    }
    // Asked in between, so that what is remembered is brought up to date and not worked out afresh.
    if (random.below(3) === 0) continue;
    const expected = [...queue.all()].map(({ token: each }) => each);
    expect(expected.map((each) => queue.position(1, each))).toEqual(expected.map((_, index) => index + 1));
    expect(expected.toSorted()).toEqual([...waiting.keys()].toSorted());
  }
});

test("when a user's rest is over, the next job starts by itself, and until then says why it waits", async () => {
  const beganMs = performance.now();
  const jobs = ["a", "b"].map((token, id) =>
    newJob({ id, token, workToken: token, owner: testCaller, asAdmin: false, request: testRequest("well") }, id),
  );
  const running = { ...jobs[0], owner: { ...testCaller, uid: 7 }, state: "running", activity: "working", startedTimeUs: 1 } as Job;
  const [started, reasons]: [string[], string[]] = [[], []];
  const seen = new Set<number>();
  const schedule = new Schedule<string>({
    limits: defaultJobLimits,
    slowDevices: null,
    places: { see: (uid) => seen.add(uid), restMs: () => Math.max(0, beganMs + 50 - performance.now()) },
    now: () => 0,
    find: (_uid, token) => token,
    started: () => [running],
    isOpen: () => true,
    admits: () => true,
    start: (token) => started.push(token),
    tellWait: (_token, reason) => reasons.push(reason),
    tellLimit: () => undefined,
  });
  for (const job of jobs) schedule.turns.add(job);
  schedule.pump();
  await Promise.resolve();
  expect([started, reasons[0]]).toEqual([[], expect.stringContaining("others' go first")]);
  const deadlineMs = beganMs + 10_000;
  while (started.length < 2 && performance.now() < deadlineMs) await Bun.sleep(5);
  expect(started).toEqual(["a", "b"]);
  expect(performance.now() - beganMs).toBeGreaterThanOrEqual(50);
  expect([...seen]).toEqual([7]);
});

test("of a long queue the reasons are not worked out for each job that comes", async () => {
  let told = 0;
  const schedule = new Schedule<object>({
    limits: { ...defaultJobLimits, maxRunning: 0 },
    slowDevices: null,
    places: { see: () => undefined, restMs: () => 0 },
    now: () => 0,
    find: () => ({}),
    started: () => [],
    isOpen: () => true,
    admits: () => true,
    start: () => undefined,
    tellWait: () => told++,
    tellLimit: () => undefined,
  });
  const count = 1500;
  for (let id = 1; id <= count; id++) {
    const request = testRequest("well");
    schedule.turns.add(newJob({ id, token: `t${id}`, workToken: `t${id}`, owner: testCaller, asAdmin: false, request }, id));
    schedule.pump();
    await Promise.resolve();
  }
  // As many as fit into a short queue, and those of a few steps of time.
  expect(told).toBeLessThan(20 * count);
  while (told < count) await Bun.sleep(10);
}, 20_000);
