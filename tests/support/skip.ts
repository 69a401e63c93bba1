// Tests that need more than every machine has: a test that cannot run is skipped under a name that says why.

import { describe, test } from "bun:test";

/** Defines a test that is skipped for a reason (null: it runs). The reason stands in the test's name. */
export function testUnless(reason: string | null, name: string, body: () => void | Promise<void>, timeoutMs?: number): void {
  const title = reason === null ? name : `${name} [skipped: ${reason}]`;
  test.skipIf(reason !== null)(title, body, timeoutMs);
}

/** As testUnless, for a group of tests. */
export function describeUnless(reason: string | null, name: string, body: () => void): void {
  const title = reason === null ? name : `${name} [skipped: ${reason}]`;
  describe.skipIf(reason !== null)(title, body);
}

/** The first reason there is, or null. */
export function firstReason(...reasons: readonly (string | null)[]): string | null {
  return reasons.find((reason) => reason !== null) ?? null;
}

export function unlessRoot(): string | null {
  return process.getuid?.() === 0 ? null : "needs root";
}
