// A state directory that takes nothing: full, read-only, or removed under the service. Jobs are done all the same; only what an
// interruption costs them differs.

import { expect, test } from "bun:test";
import { randomBytes } from "node:crypto";
import { mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JobView } from "../../src/jobs/api.ts";
import { createJobs } from "../../src/jobs/jobs.ts";
import type { AdjustableJobs } from "../../src/jobs/jobs-dependencies.ts";
import { noLog } from "../../src/jobs/log.ts";
import { openStore } from "../../src/jobs/store.ts";
import type { JobOptions } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { expectSameTree } from "../support/compare.ts";
import { type FilesystemKind, mountFilesystem, tinySizeBytes, whyNoFilesystem } from "../support/filesystems.ts";
import { testCaller, untilEnded, untilView } from "../support/jobs.ts";
import { runChecked } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const fileBytes = 256 * 1024;

interface Room {
  readonly jobs: AdjustableJobs;
  end(): Promise<void>;
}

async function openRoom(storePath: string, stateDirectory: string): Promise<Room> {
  const store = await openStore({ path: storePath, log: noLog });
  const jobs = createJobs({ mode: "session", store, stateDirectory });
  const end = async (): Promise<void> => {
    await jobs.shutdown();
    store.close();
  };
  return { jobs, end };
}

/** Directories that the job makes, so that files in them are made under their own names and recorded. */
function makeSource({ path }: TemporaryDirectory): void {
  for (let index = 0; index < 24; index++) {
    mkdirSync(join(path, `source/sub${index % 6}`), { recursive: true });
    writeFileSync(join(path, `source/sub${index % 6}/${index}`), randomBytes(fileBytes));
  }
}

function submit({ jobs }: Room, { path }: TemporaryDirectory, changes: Partial<JobOptions> = {}): JobView {
  const options = { target: "exact", reflink: "never", recursive: true, onConflict: "fail", ...changes };
  const request = { operation: "copy", sources: [join(path, "source")], destination: join(path, "copy"), options };
  return jobs.submit(testCaller, "job", requestSchema.parse(request));
}

/** Nothing more fits, not even a block. */
function fill(path: string): void {
  for (let size = 1024 * 1024; size >= 512; size /= 2) {
    for (let serial = 0; ; serial++) {
      try {
        writeFileSync(join(path, `ballast-${size}-${serial}`), Buffer.alloc(size, 1));
      } catch {
        break;
      }
    }
  }
}

for (const kind of ["tmpfs", "ext4"] as const satisfies readonly FilesystemKind[]) {
  testUnless(whyNoFilesystem(kind), `${kind}: with a full state directory a job is done, and one that is stopped goes on`, async () => {
    await using work = await temporaryDirectory();
    await using state = await mountFilesystem(kind, { sizeBytes: tinySizeBytes });
    makeSource(work);
    fill(state.path);
    const store = join(work.path, "jobs.db");
    const before = await openRoom(store, state.path);
    const job = submit(before, work, { bandwidthLimit: 2 * 1024 * 1024 });
    await untilView(before.jobs, job, ({ filesDone }) => filesDone > 4);
    await before.end();
    const room = await openRoom(store, state.path);
    const found = room.jobs.get(testCaller.uid, "job");
    if (found === undefined) throw new Error("the job was lost");
    const { result } = await untilEnded(room.jobs, found);
    expect(result).toMatchObject({ state: "completed", errorCount: 0, resumeCount: 1 });
    await expectSameTree(join(work.path, "source"), join(work.path, "copy"));
    await room.end();
  });
}

testUnless(whyNoFilesystem("tmpfs"), "with a read-only state directory a job is done", async () => {
  await using work = await temporaryDirectory();
  await using state = await mountFilesystem("tmpfs", { sizeBytes: tinySizeBytes });
  makeSource(work);
  await runChecked(["mount", "-o", "remount,ro", state.path]);
  const room = await openRoom(join(state.path, "jobs.db"), state.path);
  expect((await untilEnded(room.jobs, submit(room, work))).result).toMatchObject({ state: "completed", errorCount: 0 });
  await expectSameTree(join(work.path, "source"), join(work.path, "copy"));
  await room.end();
});

test("a state directory that is removed under the service is made again, with all jobs, ended ones too", async () => {
  await using work = await temporaryDirectory();
  makeSource(work);
  const state = join(work.path, "state");
  mkdirSync(state);
  const before = await openRoom(join(state, "jobs.db"), state);
  const request = { operation: "copy", sources: [join(work.path, "source/sub0/0")], destination: join(work.path, "one") };
  await untilEnded(before.jobs, before.jobs.submit(testCaller, "ended", requestSchema.parse(request)));
  rmSync(state, { recursive: true });
  const job = submit(before, work, { bandwidthLimit: 2 * 1024 * 1024 });
  await untilView(before.jobs, job, ({ filesDone }) => filesDone > 4);
  expect(statSync(join(state, "jobs.db")).mode & 0o777).toBe(0o600);
  await before.end();
  const room = await openRoom(join(state, "jobs.db"), state);
  const found = room.jobs.list(null);
  expect(found.map(({ token }) => token).toSorted()).toEqual(["ended", "job"]);
  const { result } = await untilEnded(room.jobs, room.jobs.get(testCaller.uid, "job") ?? job);
  expect(result).toMatchObject({ state: "completed", errorCount: 0, resumeCount: 1 });
  await expectSameTree(join(work.path, "source"), join(work.path, "copy"));
  await room.end();
});
