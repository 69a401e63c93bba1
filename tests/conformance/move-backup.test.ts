// Backups that a move makes: neither the old file nor what somebody else puts there meanwhile is lost, whatever fails.

import { expect, test } from "bun:test";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copydCommand, plainEnvironment } from "../support/cli.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { mountFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { havePrograms, run } from "../support/process.ts";
import { firstReason, testUnless } from "../support/skip.ts";

const directory = directoryOfEachTest();
const noStrace = havePrograms("strace") ? null : "strace is not installed";
const slowly = "delay_enter=2000000";

/** mv in the test's directory, its worker's calls of this name treated so. */
const move = (arguments_: readonly string[], treated: readonly string[] = []) => runIn("mv", arguments_, treated);
const copy = (arguments_: readonly string[], treated: readonly string[]) => runIn("cp", arguments_, treated);

function runIn(program: "cp" | "mv", arguments_: readonly string[], [call = "", how = ""]: readonly string[]) {
  const strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", `trace=${call}`, "-e", `inject=${call}:${how}`];
  const command = [...(call === "" ? [] : strace), ...copydCommand(program, "--local", ...arguments_)];
  return run(command, { cwd: directory.path, env: { ...plainEnvironment, XDG_RUNTIME_DIR: directory.path } });
}

/** The files of the test's directory with their contents. */
function contents(): Record<string, string> {
  const names = ["a", "b", ...readdirSync(directory.path).filter((name) => name.startsWith("b"))].filter((name) =>
    existsSync(join(directory.path, name)),
  );
  return Object.fromEntries([...new Set(names)].sort().map((name) => [name, readFileSync(join(directory.path, name), "utf8")]));
}

function put(files: Readonly<Record<string, string>>): void {
  for (const [name, content] of Object.entries(files)) writeFileSync(join(directory.path, name), content);
}

test("where the backup cannot be made, nothing is moved", async () => {
  put({ a: "new", b: "old" });
  mkdirSync(join(directory.path, "b~"));
  const { status, stderr } = await move(["-b", "a", "b"]);
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^mv: cannot backup 'b': [^\n]*\n$/)]);
  expect(["a", "b"].map((name) => readFileSync(join(directory.path, name), "utf8"))).toEqual(["new", "old"]);
});

testUnless(noStrace, "what takes the old file's name while it is backed up stays, and so does the backup", async () => {
  put({ a: "new", b: "old" });
  // The first finds the name taken; the backup is a plain renameat.
  const moved = move(["-b", "a", "b"], ["renameat2", `${slowly}:when=2`]);
  while (!existsSync(join(directory.path, "b~"))) await Bun.sleep(5);
  put({ b: "theirs" });
  expect((await moved).status).toBe(1);
  expect(contents()).toEqual({ a: "new", b: "theirs", "b~": "old" });
});

testUnless(noStrace, "a numbered backup takes no name that somebody else has taken meanwhile", async () => {
  put({ a: "new", b: "old" });
  const moved = move(["--backup=numbered", "a", "b"], ["renameat2", `${slowly}:when=2`]);
  // Its name is chosen, and not given yet.
  await Bun.sleep(1200);
  put({ "b.~1~": "theirs" });
  expect(await moved).toMatchObject({ status: 0, stderr: "" });
  expect(contents()).toEqual({ b: "new", "b.~1~": "theirs", "b.~2~": "old" });
});

testUnless(noStrace, "where every number is taken whenever it is tried, the old file is not replaced, nor by a copy", async () => {
  put({ a: "new", b: "old" });
  const taken = ["renameat2", "error=EEXIST"];
  expect((await move(["--backup=numbered", "a", "b"], taken)).status).toBe(1);
  expect((await copy(["--backup=numbered", "a", "b"], taken)).status).toBe(1);
  expect(contents()).toEqual({ a: "new", b: "old" });
});

testUnless(
  firstReason(whyNoFilesystem("tmpfs"), noStrace),
  "across filesystems a directory gives way to one that is copied, and comes back where that cannot be made",
  async () => {
    await using other = await mountFilesystem("tmpfs");
    const [source, target] = [join(directory.path, "d"), join(other.path, "d")];
    for (const [path, name] of [
      [source, "new"],
      [target, "old"],
    ] as const) {
      mkdirSync(path);
      writeFileSync(join(path, name), name);
    }
    const failed = await move(["-bT", "d", target], ["mkdirat", "error=ENOSPC"]);
    expect([failed.status, readdirSync(source), readdirSync(other.path), readdirSync(target)]).toEqual([1, ["new"], ["d"], ["old"]]);
    // A backup that is there and full is in the way.
    mkdirSync(`${target}~`);
    writeFileSync(`${target}~/older`, "older");
    const refused = await move(["-bT", "d", target]);
    expect([refused.status, refused.stderr]).toEqual([1, expect.stringContaining("cannot backup")]);
    expect([readdirSync(source), readdirSync(target), readdirSync(`${target}~`)]).toEqual([["new"], ["old"], ["older"]]);
    const numbered = await move(["-T", "--backup=numbered", "d", target]);
    expect([numbered.status, existsSync(source), readdirSync(target)]).toEqual([0, false, ["new"]]);
    expect(readdirSync(`${target}.~1~`)).toEqual(["old"]);
  },
);
