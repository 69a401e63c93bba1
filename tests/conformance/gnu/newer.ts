// Cases whose expectation is written down, because the machine's own coreutils may be older than the release that they are about.

import { type Case, type CaseOptions, row } from "./case.ts";

export interface Known {
  readonly test: Case;
  /** The lines of the outcome, for root and for an ordinary user. */
  readonly expected: readonly string[];
}

/** One row of a table. */
export function newer(name: string, setup: string, run: string, expected: readonly string[], options: CaseOptions = {}): Known {
  return { test: row(name, setup, run, options), expected };
}
