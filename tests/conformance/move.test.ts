// What a move across filesystems removes: what was copied whole, under the very name that was copied, and nothing else (rule 5).

import { afterAll, beforeAll, expect, test } from "bun:test";
import {
  appendFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { startJob } from "../support/embedded-job.ts";
import { mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, run } from "../support/process.ts";
import { describeUnless, testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";

const isHere = whyNoFilesystem("tmpfs") === null;
let home: TemporaryDirectory;
let other: TestFilesystem;
beforeAll(async () => {
  home = await temporaryDirectory();
  if (isHere) other = await mountFilesystem("tmpfs");
});
afterAll(async () => {
  await home[Symbol.asyncDispose]();
  await other?.[Symbol.asyncDispose]();
});

function freshTree(): { readonly tree: string; readonly target: string } {
  const tree = `${home.path}/tree`;
  const target = `${other.path}/tree`;
  for (const path of [tree, target]) {
    rmSync(path, { recursive: true, force: true });
    mkdirSync(path);
  }
  return { tree, target };
}

function below(path: string): string[] {
  return readdirSync(path, { recursive: true }).map(String).sort();
}

describeUnless(whyNoFilesystem("tmpfs"), "a move across filesystems", () => {
  test("leaves a name that was skipped, also where the same inode moved under another name", async () => {
    const { tree, target } = freshTree();
    for (let pair = 0; pair < 20; pair++) {
      writeFileSync(`${tree}/${pair}-one`, `mine ${pair}`);
      linkSync(`${tree}/${pair}-one`, `${tree}/${pair}-two`);
      writeFileSync(`${target}/${pair}-${pair % 2 === 0 ? "one" : "two"}`, "theirs");
    }
    const job = startJob([tree], target, { target: "exact", onConflict: "skip" }, "move");
    expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
    const skipped = Array.from({ length: 20 }, (_, pair) => `${pair}-${pair % 2 === 0 ? "one" : "two"}`).sort();
    expect(below(tree)).toEqual(skipped);
    expect(readFileSync(`${tree}/0-one`, "utf8")).toBe("mine 0");
    expect(readFileSync(`${target}/0-two`, "utf8")).toBe("mine 0");
  });

  test("leaves an argument that was skipped, though another argument is the same inode and moved", async () => {
    const { tree, target } = freshTree();
    writeFileSync(`${tree}/one`, "mine");
    linkSync(`${tree}/one`, `${tree}/two`);
    writeFileSync(`${target}/two`, "theirs");
    const job = startJob([`${tree}/one`, `${tree}/two`], target, { target: "directory", onConflict: "skip" }, "move");
    expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
    expect([below(tree), readFileSync(`${target}/one`, "utf8"), readFileSync(`${target}/two`, "utf8")]).toEqual([
      ["two"],
      "mine",
      "theirs",
    ]);
  });

  test("takes every name of an inode, whose state each removal of another name changes", async () => {
    const { tree, target } = freshTree();
    for (const name of ["one", "two", "three"]) {
      if (name === "one") writeFileSync(`${tree}/one`, "content");
      else linkSync(`${tree}/one`, `${tree}/${name}`);
    }
    const job = startJob([tree], target, { target: "exact" }, "move");
    expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
    expect([existsSync(tree), below(target), statSync(`${target}/one`).nlink]).toEqual([false, ["one", "three", "two"], 3]);
  });

  test("leaves an empty directory that could not be made", async () => {
    const { tree, target } = freshTree();
    mkdirSync(`${tree}/sub/empty`, { recursive: true });
    writeFileSync(`${tree}/sub/file`, "moves");
    mkdirSync(`${target}/sub`);
    writeFileSync(`${target}/sub/empty`, "in the way");
    const job = startJob([tree], target, { target: "exact" }, "move");
    expect([(await job.ended).state, job.errors.map(({ code }) => code)]).toEqual(["failed", ["destination-exists"]]);
    expect(below(tree)).toEqual(["sub", "sub/empty"]);
    expect(below(target)).toEqual(["sub", "sub/empty", "sub/file"]);
  });

  test("refuses what something is mounted on before it copies anything", async () => {
    const { tree, target } = freshTree();
    await using mounted = await mountFilesystem("tmpfs");
    writeFileSync(`${mounted.path}/file`, "stays");
    for (const onConflict of ["overwrite", "skip"] as const) {
      mkdirSync(`${target}/${onConflict}`);
      const job = startJob([mounted.path, tree], `${target}/${onConflict}`, { target: "directory", onConflict }, "move");
      expect([(await job.ended).state, job.errors.map(({ code }) => code)]).toEqual(["failed", ["source-mounted"]]);
      expect(job.errors[0]?.message).toEndWith(": Device or resource busy");
      expect([below(mounted.path), below(`${target}/${onConflict}`)]).toEqual([["file"], ["tree"]]);
      mkdirSync(tree);
    }
  });

  test("refuses the directory that a link with a slash leads to, be it one above the link", async () => {
    const { tree, target } = freshTree();
    mkdirSync(`${tree}/sub`);
    writeFileSync(`${tree}/file`, "stays");
    symlinkSync("..", `${tree}/sub/link`);
    const job = startJob([`${tree}/sub/link/`], target, { target: "directory" }, "move");
    expect([(await job.ended).state, job.errors.length]).toEqual(["failed", 1]);
    expect(job.errors[0]?.message).toEndWith(": Not a directory");
    expect([readdirSync(tree).sort(), readdirSync(`${tree}/sub`), below(target)]).toEqual([["file", "sub"], ["link"], []]);
  });

  test("leaves a directory that appeared meanwhile, and says so", async () => {
    const { tree, target } = freshTree();
    for (let file = 0; file < 6; file++) writeFileSync(`${tree}/${file}`, Buffer.alloc(500_000, file));
    const job = startJob([tree], target, { target: "exact", bandwidthLimit: 1_500_000 }, "move");
    while (!existsSync(`${target}/1`) && !existsSync(`${target}/2`)) await Bun.sleep(5);
    mkdirSync(`${tree}/appeared`);
    const end = await job.ended;
    expect([end.state, job.errors.map(({ code }) => code)]).toEqual(["failed", ["source-changed"]]);
    expect(below(tree)).toEqual(["appeared"]);
  });

  test("leaves a file that appeared meanwhile, and one that was written to after it had been copied, and says so", async () => {
    const { tree, target } = freshTree();
    for (let file = 0; file < 6; file++) writeFileSync(`${tree}/${file}`, Buffer.alloc(500_000, file));
    const job = startJob([tree], target, { target: "exact", bandwidthLimit: 1_500_000 }, "move");
    let copied = "";
    while (copied === "") {
      await Bun.sleep(5);
      copied = readdirSync(target).find((name) => /^\d$/.test(name)) ?? "";
    }
    appendFileSync(`${tree}/${copied}`, "more");
    writeFileSync(`${tree}/appeared`, "new");
    const end = await job.ended;
    expect([end.state, job.errors.map(({ code }) => code)]).toEqual(["failed", ["source-changed", "source-changed"]]);
    expect(below(tree)).toEqual([copied, "appeared"]);
    expect([statSync(`${tree}/${copied}`).size, readFileSync(`${tree}/appeared`, "utf8")]).toEqual([500_004, "new"]);
  });

  test("leaves what the patterns leave out where it is, and that is no failure", async () => {
    const { tree, target } = freshTree();
    mkdirSync(`${tree}/sub`);
    mkdirSync(`${tree}/left`);
    for (const name of ["one.txt", "two.o", "sub/three.txt", "sub/four.o", "left/five.txt"]) writeFileSync(`${tree}/${name}`, name);
    const job = startJob([tree], target, { target: "exact", exclude: ["*.o", "left"] }, "move");
    expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
    expect(below(target)).toEqual(["one.txt", "sub", "sub/three.txt"]);
    expect(below(tree)).toEqual(["left", "left/five.txt", "sub", "sub/four.o", "two.o"]);
  });

  test("takes what the patterns let in, in directories as well, and leaves the rest", async () => {
    const { tree, target } = freshTree();
    mkdirSync(`${tree}/sub`);
    for (const name of ["one.txt", "two.o", "sub/three.txt"]) writeFileSync(`${tree}/${name}`, name);
    const job = startJob([tree], target, { target: "exact", include: ["*.txt"] }, "move");
    expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
    expect([below(target), below(tree)]).toEqual([["one.txt", "sub", "sub/three.txt"], ["two.o"]]);
  });
});

test("a rename beside what is there takes the first free name, and replaces nothing under the others", async () => {
  await using place = await temporaryDirectory();
  for (const name of ["from", "to"]) mkdirSync(join(place.path, name));
  writeFileSync(join(place.path, "from/a.txt"), "mine");
  const theirs = ["a.txt", "a (2).txt"].map((name) => join(place.path, "to", name));
  for (const path of theirs) writeFileSync(path, "theirs");
  const job = startJob([join(place.path, "from/a.txt")], join(place.path, "to"), { target: "directory", onConflict: "rename" }, "move");
  expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
  for (const path of theirs) expect(readFileSync(path, "utf8")).toBe("theirs");
  expect(readFileSync(join(place.path, "to/a (3).txt"), "utf8")).toBe("mine");
  expect(below(join(place.path, "from"))).toEqual([]);
});

testUnless(
  havePrograms("strace") ? null : "strace is not installed",
  "a rename that fails after the backup gives the old file its name back",
  async () => {
    await using place = await temporaryDirectory();
    writeFileSync(join(place.path, "a"), "new");
    writeFileSync(join(place.path, "b"), "old");
    // The first finds the name taken; the backup is a plain renameat.
    const strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:error=EIO:when=2"];
    const env = { ...plainEnvironment, XDG_RUNTIME_DIR: place.path };
    const { status, stderr } = await run([...strace, ...copydCommand("mv", "--local", "-b", "a", "b")], { cwd: place.path, env });
    expect({ status, stderr }).toEqual({ status: 1, stderr: "mv: cannot move 'a' to 'b': Input/output error\n" });
    expect(existsSync(join(place.path, "b~"))).toBe(false);
    expect([readFileSync(join(place.path, "a"), "utf8"), readFileSync(join(place.path, "b"), "utf8")]).toEqual(["new", "old"]);
  },
);

test("a move with patterns within one filesystem renames nothing that holds what they leave out", async () => {
  await using place = await temporaryDirectory();
  const [tree, target] = [join(place.path, "tree"), join(place.path, "target")];
  mkdirSync(join(tree, "sub"), { recursive: true });
  for (const name of ["one.txt", "two.o", "sub/three.o"]) writeFileSync(join(tree, name), name);
  const job = startJob([tree], target, { target: "exact", exclude: ["*.o"] }, "move");
  expect([(await job.ended).state, job.errors]).toEqual(["completed", []]);
  expect([below(target), below(tree)]).toEqual([
    ["one.txt", "sub"],
    ["sub", "sub/three.o", "two.o"],
  ]);
});

testUnless(
  havePrograms("strace") ? null : "strace is not installed",
  "where a rename cannot be told to replace nothing, what stands there is looked for before",
  async () => {
    await using place = await temporaryDirectory();
    for (const name of ["a", "b", "c"]) writeFileSync(join(place.path, name), name);
    const strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2", "-e", "inject=renameat2:error=EINVAL:when=1"];
    const env = { ...plainEnvironment, XDG_RUNTIME_DIR: place.path };
    const move = (...names: string[]) => run([...strace, ...copydCommand("mv", "--local", "-n", ...names)], { cwd: place.path, env });
    await move("a", "b");
    expect(["a", "b"].map((name) => readFileSync(join(place.path, name), "utf8"))).toEqual(["a", "b"]);
    expect(await move("c", "d")).toMatchObject({ status: 0, stderr: "" });
    expect([existsSync(join(place.path, "c")), readFileSync(join(place.path, "d"), "utf8")]).toEqual([false, "c"]);
  },
);
