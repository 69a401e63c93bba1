// The CLI: `copyd cp`, `copyd mv`, and the commands that speak to the service.

/** Runs one command: argv without the runtime and the script, e.g. ["cp", "-a", "x", "y"]. Resolves to the exit status. */
export async function main(argv: readonly string[]): Promise<number> {
  const [command, ...rest] = argv;
  if (command === "cp" || command === "mv") {
    const { runCopyCommand } = await import("./copy-command.ts");
    return runCopyCommand(command, rest);
  }
  return 0;
}
