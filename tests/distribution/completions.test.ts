// The completions know every command and every option that the command line takes, and work in their shells.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { commandLine } from "../../scripts/command-line.ts";
import { cpTable, mvTable } from "../../src/cli/copy-tables.ts";
import { daemonHelp } from "../../src/cli/main-help.ts";
import { havePrograms, run } from "../support/process.ts";
import { testUnless } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

const folder = join(import.meta.dir, "../../completions");
const bash = join(folder, "copyd.bash");
const zsh = join(folder, "_copyd");
const fish = join(folder, "copyd.fish");
const unless = (shell: string): string | null => (havePrograms(shell) ? null : `${shell} is not installed`);
const commands = await commandLine();

for (const [name, table] of [
  ["cp", cpTable],
  ["mv", mvTable],
] as const) {
  test(`the description of ${name} has every option that its parser takes, with the right kind of argument, and no other`, () => {
    const described = new Map(
      commands
        .find((command) => command.name === name)
        ?.options.flatMap(({ spellings, argument }) => spellings.map((spelling) => [spelling, argument])),
    );
    // --path is coreutils' old name of --parents, which it does not tell anybody either. mv takes two options only to say why it
    // cannot do that.
    const untold = name === "cp" ? ["path"] : ["path", "also", "manifest"];
    const long = [...table.long, ...table.additional]
      .filter((option) => !untold.includes(option.long))
      .map((option) => [`--${option.long}`, option.argument]);
    const short = Object.entries(table.short).map(([letter, option]) => [`-${letter}`, option.argument]);
    for (const [spelling, argument] of [...long, ...short]) {
      const known = described.get(String(spelling));
      // A letter shares its row with a long option, whose argument may be optional.
      if (String(spelling).startsWith("--") || known !== "optional") expect([spelling, known]).toEqual([spelling, argument]);
    }
    expect([...described.keys()].sort()).toEqual([...long, ...short].map(([spelling]) => String(spelling)).sort());
  });
}

test("the description of the daemon has the options that its help has", () => {
  const options = commands.find(({ name }) => name === "daemon")?.options.flatMap(({ spellings }) => spellings) ?? [];
  const told = [...daemonHelp.matchAll(/^ {2}(--[a-z-]+)/gm)].map(([, option]) => option ?? "");
  expect(options.filter((option) => option !== "--help")).toEqual(told);
});

test("each shell's file has every option of every command", () => {
  const texts = { bash: readFileSync(bash, "utf8"), zsh: readFileSync(zsh, "utf8"), fish: readFileSync(fish, "utf8") };
  for (const { name, options } of commands) {
    for (const spelling of options.flatMap(({ spellings }) => spellings)) {
      const word = spelling.startsWith("--") ? `-l ${spelling.slice(2)}` : `-s ${spelling.slice(1)}`;
      const fishLine = new RegExp(`^complete .*__fish_seen_subcommand_from ${name}'.* ${word}( |$)`, "m");
      expect([name, spelling, fishLine.test(texts.fish)]).toEqual([name, spelling, true]);
      const inBash = new RegExp(`^ {2}${name}\\)\\n[\\s\\S]*?options='[^']*(?<=[' ])${spelling}=?[ ']`, "m");
      expect([name, spelling, inBash.test(texts.bash)]).toEqual([name, spelling, true]);
      const inZsh = new RegExp(`^ {2}${name}\\)\\n(?:(?! {4};;)[\\s\\S])*?'\\*${spelling}[=+[]`, "m");
      expect([name, spelling, inZsh.test(texts.zsh)]).toEqual([name, spelling, true]);
    }
  }
});

testUnless(unless("bash"), "bash completes commands, options, their words and files", async () => {
  await using directory = await temporaryDirectory();
  await Bun.write(`${directory.path}/a file`, "");
  const script = `source ${bash}
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _copyd 2>/dev/null; (IFS='|'; echo "\${COMPREPLY[*]}"); }
try copyd ca
try copyd cp --arch
try copyd cp --engine = i
try copyd cp --engine re
try copyd cp --reflink =
try copyd mv --excha
try copyd config s
try copyd cp 'a f'
try copyd cp -S a
try copyd priority --session job h
try copyd limit job 10
try copyd help do
`;
  const { stdout, stderr } = await run(["bash", "--norc", "-c", script], { cwd: directory.path });
  expect([stderr, stdout.trimEnd().split("\n")]).toEqual([
    "",
    [
      "cancel",
      "--archive",
      "io-uring",
      "reflink|read-write",
      "auto|always|never",
      "--exchange",
      "show",
      "a file",
      "",
      "high",
      "10M|100M",
      "doctor",
    ],
  ]);
});

testUnless(unless("zsh"), "zsh takes its file without an error", async () => {
  expect(await run(["zsh", "-f", "-n", zsh])).toMatchObject({ status: 0, stderr: "" });
});

testUnless(unless("fish"), "fish completes commands, options and their words", async () => {
  await using directory = await temporaryDirectory();
  const script = `source ${fish}; complete -C 'copyd ca'; complete -C 'copyd cp --arch'; complete -C 'copyd cp --engine=io'; complete -C 'copyd config s'; complete -C 'copyd priority --session job h'`;
  const env = { PATH: process.env.PATH ?? "", HOME: directory.path, XDG_CONFIG_HOME: directory.path, XDG_DATA_HOME: directory.path };
  const { stdout } = await run(["fish", "--no-config", "-c", script], { env });
  expect(
    stdout
      .trim()
      .split("\n")
      .map((line) => line.split("\t")[0]),
  ).toEqual(["cancel", "--archive", "--engine=io-uring", "show", "high"]);
});
