// `copyd verify` and `cp --manifest`: what the sum programs write is checked, and what we write is what they check.

import { expect, test } from "bun:test";
import { linkSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runCopyd, runShell } from "../support/cli.ts";
import { havePrograms, run } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

function makeTree(path: string): void {
  mkdirSync(join(path, "sub"), { recursive: true });
  writeFileSync(join(path, "a"), "a");
  writeFileSync(join(path, "empty"), "");
  writeFileSync(join(path, "big"), Buffer.alloc(3_000_001, "copyd"));
  writeFileSync(join(path, "sub/new\nline"), "n");
  writeFileSync(join(path, "sub/back\\slash"), "b");
  writeFileSync(join(path, "sub/return\r"), "r");
  writeFileSync(join(path, "sparse"), "");
  truncateSync(join(path, "sparse"), 2_000_000);
  linkSync(join(path, "big"), join(path, "second"));
  symlinkSync("a", join(path, "link"));
}

const programs = [
  { method: "sha256", program: "sha256sum" },
  { method: "md5", program: "md5sum" },
  { method: "blake3", program: "b3sum" },
] as const;

for (const { method, program } of programs) {
  testUnless(
    havePrograms(program) ? null : `${program} is not installed`,
    `${program} -c accepts the manifest of a copy, name by name`,
    async () => {
      await using folder = await temporaryDirectory();
      makeTree(join(folder.path, "tree"));
      const copied = await runCopyd(["cp", "-a", "--local", `--verify=${method}`, "--manifest=sums", "tree", "copy"], { cwd: folder.path });
      expect([copied.status, copied.stderr]).toEqual([0, ""]);
      const checked = await run([program, "-c", "../sums"], { cwd: join(folder.path, "copy") });
      expect([checked.status, checked.stderr]).toEqual([0, ""]);
      expect(checked.stdout.split("\n").filter((line) => line.endsWith(": OK"))).toHaveLength(8);
      const ours = await runCopyd(["verify", "sums", "copy"], { cwd: folder.path });
      expect([ours.status, ours.stderr]).toEqual([0, ""]);
      expect(ours.stdout).toStartWith("8 of 8 files right");
    },
  );

  testUnless(havePrograms(program) ? null : `${program} is not installed`, `what ${program} wrote is verified`, async () => {
    await using folder = await temporaryDirectory();
    makeTree(folder.path);
    const made = await runShell(`find . -type f ! -name 'return*' -print0 | xargs -0 ${program} > ../sums-$$ && mv ../sums-$$ sums`, {
      cwd: folder.path,
    });
    expect(made.status).toBe(0);
    const { status, stderr, stdout } = await runCopyd(["verify", "--method", method, "sums"], { cwd: folder.path });
    expect([status, stderr]).toEqual([0, ""]);
    expect(stdout).toStartWith("7 of 7 files right");
  });
}

test("a manifest without verification is SHA-256, made with the caller's umask, and replaces the one before", async () => {
  await using folder = await temporaryDirectory();
  writeFileSync(join(folder.path, "file"), "abc");
  writeFileSync(join(folder.path, "sums"), "old");
  const { status } = await runShell('umask 027; "$@" cp -a --local --manifest sums file copy', { cwd: folder.path });
  expect(status).toBe(0);
  expect(readFileSync(join(folder.path, "sums"), "utf8")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  copy\n");
  expect(statSync(join(folder.path, "sums")).mode & 0o777).toBe(0o640);
  expect(readdirSync(folder.path).sort()).toEqual(["copy", "file", "sums"]);
});

test("a copy without its manifest has failed, and says so", async () => {
  await using folder = await temporaryDirectory();
  writeFileSync(join(folder.path, "file"), "abc");
  const { status, stderr } = await runCopyd(["cp", "--local", "--manifest=no/where", "file", "copy"], { cwd: folder.path });
  expect(status).toBe(1);
  expect(stderr).toContain("cannot write the manifest");
  expect(stderr).toContain("No such file or directory");
});

test("names that are not UTF-8 come as bytes too, and a manifest that is not there is named as it is written", async () => {
  await using folder = await temporaryDirectory();
  const script = `printf abc >$'h\\xff'; "$@" cp --local --manifest=sums $'h\\xff' copy && sed -i $'s/copy/h\\xff/' sums && "$@" verify --json sums`;
  const { status, stdout, stderr } = await runShell(script, { cwd: folder.path });
  expect([status, stderr]).toEqual([0, ""]);
  const file = stdout.split("\n").find((line) => line.includes('"type":"file"')) ?? "";
  expect(JSON.parse(file)).toMatchObject({ name: "h\ufffd", nameBase64: Buffer.from("h\xff", "latin1").toString("base64") });
  expect((await runCopyd(["verify", "mü"], { cwd: folder.path })).stderr).toStartWith(`copyd verify: '${folder.path}/mü': No such file`);
});

test("--manifest is refused for mv and without a name", async () => {
  expect((await runCopyd(["mv", "--manifest=x", "a", "b"])).stderr).toContain("--manifest is for cp");
  expect((await runCopyd(["cp", "--manifest=", "a", "b"])).stderr).toContain("--manifest needs the name of a file");
});

test("what is wrong, missing, no file, or an odd line is named, and the status says it", async () => {
  await using folder = await temporaryDirectory();
  const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  for (const name of ["right", "wrong"]) writeFileSync(join(folder.path, name), "abc");
  writeFileSync(join(folder.path, "wrong"), "abd");
  await run(["mkfifo", join(folder.path, "fifo")]);
  const lines = ["right", "wrong", "gone", "fifo"].map((name) => `${abc}  ${name}`);
  writeFileSync(join(folder.path, "sums"), [...lines, "an odd line", "x".repeat(2_000_000), "", `${abc}  right`].join("\n"));
  const { status, stdout, stderr } = await runCopyd(["verify", "sums"], { cwd: folder.path });
  expect(status).toBe(1);
  expect(stdout).toStartWith("2 of 5 files right, 1 wrong, 2 not readable, 2 odd lines");
  expect(stderr.split("\n").slice(0, -1)).toEqual([
    "copyd verify: 'wrong': it does not match (sha256)",
    "copyd verify: 'gone': No such file or directory (sha256)",
    "copyd verify: 'fifo': not a regular file (sha256)",
    "copyd verify: 'sums', line 5: it is not a digest, two spaces and a name",
    "copyd verify: 'sums', line 6: it is longer than 1048576 bytes",
  ]);
  const json = await runCopyd(["verify", "--json", "sums"], { cwd: folder.path });
  const objects = json.stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(objects).toContainEqual({ type: "file", name: "wrong", method: "sha256", code: "verify-mismatch", problem: "it does not match" });
  expect(objects).toContainEqual({ type: "odd", line: 5, problem: "it is not a digest, two spaces and a name", code: "bad-manifest" });
});

test("a manifest that is not there, is empty, or is a directory gets a named error", async () => {
  await using folder = await temporaryDirectory();
  writeFileSync(join(folder.path, "nothing"), "\n\n");
  const said = async (...arguments_: string[]): Promise<string> => {
    const { status, stderr } = await runCopyd(["verify", ...arguments_], { cwd: folder.path });
    expect(status).not.toBe(0);
    return stderr;
  };
  expect(await said("gone")).toContain("No such file or directory");
  expect(await said("nothing")).toContain("'nothing' names no file");
  expect(await said(".")).toContain("Is a directory");
  expect(await said("nothing", "gone")).toContain("No such file or directory");
  expect(await said("--method", "sha1", "nothing")).toContain("--method is one of");
});
