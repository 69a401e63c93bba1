// The commands beside cp and mv, through citty: which there are, their help, and what they say of mistakes.

import { CopyError } from "../errors.ts";
import type { NamedCommand } from "./named-command.ts";
import { writeText } from "./output.ts";
import { escapeControls } from "./terminal-text.ts";

/** Each loads its own file when it is called. */
const commands: Readonly<Record<string, () => Promise<NamedCommand>>> = {
  jobs: async () => (await import("./jobs-command.ts")).jobsCommand,
  show: async () => (await import("./show-command.ts")).showCommand,
  watch: async () => (await import("./watch-command.ts")).watchCommand,
  wait: async () => (await import("./wait-command.ts")).waitCommand,
  cancel: async () => (await import("./steer-commands.ts")).cancelCommand,
  pause: async () => (await import("./steer-commands.ts")).pauseCommand,
  resume: async () => (await import("./steer-commands.ts")).resumeCommand,
  forget: async () => (await import("./steer-commands.ts")).forgetCommand,
  answer: async () => (await import("./answer-command.ts")).answerCommand,
  limit: async () => (await import("./steer-commands.ts")).limitCommand,
  priority: async () => (await import("./steer-commands.ts")).priorityCommand,
  stats: async () => (await import("./stats-command.ts")).statsCommand,
  errors: async () => (await import("./errors-command.ts")).errorsCommand,
  audit: async () => (await import("./audit-command.ts")).auditCommand,
  config: async () => (await import("./config-command.ts")).configCommand,
  verify: async () => (await import("./verify-command.ts")).verifyCommand,
  doctor: async () => (await import("./doctor-command.ts")).doctorCommand,
};

/** All of them, in the order in which people look for them. */
export function namedCommands(): Promise<readonly NamedCommand[]> {
  return Promise.all(Object.values(commands).map((load) => load()));
}

/** Runs a command by its name; the exit status. */
export async function runNamedCommand(name: string, rawArgs: readonly string[]): Promise<number> {
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load === undefined) return usageError("copyd", `unknown command '${name}'`);
  const command = await load();
  const called = `copyd ${name}`;
  const args = command.takesNumbers === true ? withNumbersAsOperands(rawArgs) : rawArgs;
  const { options, wantsHelp } = look(args);
  if (wantsHelp) {
    writeText("stdout", command.help());
    return 0;
  }
  // citty takes any option without a word; a misspelt one must not be taken for none.
  const unknown = options.find((option) => !command.options.has(option));
  if (unknown !== undefined) return usageError(called, `unrecognized option '${unknown}'`);
  try {
    return await command.run(args);
  } catch (error) {
    if (error instanceof CopyError) {
      writeText("stderr", `${called}: ${escapeControls(error.message)}\n${error.advice}\n`);
      return error.failure.exitStatus;
    }
    // citty's own complaints, of a missing argument for one.
    if (error instanceof Error && error.name === "CLIError") return usageError(called, error.message);
    throw error;
  }
}

/** The words from the first like -1 or -5M on, behind "--": whatever an option begins with, it is no digit. */
function withNumbersAsOperands(rawArgs: readonly string[]): readonly string[] {
  const first = rawArgs.findIndex((argument) => argument === "--" || /^-\.?\d/.test(argument));
  return first === -1 || rawArgs[first] === "--" ? rawArgs : [...rawArgs.slice(0, first), "--", ...rawArgs.slice(first)];
}

function look(rawArgs: readonly string[]): { readonly options: readonly string[]; readonly wantsHelp: boolean } {
  const end = rawArgs.indexOf("--");
  const before = end === -1 ? rawArgs : rawArgs.slice(0, end);
  const options = before.filter((argument) => argument.startsWith("-") && argument !== "-").map((option) => option.replace(/=.*$/s, ""));
  return { options, wantsHelp: options.includes("--help") || options.includes("-h") };
}

/** Says what was typed wrong; the exit status of that. */
export function usageError(called: string, message: string): number {
  writeText("stderr", `${called}: ${escapeControls(message)}\nTry '${called} --help' for more information.\n`);
  return 1;
}
