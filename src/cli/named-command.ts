// One command beside cp and mv as citty defines it: its options, its help, and how it is run.

import { type ArgsDef, defineCommand, type ParsedArgs, runCommand } from "citty";
import { CopyError } from "../errors.ts";
import { commandHelp, lettersOf } from "./command-help.ts";

export interface NamedCommand {
  readonly name: string;
  readonly description: string;
  /** As citty takes them; the manual page and the completions are made from these. */
  readonly args: ArgsDef;
  /** As they are typed: "--all", "-a". */
  readonly options: ReadonlySet<string>;
  /** Whether a word like -1 is an operand: one that it refuses, but knows to refuse with a reason. */
  readonly takesNumbers?: boolean;
  readonly help: () => string;
  /** Resolves to the exit status. */
  readonly run: (rawArgs: readonly string[]) => Promise<number>;
}

export function named<const Args extends ArgsDef>(
  name: string,
  description: string,
  args: Args,
  run: (args: ParsedArgs<Args>) => Promise<number>,
): NamedCommand {
  const command = defineCommand({
    meta: { name, description },
    args,
    run: (context) => {
      requireNoMore(args, context.args._);
      return run(context.args);
    },
  });
  return {
    name,
    description,
    args,
    options: optionsOf(args),
    help: () => commandHelp({ name, description, args }),
    run: async (rawArgs) => {
      const { result } = await runCommand(command, { rawArgs: [...rawArgs] });
      return Number(result);
    },
  };
}

/** citty drops what it has no name for: `copyd cancel A B` would cancel A, and say nothing of B. */
function requireNoMore(args: ArgsDef, operands: readonly string[]): void {
  const taken = Object.values(args).filter(({ type }) => type === "positional");
  const extra = taken.some(({ valueHint }) => valueHint?.endsWith("...")) ? undefined : operands[taken.length];
  if (extra !== undefined) throw new CopyError("usage", `extra operand '${extra}'`);
}

function optionsOf(args: ArgsDef): ReadonlySet<string> {
  const options = new Set<string>();
  for (const [name, definition] of Object.entries(args)) {
    if (definition.type === "positional") continue;
    options.add(`--${name}`);
    for (const letter of lettersOf(definition)) options.add(letter);
  }
  return options;
}
