// The bootstrap, in a copy of what a fresh clone has, with stand-ins for npm and apt-get that write down what they are asked.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type RunResult, run, runChecked } from "./support/process.ts";
import { testUnless, unlessRoot } from "./support/skip.ts";
import { type TemporaryDirectory, temporaryDirectory } from "./support/temporary.ts";
import { asUser, unlistedUser, whyNoUsers } from "./support/users.ts";

const root = join(import.meta.dir, "..");
const version: string = JSON.parse(readFileSync(join(root, "package.json"), "utf8")).engines.bun;
const platform = process.arch === "arm64" ? "@oven/bun-linux-aarch64" : "@oven/bun-linux-x64";
const unlessInLock =
  process.arch === "arm64" || readFileSync("/proc/cpuinfo", "utf8").includes(" avx2")
    ? null
    : "this processor takes a Bun that bun.lock does not name";
/** A Bun that installs nothing, so that no network is needed. */
const installer = `[ "$1" = --version ] && echo ${version}; [ "$1" = install ] && mkdir -p node_modules/bun/bin; exit 0`;
let directory: TemporaryDirectory;
let clone: string;

beforeEach(async () => {
  directory = await temporaryDirectory();
  clone = `${directory.path}/clone`;
  mkdirSync(`${directory.path}/bin`);
  for (const part of ["package.json", "bun.lock", "bunfig.toml", "patches", "scripts"]) {
    cpSync(join(root, part), `${clone}/${part}`, { recursive: true });
  }
});

afterEach(async () => {
  await directory[Symbol.asyncDispose]();
});

/** Puts a program on the PATH before all others. */
function standIn(name: string, script: string): void {
  writeFileSync(`${directory.path}/bin/${name}`, `#!/bin/sh\n${script}\n`);
  chmodSync(`${directory.path}/bin/${name}`, 0o755);
}

/** Changes which Debian packages the clone asks for. */
function wantPackages(packages: string): void {
  const path = `${clone}/scripts/bootstrap.sh`;
  const script = readFileSync(path, "utf8").replace(/^start_packages=.*$/m, `start_packages="${packages}"`);
  writeFileSync(path, script);
}

function bootstrap(command: readonly string[] = ["sh", `${clone}/scripts/bootstrap.sh`, "start"]): Promise<RunResult> {
  const { HOME = directory.path } = process.env;
  return run(command, {
    cwd: "/",
    timeoutMs: 120_000,
    env: { ...(process.env as Record<string, string>), HOME, PATH: `${directory.path}/bin:/usr/bin:/bin` },
  });
}

test("with a Bun of the pinned version on the PATH npm is not needed, and the second run does and says nothing", async () => {
  wantPackages("");
  standIn("bun", `exec ${process.execPath} "$@"`);
  standIn("npm", "echo npm was called >&2; exit 1");
  const first = await bootstrap();
  expect([first.status, first.stderr]).toEqual([0, "copyd: installing the packages of bun.lock with Bun\n"]);
  expect((await runChecked([`${clone}/node_modules/.bin/bun`, "--version"])).stdout.trim()).toBe(version);
  expect(existsSync(`${clone}/node_modules/zod`)).toBe(true);
  expect(existsSync(`${clone}/node_modules/node-gyp`)).toBe(false);
  const second = await bootstrap();
  expect([second.status, second.stderr, second.stdout]).toEqual([0, "", ""]);
}, 130_000);

test("what a killed run left is removed by the next one", async () => {
  wantPackages("");
  standIn("bun", installer);
  mkdirSync(`${clone}/node_modules/.bootstrap-killed`, { recursive: true });
  writeFileSync(`${clone}/node_modules/.bootstrap-killed/bun`, "half of it");
  expect((await bootstrap()).status).toBe(0);
  expect(existsSync(`${clone}/node_modules/.bootstrap-killed`)).toBe(false);
});

test("in a fresh clone every target of make first brings what it needs", async () => {
  const help = (await runChecked(["make", "--no-print-directory", "help"], { cwd: root })).stdout;
  const targets = [...help.matchAll(/^ {2}([a-z-]+) /gm)].map(([, target]) => target ?? "");
  expect(targets).toContain("lint");
  for (const target of targets.filter((name) => !["help", "clean", "uninstall"].includes(name))) {
    const { stdout } = await runChecked(["make", "--no-print-directory", "--dry-run", "--always-make", target], { cwd: root });
    expect([target, stdout.split("\n")[0]]).toEqual([
      target,
      expect.stringMatching(/^(COPYD_TORTURE=1 )?sh scripts\/(bootstrap|start|test)\.sh/),
    ]);
  }
});

testUnless(unlessInLock, "a Bun that is not what bun.lock names is never run", async () => {
  wantPackages("");
  standIn("bun", "echo 0.0.1");
  // As npm install --prefix DIR would leave it, from a registry that serves something else.
  const fake = `dir=$3/node_modules/${platform}/bin; mkdir -p "$dir"; touch "$dir/../../../../ran-npm"
printf '#!/bin/sh\\ntouch ${directory.path}/ran-bun\\n' > "$dir/bun"; chmod 755 "$dir/bun"
echo '{"packages": {"x": {"integrity": "sha512-AAAA"}}}' > "$3/node_modules/.package-lock.json"`;
  standIn("npm", fake);
  const result = await bootstrap();
  expect(result.status).not.toBe(0);
  expect(result.stderr).toContain(`what npm fetched as ${platform}@${version} is not what bun.lock names`);
  expect(existsSync(`${directory.path}/ran-bun`)).toBe(false);
  expect(existsSync(`${clone}/node_modules/zod`)).toBe(false);
});

test("an npm that fails is told about, and nothing half-installed counts as installed", async () => {
  wantPackages("");
  standIn("bun", "echo 0.0.1");
  standIn("npm", "echo the network is down >&2; exit 7");
  for (let attempt = 1; attempt <= 2; attempt++) {
    const result = await bootstrap();
    expect(result.status).not.toBe(0);
    expect(result.stderr).toContain("the network is down");
    expect(result.stderr).toContain("npm could not install");
  }
});

testUnless(
  unlessRoot(),
  "as root, missing Debian packages are installed, after an update where the lists are old",
  async () => {
    wantPackages("there:sh absent-one:no-such-program absent-two:/no/such/file*");
    standIn("bun", installer);
    standIn(
      "apt-get",
      `echo "$*" >> ${directory.path}/apt; [ "$1" = update ] || [ -e ${directory.path}/updated ] || { touch ${directory.path}/updated; exit 100; }`,
    );
    const result = await bootstrap();
    expect(result.stderr).toContain("copyd: installing Debian packages: absent-one absent-two\n");
    expect(result.status).toBe(0);
    const [first, second, third] = readFileSync(`${directory.path}/apt`, "utf8").split("\n");
    expect(first).toEndWith(" absent-one absent-two");
    expect(second).toStartWith("update");
    expect(third).toBe(first);
  },
  130_000,
);

testUnless(
  whyNoUsers(),
  "as anybody else, the line to type is printed and the rest goes on",
  async () => {
    wantPackages("absent-one:no-such-program");
    standIn("bun", installer);
    standIn("apt-get", "echo apt-get was called >&2; exit 1");
    const user = unlistedUser();
    await runChecked(["chmod", "755", directory.path]);
    await runChecked(["chown", "-R", `${user.uid}:${user.gid}`, clone]);
    const result = await bootstrap(asUser(user, ["sh", `${clone}/scripts/bootstrap.sh`, "start"]));
    expect(result.stderr).toContain("to install it: sudo apt-get install -y absent-one\n");
    expect(result.stderr).not.toContain("apt-get was called");
    expect(result.status).toBe(0);
    expect(existsSync(`${clone}/node_modules/.copyd-installed`)).toBe(true);
  },
  130_000,
);
