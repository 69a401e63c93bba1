// The control groups of users, on the kernel's own hierarchy: workers are in them, they end with them, and they hold what they limit.

import { expect } from "bun:test";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { groupsIn, isPopulated, makeCgroup, membersOf, type TestCgroup, whyNoCgroup, whyNotLimited } from "../support/cgroups.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

interface Said {
  readonly features?: readonly string[];
  readonly uid?: number;
  readonly state?: string;
  readonly code?: string;
  readonly message?: string;
}

const mebibyte = 1024 * 1024;

/** The service's part in a group, as user-groups-child.ts has it. */
class Divided implements AsyncDisposable {
  private readonly process: Bun.Subprocess<"pipe", "pipe", "pipe">;
  private readonly lines: AsyncIterator<string>;

  constructor(group: TestCgroup, settings: object, jobs: readonly string[]) {
    const child = [process.execPath, join(import.meta.dir, "user-groups-child.ts"), JSON.stringify(settings), ...jobs];
    this.process = Bun.spawn(group.inside(child), { stdin: "pipe", stdout: "pipe", stderr: "pipe" });
    this.lines = linesOf(this.process.stdout);
  }

  get pid(): number {
    return this.process.pid;
  }

  async said(): Promise<Said> {
    return JSON.parse((await this.lines.next()).value ?? "{}");
  }

  tell(line: string): void {
    this.process.stdin.write(`${line}\n`);
    this.process.stdin.flush();
  }

  /** All that it logged; it has been told to end. */
  errors(): Promise<string> {
    return this.process.stderr.text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
  }
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stream) {
    const lines = `${rest}${Buffer.from(chunk).toString()}`.split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

testUnless(whyNoCgroup(), "a worker begins in its user's group, and the group goes when it has had no worker for a while", async () => {
  await using directory = await temporaryDirectory();
  await using group = makeCgroup("places");
  const reads = encodeURIComponent("/proc/self/cgroup");
  await using divided = new Divided(group, { lingerMs: 2000 }, [`1001:reports?reads=${reads}&to=${directory.path}/report`, "1002:well"]);
  await divided.said();
  expect(membersOf(join(group.path, "daemon"))).toContain(divided.pid);
  expect(membersOf(group.path)).toEqual([]);
  expect(await divided.said()).toMatchObject({ uid: 1001, state: "completed" });
  expect(groupsIn(group.path)).toContain("user-1001");
  const { read } = JSON.parse(readFileSync(`${directory.path}/report`, "utf8"));
  expect(read).toMatch(new RegExp(`^0::.*/${group.path.split("/").at(-1)}/user-1001$`, "m"));
  expect(await divided.said()).toMatchObject({ uid: 1002, state: "completed" });
  expect(groupsIn(group.path)).toContain("user-1002");
  await until(() => groupsIn(group.path).length === 1);
  expect(groupsIn(group.path)).toEqual(["daemon"]);
});

testUnless(
  whyNoCgroup(),
  "what a worker left running ends with its user's last worker, and what a former service left at the start",
  async () => {
    await using group = makeCgroup("strays");
    const stray = join(group.path, "user-1003");
    mkdirSync(stray);
    const sleeper = Bun.spawn(["sleep", "60"], { cgroup: stray, stdio: ["ignore", "ignore", "ignore"] });
    await using divided = new Divided(group, { lingerMs: 60_000 }, ["1001:leaves-a-child?seconds=30", "1001:well", "1001:well"]);
    await divided.said();
    await sleeper.exited;
    expect(sleeper.signalCode).toBe("SIGKILL");
    expect(await divided.said()).toMatchObject({ uid: 1001, state: "completed" });
    // A group in which all were killed is not used again, or the kernel would kill who is cloned into it.
    for (const _ of [1, 2]) expect(await divided.said()).toMatchObject({ uid: 1001, state: "completed" });
    // By itself the child would end after half a minute.
    await until(() => groupsIn(group.path).every((name) => name === "daemon" || !isPopulated(join(group.path, name))));
  },
);

testUnless(whyNoCgroup(), "a group that cannot be had keeps no job from running, and the log says so", async () => {
  await using group = makeCgroup("refused");
  // So deep may groups below it lie, and no deeper: `daemon` and nothing else.
  writeFileSync(join(group.path, "cgroup.max.descendants"), "1");
  await using divided = new Divided(group, {}, ["1001:well"]);
  await divided.said();
  expect(await divided.said()).toMatchObject({ uid: 1001, state: "completed" });
  expect(groupsIn(group.path)).toEqual(["daemon"]);
  divided.tell("end");
  expect(await divided.errors()).toContain("a worker runs outside its user's control group uid=1001 reason=\"EAGAIN");
});

testUnless(
  whyNotLimited("pids"),
  "a user's workers get no more processes than they may have, which is named; another user's do",
  async () => {
    await using group = makeCgroup("pids");
    await using divided = new Divided(group, { processes: 64 }, [
      "1001:starts-processes?count=100",
      "1002:starts-processes?count=10",
      "1003:well",
    ]);
    expect((await divided.said()).features).toContain("limit:worker-processes");
    expect(await divided.said()).toMatchObject({ uid: 1001, state: "failed", code: "worker-too-many-processes" });
    expect(await divided.said()).toMatchObject({ uid: 1002, state: "completed" });
    expect(await divided.said()).toMatchObject({ uid: 1003, state: "completed" });
    divided.tell(JSON.stringify({ memoryBytes: 0, processes: 77 }));
    await divided.said();
    expect(readFileSync(join(group.path, "user-1003/pids.max"), "utf8")).toBe("77\n");
  },
);

testUnless(
  whyNotLimited("memory"),
  "a user's workers get no more memory than they may have, which is named; another user's do",
  async () => {
    await using group = makeCgroup("memory");
    await using divided = new Divided(group, { memoryBytes: 200 * mebibyte }, ["1001:eats-memory", "1002:well", "1001:killed-by-hand"]);
    expect((await divided.said()).features).toContain("limit:worker-memory");
    expect(await divided.said()).toMatchObject({ uid: 1001, state: "failed", code: "worker-out-of-memory" });
    expect(await divided.said()).toMatchObject({ uid: 1002, state: "completed" });
    // In a group that has seen such an end before.
    const killed = await divided.said();
    expect(killed).toMatchObject({ uid: 1001, state: "failed", code: "worker-died" });
    expect(killed.message).not.toContain("before it began");
    expect(existsSync(join(group.path, "user-1002/memory.events"))).toBe(true);
  },
);

async function until(isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!isSo()) {
    if (performance.now() > deadlineMs) throw new Error(`waited for 10 s in vain: ${isSo}`);
    await Bun.sleep(20);
  }
}
