// `copyd cp` and `copyd mv` from end to end in the embedded mode: what is copied, what is said, and the exit status.

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { copydCommand, plainEnvironment, runCopyd, runShell } from "../support/cli.ts";
import { run } from "../support/process.ts";
import { quietBus, reply } from "../support/quiet-bus.ts";
import { testUnless } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { runAs, unlistedUser, whyNoUsers } from "../support/users.ts";

let temporary: TemporaryDirectory;
/** Emptied for each test. */
let cwd: string;

beforeAll(async () => {
  temporary = await temporaryDirectory();
  cwd = join(temporary.path, "here");
});
afterAll(() => temporary[Symbol.asyncDispose]());
beforeEach(() => {
  rmSync(cwd, { recursive: true, force: true });
  mkdirSync(cwd);
});

const write = (name: string, content: string): void => writeFileSync(join(cwd, name), content);
const read = (name: string): string => readFileSync(join(cwd, name), "utf8");
const cp = (line: string, input = "") => runCopyd(["cp", "--local", ...line.split(" ")], { cwd, input });

test("a file is copied in silence, with the mode less the umask", async () => {
  write("a", "content");
  chmodSync(join(cwd, "a"), 0o777);
  const { status, stdout, stderr } = await runShell('umask 027; "$@" cp --local a b', { cwd });
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "", stderr: "" });
  expect(read("b")).toBe("content");
  expect(statSync(join(cwd, "b")).mode & 0o7777).toBe(0o750);
});

test("-a copies a tree, and mv moves it", async () => {
  await run(["bash", "-c", "mkdir -p d/e && echo x >d/e/x && ln -s e d/l && ln d/e/x d/hard && touch -d 2001-02-03 d/e"], { cwd });
  expect((await cp("-a d copy")).status).toBe(0);
  expect((await run(["rsync", "-aHXnic", "--delete", "d/", "copy/"], { cwd })).stdout).toBe("");
  const moved = await runCopyd(["mv", "--local", "copy", "moved"], { cwd });
  expect({ status: moved.status, stderr: moved.stderr }).toEqual({ status: 0, stderr: "" });
  expect(existsSync(join(cwd, "copy"))).toBe(false);
  expect(read("moved/e/x")).toBe("x\n");
});

for (const line of ["nope b", "d b", "a a", "nope a d", "a b c", "-t nodir a", "-n nope b", "-r d d/e"]) {
  test(`\`cp ${line}\` says and answers what the system's cp does`, async () => {
    mkdirSync(join(cwd, "d"));
    write("a", "x");
    const expected = await run(["cp", ...line.split(" ")], { cwd, env: plainEnvironment });
    rmSync(join(cwd, "d"), { recursive: true });
    mkdirSync(join(cwd, "d"));
    const { status, stderr } = await cp(line);
    expect({ status, stderr }).toEqual({ status: expected.status, stderr: expected.stderr });
  });
}

test("names that are not UTF-8 are copied and shown as a shell takes them", async () => {
  const script = `printf x >$'a\\n\\xff'; "$@" cp --local $'a\\n\\xff' $'b\\xfe' && "$@" cp --local $'\\xff\\xc3' b; ls -b`;
  const { stdout, stderr } = await runShell(script, { cwd, env: { ...plainEnvironment, LC_ALL: "C" } });
  expect(stdout).toBe("a\\n\\377\nb\\376\n");
  expect(stderr).toBe("cp: cannot stat ''$'\\377\\303': No such file or directory\n");
});

test("--json tells progress, errors and the result, one object a line, and the words stay on standard error", async () => {
  write("a", "x");
  mkdirSync(join(cwd, "d"));
  const { status, stdout, stderr } = await cp("--json a nope d");
  expect(status).toBe(1);
  const objects = stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Record<string, unknown>);
  expect(objects.find(({ type }) => type === "error")).toMatchObject({
    path: join(cwd, "nope"),
    code: "source-not-found",
    errno: 2,
    message: "cannot stat 'nope': No such file or directory",
  });
  expect(objects.at(-1)).toMatchObject({ type: "result", state: "failed", filesDone: 1, errorCount: 1, bytesDone: 1 });
  expect(stderr).toBe("cp: cannot stat 'nope': No such file or directory\n");
});

test("-i asks on standard error and takes a line for each question; no and the end of input keep the file, with status 1", async () => {
  for (const name of ["a", "b", "c"]) write(name, "new");
  mkdirSync(join(cwd, "d"));
  for (const name of ["d/a", "d/b", "d/c"]) write(name, "old");
  const { status, stderr } = await cp("-i a b c d", "yes\nno\n");
  expect(status).toBe(1);
  expect(stderr).toBe("cp: overwrite 'd/a'? cp: overwrite 'd/b'? cp: overwrite 'd/c'? ");
  expect(["d/a", "d/b", "d/c"].map(read)).toEqual(["new", "old", "old"]);
  expect((await cp("-i a d", "Y\n")).status).toBe(0);
});

test("-n and --update=none leave files alone without a word; --update=none-fail says so", async () => {
  write("a", "new");
  write("b", "old");
  for (const line of ["-n a b", "--update=none a b"]) expect(await cp(line)).toMatchObject({ status: 0, stderr: "" });
  expect((await cp("--update=none-fail a b")).status).toBe(1);
  expect(read("b")).toBe("old");
});

for (const [signal, status] of [
  ["INT", 130],
  ["TERM", 143],
] as const) {
  test(`SIG${signal} stops a copy with status ${status}, and no half file stays`, async () => {
    write("big", "x".repeat(30_000_000));
    // A shell without job control starts background jobs with SIGINT ignored, which is respected; hence set -m.
    const script = `set -m; "$@" cp --local --progress --limit-rate=2M big copy & sleep 2.5; kill -${signal} $!; wait $!`;
    const result = await runShell(script, { cwd });
    expect(result.status).toBe(status);
    expect(readdirSync(cwd)).toEqual(["big"]);
    // The progress of a pipe is lines without control codes.
    expect(result.stderr).toMatch(/^\d+%, .* of 30 MB, .*big\n/m);
    expect(result.stderr).not.toMatch(/[^\P{Cc}\n]/u);
  });
}

test("an interrupt that whoever started us ignores stays ignored", async () => {
  write("a", "x".repeat(3_000_000));
  const script = `trap '' HUP; "$@" cp --local --limit-rate=2M a b & sleep 1; kill -HUP $!; wait $!`;
  expect((await runShell(script, { cwd })).status).toBe(0);
  expect(statSync(join(cwd, "b")).size).toBe(3_000_000);
});

test("a reader that goes away ends it as SIGPIPE would", async () => {
  await run(["bash", "-c", "mkdir d && for i in $(seq 500); do echo x >d/$i; done"], { cwd });
  const script = `set -o pipefail; "$@" cp --local --json --limit-rate=100 -r d e | head -n 1 >/dev/null`;
  expect((await runShell(script, { cwd })).status).toBe(141);
});

testUnless(whyNoUsers(), "an umask that denies its own user everything does not keep the copy from its records", async () => {
  write("a", "x");
  chmodSync(cwd, 0o777);
  chmodSync(temporary.path, 0o755);
  const script = `umask 0777; "$@" cp --local a b && stat -c %a b`;
  const env = { ...plainEnvironment, BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0" };
  const result = await runAs(unlistedUser(), ["bash", "-c", script, "bash", ...copydCommand()], { cwd, env });
  expect(result).toMatchObject({ status: 0, stdout: "0\n", stderr: "" });
});

test("a dry run whose reader goes away ends so too, without a word", async () => {
  await run(["bash", "-c", "mkdir d && for i in $(seq 3000); do echo x >d/$i; done"], { cwd });
  const script = `set -o pipefail; "$@" cp --dry-run -r d e | head -n 1 >/dev/null`;
  expect(await runShell(script, { cwd })).toMatchObject({ status: 141, stderr: "" });
});

for (const [where, redirection, reason] of [
  ["full", ">/dev/full", "No space left on device"],
  ["closed", ">&-", "Bad file descriptor"],
] as const)
  test(`standard output that is ${where} is told in one line, and what cp was to copy is copied`, async () => {
    write("a", "x");
    write("sums", "9dd4e461268c8034f5c8564e155c67a6  a\n");
    const message = `write error: ${reason}\n`;
    for (const [command, program] of [
      ["cp -v --local a b", "cp"],
      ["cp --json --local a c", "cp"],
      ["cp --dry-run a d", "cp"],
      ["cp --help", "cp"],
      ["--version", "copyd"],
      ["jobs --help", "copyd jobs"],
      ["daemon --help", "copyd daemon"],
      ["help cp", "copyd help"],
      ["config show", "copyd config"],
      ["config show --json", "copyd config"],
      ["doctor", "copyd doctor"],
      ["verify sums", "copyd verify"],
    ] as const) {
      const result = await runShell(`"$@" ${command} ${redirection}`, { cwd });
      expect([command, result.status, result.stderr]).toEqual([command, 1, `${program}: ${message}`]);
    }
    expect(readdirSync(cwd).sort()).toEqual(["a", "b", "c", "sums"]);
  });

test("with nothing to say a closed standard output is no mistake, nor is one that leads to /dev/null", async () => {
  write("a", "x");
  for (const line of ['"$@" cp --local a b >&-', '"$@" cp -v --local a c >/dev/null', '"$@" cp -v --local a d 1<>/dev/null'])
    expect(await runShell(line, { cwd })).toMatchObject({ status: 0, stderr: "" });
  expect(readdirSync(cwd).sort()).toEqual(["a", "b", "c", "d"]);
});

testUnless(whyNoUsers(), "another user's unreadable file is one error, and the rest is copied as that user", async () => {
  const user = unlistedUser();
  write("secret", "x");
  chmodSync(join(cwd, "secret"), 0o600);
  write("open", "x");
  mkdirSync(join(cwd, "d"));
  chmodSync(join(cwd, "d"), 0o777);
  chmodSync(cwd, 0o755);
  chmodSync(temporary.path, 0o755);
  const command = copydCommand("cp", "--local", "secret", "open", "d");
  const { status, stderr } = await runAs(user, command, { cwd, env: plainEnvironment });
  expect(stderr).toBe("cp: cannot open 'secret' for reading: Permission denied\n");
  expect(status).toBe(1);
  expect(readdirSync(join(cwd, "d"))).toEqual(["open"]);
  expect(statSync(join(cwd, "d/open")).uid).toBe(user.uid);
});

test("without a bus the embedded mode is taken by itself, and the session's service is missed by name", async () => {
  write("a", "x");
  const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${cwd}/no-bus` };
  expect(await runCopyd(["cp", "a", "b"], { cwd, env })).toMatchObject({ status: 0, stderr: "" });
  const session = await runCopyd(["cp", "--session", "a", "b"], { cwd, env: { ...env, DBUS_SESSION_BUS_ADDRESS: `unix:path=${cwd}/no` } });
  expect(session.status).toBe(2);
  expect(session.stderr).not.toBe("");
});

for (const [what, answers] of [
  ["never answers", []],
  ["knows us and falls silent", [Buffer.from("OK 1234\r\n"), reply(1, [":1.1"])]],
] as const)
  test(`a system bus that ${what} holds a copy up for no longer than the service is waited for`, async () => {
    write("a", "x");
    await using bus = await quietBus();
    const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: bus.address };
    const startMs = performance.now();
    const copying = runCopyd(["cp", "a", "b"], { cwd, env });
    expect((await bus.heard(1)).length).toBeGreaterThan(0);
    for (const answer of answers) bus.say(answer);
    expect(await copying).toMatchObject({ status: 0, stdout: "", stderr: "" });
    expect(readFileSync(join(cwd, "b"), "utf8")).toBe("x");
    expect(performance.now() - startMs).toBeLessThan(5_000);
    // Nor does one that turns out not to be needed.
    const missing = performance.now();
    expect(await runCopyd(["cp", "a"], { cwd, env })).toMatchObject({ status: 1 });
    expect(performance.now() - missing).toBeLessThan(2_000);
  });

test("--parents needs a directory, as a mistake on the command line", async () => {
  write("a", "x");
  expect(await cp("--parents a b")).toMatchObject({
    status: 1,
    stderr: "cp: with --parents, the destination must be a directory\nTry 'copyd cp --help' for more information.\n",
  });
});

test("help and versions go to standard output; no command and unknown ones are mistakes", async () => {
  for (const line of ["--help", "cp --help", "mv --help", "--version", "cp --version", "jobs --help", "doctor --help", "daemon --help"]) {
    const { status, stdout, stderr } = await runCopyd(line.split(" "), { cwd });
    expect({ line, status, stderr }).toEqual({ line, status: 0, stderr: "" });
    expect(stdout).not.toMatch(/[^\P{Cc}\n]/u);
    expect(stdout.length).toBeGreaterThan(10);
  }
  expect((await runCopyd([], { cwd })).status).toBe(1);
  expect(await runCopyd(["nonsense"], { cwd })).toMatchObject({
    status: 1,
    stderr: "copyd: unknown command 'nonsense'\nTry 'copyd --help' for more information.\n",
  });
  expect((await runCopyd(["jobs", "--al"], { cwd })).stderr).toContain("unrecognized option '--al'");
  expect((await runCopyd(["show"], { cwd })).status).toBe(1);
});

test("what a command has no place for is refused, not left out without a word", async () => {
  for (const words of [
    ["jobs", "a"],
    ["cancel", "a", "b"],
    ["limit", "a", "1M", "c"],
    ["verify", "a", "b", "c"],
    ["config", "check", "x"],
  ]) {
    const extra = words.at(-1);
    const { status, stderr } = await runCopyd(words, { cwd });
    expect([words, status, stderr]).toEqual([words, 1, `copyd ${words[0]}: extra operand '${extra}'\nSee --help.\n`]);
  }
  const { status, stderr } = await runCopyd(["jobs", "--since=today"], { cwd });
  expect([status, stderr]).toEqual([1, "copyd jobs: --since and --until go with --all\nSee --help.\n"]);
});

test("doctor examines the machine and filesystems, names odd ones harmlessly, and does not need a service", async () => {
  const env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: `unix:path=${cwd}/no-bus` };
  const { stdout, status } = await runShell(`mkdir $'\\x1b[1m\\xff' && "$@" doctor $'\\x1b[1m\\xff' /dev/shm`, { cwd, env });
  expect(status).toBe(0);
  expect(stdout).toMatch(/^This machine\n {2}kernel +yes/);
  expect(stdout).toContain("system service  no");
  expect(stdout).toMatch(/^\\e\[1m\ufffd \(.+\)\n {2}O_TMPFILE/m);
  expect(stdout).toContain("/dev/shm (tmpfs)");
  expect(stdout).not.toContain("\x1b");
  const json = await runCopyd(["doctor", "--json"], { cwd, env });
  for (const line of json.stdout.trimEnd().split("\n"))
    expect(JSON.parse(line)).toMatchObject({ type: "check", verdict: expect.any(String) });
});
