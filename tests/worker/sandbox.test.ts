// A confined worker can do its job and nothing else: in its own thread, in threads it starts, and through io_uring.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ByteString } from "../../src/bytes.ts";
import { Errno } from "../../src/errno.ts";
import { landlockAbi } from "../../src/ffi/landlock.ts";
import { Ring } from "../../src/ffi/ring.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type confine, previewPaths, sandboxPaths } from "../../src/worker/sandbox.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { run, runChecked } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { runAs, unlistedUser, whyNoUsers } from "../support/users.ts";
import type { Attempts } from "./sandbox-attempts.ts";
import type { ChildAnswer, ChildTask } from "./sandbox-child.ts";

const denied = -Errno.EACCES;
const child = join(import.meta.dir, "sandbox-child.ts");
const noLandlock = landlockAbi() >= 2 ? null : "the kernel has no Landlock";
const noRing = ((): string | null => {
  const ring = Ring.create(2);
  if (!ring.available) return ring.message;
  ring[Symbol.dispose]();
  return null;
})();
const reason = firstReason(noLandlock, noRing);

const all: Attempts = { read: 0, write: 0, truncate: 0, list: 0, create: 0, anonymous: 0, ringRead: 0, ringWrite: 0 };
const nothing: Attempts = Object.fromEntries(Object.keys(all).map((key) => [key, denied]));
const onlyRead: Attempts = { ...nothing, read: 0, list: 0, ringRead: 0 };

async function confined(task: ChildTask): Promise<ChildAnswer> {
  const result = await runChecked([process.execPath, child, JSON.stringify(task)]);
  const answer = JSON.parse(result.stdout) as ChildAnswer;
  expect(answer.message).toBe("");
  expect(answer.confined).toBe(true);
  return answer;
}

interface Places extends AsyncDisposable {
  readonly path: string;
}

/** Three directories with a file each: source, destination, and other. */
async function places(parent?: string): Promise<Places> {
  const directory: TemporaryDirectory = await temporaryDirectory(parent);
  for (const name of ["source", "destination", "other"]) {
    mkdirSync(`${directory.path}/${name}`);
    writeFileSync(`${directory.path}/${name}/file`, name);
  }
  return directory;
}

describe("a copy", () => {
  testUnless(reason, "reads its sources, writes its destination, and reaches nothing else", async () => {
    await using place = await places();
    const path = place.path;
    const answer = await confined({
      request: { operation: "copy", sources: [`${path}/source`], destination: `${path}/destination` },
      access: ["source", "destination", "other"].map((name) => ({ directory: `${path}/${name}`, file: "file" })),
      moves: [
        [`${path}/source/file`, `${path}/destination/stolen`],
        [`${path}/destination/file`, `${path}/other/gone`],
      ],
      links: [[`${path}/source/file`, `${path}/destination/link`]],
    });
    expect(answer.main).toEqual([onlyRead, all, nothing]);
    expect(answer.thread).toEqual([onlyRead, all, nothing]);
    expect(answer.moves.every((result) => result === denied || result === -Errno.EXDEV)).toBe(true);
    expect(answer.links).toEqual([-Errno.EXDEV]);
  });

  testUnless(reason, "lets the runtime see how much memory the process has, lest that spoil the errno of a call of ours", async () => {
    await using place = await places();
    const answer = await confined({
      request: { operation: "copy", sources: [`${place.path}/source`], destination: `${place.path}/destination` },
      access: ["statm", "environ"].map((file) => ({ directory: "/proc/self", file })),
    });
    for (const [memory, environment] of [answer.main, answer.thread]) {
      expect(memory).toMatchObject({ read: 0, write: denied, list: denied });
      expect(environment).toMatchObject({ read: denied, write: denied });
    }
  });

  testUnless(reason, "of one file reads that file and not its neighbours", async () => {
    await using place = await places();
    const path = place.path;
    writeFileSync(`${path}/source/neighbour`, "");
    const answer = await confined({
      request: { operation: "copy", sources: [`${path}/source/file`], destination: `${path}/destination` },
      access: ["file", "neighbour"].map((file) => ({ directory: `${path}/source`, file })),
    });
    expect(answer.main).toEqual([{ ...nothing, read: 0, ringRead: 0 }, nothing]);
  });

  testUnless(reason, "to a name that does not exist yet writes in the directory where it will be", async () => {
    await using place = await places();
    const path = place.path;
    const answer = await confined({
      request: { operation: "copy", sources: [`${path}/source`], destination: `${path}/destination/new` },
      access: ["destination", "other"].map((name) => ({ directory: `${path}/${name}`, file: "file" })),
    });
    expect(answer.main).toEqual([all, nothing]);
  });

  testUnless(reason, "goes where the arguments' symlinks lead", async () => {
    await using place = await places();
    const path = place.path;
    symlinkSync("source", `${path}/to-source`);
    symlinkSync(`${path}/destination`, `${path}/to-destination`);
    const answer = await confined({
      request: { operation: "copy", sources: [`${path}/to-source`], destination: `${path}/to-destination` },
      access: ["source", "to-destination", "other"].map((name) => ({ directory: `${path}/${name}`, file: "file" })),
    });
    expect(answer.main).toEqual([onlyRead, all, nothing]);
  });

  testUnless(reason, "that follows symlinks reads everything and writes its destination only", async () => {
    await using place = await places();
    const path = place.path;
    const answer = await confined({
      request: { operation: "copy", sources: [`${path}/source`], destination: `${path}/destination`, options: { symlinks: "follow" } },
      access: ["destination", "other"].map((name) => ({ directory: `${path}/${name}`, file: "file" })),
    });
    expect(answer.main).toEqual([all, onlyRead]);
  });

  testUnless(reason, "by hard links may give the sources' files new names at the destination", async () => {
    await using place = await places();
    const path = place.path;
    const answer = await confined({
      request: {
        operation: "copy",
        sources: [`${path}/source/file`],
        destination: `${path}/destination`,
        options: { gnu: { make: "hard-link" } },
      },
      access: [],
      links: [
        [`${path}/source/file`, `${path}/destination/link`],
        [`${path}/other/file`, `${path}/destination/other-link`],
        [`${path}/source/file`, `${path}/source/here`],
      ],
    });
    expect(answer.links[0]).toBe(0);
    expect(answer.links.slice(1).every((result) => result < 0)).toBe(true);
  });

  testUnless(reason, "that merges a tree as cp does writes into what is there, anywhere, and makes nothing elsewhere", async () => {
    await using place = await places();
    const path = place.path;
    mkdirSync(`${path}/destination/source`);
    const answer = await confined({
      request: {
        operation: "copy",
        sources: [`${path}/source`],
        destination: `${path}/destination`,
        options: { recursive: true, gnu: { inPlace: true } },
      },
      access: [{ directory: `${path}/other`, file: "file" }],
      moves: [[`${path}/other/file`, `${path}/destination/gone`]],
    });
    // A file without a name can be had, and cannot get one.
    expect(answer.main).toEqual([{ ...all, list: denied, create: denied }]);
    expect(answer.moves[0]).toBeLessThan(0);
  });

  testUnless(reason, "to and from paths that do not exist is confined all the same", async () => {
    await using place = await places();
    const path = place.path;
    const answer = await confined({
      request: { operation: "copy", sources: [`${path}/missing/source`], destination: `${path}/missing/destination` },
      access: [{ directory: `${path}/other`, file: "file" }],
    });
    expect(answer.main).toEqual([nothing]);
  });

  for (const kind of ["ext4", "xfs", "btrfs", "tmpfs"] as const) {
    testUnless(
      firstReason(reason, whyNoFilesystem(kind)),
      `can do all that copying takes at its destination on ${kind}`,
      async () => {
        await using filesystem = await mountFilesystem(kind);
        await using place = await places(filesystem.path);
        const path = place.path;
        writeFileSync(`${path}/source/blocks`, Buffer.alloc(8192, 1));
        const answer = await confined({
          request: { operation: "copy", sources: [`${path}/source`], destination: `${path}/destination` },
          access: [],
          copying: { source: `${path}/source/blocks`, destination: `${path}/destination` },
        });
        const { clone, copyFileRange, xattr, ...others } = answer.copying;
        expect(copyFileRange).toBe(4096);
        expect(clone).toBe(kind === "xfs" || kind === "btrfs" ? 0 : -Errno.EOPNOTSUPP);
        // User attributes came to tmpfs with Linux 6.6.
        expect(xattr === 0 || kind === "tmpfs").toBe(true);
        expect(Object.entries(others).filter(([, result]) => result < 0)).toEqual([]);
      },
      60_000,
    );
  }
});

describe("a move", () => {
  testUnless(reason, "renames its sources, files and directories, and takes nothing else along", async () => {
    await using place = await places();
    const path = place.path;
    mkdirSync(`${path}/source/tree/below`, { recursive: true });
    writeFileSync(`${path}/source/other`, "");
    const answer = await confined({
      request: { operation: "move", sources: [`${path}/source/file`, `${path}/source/tree`], destination: `${path}/destination` },
      access: ["other", "source"].map((name) => ({ directory: `${path}/${name}`, file: name === "other" ? "file" : "other" })),
      moves: [
        [`${path}/source/file`, `${path}/destination/file`],
        [`${path}/source/tree`, `${path}/destination/tree`],
        [`${path}/source/other`, `${path}/destination/other`],
        [`${path}/destination/file`, `${path}/source/back`],
      ],
    });
    expect(answer.moves.slice(0, 2)).toEqual([0, 0]);
    expect(answer.moves.slice(2).every((result) => result < 0)).toBe(true);
    expect(answer.main).toEqual([nothing, nothing]);
  });
});

testUnless(noLandlock, "a pipe behind /dev/stdin needs no rule and is no failure", async () => {
  await using place = await places();
  const request = { operation: "copy", sources: ["/dev/stdin"], destination: `${place.path}/destination` };
  const result = await runChecked([process.execPath, child, JSON.stringify({ request, access: [] })], { input: "piped" });
  expect((JSON.parse(result.stdout) as ChildAnswer).confined).toBe(true);
});

testUnless(noLandlock, "seventeen sandboxes inside each other are one too many, and that is said", async () => {
  const script = `
    const { confine } = await import(${JSON.stringify(join(import.meta.dir, "../../src/worker/sandbox.ts"))});
    let result;
    for (let count = 0; count < 17; count++) result = confine({ readOnly: [], readWrite: [], removeFrom: [], linkFrom: [], writeInto: [] });
    console.log(JSON.stringify(result));`;
  const result = JSON.parse((await runChecked([process.execPath, "-e", script])).stdout) as ReturnType<typeof confine>;
  if (result.confined) throw new Error("confined 17 times");
  expect(result.message).toContain("E2BIG");
  expect(result.unavailable).toBe(false);
});

test("the paths of a job follow from its request", async () => {
  await using place = await places();
  const path = place.path;
  const paths = (request: unknown): Record<string, readonly string[]> => ({ ...sandboxPaths(requestSchema.parse(request)) });
  const copy = { operation: "copy", sources: [`${path}/source/`], destination: `${path}/destination` };
  const none = { removeFrom: [], linkFrom: [], writeInto: [] };
  expect(paths(copy)).toEqual({ readOnly: [`${path}/source/`], readWrite: [`${path}/destination`], ...none });
  expect(paths({ ...copy, options: { target: "exact" } }).readWrite).toEqual([`${path}/destination`, path]);
  expect(paths({ ...copy, destination: `${path}/destination/new//` }).readWrite).toEqual([
    `${path}/destination/new//`,
    `${path}/destination`,
  ]);
  const move = paths({ ...copy, operation: "move", sources: [`${path}/source/`, `${path}/other`, "/top"] });
  expect(move.removeFrom).toEqual([path, "/"]);
  expect(move.readWrite).toEqual([`${path}/destination`, `${path}/source/`, `${path}/other`, "/top"]);
});

test("a dry run may read what its job would read and write, and nothing more", async () => {
  await using place = await places();
  const path = place.path;
  const request = { sources: [`${path}/source`], destination: `${path}/destination`, options: { gnu: { inPlace: true } } };
  for (const operation of ["copy", "move"]) {
    expect(previewPaths(requestSchema.parse({ ...request, operation }))).toEqual({
      readOnly: [`${path}/source`, `${path}/destination`] as ByteString[],
      readWrite: [],
      removeFrom: [],
      linkFrom: [],
      writeInto: [],
    });
  }
});

test("cp may write where links at the destination lead, and only where it merges into a tree, anywhere", async () => {
  await using place = await places();
  const path = place.path;
  const into = (source: string, options: object, gnu: object = {}): readonly string[] =>
    sandboxPaths(
      requestSchema.parse({
        operation: "copy",
        sources: [source],
        destination: path,
        options: { ...options, gnu: { inPlace: true, ...gnu } },
      }),
    ).writeInto;
  expect(into("/elsewhere/file/", { recursive: false })).toEqual([`${path}/file`]);
  expect(into("/elsewhere/new", { recursive: true })).toEqual([`${path}/new`]);
  expect(into("/elsewhere/source", { recursive: true })).toEqual(["/"]);
  expect(into("/elsewhere/source/.", { recursive: true })).toEqual(["/"]);
  expect(into("/elsewhere/source", { recursive: true, target: "exact" })).toEqual(["/"]);
  for (const gnu of [{ inPlace: false }, { make: "hard-link" }, { removeDestination: true }, { backup: "simple" }]) {
    expect(into("/elsewhere/source", { recursive: true }, gnu)).toEqual([]);
  }
});

describe("the compiled binary", () => {
  let build: TemporaryDirectory;
  beforeAll(async () => {
    build = await temporaryDirectory();
    const files = [child, join(import.meta.dir, "sandbox-thread.ts")];
    await runChecked([
      process.execPath,
      "build",
      "--compile",
      "--minify",
      "--bytecode",
      "--format=esm",
      ...files,
      "--outfile",
      `${build.path}/child`,
    ]);
    chmodSync(build.path, 0o755);
  }, 60_000);
  afterAll(() => build[Symbol.asyncDispose]());

  testUnless(firstReason(reason, whyNoUsers()), "confines an ordinary user's worker and still starts threads", async () => {
    await using place = await places();
    const path = place.path;
    await runChecked(["chmod", "-R", "a+rwX", path]);
    const task: ChildTask = {
      request: { operation: "copy", sources: [`${path}/source`], destination: `${path}/destination` },
      access: ["source", "destination", "other"].map((name) => ({ directory: `${path}/${name}`, file: "file" })),
    };
    const result = await runAs(unlistedUser(), [`${build.path}/child`, JSON.stringify(task)]);
    const answer = JSON.parse(result.stdout) as ChildAnswer;
    expect(answer.message).toBe("");
    expect(answer.main).toEqual([onlyRead, all, nothing]);
    expect(answer.thread).toEqual([onlyRead, all, nothing]);
  });

  testUnless(noLandlock, "needs nothing of the file system once it is confined", async () => {
    await using place = await places();
    const path = place.path;
    const task: ChildTask = { request: { operation: "copy", sources: [`${path}/source`], destination: `${path}/destination` }, access: [] };
    const result = await run([`${build.path}/child`, JSON.stringify(task)], { cwd: "/", env: {} });
    expect(result.stderr).toBe("");
    expect(result.status).toBe(0);
  });
});
