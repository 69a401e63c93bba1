// The one binary: it picks its role by its name, and nothing in the folder it is started in changes what it does.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type RunResult, run, runChecked } from "./support/process.ts";
import { type TemporaryDirectory, temporaryDirectory } from "./support/temporary.ts";

const root = join(import.meta.dir, "..");
let directory: TemporaryDirectory;
let binary: string;

beforeAll(async () => {
  directory = await temporaryDirectory();
  binary = `${directory.path}/copyd`;
  await runChecked([process.execPath, "scripts/build.ts", binary], { cwd: root, timeoutMs: 120_000 });
}, 130_000);

afterAll(async () => {
  await directory[Symbol.asyncDispose]();
});

function copyd(args: readonly string[], options: { readonly cwd?: string; readonly program?: string } = {}): Promise<RunResult> {
  const env = { PATH: "/usr/bin:/bin", HOME: directory.path };
  return run([options.program ?? binary, ...args], { env, ...(options.cwd === undefined ? {} : { cwd: options.cwd }) });
}

test("it says its version, which is package.json's", async () => {
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const result = await copyd(["--version"]);
  expect([result.status, result.stderr]).toEqual([0, ""]);
  expect(result.stdout).toContain(version);
});

test("linked as cp or mv, it is cp or mv", async () => {
  for (const name of ["cp", "mv"]) {
    symlinkSync("copyd", `${directory.path}/${name}`);
    const linked = await copyd(["--help"], { program: `${directory.path}/${name}` });
    const named = await copyd([name, "--help"]);
    expect(linked.stdout).toBe(named.stdout);
    expect(linked.stdout).toContain(`copyd ${name}`);
  }
});

test("it lies in parts, so that a role loads its own", () => {
  const parts = new Set(readFileSync(binary, "latin1").match(/\/\$bunfs\/root\/chunk-\w+\.js/g));
  expect(parts.size).toBeGreaterThan(20);
});

test("it has every role inside", async () => {
  const help = await copyd(["daemon", "--help"]);
  expect([help.status, help.stderr]).toEqual([0, ""]);
  expect(help.stdout).toContain("copyd daemon");
});

test("a folder with .env, bunfig.toml, package.json, tsconfig.json and packages of its own changes nothing", async () => {
  const hostile = `${directory.path}/hostile`;
  mkdirSync(hostile);
  const mark = (how: string): string => `require("node:fs").writeFileSync(${JSON.stringify(`${directory.path}/owned`)}, "by ${how}");`;
  writeFileSync(`${hostile}/.env`, "COPYD_CONFIG=/nonexistent\nBUN_OPTIONS=--preload ./evil.js\nLC_ALL=nonsense\n");
  writeFileSync(`${hostile}/bunfig.toml`, 'preload = ["./evil.js"]\n[run]\npreload = ["./evil.js"]\n');
  writeFileSync(`${hostile}/evil.js`, mark("preload"));
  writeFileSync(`${hostile}/package.json`, '{"imports": {"zod": "./evil.js"}, "type": "commonjs"}');
  writeFileSync(`${hostile}/tsconfig.json`, '{"compilerOptions": {"paths": {"zod": ["./evil.js"]}}}');
  for (const name of ["usocket", "x11", "zod", "dbus-next"]) {
    mkdirSync(`${hostile}/node_modules/${name}`, { recursive: true });
    writeFileSync(`${hostile}/node_modules/${name}/index.js`, mark(name));
  }
  writeFileSync(`${hostile}/file`, "x");
  for (const args of [["--version"], ["cp", "--help"], ["jobs"], ["cp", "missing", "copy"]]) {
    const [inside, outside] = await Promise.all([copyd(args, { cwd: hostile }), copyd(args, { cwd: directory.path })]);
    expect([inside.status, inside.stdout, inside.stderr]).toEqual([outside.status, outside.stdout, outside.stderr]);
  }
  expect(await Bun.file(`${directory.path}/owned`).exists()).toBe(false);
});

test("what dbus-next wants only optionally is compiled in as absent, never looked for at run time", async () => {
  const entry = `${directory.path}/descriptors.ts`;
  // The build's own settings, over a program that does what makes dbus-next require usocket.
  const bus = join(root, "node_modules/dbus-next/index.js");
  writeFileSync(
    entry,
    `import dbus from ${JSON.stringify(bus)};
     try { dbus.sessionBus({ busAddress: "unix:abstract=/nonexistent" }); } catch (error) { console.log(String(error)); }`,
  );
  await runChecked([process.execPath, "scripts/build.ts", `${directory.path}/descriptors`, entry], { cwd: root, timeoutMs: 120_000 });
  const hostile = `${directory.path}/elsewhere`;
  mkdirSync(`${hostile}/node_modules/usocket`, { recursive: true });
  writeFileSync(`${hostile}/node_modules/usocket/index.js`, 'console.log("hostile usocket was loaded"); exports.USocket = class {};');
  const result = await copyd([], { program: `${directory.path}/descriptors`, cwd: hostile });
  expect(result.stdout).not.toContain("hostile");
  expect(result.stdout).toContain("usocket is not part of copyd");
}, 130_000);
