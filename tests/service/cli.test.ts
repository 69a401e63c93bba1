// The CLI through the system service: cp says and does what it does by itself, and the other commands see and steer its jobs.

import { afterAll, beforeAll, beforeEach, expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { whyNoBus } from "../support/bus.ts";
import { copydCommand, plainEnvironment, runCopyd, runShell } from "../support/cli.ts";
import { type JobService, startJobService } from "../support/job-service.ts";
import { describeUnless, firstReason } from "../support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "../support/temporary.ts";
import { passwdUsers, runAs, type TestUsers, whyNoPasswdUsers } from "../support/users.ts";

describeUnless(firstReason(whyNoBus(), whyNoPasswdUsers()), "the CLI through the service", () => {
  let service: JobService;
  let users: TestUsers;
  let temporary: TemporaryDirectory;
  let cwd: string;
  let env: Record<string, string>;

  beforeAll(async () => {
    service = await startJobService();
    users = await passwdUsers();
    temporary = await temporaryDirectory();
    chmodSync(temporary.path, 0o755);
    cwd = join(temporary.path, "here");
    env = { ...plainEnvironment, DBUS_SYSTEM_BUS_ADDRESS: service.bus.address };
  });
  afterAll(async () => {
    await users[Symbol.asyncDispose]();
    await service[Symbol.asyncDispose]();
    await temporary[Symbol.asyncDispose]();
  });
  beforeEach(() => {
    rmSync(cwd, { recursive: true, force: true });
    mkdirSync(cwd);
  });

  const copyd = (line: string, input = "") => runCopyd(line.split(" "), { cwd, env, input });
  const write = (name: string, content: string): void => writeFileSync(join(cwd, name), content);
  const jobs = async (): Promise<Record<string, unknown>[]> =>
    (await copyd("jobs --all --json")).stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  test("a copy runs in the service, with the caller's umask and directory, in silence", async () => {
    write("a", "content");
    chmodSync(join(cwd, "a"), 0o777);
    const before = (await jobs()).length;
    const result = await runShell('umask 027; "$@" cp a b', { cwd, env });
    expect(result).toMatchObject({ status: 0, stdout: "", stderr: "" });
    expect(readFileSync(join(cwd, "b"), "utf8")).toBe("content");
    expect(statSync(join(cwd, "b")).mode & 0o7777).toBe(0o750);
    const after = await jobs();
    expect(after).toHaveLength(before + 1);
    expect(after.at(-1)).toMatchObject({ sources: [join(cwd, "a")], destination: join(cwd, "b"), state: "completed", filesDone: 1 });
  });

  for (const line of ["nope b", "d b", "a a", "nope a d", "a b c", "-t nodir a", "-rv a d/x", "-n a d"]) {
    test(`\`cp ${line}\` says and answers the same through the service and by itself`, async () => {
      const prepare = (): void => {
        rmSync(join(cwd, "d"), { recursive: true, force: true });
        mkdirSync(join(cwd, "d"));
        write("a", "x");
      };
      prepare();
      const alone = await copyd(`cp --local ${line}`);
      prepare();
      const served = await copyd(`cp ${line}`);
      const { status, stdout, stderr } = alone;
      expect({ status: served.status, stdout: served.stdout, stderr: served.stderr }).toEqual({ status, stdout, stderr });
    });
  }

  test("questions reach the user and answers the job", async () => {
    write("a", "new");
    write("b", "old");
    expect(await copyd("cp -i a b", "n\n")).toMatchObject({ status: 1, stderr: "cp: overwrite 'b'? " });
    expect(readFileSync(join(cwd, "b"), "utf8")).toBe("old");
    expect(await copyd("cp -i a b", "y\n")).toMatchObject({ status: 0, stderr: "cp: overwrite 'b'? " });
    expect(readFileSync(join(cwd, "b"), "utf8")).toBe("new");
  });

  test("names that are not UTF-8 go through", async () => {
    const script = `printf x >$'a\\xff'; "$@" cp $'a\\xff' $'b\\xfe' && "$@" cp $'\\xff' c; ls -b; "$@" jobs --all`;
    const { stdout, stderr } = await runShell(script, { cwd, env: { ...env, LC_ALL: "C" } });
    expect(stdout.startsWith("a\\377\nb\\376\n")).toBe(true);
    expect(stdout).toContain(`copy ${cwd}/a\ufffd -> ${cwd}/b\ufffd`);
    expect(stderr).toBe("cp: cannot stat ''$'\\377': No such file or directory\n");
  });

  test("another user's copy runs as that user, with errors for what may not be read, and its job is nobody else's to see", async () => {
    const { first, second } = users;
    write("secret", "x");
    chmodSync(join(cwd, "secret"), 0o600);
    write("open", "x");
    mkdirSync(join(cwd, "d"));
    chownSync(join(cwd, "d"), first.uid, first.gid);
    chmodSync(cwd, 0o755);
    const { status, stderr } = await runAs(first, copydCommand("cp", "secret", "open", "d"), { cwd, env });
    expect({ status, stderr }).toEqual({ status: 1, stderr: "cp: cannot open 'secret' for reading: Permission denied\n" });
    expect(readdirSync(join(cwd, "d"))).toEqual(["open"]);
    expect(statSync(join(cwd, "d/open")).uid).toBe(first.uid);
    const own = await runAs(first, copydCommand("jobs", "--all"), { cwd, env });
    const token = /^(c\w+) +failed/m.exec(own.stdout)?.[1] ?? "";
    expect(token).not.toBe("");
    const others = await runAs(second, copydCommand("show", token), { cwd, env });
    expect(others).toMatchObject({ status: 2, stdout: "" });
    expect(others.stderr).toContain(`there is no job '${token}'`);
    const errors = await runAs(first, copydCommand("errors", token.slice(0, 8)), { cwd, env });
    expect(errors.stdout).toBe("error: cannot open 'secret' for reading: Permission denied\n");
    expect(errors.stderr).toContain("source-unreadable: You may not read it");
  });

  test("Ctrl-C cancels the job in the service, and so does the death of cp", async () => {
    write("big", "x".repeat(30_000_000));
    const script = (signal: string): string => `set -m; "$@" cp --limit-rate=2M big copy & sleep 2; kill -${signal} $!; wait $!`;
    expect((await runShell(script("INT"), { cwd, env })).status).toBe(130);
    expect((await runShell(script("KILL"), { cwd, env })).status).toBe(137);
    for (let tries = 0; tries < 100 && (await jobs()).slice(-2).some(({ state }) => state !== "cancelled"); tries++) await Bun.sleep(100);
    expect((await jobs()).slice(-2).map(({ state }) => state)).toEqual(["cancelled", "cancelled"]);
    expect(readdirSync(cwd)).toEqual(["big"]);
  });

  test("a running job is listed, shown, paused, resumed, watched, waited for, cancelled and forgotten", async () => {
    write("big", "x".repeat(60_000_000));
    const copy = runCopyd(["cp", "--limit-rate=1M", "big", "copy"], { cwd, env });
    let token = "";
    for (let tries = 0; tries < 100 && token === ""; tries++) {
      token = /^(c\w+) +running/m.exec((await copyd("jobs")).stdout)?.[1] ?? "";
    }
    expect((await copyd(`show ${token.slice(0, 10)}`)).stdout).toMatch(/^State: +running \(copying\)$[\s\S]*^Owner: +root$/m);
    expect(JSON.parse((await copyd(`show --json ${token}`)).stdout)).toMatchObject({ uid: 0 });
    for (const [redirection, reason] of [
      [">/dev/full", "No space left on device"],
      [">&-", "Bad file descriptor"],
    ])
      for (const line of ["jobs", "jobs --json", `show ${token}`, "watch", `watch --json ${token}`]) {
        const result = await runShell(`"$@" ${line} ${redirection}`, { cwd, env });
        const [command] = line.split(" ");
        expect([line, result.status, result.stderr]).toEqual([line, 1, `copyd ${command}: write error: ${reason}\n`]);
      }
    expect((await copyd(`pause ${token}`)).status).toBe(0);
    // The worker says that it has paused with its next snapshot, within a tenth of a second.
    let shown = "";
    for (let tries = 0; tries < 100 && !shown.includes('"state":"paused"'); tries++) shown = (await copyd(`show --json ${token}`)).stdout;
    expect(shown).toContain('"state":"paused"');
    expect(JSON.parse((await copyd(`resume --json ${token}`)).stdout)).toEqual({ type: "resume", job: token });
    const watching = runCopyd(["watch", "--json", token], { cwd, env });
    const waiting = runCopyd(["wait", token], { cwd, env });
    await Bun.sleep(1000);
    expect((await copyd(`forget ${token}`)).status).toBe(2);
    expect((await copyd(`cancel ${token}`)).status).toBe(0);
    expect((await copy).status).toBe(130);
    expect(await waiting).toMatchObject({ status: 130, stdout: "" });
    const watched = await watching;
    expect(watched.status).toBe(130);
    const types = watched.stdout
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { readonly type: string }).type);
    expect(types[0]).toBe("progress");
    expect(types.at(-1)).toBe("result");
    expect(existsSync(join(cwd, "copy"))).toBe(false);
    expect((await copyd(`cancel ${token}`)).status).toBe(2);
    expect((await copyd(`forget ${token}`)).status).toBe(0);
    expect((await copyd(`show ${token}`)).status).toBe(2);
  });

  test("an ambiguous beginning of a token names the jobs it may mean", async () => {
    write("a", "x");
    await copyd("cp a b");
    await copyd("cp a c");
    const { status, stderr } = await copyd("show c");
    expect(status).toBe(1);
    expect(stderr).toMatch(/'c' may mean \d+ jobs: c\w+, c\w+/);
  });

  test("doctor finds the service", async () => {
    expect((await copyd("doctor")).stdout).toMatch(/system service +yes +copyd 0\.0\.0 answers on the system bus/);
  });
});
