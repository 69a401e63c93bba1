// Rules 17 and 20 of copying: a copy is nobody else's to read while it fills, and owner, mode, attributes and times come in that order.

import { expect } from "bun:test";
import { mkdirSync, writeFileSync } from "node:fs";
import { copydCommand, plainEnvironment } from "../../support/cli.ts";
import { filesystemKinds, mountFilesystem, whyNoFilesystem } from "../../support/filesystems.ts";
import { havePrograms, run, runChecked } from "../../support/process.ts";
import { firstReason, testUnless } from "../../support/skip.ts";
import { readTrace } from "../../support/trace.ts";

const noTools = havePrograms("strace", "setfattr") ? null : "strace or setfattr is not installed";
const calls = "openat,pwrite64,copy_file_range,ioctl,fchown,fchownat,fchmod,fsetxattr,utimensat,linkat,mkdirat";

for (const kind of filesystemKinds) {
  testUnless(firstReason(whyNoFilesystem(kind), noTools), `on ${kind}, a file and its directory get what is theirs in order`, async () => {
    await using filesystem = await mountFilesystem(kind, { sizeBytes: 400 * 1024 * 1024 });
    const { path } = filesystem;
    mkdirSync(`${path}/source`);
    mkdirSync(`${path}/there`);
    writeFileSync(`${path}/source/file`, "contents\n".repeat(1000));
    await runChecked(["sh", "-c", "setfattr -n user.x -v 1 file; chown 1:2 file .; chmod 4755 file; chmod 750 ."], {
      cwd: `${path}/source`,
    });
    const strace = ["strace", "-f", "-qq", "-y", "-o", `${path}/trace`, "-e", `trace=${calls}`];
    const command = copydCommand("cp", "--local", "--lanes=1", "--engine=read-write", "-a", "source", "there");
    await runChecked([...strace, ...command], { cwd: path, env: { ...plainEnvironment, XDG_RUNTIME_DIR: path } });
    const trace = readTrace(`${path}/trace`);
    const at = (pattern: RegExp): number => trace.findIndex((line) => pattern.test(line));
    const made = trace[at(/openat\(.*"file", .*O_CREAT/)] ?? "";
    // The owner's own bits, and none for anybody else.
    expect(made).toMatch(/O_EXCL.*, 0[67]00\)/);
    const steps = [
      /mkdirat\(.*"source", 0700\)/,
      /openat\(.*"file", .*O_CREAT/,
      /pwrite64\(\d+<[^>]*file>/,
      /fchown(at)?\(\d+<[^>]*file>.* 1, 2/,
      // Before the mode, which may forbid an ordinary user to set attributes.
      /fsetxattr\(\d+<[^>]*file>, "user.x"/,
      /fchmod\(\d+<[^>]*file>, 04755\)/,
      /utimensat\(\d+<[^>]*file>/,
      /fchown(at)?\(\d+<[^>]*there\/source>.* 1, 2/,
      /fchmod\(\d+<[^>]*there\/source>, 0750\)/,
      /utimensat\(\d+<[^>]*there\/source>/,
    ];
    const order = steps.map(at);
    expect(order).not.toContain(-1);
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });
}

testUnless(whyNoFilesystem("tmpfs"), "setuid and setgid bits go where the owner could not be kept", async () => {
  await using filesystem = await mountFilesystem("tmpfs");
  const { path } = filesystem;
  writeFileSync(`${path}/file`, "x");
  await runChecked(["sh", "-c", "chown 1:1 file; chmod 6755 file"], { cwd: path });
  // Root without CAP_CHOWN is nobody who can give files away.
  const command = ["setpriv", "--bounding-set=-chown", "--inh-caps=-chown", ...copydCommand("cp", "--local", "-p", "file", "copy")];
  const result = await run(command, { cwd: path, env: { ...plainEnvironment, XDG_RUNTIME_DIR: path } });
  const { stdout } = await runChecked(["stat", "-c", "%u:%g %a", "copy"], { cwd: path });
  expect({ stdout, status: result.status }).toEqual({ stdout: "0:0 755\n", status: 1 });
  expect(result.stderr).toContain("failed to preserve ownership for 'copy': Operation not permitted");
});

/** Of every entry made in `there`, by its name: the mode it was made with, then its changes of owner and mode, in their order. */
function stepsOf(trace: readonly string[]): Record<string, string[]> {
  const steps: Record<string, string[]> = {};
  const note = (name: string | undefined, step: string): void => {
    if (name !== undefined) steps[name] = [...(steps[name] ?? []), step];
  };
  for (const line of trace) {
    const made = /(?:mkdirat|mknodat|openat)\(.*"(?:[^"]*\/)?(\w+)", (?:.*(?:O_CREAT[^,]*|S_IF[A-Z]+\|))?,? ?(0[0-7]+)/.exec(line);
    if (made !== null) note(made[1], `made ${made[2]}`);
    const changed = /(fchown|fchownat|fchmod)\(\d+<[^>]*\/there\/(?:[^>]*\/)?(\w+)>, (?:"", )?([0-9, ]+)/.exec(line);
    if (changed !== null) note(changed[2], changed[1] === "fchmod" ? `mode ${changed[3]}` : "owner");
  }
  return steps;
}

testUnless(
  firstReason(whyNoFilesystem("ext4"), noTools),
  "what gets an owner but no mode of its source is closed until it has the owner",
  async () => {
    await using filesystem = await mountFilesystem("ext4");
    const { path } = filesystem;
    await runChecked(
      [
        "sh",
        "-c",
        "mkdir -p up/in/tree there && echo x > up/in/tree/file && mkfifo up/in/tree/pipe && chown -R 1:2 up && chmod -R a+rwx up",
      ],
      {
        cwd: path,
      },
    );
    const strace = ["strace", "-f", "-qq", "-y", "-o", `${path}/trace`, "-e", `trace=${calls},mknodat,fchmodat`];
    const command = copydCommand("cp", "--local", "--lanes=1", "--preserve=ownership", "--parents", "-R", "up/in/tree", "there");
    await runChecked([...strace, ...command], { cwd: path, env: { ...plainEnvironment, XDG_RUNTIME_DIR: path } });
    const steps = stepsOf(readTrace(`${path}/trace`));
    const directory = ["made 0700", "owner", "mode 0755"];
    expect(steps).toMatchObject({ up: directory, in: directory, tree: directory, file: ["made 0700", "owner", "mode 0755"] });
    expect(steps.pipe?.slice(0, 2)).toEqual(["made 0700", "owner"]);
    const { stdout } = await runChecked(["sh", "-c", "stat -c '%n %u:%g %a' there/up there/up/in there/up/in/tree there/up/in/tree/*"], {
      cwd: path,
    });
    expect(
      stdout
        .trim()
        .split("\n")
        .map((line) => line.slice(line.indexOf(" ") + 1)),
    ).toEqual(Array(5).fill("1:2 755"));
  },
);
