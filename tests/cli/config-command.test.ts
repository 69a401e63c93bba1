// `copyd config`: what it says of right and wrong settings, and that what it shows is itself a settings file.

import { expect, test } from "bun:test";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { examineConfig } from "../../src/config.ts";
import { type RunResult, run } from "../support/process.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const main = join(import.meta.dir, "../../src/main.ts");

function copyd(...args: readonly string[]): Promise<RunResult> {
  return run([process.execPath, main, "config", ...args], { env: { PATH: "/usr/bin:/bin", COPYD_JOBS_MAX_RUNNING: "1" } });
}

test("check says which files are right, and of wrong ones every mistake with its line, with the status of a wrong configuration", async () => {
  await using directory = await temporaryDirectory();
  const file = `${directory.path}/copyd.toml`;
  writeFileSync(file, "[jobs]\nmax-running = 2\n");
  expect(await copyd("check", "--config", file)).toMatchObject({ status: 0, stdout: `${file}: no mistakes\n`, stderr: "" });
  writeFileSync(file, "[jobs]\nmax-running = 0\n[calls]\nmax-weights = 2\n");
  const wrong = await copyd("check", `--config=${file}`);
  expect([wrong.status, wrong.stdout]).toEqual([78, ""]);
  expect(wrong.stderr).toContain(`${file}:2: jobs.max-running = 0: `);
  expect(wrong.stderr).toContain(`${file}:4: calls.max-weights is not a setting; `);
  const missing = await copyd("check", "--config", `${directory.path}/none`);
  expect([missing.status, missing.stderr]).toEqual([78, expect.stringContaining("cannot be read (ENOENT)")]);
});

test("check finds what would keep the service from starting, or a policy from holding: a group that nobody knows, a link to nothing", async () => {
  await using directory = await temporaryDirectory();
  const file = `${directory.path}/copyd.toml`;
  writeFileSync(file, '[policy.nobody-knows-it]\ndeny-sources = ["/x"]\n');
  const unknown = await copyd("check", `--config=${file}`);
  expect([unknown.status, unknown.stdout]).toEqual([78, ""]);
  expect(unknown.stderr).toBe(
    `${file}:1: [policy.nobody-knows-it]: there is no group 'nobody-knows-it'; use its number where it is not always known\n`,
  );
  // Names that TOML wants in quotes have their lines, too.
  writeFileSync(file, '[jobs]\n[policy."root"]\n\nmax-file-size = "1G"\n');
  expect((await copyd("check", `--config=${file}`)).stderr).toStartWith(`${file}:4: policy.root.max-file-size = "1G": `);
  writeFileSync(file, "");
  mkdirSync(`${file}.d`);
  symlinkSync("/nowhere", `${file}.d/10-policy.toml`);
  const dangling = await copyd("check", `--config=${file}`);
  expect([dangling.status, dangling.stderr]).toEqual([78, expect.stringContaining("10-policy.toml cannot be read (ENOENT)")]);
  rmSync(`${file}.d`, { recursive: true });
  writeFileSync(`${file}.d`, "");
  expect((await copyd("check", `--config=${file}`)).stderr).toContain("cannot be read (ENOTDIR): it is a folder for drop-ins");
  const ofSession = (): Promise<RunResult> =>
    run([process.execPath, main, "config", "check", "--session"], { env: { PATH: "/usr/bin:/bin", XDG_CONFIG_HOME: directory.path } });
  expect(await ofSession()).toMatchObject({ status: 0, stdout: "There is no file: the standard values hold.\n" });
  mkdirSync(`${directory.path}/copyd`);
  symlinkSync("/nowhere", `${directory.path}/copyd/copyd.toml`);
  const standard = await ofSession();
  expect([standard.status, standard.stderr]).toEqual([78, expect.stringContaining("copyd.toml cannot be read (ENOENT)")]);
});

testUnless(unlessRoot(), "a group's name may be any that the group database has, in quotes, and shows so", async () => {
  await using directory = await temporaryDirectory();
  const file = `${directory.path}/copyd.toml`;
  const database = `${directory.path}/group`;
  writeFileSync(database, "root:x:0:\ndomain users:x:61009:\nDOM\\Köche:x:61010:\n");
  writeFileSync(file, '[policy."domain users"]\nmax-file-size = 1\n[policy."DOM\\\\Köche"]\nmax-file-size = 2\n[policy."a.b"]\n');
  const among = (action: string): Promise<RunResult> =>
    run([
      "unshare",
      "-m",
      "sh",
      "-c",
      `mount --bind ${database} /etc/group && exec ${process.execPath} ${main} config ${action} --config ${file}`,
    ]);
  expect(await among("check")).toMatchObject({ status: 0, stdout: `${file}: no mistakes\n`, stderr: "" });
  const { stdout } = await among("show");
  for (const group of ['"domain users"', '"DOM\\\\Köche"', '"a.b"']) expect(stdout).toContain(`\n[policy.${group}]\n`);
  writeFileSync(file, stdout);
  expect((await among("show")).stdout.replace(/ # .*/g, "")).toBe(stdout.replace(/ # .*/g, ""));
  writeFileSync(file, '[policy."DOM\\\\nobody else"]\nmax-file-size = 2\n');
  expect((await among("check")).stderr).toStartWith(`${file}:1: [policy."DOM\\\\nobody else"]: there is no group 'DOM\\nobody else'; `);
  writeFileSync(file, '\n[policy."two:fields"]\nmax-file-size = 2\n');
  expect((await among("check")).stderr).toStartWith(`${file}:2: there is no section [policy.two:fields]; `);
});

test("show prints what is in force, from files and not from the caller's environment, as a file that says the same", async () => {
  await using directory = await temporaryDirectory();
  const file = `${directory.path}/copyd.toml`;
  writeFileSync(file, "[jobs]\nmax-running = 9\n");
  const shown = await copyd("show", "--config", file);
  expect(shown.stdout).toMatch(new RegExp(`^max-running = 9 +# ${file}:2$`, "m"));
  expect(shown.stdout).toMatch(/^log-level = "info" +# standard$/m);
  const again = `${directory.path}/again.toml`;
  writeFileSync(again, shown.stdout);
  const values = (path: string): unknown[] =>
    examineConfig([`--config=${path}`], {}).settings.map(({ section, key, value }) => [section, key, value]);
  expect(values(again)).toEqual(values(file));
  const json = (await copyd("show", "--json", "--config", file)).stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(json).toContainEqual({ type: "setting", section: "jobs", key: "max-running", value: 9, origin: `${file}:2` });
});

test("anything else than check and show is a mistake", async () => {
  const result = await copyd("chek");
  expect([result.status, result.stdout]).toEqual([1, ""]);
  expect(result.stderr).toContain("copyd config check");
  // A file is not an operand: else /etc/copyd/copyd.toml would seem to be that file.
  const operand = await copyd("check", "/some/file.toml");
  expect([operand.status, operand.stderr]).toEqual([1, expect.stringContaining("extra operand '/some/file.toml'")]);
});
