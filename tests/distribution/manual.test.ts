// The manual pages and the example of settings: without a complaint of groff's, and saying what the code says.

import { expect, test } from "bun:test";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { examineConfig, standardSettings } from "../../src/config.ts";
import { contract } from "../../src/dbus/contract.ts";
import { failures } from "../../src/errors.ts";
import { havePrograms, run } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const repository = join(import.meta.dir, "../..");
const unlessGroff = havePrograms("groff") ? null : "groff is not installed";
const read = (path: string): string => readFileSync(join(repository, path), "utf8");

test("there is a page for the command, the service, the settings and the interface", () => {
  expect(readdirSync(join(repository, "man")).sort()).toEqual(["copyd.1", "copyd.8", "copyd.conf.5", "org.copyd.Copyd1.5"]);
});

for (const page of readdirSync(join(repository, "man"))) {
  testUnless(unlessGroff, `groff has nothing to say about ${page}`, async () => {
    const { status, stdout, stderr } = await run(["groff", "-man", "-Tutf8", "-ww", "-z", join(repository, "man", page)]);
    expect([status, stdout, stderr]).toEqual([0, "", ""]);
  });
}

test("the interface's page and its Markdown have every member and every error", () => {
  const page = read("man/org.copyd.Copyd1.5");
  const markdown = read("docs/org.copyd.Copyd1.md");
  for (const [name, { methods, signals, properties }] of Object.entries(contract)) {
    for (const member of [...Object.keys(methods), ...Object.keys(signals), ...Object.keys(properties)]) {
      expect(page).toMatch(new RegExp(`^\\.SS ".*: ${member}[( ]`, "m"));
      expect(markdown).toMatch(new RegExp(`^### .* \`${member}[( ]`, "m"));
    }
    expect(markdown).toContain(`## ${name}`);
  }
  for (const { dbusName } of Object.values(failures)) expect(markdown).toContain(`\`${dbusName}\``);
});

test("the example of settings has every setting with its standard value, and is right with and without its comment signs", async () => {
  await using directory = await temporaryDirectory();
  const path = join(directory.path, "copyd.toml");
  const example = read("docs/copyd.toml");
  writeFileSync(path, example);
  expect(examineConfig([`--config=${path}`], {})).toMatchObject({ problems: [] });
  writeFileSync(path, example.replace(/^#(?=[a-z-]+ = )/gm, ""));
  const { problems, settings } = examineConfig([`--config=${path}`], {});
  expect(problems).toEqual([]);
  expect(settings.filter(({ origin }) => origin === null)).toEqual([]);
  const standard = Object.values(standardSettings()).flatMap((section) => Object.values(section));
  expect(settings.map(({ value }) => value)).toEqual(standard);
});

test("the pages for administrators name every polkit action and the settings' page every key", () => {
  const service = read("man/copyd.8").replaceAll("\\-", "-");
  for (const [, action] of read("dbus/org.copyd.policy").matchAll(/<action id="([^"]+)"/g)) expect(service).toContain(action ?? "?");
  const page = read("man/copyd.conf.5").replaceAll("\\-", "-");
  for (const { key } of examineConfig(["--config=/dev/null"], {}).settings) expect(page).toContain(`\\fB${key}\\fR = `);
});
