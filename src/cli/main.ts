// The CLI: `copyd cp`, `copyd mv`, and the commands that speak to the service.

/** Runs one command: argv without the runtime and the script, e.g. ["cp", "-a", "x", "y"]. Resolves to the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv;
  switch (command) {
    case "cp":
    case "mv":
      return (await import("./copy-command.ts")).runCopyCommand(command, rest);
    case undefined:
    case "help":
    case "-h":
    case "--help":
      return (await import("./main-help.ts")).printMainHelp({ asked: command !== undefined });
    case "-V":
    case "--version":
      return (await import("./main-help.ts")).printVersion();
    default:
      return (await import("./commands.ts")).runNamedCommand(command, rest);
  }
}
