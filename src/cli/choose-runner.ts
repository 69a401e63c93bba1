// Who runs the job of cp and mv: this process, until the service's client is there to be asked.

import type { Runner } from "./runner.ts";

/** Loads what the runner needs, and nothing else: a cp of one small file is mostly loading. */
export async function chooseRunner(): Promise<Runner> {
  return (await import("./embedded-runner.ts")).runEmbedded;
}
