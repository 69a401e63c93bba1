// A cancel that takes back what the job has published: at any time, over ends of the service, and nothing but what the job has made.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { AdjustableJobs } from "../../src/jobs/jobs-dependencies.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { codeOf, testCaller, untilEnded, untilView } from "../support/jobs.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

interface Room {
  readonly jobs: AdjustableJobs;
  end(): Promise<void>;
}

const fileBytes = 64 * 1024;
const fileCount = 40;

let directory: TemporaryDirectory;
let room: Room;
let source = "";
let destination = "";

beforeEach(async () => {
  directory = await temporaryDirectory();
  mkdirSync(join(directory.path, "state"));
  room = await openRoom();
  source = join(directory.path, "source");
  destination = join(directory.path, "destination");
  for (let index = 0; index < fileCount; index++) {
    const at = join(source, `sub${index % 4}`, "deep");
    mkdirSync(at, { recursive: true });
    writeFileSync(join(at, `file${index}`), Buffer.alloc(fileBytes, index));
  }
  symlinkSync("target", join(source, "link"));
  writeFileSync(join(source, "big"), Buffer.alloc(80 * 1024 * 1024, 1));
});
afterEach(async () => {
  await room.end();
  await directory[Symbol.asyncDispose]();
});

async function openRoom(): Promise<Room> {
  const stateDirectory = join(directory.path, "state");
  const store = await openStore({ path: join(stateDirectory, "jobs.db"), log: noLog });
  const jobs = createJobs({ mode: "session", store, stateDirectory });
  const end = async (): Promise<void> => {
    await jobs.shutdown();
    store.close();
  };
  return { jobs, end };
}

async function reopenRoom(): Promise<void> {
  await room.end();
  room = await openRoom();
}

/** Too slow to end before it is cancelled: the big file alone would take minutes. */
function request(changes: object = {}, options: object = {}): JobRequest {
  const slow = { bandwidthLimit: 4 * 1024 * 1024, reflink: "never", durability: "none", recursive: true };
  return requestSchema.parse({ operation: "copy", sources: [source], destination, options: { ...slow, ...options }, ...changes });
}

function submit(what = request()): JobView {
  return room.jobs.submit(testCaller, "job", what);
}

function current(): JobView {
  const job = room.jobs.get(testCaller.uid, "job");
  if (job === undefined) throw new Error("the job was lost");
  return job;
}

async function untilFiles(count: number): Promise<void> {
  await untilView(room.jobs, current(), ({ filesDone }) => filesDone >= count);
}

/** The size of each file below a directory, by path; links and directories as 0. */
function treeOf(path: string): Record<string, number> {
  const names = readdirSync(path, { recursive: true, encoding: "utf8" }).toSorted();
  return Object.fromEntries(names.map((name) => [name, statSync(join(path, name), { throwIfNoEntry: false })?.isFile() === true ? 1 : 0]));
}

async function expectRemoved(): Promise<JobView> {
  const ended = await untilEnded(room.jobs, current());
  expect(ended.result).toMatchObject({ state: "cancelled", code: "cancelled", filesDone: 0, bytesDone: 0, errorCount: 0 });
  expect(ended.result?.message).toStartWith("Cancelled; what was finished until then was removed (");
  return ended;
}

test("what the job has made is removed, with its directories; its sources stay", async () => {
  const before = treeOf(source);
  submit();
  await untilFiles(5);
  expect(existsSync(destination)).toBe(true);
  room.jobs.cancel(current(), "job", "remove");
  expect((await expectRemoved()).result?.message).not.toContain("stayed");
  expect(existsSync(destination)).toBe(false);
  expect(treeOf(source)).toEqual(before);
});

test("what was there before, what was changed since, and what somebody has put there stays", async () => {
  mkdirSync(join(destination, "source/sub0/deep"), { recursive: true });
  writeFileSync(join(destination, "source/sub0/deep/older"), "older");
  writeFileSync(join(destination, "source/old"), "old");
  // Births are told apart by a tenth of a second.
  await Bun.sleep(300);
  submit();
  await untilFiles(fileCount / 2);
  const made = readdirSync(join(destination, "source"), { recursive: true, encoding: "utf8" }).filter((name) =>
    /sub[1-3].*file/.test(name),
  );
  const [changed = "", moved = ""] = made;
  writeFileSync(join(destination, "source", changed), "somebody's own");
  renameSync(join(destination, "source", moved), join(destination, "source", `${moved}-renamed`));
  writeFileSync(join(destination, "source", dirname(changed), "put-there"), "put there");
  room.jobs.cancel(current(), "job", "remove");
  const { result } = await untilEnded(room.jobs, current());
  expect(result).toMatchObject({ state: "cancelled" });
  expect(result?.message).toContain("2 entries that are not known to be the job's or changed since stayed");
  const files = Object.entries(treeOf(destination)).flatMap(([name, isFile]) => (isFile === 1 ? [name] : []));
  expect(files).toEqual([`source/${changed}`, "source/old", "source/sub0/deep/older", `source/${dirname(changed)}/put-there`].toSorted());
  expect(readFileSync(join(destination, "source", changed), "utf8")).toBe("somebody's own");
});

test("a job that was paused, and whose service has ended since, is taken back all the same, without its sources", async () => {
  submit();
  await untilFiles(5);
  room.jobs.pause(current());
  await untilView(room.jobs, current(), ({ state }) => state === "paused");
  await reopenRoom();
  expect(current().state).toBe("paused");
  rmSync(source, { recursive: true });
  room.jobs.cancel(current(), "job", "remove");
  await expectRemoved();
  expect(existsSync(destination)).toBe(false);
});

test("a service that ends before all is removed leaves the rest to the next", async () => {
  submit();
  await untilFiles(5);
  room.jobs.cancel(current(), "job", "remove");
  await reopenRoom();
  await expectRemoved();
  expect(existsSync(destination)).toBe(false);
});

test("it may be asked for while the job is cancelled already", async () => {
  submit();
  await untilFiles(5);
  room.jobs.cancel(current());
  room.jobs.cancel(current(), "job", "remove");
  await expectRemoved();
  expect(existsSync(destination)).toBe(false);
});

test("copies under serial names go, the files whose names were taken stay", async () => {
  mkdirSync(destination);
  writeFileSync(join(destination, "one.txt"), "theirs");
  writeFileSync(join(destination, "one (7).txt"), "theirs, too");
  writeFileSync(join(directory.path, "one.txt"), "ours");
  await Bun.sleep(300);
  submit(request({ sources: [join(directory.path, "one.txt"), join(source, "big")] }, { onConflict: "rename" }));
  await untilFiles(1);
  expect(existsSync(join(destination, "one (2).txt"))).toBe(true);
  room.jobs.cancel(current(), "job", "remove");
  await expectRemoved();
  expect(readdirSync(destination).toSorted()).toEqual(["one (7).txt", "one.txt"]);
});

test("a job that has come to its end by itself keeps what it has made", async () => {
  writeFileSync(join(directory.path, "one.txt"), "ours");
  submit(request({ sources: [join(directory.path, "one.txt")] }));
  const ended = await untilEnded(room.jobs, current());
  expect(ended.state).toBe("completed");
  expect(codeOf(() => room.jobs.cancel(current(), "job", "remove"))).toBe("invalid-state");
  expect(readFileSync(destination, "utf8")).toBe("ours");
});

test("moves and jobs that make links cannot be taken back, and go on", async () => {
  submit(request({ operation: "move" }));
  expect(codeOf(() => room.jobs.cancel(current(), "job", "remove"))).toBe("not-supported");
  expect(current().cancelable).toBe(true);
  room.jobs.cancel(current());
  await untilEnded(room.jobs, current());
  const linking = room.jobs.submit(testCaller, "links", request({}, { gnu: { make: "hard-link" } }));
  expect(codeOf(() => room.jobs.cancel(linking, "job", "remove"))).toBe("not-supported");
  await untilEnded(room.jobs, linking);
});
