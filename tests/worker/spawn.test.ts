// Workers of other users, for real: through setpriv, checked against what the kernel says of the process.

import { expect, test } from "bun:test";
import { chmodSync, chownSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Caller } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import { expectedIdentity, identityProblem, selfCommand, workerCommand, workerEnvironment } from "../../src/worker/spawn.ts";
import { testRequest, untilEnded, worldReadableWorker } from "../support/jobs.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";
import { unlistedUser, whyNoUsers } from "../support/users.ts";

interface Report {
  readonly read: string;
  readonly status: string;
  readonly cwd: string;
  readonly environment: Record<string, string>;
  readonly descriptors: readonly string[];
}

/** What a worker of this caller finds itself to be, through the whole room. */
async function report(caller: Caller, query = "", asAdmin = false): Promise<Report & { readonly owner: number }> {
  await using worker = await worldReadableWorker();
  await using directory = await temporaryDirectory();
  chmodSync(directory.path, 0o1777);
  const destination = join(directory.path, "report");
  const jobs = createJobs({ mode: "system", self: worker.command, stateDirectory: directory.path, sandbox: "off" });
  const end = await untilEnded(jobs, jobs.submit(caller, null, testRequest(`reports${query}`, { destination }), { asAdmin }));
  expect(end.result).toMatchObject({ state: "completed" });
  return { ...JSON.parse(readFileSync(destination, "utf8")), owner: statSync(destination).uid };
}

function statusOf(status: string): Record<string, string> {
  const lines = status.split("\n").map((line) => line.split(":"));
  return Object.fromEntries(lines.map(([name, value]) => [name, (value ?? "").trim().replace(/\s+/g, " ")]));
}

const none = "0000000000000000";

testUnless(whyNoUsers(), "an ordinary user's worker is that user with exactly the groups, and can never be more", async () => {
  const user = unlistedUser();
  const groups = [user.gid, user.gid + 7, 5];
  const { status, owner } = await report({ ...user, groups });
  const four = `${user.uid} ${user.uid} ${user.uid} ${user.uid}`;
  expect(statusOf(status)).toMatchObject({
    Uid: four,
    Gid: four,
    Groups: `5 ${user.gid} ${user.gid + 7}`,
    CapInh: none,
    CapPrm: none,
    CapEff: none,
    CapBnd: none,
    CapAmb: none,
    NoNewPrivs: "1",
  });
  expect(owner).toBe(user.uid);
});

testUnless(whyNoUsers(), "a file that only a supplementary group may read is read, and without the group it is not", async () => {
  const user = unlistedUser();
  await using directory = await temporaryDirectory();
  chmodSync(directory.path, 0o755);
  const path = join(directory.path, "for the group");
  writeFileSync(path, "secret of the group");
  chownSync(path, 0, user.gid + 9);
  chmodSync(path, 0o640);
  const query = `?reads=${encodeURIComponent(path)}`;
  expect((await report({ ...user, groups: [user.gid, user.gid + 9] }, query)).read).toBe("secret of the group");
  expect((await report({ ...user, groups: [user.gid] }, query)).read).toContain("EACCES");
});

testUnless(whyNoUsers(), "a worker of root keeps what copying needs and nothing else, and so does an admin's", async () => {
  const kept = { CapPrm: "000000008800001f", CapEff: "000000008800001f", CapBnd: "000000008800001f", CapInh: none, CapAmb: none };
  const root = await report({ uid: 0, gid: 0, groups: [0] });
  expect(statusOf(root.status)).toMatchObject({ ...kept, Uid: "0 0 0 0", Groups: "0", NoNewPrivs: "1" });
  const admin = await report(unlistedUser(), "", true);
  expect(statusOf(admin.status)).toMatchObject({ ...kept, Uid: "0 0 0 0", Groups: "0", NoNewPrivs: "1" });
});

testUnless(whyNoUsers(), "a worker inherits no environment, no directory and no descriptor but its own five", async () => {
  process.env.BUN_OPTIONS_OF_TEST = "1";
  const { environment, cwd, descriptors } = await report(unlistedUser());
  delete process.env.BUN_OPTIONS_OF_TEST;
  expect(environment).toEqual({ ...workerEnvironment });
  expect(cwd).toBe("/");
  expect(descriptors.find((line) => line.startsWith("3 "))).toContain("in-flight-");
  const files = descriptors.filter((line) => /^\d+ \//.test(line) && !/^\d+ (\/dev\/|\/proc\/)/.test(line));
  expect(descriptors.find((line) => line.startsWith("4 "))).toContain("checkpoint-");
  expect(files.filter((line) => !/^[34] /.test(line) && !line.includes("worker"))).toEqual([]);
});

testUnless(whyNoUsers(), "a worker that says it is somebody else, or another process, ends the job", async () => {
  await using worker = await worldReadableWorker();
  const jobs = createJobs({ mode: "system", self: worker.command, sandbox: "off" });
  for (const mode of ["wrong-identity", "wrong-pid"]) {
    const end = await untilEnded(jobs, jobs.submit(unlistedUser(), null, testRequest(mode)));
    expect(end.result).toMatchObject({ state: "failed", code: "worker-identity" });
  }
});

testUnless(whyNoUsers(), "a worker dies with the service, even one that is stopped and cannot notice", async () => {
  await using worker = await worldReadableWorker();
  const program = `
    const { createJobs } = await import(${JSON.stringify(join(import.meta.dir, "../../src/jobs/jobs.ts"))});
    const { testRequest } = await import(${JSON.stringify(join(import.meta.dir, "../support/jobs.ts"))});
    const jobs = createJobs({ mode: "system", sandbox: "off", self: ${JSON.stringify(worker.command)} });
    jobs.submit({ uid: 1000001234, gid: 1000001234, groups: [1000001234] }, null, testRequest("deaf"));`;
  const service = Bun.spawn({ cmd: [process.execPath, "-e", program], stderr: "inherit" });
  const child = (): number => Number(readFileSync(`/proc/${service.pid}/task/${service.pid}/children`, "utf8").trim().split(" ")[0]);
  await until(() => child() > 0 && stateOf(child()) === "T");
  const pid = child();
  service.kill("SIGKILL");
  await service.exited;
  await until(() => stateOf(pid) === "Z" || stateOf(pid) === null);
});

testUnless(whyNoUsers(), "the kernel's word on a process is compared field by field", () => {
  const status = statusOf(readFileSync("/proc/self/status", "latin1"));
  const mine = expectedIdentity({ uid: 0, gid: 0, groups: (status.Groups ?? "").split(" ").filter(Boolean).map(Number) });
  expect(identityProblem(process.pid, { ...mine, uid: 1 })).toBe('Uid is "0 0 0 0", not "1 1 1 1"');
  expect(identityProblem(process.pid, { ...mine, gid: 1 })).toBe('Gid is "0 0 0 0", not "1 1 1 1"');
  expect(identityProblem(process.pid, { ...mine, groups: [1, 2, 3] })).toContain("Groups is");
  expect(identityProblem(process.pid, mine)).toContain("CapPrm is");
});

test("an identity is its sorted groups and only the capabilities that this process could give", () => {
  expect(expectedIdentity({ uid: 7, gid: 8, groups: [9, 8, 9] })).toEqual({ uid: 7, gid: 8, groups: [8, 9], capabilities: "0" });
  expect(expectedIdentity({ uid: 0, gid: 0, groups: [] }, 0x3n).capabilities).toBe("3");
  expect(expectedIdentity({ uid: 0, gid: 0, groups: [] }, 0x1ffffffffffn).capabilities).toBe("8800001f");
});

test("the command line is setpriv's for an identity and the bare program for none", () => {
  const self = ["/bin/self", "worker"];
  expect(workerCommand(null, self)).toEqual(self);
  const command = workerCommand({ uid: 7, gid: 8, groups: [], capabilities: "0" }, self);
  expect(command).toContain("--clear-groups");
  expect(command).toContain("--bounding-set=-all");
  expect(command.slice(-3)).toEqual(["--", ...self]);
  const running = workerCommand({ uid: 7, gid: 8, groups: [], capabilities: "0" }, ["/proc/self/exe", "worker"], 5);
  expect(running.slice(-3)).toEqual(["--", "/proc/self/fd/5", "worker"]);
  const root = workerCommand({ uid: 0, gid: 0, groups: [0, 5], capabilities: "3" }, self);
  expect(root).toContain("--groups=0,5");
  expect(root).toContain("--bounding-set=-all,+chown,+dac_override");
  expect(selfCommand()[0]).toBe(process.execPath);
});

/** The letter that /proc gives, or null for a process that is gone. */
function stateOf(pid: number): string | null {
  try {
    return /^State:\s*(\S)/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? null;
  } catch {
    return null;
  }
}

async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadlineMs) throw new Error("it has not happened within 10 s");
    await Bun.sleep(10);
  }
}
