// A job of one small file: the worker's main thread copies it, and everything that may wait, ask or be told is a lane's as before.

import { expect, test } from "bun:test";
import {
  chmodSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { ByteString } from "../../src/bytes.ts";
import type { JobView } from "../../src/jobs/api.ts";
import { createUnnamedInFlightFile } from "../../src/jobs/in-flight-file.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { startWorker, type Task, type WorkerEnd } from "../../src/worker/pool.ts";
import { startJob } from "../support/embedded-job.ts";
import { testCaller, untilAsked, untilView } from "../support/jobs.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const content = "content\n";
const alone = "one small file: copied without a lane";

/** A directory with the file `source`; `copy` copies it to `copy` there. */
async function place() {
  const here = await temporaryDirectory();
  const source = join(here.path, "source");
  const destination = join(here.path, "copy");
  writeFileSync(source, content, { mode: 0o640 });
  utimesSync(source, 1_600_000_000, 1_600_000_000.5);
  const copy = async (options: Record<string, unknown> = {}, operation: "copy" | "move" = "copy") => {
    const job = startJob([source], destination, options, operation);
    const { result } = await job.ended;
    return { state: result?.state, isAlone: result?.reasons.includes(alone) ?? false, result, errors: job.errors };
  };
  return Object.assign(here, { source, destination, copy });
}

test("it needs no lane, and is whole", async () => {
  await using here = await place();
  const { state, isAlone, result } = await here.copy();
  expect({ state, isAlone }).toEqual({ state: "completed", isAlone: true });
  expect(result).toMatchObject({ filesDone: 1, bytesDone: content.length, errorCount: 0, reasons: [alone] });
  expect(Object.values(result?.engines ?? {})).toEqual([1]);
  expect(readFileSync(here.destination, "utf8")).toBe(content);
  const [from, to] = [statSync(here.source), statSync(here.destination)];
  expect([to.mode, to.mtimeMs, to.uid, to.gid]).toEqual([from.mode, from.mtimeMs, from.uid, from.gid]);
  expect(readdirSync(here.path).sort()).toEqual(["copy", "source"]);
});

test("it goes into a directory under its own name, and where cp follows a link", async () => {
  await using here = await place();
  mkdirSync(here.destination);
  expect(await here.copy()).toMatchObject({ state: "completed", isAlone: true });
  expect(readFileSync(join(here.destination, "source"), "utf8")).toBe(content);
  symlinkSync("source", join(here.path, "link"));
  const job = startJob([join(here.path, "link")], join(here.path, "followed"), { symlinks: "follow" });
  expect((await job.ended).result).toMatchObject({ state: "completed", reasons: [alone] });
  expect(lstatSync(join(here.path, "followed")).isFile()).toBe(true);
});

test("without its mode it gets what the umask leaves", async () => {
  await using here = await place();
  chmodSync(here.source, 0o666);
  expect(await here.copy({ preserve: [], umask: 0o027 })).toMatchObject({ state: "completed", isAlone: true });
  expect(statSync(here.destination).mode & 0o777).toBe(0o640);
});

/** What the source is made into, and what of the copy is to be true. */
const otherFiles: Record<string, (source: string) => void> = {
  "a link": (source) => {
    symlinkSync(source, `${source}.link`);
  },
  "a file of two names": (source) => linkSync(source, `${source}.second`),
  "an empty file": (source) => truncateSync(source, 0),
  "a file with a hole": (source) => truncateSync(source, 64 * 1024),
  "a larger file": (source) => writeFileSync(source, Buffer.alloc(64 * 1024 + 1, 1)),
  "a setgid program": (source) => chmodSync(source, 0o2755),
};
for (const [name, change] of Object.entries(otherFiles)) {
  test(`${name} is a lane's`, async () => {
    await using here = await place();
    change(here.source);
    const source = name === "a link" ? `${here.source}.link` : here.source;
    const { result } = await startJob([source], here.destination).ended;
    expect(result?.state).toBe("completed");
    expect(result?.reasons).not.toContain(alone);
    const [from, to] = [lstatSync(source), lstatSync(here.destination)];
    expect([to.mode, to.size]).toEqual([from.mode, from.size]);
  });
}

for (const options of [
  { verify: "xxh3" },
  { durability: "job" },
  { durability: "file" },
  { bandwidthLimit: 1_000_000 },
  { cache: "drop" },
  { engine: "read-write" },
  { sparse: "always" },
  { include: ["*"] },
  { maxFileSize: 1_000_000 },
  { renameMatch: "x", renameReplace: "y" },
  { preserve: ["owner"] },
  { gnu: { verbose: true } },
]) {
  test(`a lane's: ${JSON.stringify(options)}`, async () => {
    await using here = await place();
    expect(await here.copy(options)).toMatchObject({ state: "completed", isAlone: false });
    expect(readFileSync(here.destination, "utf8")).toBe(content);
  });
}

test("a move is a lane's", async () => {
  await using here = await place();
  expect(await here.copy({}, "move")).toMatchObject({ state: "completed", isAlone: false });
  expect(existsSync(here.source)).toBe(false);
});

test("a manifest is a lane's", async () => {
  await using here = await place();
  const manifest = join(here.path, "sums");
  expect(await here.copy({ verify: "sha256", manifest })).toMatchObject({ state: "completed", isAlone: false });
  expect(readFileSync(manifest, "utf8")).toContain("copy");
});

for (const [onConflict, after] of [
  ["overwrite", content],
  ["skip", "old"],
  ["fail", "old"],
] as const) {
  test(`what stands there is a lane's: ${onConflict}`, async () => {
    await using here = await place();
    writeFileSync(here.destination, "old");
    const { state, isAlone } = await here.copy({ onConflict });
    expect({ state, isAlone }).toEqual({ state: onConflict === "fail" ? "failed" : "completed", isAlone: false });
    expect(readFileSync(here.destination, "utf8")).toBe(after);
  });
}

test("a question is asked as ever", async () => {
  await using here = await place();
  writeFileSync(here.destination, "old");
  const job = startJob([here.source], here.destination, { onConflict: "ask" });
  const question = await untilAsked(job);
  expect(question.kind).toBe("conflict");
  job.jobs.answer(job.submitted, question.id, "overwrite", false);
  expect((await job.ended).result?.state).toBe("completed");
  expect(readFileSync(here.destination, "utf8")).toBe(content);
});

test("what cannot be is told as ever, once", async () => {
  await using here = await place();
  const { ended, errors } = startJob([join(here.path, "missing")], here.destination);
  expect((await ended).result).toMatchObject({ state: "failed", errorCount: 1 });
  expect(errors.map(({ code }) => code)).toEqual(["source-not-found"]);
});

test("who pauses the job before it has begun finds nothing copied, and resumes it", async () => {
  await using here = await place();
  const job = startJob([here.source], here.destination);
  await job.worker();
  job.jobs.pause(job.submitted);
  await untilView(job.jobs, job.submitted, ({ state }) => state === "paused");
  await Bun.sleep(300);
  expect(existsSync(here.destination)).toBe(false);
  job.jobs.resume(job.submitted);
  expect((await job.ended).result).toMatchObject({ state: "completed", filesDone: 1 });
});

test("who cancels the job before it has begun finds nothing copied", async () => {
  await using here = await place();
  const job = startJob([here.source], here.destination);
  await job.worker();
  job.jobs.cancel(job.submitted);
  expect((await job.ended).result?.state).toBe("cancelled");
  expect(readdirSync(here.path)).toEqual(["source"]);
});

testUnless(havePrograms("setfattr") ? null : "setfattr is not installed", "attributes are a lane's, and kept", async () => {
  await using here = await place();
  await runChecked(["setfattr", "-n", "user.note", "-v", "kept", here.source]);
  expect(await here.copy()).toMatchObject({ state: "completed", isAlone: false });
  expect((await runChecked(["getfattr", "--only-values", "-n", "user.note", here.destination])).stdout).toBe("kept");
});

testUnless(
  havePrograms("setfacl") ? null : "setfacl is not installed",
  "an ACL that the directory would give is a lane's to keep away",
  async () => {
    await using here = await place();
    await runChecked(["setfacl", "-d", "-m", "u:12345:rwx", here.path]);
    expect(await here.copy()).toMatchObject({ state: "completed", isAlone: false });
    expect((await runChecked(["getfacl", "-cp", here.destination])).stdout).not.toContain("12345");
  },
);

testUnless(havePrograms("dd") ? null : "dd is not installed", "what is not in the page cache is a lane's to wait for", async () => {
  await using here = await place();
  await runChecked(["dd", `of=${here.source}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
  expect(await here.copy()).toMatchObject({ state: "completed", isAlone: false });
  expect(readFileSync(here.destination, "utf8")).toBe(content);
});

/** A worker with this policy, and what it says in the end. */
async function underPolicy(source: string, destination: string, policy: Extract<Task, { type: "start" }>["policy"]): Promise<WorkerEnd> {
  const inFlight = createUnnamedInFlightFile("lone");
  const { promise, resolve } = Promise.withResolvers<WorkerEnd>();
  const options = { durability: "none" };
  startWorker({
    task: {
      type: "start",
      request: requestSchema.parse({ operation: "copy", sources: [source], destination, options }),
      sandbox: "off",
      token: "lone",
      lanes: 0,
      totals: false,
      ...(policy === undefined ? {} : { policy }),
    },
    credentials: null,
    inFlightFd: inFlight.fd,
    onMessage: () => undefined,
    onEnd: resolve,
    onStderr: () => undefined,
  });
  return promise.finally(() => inFlight.discard());
}

test("where an administrator forbids something a lane looks", async () => {
  await using here = await place();
  const none = { allowSources: [], allowDestinations: [], denyDestinations: [], allowExtensions: [], denyExtensions: [] };
  const denied = [{ group: "", ...none, denySources: [here.path as ByteString], maxFileSize: 0 }];
  const end = await underPolicy(here.source, here.destination, denied);
  expect(end).toMatchObject({ kind: "result", result: { outcome: "failed" } });
  expect(existsSync(here.destination)).toBe(false);
});

testUnless(unlessRoot(), "what it was copied from and to can be unmounted as soon as the job has ended", async () => {
  await using here = await place();
  const point = join(here.path, "mounted");
  const state = join(here.path, "state");
  mkdirSync(point);
  mkdirSync(state);
  const jobs = createJobs({ mode: "session", stateDirectory: state });
  const busy: string[] = [];
  for (let round = 0; round < 20; round++) {
    await runChecked(["mount", "-t", "tmpfs", "tmpfs", point]);
    writeFileSync(join(point, "source"), content);
    const { promise: ended, resolve } = Promise.withResolvers<JobView>();
    jobs.on("ended", (job) => {
      if (job.token !== `round${round}`) return;
      const { stderr } = Bun.spawnSync(["umount", point]);
      if (stderr.length > 0) busy.push(stderr.toString());
      resolve(job);
    });
    const paths = { sources: [join(point, "source")], destination: join(point, "copy") };
    jobs.submit(testCaller, `round${round}`, requestSchema.parse({ operation: "copy", ...paths, options: { durability: "none" } }));
    expect((await ended).result).toMatchObject({ state: "completed", reasons: [alone] });
  }
  expect(busy).toEqual([]);
  await jobs.shutdown();
});
