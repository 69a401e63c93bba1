// The command line as data, from the tables that parse it: what the manual page and the completions are made from.

import { hintOf, lettersOf, synopsisOf } from "../src/cli/command-help.ts";
import { namedCommands } from "../src/cli/commands.ts";
import { copyHelpRows } from "../src/cli/copy-help.ts";
import * as tables from "../src/cli/copy-tables.ts";
import type { ArgumentKind } from "../src/cli/getopt.ts";
import type { NamedCommand } from "../src/cli/named-command.ts";
import { places } from "../src/cli/steer-commands.ts";
import { statisticsKeys, statisticsOrders } from "../src/jobs/api.ts";
import { logLevels } from "../src/log.ts";
import { priorities } from "../src/request.ts";
import { answerChoices } from "../src/worker/protocol.ts";

export interface CommandOption {
  /** As typed, without arguments: "-a", "--archive"; at least one. */
  readonly spellings: readonly string[];
  readonly argument: ArgumentKind;
  /** What stands for the argument in texts; "" where there is none. */
  readonly placeholder: string;
  /** What the argument can be: words, or where to look for it. */
  readonly values: readonly string[] | "file" | "directory" | "anything";
  readonly about: string;
}

export interface Command {
  readonly name: string;
  readonly about: string;
  readonly options: readonly CommandOption[];
  /** What its operands are. */
  readonly operands: "files" | "jobs" | "nothing" | readonly string[];
  /** What those after the first can be, where they are something else; none otherwise. */
  readonly laterOperands: readonly string[];
  /** As in a synopsis. */
  readonly usage: string;
  /** What the operands in the synopsis are, but for JOB, which is the same everywhere. */
  readonly operandNotes: readonly (readonly [name: string, about: string])[];
}

const words: Readonly<Record<string, readonly string[]>> = {
  "--backup": tables.backupWords.map(([word]) => word),
  "--update": tables.updateWords.map(([word]) => word),
  "--sparse": tables.sparseWords.map(([word]) => word),
  "--reflink": tables.reflinkWords.map(([word]) => word),
  "--preserve": tables.preserveWords.map(([word]) => word),
  "--no-preserve": tables.preserveWords.map(([word]) => word),
  "--progress": tables.progressWords.map(([word]) => word),
  "--verify": tables.verifyWords.map(([word]) => word),
  "--durability": tables.durabilityWords.map(([word]) => word),
  "--cache": tables.cacheWords.map(([word]) => word),
  "--engine": tables.engineWords.map(([word]) => word),
  "--by": statisticsKeys,
  "--order": statisticsOrders,
};

/** What stands for an operand in a synopsis, and what it can be; of rates, some to begin with. */
const operandWords: Readonly<Record<string, readonly string[]>> = {
  PRIORITY: [...priorities, ...places],
  RATE: ["0", "1M", "10M", "100M"],
  CHOICE: answerChoices,
};

/** Every command, cp and mv first. */
export async function commandLine(): Promise<readonly Command[]> {
  const all = [
    copyCommand("cp", "Copy, with everything that GNU cp takes"),
    copyCommand("mv", "Move, with everything that GNU mv takes"),
    ...(await namedCommands()).map(fromCitty),
    daemon,
  ];
  return [...all, helpOn(all.map(({ name }) => name))];
}

/** What the rows of the help say; a test compares it with the table that parses. */
function copyCommand(name: "cp" | "mv", about: string): Command {
  const { options, own } = copyHelpRows(name);
  return {
    name,
    about,
    operands: "files",
    laterOperands: [],
    usage: `[OPTION]... SOURCE... DESTINATION`,
    operandNotes: [],
    options: [...options, ...own].flatMap(([typed, meaning]) => fromRow(typed, meaning)),
  };
}

function fromRow(typed: string, meaning: string): CommandOption[] {
  const about = meaning.replaceAll("\n", " ");
  // Two options that share a row, not two spellings of one.
  if (typed === "--help, --version")
    return ["--help", "--version"].map((spelling) =>
      option([spelling], "none", "", spelling === "--help" ? "say what it takes" : "say the version"),
    );
  const argument = /(\[?)=([^\],]+)\]?$/.exec(typed);
  const kind = argument === null ? "none" : argument[1] === "[" ? "optional" : "required";
  const spellings = typed.replace(/\[?=.*$/, "").split(", ");
  return [option(spellings, kind, argument?.[2] ?? "", about)];
}

function option(spellings: readonly string[], argument: ArgumentKind, placeholder: string, about: string): CommandOption {
  const listed = spellings.map((spelling) => words[spelling]).find((list) => list !== undefined);
  const values =
    listed ??
    (placeholder === "DIR" || placeholder === "DIRECTORY"
      ? "directory"
      : placeholder === "FILE" || placeholder === "DEST"
        ? "file"
        : "anything");
  return { spellings, argument, placeholder, values, about };
}

function fromCitty({ name, description, args }: NamedCommand): Command {
  const options: CommandOption[] = [];
  let operands: Command["operands"] = "nothing";
  let laterOperands: readonly string[] = [];
  const operandNotes: (readonly [string, string])[] = [];
  for (const [key, definition] of Object.entries(args)) {
    const about = definition.description ?? "";
    const hint = hintOf(definition);
    if (definition.type === "positional") {
      if (hint !== "JOB") operandNotes.push([hint, about]);
      if (operands !== "nothing") laterOperands = operandWords[hint] ?? [];
      if (operands === "nothing") operands = hint.startsWith("JOB") ? "jobs" : hint.startsWith("PATH") ? "files" : hint.split("|");
      continue;
    }
    options.push(option([...lettersOf(definition), `--${key}`], definition.type === "boolean" ? "none" : "required", hint, about));
  }
  options.push(option(["--help"], "none", "", "Say what it takes"));
  return { name, about: description, options, operands, laterOperands, usage: synopsisOf(args), operandNotes };
}

/** src/config.ts parses these; a test compares. */
const daemon: Command = {
  name: "daemon",
  about: "The service; systemd or D-Bus start it",
  operands: "nothing",
  laterOperands: [],
  usage: "[OPTION]...",
  operandNotes: [],
  options: [
    option(["--session"], "none", "", "Serve the user's session bus, with the user's own rights"),
    option(["--config"], "required", "FILE", "Settings in TOML instead of /etc/copyd/copyd.toml"),
    { ...option(["--log-level"], "required", "LEVEL", "What is logged: this level and those before it"), values: [...logLevels] },
    option(["--set"], "required", "SECTION.KEY=VALUE", "One setting, as jobs.max-running=2"),
    option(["--help"], "none", "", "Say what it takes"),
  ],
};

function helpOn(names: readonly string[]): Command {
  return {
    name: "help",
    about: "Say what there is, or what a command takes",
    operands: names,
    laterOperands: [],
    usage: "[COMMAND]",
    operandNotes: [["COMMAND", "The same as copyd COMMAND --help"]],
    options: [option(["--help"], "none", "", "Say what there is")],
  };
}
