// The CLI: `copyd cp`, `copyd mv`, and the commands that speak to the service.

import { dropAhead, startAhead } from "../worker/ahead.ts";
import { isCalledAsCp, isSurelyEmbedded, isSurelyTheServices, looksLikeOneNewFile } from "./embedded-ahead.ts";

/** Runs one command: argv without the runtime and the script, e.g. ["cp", "-a", "x", "y"]. Resolves to the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  try {
    return await run(argv);
  } catch (error) {
    const { OutputLost, writeText } = await import("./output.ts");
    if (!(error instanceof OutputLost)) throw error;
    const [command = ""] = argv;
    const called = command === "cp" || command === "mv" ? command : `copyd ${command.startsWith("-") ? "" : command}`.trimEnd();
    if (!error.isSilent) writeText("stderr", `${called}: ${error.message}\n`);
    return error.exitStatus;
  }
}

async function run([command, ...rest]: readonly string[]): Promise<number> {
  switch (command) {
    case "cp":
    case "mv":
      return await runCopy(command, rest);
    case "help":
      return await runHelp(rest);
    case undefined:
    case "-h":
    case "--help":
      return (await import("./main-help.ts")).printMainHelp({ asked: command !== undefined });
    case "-V":
    case "--version":
      return (await import("./main-help.ts")).printVersion();
    case "daemon":
      return (await import("./main-help.ts")).printDaemonHelp();
    default:
      return (await import("./commands.ts")).runNamedCommand(command, rest);
  }
}

/** `copyd help COMMAND` is `copyd COMMAND --help`. */
async function runHelp([command, extra]: readonly string[]): Promise<number> {
  if (command === undefined || command === "help") return await run(["--help"]);
  if (extra !== undefined) return (await import("./commands.ts")).usageError("copyd help", `extra operand '${extra}'`);
  return await run([command, "--help"]);
}

/** Who will surely be needed is called before anything else is loaded: a cp of one small file is mostly loading. */
async function runCopy(program: "cp" | "mv", rest: readonly string[]): Promise<number> {
  const calledAsCp = isCalledAsCp();
  if (isSurelyEmbedded(rest, { calledAsCp })) startAhead(program === "cp" && looksLikeOneNewFile(rest) ? "one small file" : "more");
  const service = isSurelyTheServices(rest, { calledAsCp }) ? await import("./service-ahead.ts") : null;
  await service?.connectAhead();
  try {
    return await (await import("./copy-command.ts")).runCopyCommand(program, rest);
  } finally {
    dropAhead();
    service?.dropConnection();
  }
}
