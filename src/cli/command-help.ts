// `copyd COMMAND --help` of the commands beside cp and mv, no wider than the terminal.

import type { ArgDef, ArgsDef } from "citty";
import { tableWidth } from "./table.ts";

/** Where nobody tells how wide it may be. */
const usualColumns = 80;
/** Narrower than this, what an option means stands below it. */
const leastMeaningColumns = 30;
const gap = 2;

interface Described {
  readonly name: string;
  readonly description: string;
  readonly args: ArgsDef;
}

/** The text, with the last newline. */
export function commandHelp({ name, description, args }: Described, width = tableWidth() ?? usualColumns): string {
  const isOperand = ([, { type }]: readonly [string, ArgDef]): boolean => type === "positional";
  const all = Object.entries(args);
  const operands = all.filter(isOperand).map(([, operand]) => [hintOf(operand), operand.description ?? ""] as const);
  const options = all
    .filter((argument) => !isOperand(argument))
    .map(([key, option]) => [spelt(key, option), option.description ?? ""] as const);
  const rows = [...operands, ...options, ["    --help", "This text"] as const];
  const column = gap + Math.max(...rows.map(([typed]) => typed.length)) + gap;
  return [
    `Usage: copyd ${name} ${synopsisOf(args)}\n`,
    ...wrapped(`${description}.`, width),
    "",
    ...rows.flatMap(([typed, meaning]) => row(typed, meaning, column, width)),
    "",
  ].join("\n");
}

/** "[OPTION]... JOB [CHOICE]" */
export function synopsisOf(args: ArgsDef): string {
  const operands = Object.values(args).filter(({ type }) => type === "positional");
  return ["[OPTION]...", ...operands.map((operand) => (operand.required === false ? `[${hintOf(operand)}]` : hintOf(operand)))].join(" ");
}

/** The options of one letter that an argument may also be given by. */
export function lettersOf(argument: ArgDef): readonly string[] {
  const alias = "alias" in argument ? argument.alias : undefined;
  return (typeof alias === "string" ? [alias] : (alias ?? [])).map((letter) => `-${letter}`);
}

/** What stands for an operand or an option's argument; "" where there is none. */
export function hintOf(argument: ArgDef): string {
  return "valueHint" in argument ? (argument.valueHint ?? "") : "";
}

function spelt(key: string, option: ArgDef): string {
  const letters = lettersOf(option).join(", ");
  const hint = hintOf(option);
  return `${letters === "" ? "    " : `${letters}, `}--${key}${hint === "" ? "" : `=${hint}`}`;
}

function row(typed: string, meaning: string, column: number, width: number): string[] {
  const isBeside = width - column >= leastMeaningColumns;
  const indent = " ".repeat(isBeside ? column : 3 * gap);
  const lines = wrapped(meaning, width - indent.length).map((line) => indent + line);
  const head = " ".repeat(gap) + typed;
  return isBeside ? [head + (lines[0] ?? "").slice(head.length), ...lines.slice(1)] : [head, ...lines];
}

/** At spaces; a word that is too long keeps a line of its own. */
function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
