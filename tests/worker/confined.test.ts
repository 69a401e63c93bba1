// The real worker copies inside its sandbox just as it does without one, as root and as an ordinary user.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { closeSync, existsSync, ftruncateSync, mkdirSync, openSync, readFileSync, renameSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ByteString, byteStringFromText } from "../../src/bytes.ts";
import { landlockAbi } from "../../src/ffi/landlock.ts";
import { requestSchema } from "../../src/request-schema.ts";
import type { DoctorReport } from "../../src/worker/doctor.ts";
import { type LiveMessage, startWorker, type WorkerEnd } from "../../src/worker/pool.ts";
import { inFlightBytes } from "../../src/worker/protocol.ts";
import type { Credentials } from "../../src/worker/spawn.ts";
import { expectSameTree } from "../support/compare.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { makeOddTree } from "../support/tree.ts";
import { unlistedUser, whyNoUsers } from "../support/users.ts";

const root: Credentials = { uid: 0, gid: 0, groups: [0] };
const reason = firstReason(landlockAbi() >= 2 ? null : "the kernel has no Landlock", whyNoUsers());
let build: TemporaryDirectory;
let self: readonly string[];
beforeAll(async () => {
  build = await temporaryDirectory();
  await runChecked(["chmod", "0755", build.path]);
  const files = ["main.ts", "worker/lane.ts"].map((name) => join(import.meta.dir, "../../src", name));
  const flags = ["--compile", "--minify", "--bytecode", "--format=esm", "--external", "x11", "--external", "usocket"];
  await runChecked([process.execPath, "build", ...flags, ...files, "--outfile", `${build.path}/copyd`]);
  self = [`${build.path}/copyd`, "worker"];
}, 60_000);
afterAll(() => build[Symbol.asyncDispose]());

interface Outcome {
  readonly end: WorkerEnd;
  readonly messages: LiveMessage[];
}

async function copy(
  credentials: Credentials,
  sources: readonly string[],
  destination: string,
  options: object = {},
  onMessage: (message: LiveMessage) => void = () => undefined,
): Promise<Outcome> {
  const request = requestSchema.parse({
    operation: "copy",
    sources: sources.map(byteStringFromText),
    destination: byteStringFromText(destination),
    options: { durability: "none", ...options },
  });
  const record = openSync(`${build.path}/record`, "w+", 0o600);
  ftruncateSync(record, inFlightBytes);
  const messages: LiveMessage[] = [];
  const { promise, resolve } = Promise.withResolvers<WorkerEnd>();
  startWorker({
    task: { type: "start", request, sandbox: "strict", token: "confined", lanes: 2, totals: false },
    credentials,
    inFlightFd: record,
    self,
    onMessage: (message) => {
      messages.push(message);
      onMessage(message);
    },
    onEnd: resolve,
    onStderr: (line) => console.error(line),
  });
  const end = await promise;
  closeSync(record);
  return { end, messages };
}

function errorsOf({ end, messages }: Outcome): string[] {
  const errors = messages.flatMap((message) => (message.type === "errors" ? message.errors.map((error) => error.message) : []));
  return end.kind === "failed" ? [`${end.code}: ${end.message}`, ...errors] : errors;
}

testUnless(
  firstReason(reason, whyNoFilesystem("ext4"), havePrograms("rsync") ? null : "rsync is not installed"),
  "root's worker copies the odd tree to a new name, whole",
  async () => {
    await using filesystem = await mountFilesystem("ext4");
    mkdirSync(`${filesystem.path}/source`);
    await makeOddTree(`${filesystem.path}/source`);
    const outcome = await copy(root, [`${filesystem.path}/source`], `${filesystem.path}/copy`, { durability: "job" });
    expect(errorsOf(outcome)).toEqual([]);
    expect(outcome.messages[0]).toMatchObject({ type: "hello", landlockAbi: landlockAbi() });
    await expectSameTree(`${filesystem.path}/source`, `${filesystem.path}/copy`);
  },
  120_000,
);

testUnless(reason, "an ordinary user's worker copies into a directory, through links, and over a file", async () => {
  await using place = await temporaryDirectory();
  const user = unlistedUser();
  const path = place.path;
  mkdirSync(`${path}/source/below`, { recursive: true });
  mkdirSync(`${path}/real`);
  symlinkSync("real", `${path}/destination`);
  writeFileSync(`${path}/source/below/file`, "content");
  writeFileSync(`${path}/source/private`, "", { mode: 0o600 });
  writeFileSync(`${path}/one`, "new");
  writeFileSync(`${path}/real/one`, "old");
  await runChecked(["chmod", "0755", path]);
  await runChecked(["chown", "-hR", `${user.uid}:${user.gid}`, `${path}/real`]);
  const options = { onConflict: "overwrite", preserve: ["mode", "times"] };
  const outcome = await copy(user, [`${path}/source`, `${path}/one`], `${path}/destination`, options);
  expect(errorsOf(outcome)).toEqual([`cannot open '${path}/source/private' for reading: Permission denied`]);
  expect(readFileSync(`${path}/real/source/below/file`, "utf8")).toBe("content");
  expect(readFileSync(`${path}/real/one`, "utf8")).toBe("new");
  expect(existsSync(`${path}/real/source/private`)).toBe(false);
  expect(outcome.end.kind).toBe("result");
});

testUnless(reason, "a link in the source that leads out of it is not followed out of the sandbox", async () => {
  await using place = await temporaryDirectory();
  const path = place.path;
  for (const name of ["source", "destination"]) mkdirSync(`${path}/${name}`);
  symlinkSync("/etc/hostname", `${path}/source/link`);
  const outcome = await copy(root, [`${path}/source`], `${path}/destination`);
  expect(errorsOf(outcome)).toEqual([]);
  const followed = await copy(root, [`${path}/source`], `${path}/followed`, { symlinks: "follow" });
  expect(errorsOf(followed)).toEqual([]);
  expect(readFileSync(`${path}/followed/link`, "utf8")).toBe(readFileSync("/etc/hostname", "utf8"));
});

testUnless(reason, "a directory that is exchanged for a link meanwhile leads no lane out of the sandbox", async () => {
  await using place = await temporaryDirectory();
  const path = place.path;
  for (const name of ["source", "other", "destination"]) mkdirSync(`${path}/${name}`);
  writeFileSync(`${path}/first`, new Uint8Array(1024 * 1024));
  writeFileSync(`${path}/source/file`, "source");
  writeFileSync(`${path}/other/file`, "secret");
  let isExchanged = false;
  // Slow enough that the second source is opened after the first snapshot.
  const options = { bandwidthLimit: 1024 * 1024 };
  const outcome = await copy(root, [`${path}/first`, `${path}/source/file`], `${path}/destination`, options, ({ type }) => {
    if (type !== "snapshot" || isExchanged) return;
    isExchanged = true;
    renameSync(`${path}/source`, `${path}/former`);
    symlinkSync("other", `${path}/source`);
  });
  expect(isExchanged).toBe(true);
  expect(errorsOf(outcome)).toEqual([`cannot open '${path}/source/file' for reading: Permission denied`]);
  expect(existsSync(`${path}/destination/file`)).toBe(false);
});

test("copyd worker --doctor prints the report, also about names that are not UTF-8", async () => {
  const path = `${build.path.replace("c", "%63")}/%ff`;
  const result = await runChecked([...self, "--doctor", build.path, path]);
  const report = JSON.parse(result.stdout) as DoctorReport;
  expect(report.checks.length).toBeGreaterThan(4);
  expect(report.filesystems.map((filesystem) => filesystem.path)).toEqual([
    byteStringFromText(build.path),
    `${build.path}/\u00ff` as ByteString,
  ]);
});
