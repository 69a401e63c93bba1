// Help of the commands beside cp and mv: as wide as it may be, and whole.

import { expect, test } from "bun:test";
import { commandHelp } from "../../src/cli/command-help.ts";
import { namedCommands } from "../../src/cli/commands.ts";
import { copydCommand, plainEnvironment, runCopyd } from "../support/cli.ts";
import { havePrograms, run } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";

const commands = await namedCommands();
const wordsOf = (text: string): string[] => text.split(/\s+/).filter((word) => word !== "");

test("every command's help fits the width, and says everything at any", () => {
  for (const command of commands) {
    const wide = commandHelp(command, 1000);
    for (const { description } of Object.values(command.args)) expect(wide).toContain(`  ${description}\n`);
    for (const width of [50, 60, 80, 132]) {
      const text = commandHelp(command, width);
      expect(text.split("\n").filter((line) => line.length > width)).toEqual([]);
      expect(wordsOf(text)).toEqual(wordsOf(wide));
    }
  }
});

test("operands stand before the options, those in brackets may be left out", () => {
  const answer = commands.find(({ name }) => name === "answer");
  expect(answer?.help()).toMatch(
    /^Usage: copyd answer \[OPTION\]... JOB \[CHOICE\]\n\nShow [^\n]*\.\n\n {2}JOB [\s\S]*\n {2}CHOICE [\s\S]*\n {6}--json /,
  );
});

test("copyd help COMMAND is what copyd COMMAND --help says, and copyd help what copyd --help does", async () => {
  for (const [asked, same] of [
    ["help", "--help"],
    ["help help", "--help"],
    ["help cp", "cp --help"],
    ["help jobs", "jobs --help"],
    ["help daemon", "daemon --help"],
    ["daemon -h", "daemon --help"],
    ["daemon --session -h", "daemon --help"],
  ] as const) {
    const { status, stdout, stderr } = await runCopyd(asked.split(" "));
    expect([asked, status, stderr]).toEqual([asked, 0, ""]);
    expect(stdout).toStartWith("Usage: copyd ");
    expect(stdout).toBe((await runCopyd(same.split(" "))).stdout);
  }
});

test("copyd help of what is no command names it, as the command itself would", async () => {
  for (const [line, complaint] of [
    ["nope", "copyd: unknown command 'nope'"],
    ["help nope", "copyd: unknown command 'nope'"],
    ["help cp mv", "copyd help: extra operand 'mv'"],
  ] as const) {
    const { status, stdout, stderr } = await runCopyd(line.split(" "));
    expect([line, status, stdout, stderr.split("\n")[0]]).toEqual([line, 1, "", complaint]);
  }
});

test("in a pipe all help has 80 columns", async () => {
  for (const line of ["--help", "jobs --help", "daemon --help"]) {
    const { stdout } = await runCopyd(line.split(" "));
    expect([line, stdout.split("\n").filter((text) => text.length > 80)]).toEqual([line, []]);
  }
});

testUnless(havePrograms("script") ? null : "script (util-linux) is not installed", "on a terminal it has what that has", async () => {
  const line = `stty cols 60; ${copydCommand("jobs", "--help").join(" ")}`;
  const { stdout } = await run(["script", "-qec", line, "/dev/null"], { env: plainEnvironment });
  expect(stdout).toContain("Usage: copyd jobs");
  const longest = Math.max(...stdout.split(/\r?\n/).map((text) => text.length));
  expect([longest > 50, longest <= 60]).toEqual([true, true]);
});
