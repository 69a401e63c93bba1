// The arguments of an administrator's job: root's links are followed to their end, and nobody else's at all.

import { expect, test } from "bun:test";
import { lchownSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import type { ByteString } from "../../src/bytes.ts";
import type { JobRequest } from "../../src/request.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { type GuardedPaths, guardedPaths, guardedRequest } from "../../src/worker/guarded-paths.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

function requestOf(source: string, destination: string, options: object = {}): JobRequest {
  return requestSchema.parse({ operation: "copy", sources: [source], destination, options });
}

testUnless(
  unlessRoot(),
  "root's links are followed, in the middle and in chains, and dots are what they are in the file system",
  async () => {
    await using place = await temporaryDirectory();
    const top = place.path;
    mkdirSync(`${top}/real/below`, { recursive: true });
    writeFileSync(`${top}/real/below/file`, "");
    symlinkSync("real", `${top}/one`);
    symlinkSync(`${top}/one/below/`, `${top}/two`);
    symlinkSync("two/file", `${top}/three`);
    const found = (source: string, options: object = {}): unknown =>
      guardedPaths(requestOf(`${top}/${source}`, `${top}/new/name/`, options));
    const is = (source: string): object => ({ sources: [`${top}/${source}`], destination: `${top}/new/name/` });
    expect(found("two/./file")).toEqual(is("real/below/file"));
    // ".." of a link is the directory above the one it leads to.
    expect(found("two/../below/file")).toEqual(is("real/below/file"));
    expect(found("three")).toEqual(is("three"));
    expect(found("three", { symlinks: "follow-arguments" })).toEqual(is("real/below/file"));
    expect(found("one/")).toEqual(is("real/"));
    expect(found("one/.")).toEqual(is("real"));
    expect(found("missing/one")).toEqual(is("missing/one"));
    // The lanes open what was found, and follow no link that has come since.
    const follows = requestOf(`${top}/three`, `${top}/new`, { symlinks: "follow-arguments" });
    const lanes = guardedRequest(follows, guardedPaths(follows) as GuardedPaths);
    expect([lanes.options.symlinks, lanes.destination]).toEqual(["copy", `${top}/new` as ByteString]);
    expect(guardedPaths(requestOf("/", "/../.."))).toEqual({ sources: ["/"], destination: "/" } as never);
  },
);

testUnless(unlessRoot(), "a link of anybody else refuses the job by name, wherever it is followed", async () => {
  await using place = await temporaryDirectory();
  const top = place.path;
  mkdirSync(`${top}/real`);
  symlinkSync("real", `${top}/theirs`);
  lchownSync(`${top}/theirs`, 1234, 1234);
  symlinkSync("theirs", `${top}/roots`);
  const problem = { problem: `'${top}/theirs' is a symbolic link of user 1234, which an administrator's copy does not follow` };
  for (const source of ["theirs/file", "theirs/", "theirs/.", "roots/file"]) {
    expect(guardedPaths(requestOf(`${top}/${source}`, "/x"))).toEqual(problem);
  }
  expect(guardedPaths(requestOf(`${top}/theirs`, "/x", { symlinks: "follow-arguments" }))).toEqual(problem);
  expect(guardedPaths(requestOf("/x", `${top}/theirs`))).toEqual(problem);
  expect(guardedPaths(requestOf("/x", `${top}/roots/new`))).toEqual(problem);
  // Copied as a link, or replaced as a name, it is not followed.
  expect(guardedPaths(requestOf(`${top}/theirs`, "/x"))).toMatchObject({ sources: [`${top}/theirs`] });
  expect(guardedPaths(requestOf("/x", `${top}/theirs`, { target: "exact" }))).toMatchObject({ destination: `${top}/theirs` });
});

test("links in a circle are too many", async () => {
  await using place = await temporaryDirectory();
  symlinkSync("b", `${place.path}/a`);
  symlinkSync("a", `${place.path}/b`);
  expect(guardedPaths(requestOf(`${place.path}/a/x`, "/x"))).toEqual({ problem: `too many symbolic links in '${place.path}/a/x'` });
});
