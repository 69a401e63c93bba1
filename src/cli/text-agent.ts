// Lets polkit ask for a password on this terminal: runs pkttyagent for this process while the service is asked, as systemd's tools do.

import { existsSync } from "node:fs";
import { isatty } from "node:tty";

/** Who asks is a child that must not outlive us, with the terminal still its own. */
const programs = { agent: "/usr/bin/pkttyagent", setpriv: "/usr/bin/setpriv" };
/** It registers with polkit within some ten milliseconds, starting polkit included; without it the call goes on. */
const registrationMs = 10_000;

export interface TextAgent extends AsyncDisposable {
  /** Why nobody can be asked here but by a desktop's own dialogue, or null. */
  readonly problem: string | null;
}

/**
 * Starts the agent and resolves once polkit knows it, or once it is clear that it never will. It stands back where the session has
 * an agent of its own (--fallback). Disposing of it ends it and gives the terminal back.
 */
export async function startTextAgent(agent = programs.agent): Promise<TextAgent> {
  // root is asked nothing; and without a terminal there is nobody to ask.
  if (process.geteuid?.() === 0) return none(null);
  if (!isatty(0)) return none("standard input is no terminal on which a password could be asked for");
  if (!existsSync(agent)) return none(`${agent} is not installed (it comes with polkit), so no password can be asked for here`);
  const command = [agent, "--process", String(process.pid), "--notify-fd", "1", "--fallback"];
  // It closes standard output when it is registered; what it asks goes to the terminal itself.
  const child = Bun.spawn(existsSync(programs.setpriv) ? [programs.setpriv, "--pdeathsig=TERM", "--", ...command] : command, {
    stdin: "inherit",
    stdout: "pipe",
    stderr: "pipe",
  });
  const complaint = child.stderr.text();
  await Promise.race([child.stdout.text(), Bun.sleep(registrationMs)]);
  const hasEnded = await Promise.race([child.exited.then(() => true), Bun.sleep(0).then(() => false)]);
  return {
    problem: hasEnded ? `pkttyagent did not start: ${(await complaint).trim()}` : null,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

function none(problem: string | null): TextAgent {
  return { problem, [Symbol.asyncDispose]: () => Promise.resolve() };
}
