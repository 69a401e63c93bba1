// Lets polkit ask for a password on this terminal: runs pkttyagent for this process while the service is asked, as systemd's tools do.

import { existsSync } from "node:fs";
import { isatty } from "node:tty";
import { CopyError } from "../errors.ts";

const agentPath = "/usr/bin/pkttyagent";
const setprivPath = "/usr/bin/setpriv";
/** It registers within some ten milliseconds, starting polkit included. A call that finds it unregistered is refused, not lost. */
const registrationMs = 10_000;

export interface TextAgent extends AsyncDisposable {
  /** Why nobody can be asked on this terminal, or null. */
  readonly problem: string | null;
}

/**
 * Starts the agent and resolves once polkit knows it, or once it is clear that it never will. "fallback": it stands back where the
 * session has an agent of its own; polkit passes such an agent over where there is no session at all, hence "only". Disposing of it
 * ends it and gives the terminal back.
 */
export async function startTextAgent(role: "fallback" | "only"): Promise<TextAgent> {
  // root is asked nothing; and without a terminal there is nobody to ask.
  if (process.geteuid?.() === 0) return none(null);
  if (!isatty(0)) return none("standard input is no terminal on which a password could be asked for");
  if (!existsSync(agentPath)) return none(`${agentPath} is not installed (it comes with polkit), so no password can be asked for here`);
  const options = ["--process", String(process.pid), "--notify-fd", "1", ...(role === "fallback" ? ["--fallback"] : [])];
  // It must not ask on for somebody who was killed.
  const withUs = existsSync(setprivPath) ? [setprivPath, "--pdeathsig=TERM", "--"] : [];
  const child = Bun.spawn([...withUs, agentPath, ...options], { stdin: "inherit", stdout: "pipe", stderr: "pipe" });
  const complaint = child.stderr.text();
  // It closes standard output when it is registered, or ends; what it asks goes to the terminal itself.
  const { promise: timedOut, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, registrationMs);
  await Promise.race([child.stdout.text(), timedOut]);
  clearTimeout(timer);
  // An end that was the reason for the closing is known a moment later.
  const ended = await Promise.race([child.exited, Bun.sleep(20).then(() => null)]);
  return {
    problem: ended === null ? null : `pkttyagent did not start: ${(await complaint).trim()}`,
    [Symbol.asyncDispose]: async () => {
      child.kill("SIGTERM");
      await child.exited;
    },
  };
}

/** Asks the service for what polkit may want a password for, with an agent on this terminal for as long as that takes. */
export async function withTextAgent<Result>(ask: () => Promise<Result>): Promise<Result> {
  const attempt = async (role: "fallback" | "only"): Promise<{ readonly result: Result } | CopyError> => {
    await using agent = await startTextAgent(role);
    try {
      return { result: await ask() };
    } catch (error) {
      if (!(error instanceof CopyError) || error.code !== "authorization-required") throw error;
      return agent.problem === null ? error : new CopyError(error.code, `${error.message}; ${agent.problem}`, {}, error);
    }
  };
  const first = await attempt("fallback");
  const outcome = first instanceof CopyError && isatty(0) ? await attempt("only") : first;
  if (outcome instanceof CopyError) throw outcome;
  return outcome.result;
}

function none(problem: string | null): TextAgent {
  return { problem, [Symbol.asyncDispose]: () => Promise.resolve() };
}
