// argv -> role, by dynamic import, so that each role loads its own rooms only. Nothing else.

/** The binary linked as `cp` or `mv` is that command. */
const calledAs = process.argv0.slice(process.argv0.lastIndexOf("/") + 1);
const args = process.argv.slice(2);
const argv = calledAs === "cp" || calledAs === "mv" ? [calledAs, ...args] : args;

// Not process.exit(): it would cut off output that a slow pipe has yet to take. What a role opens, it closes.
process.exitCode = await runRole(argv);

async function runRole([role, ...rest]: readonly string[]): Promise<number> {
  // Its help is for people, as the CLI is.
  if (role === "daemon" && !rest.includes("--help") && !rest.includes("-h")) return (await import("./daemon/daemon.ts")).main(rest);
  if (role === "worker") return (await import("./worker/start.ts")).main(rest);
  return (await import("./cli/main.ts")).main(argv);
}
