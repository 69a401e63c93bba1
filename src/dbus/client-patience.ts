// What a client does where the service goes meanwhile: it waits for its return, and makes again the calls that may be made twice.

import type { CopyError, FailureCode } from "../errors.ts";
import { clientError } from "./client-errors.ts";

/** How long a service that has gone is left to come back by itself before a call starts it, and how often that is tried. */
const returnMs = 3_000;
const maxReturnAttempts = 20;
/** It is just ending, cannot be started while it does, or ended once more. */
const passing: ReadonlySet<FailureCode> = new Set(["shutting-down", "no-service", "timed-out"]);

export class Patience {
  private readonly waiting = new Set<() => void>();
  private isOver = false;

  /**
   * Again and again where the service went meanwhile, for calls that may be made twice. Throws what went wrong first, or, where that
   * happened, that a call's fate is not known.
   */
  async during<Result>(action: () => Promise<Result>): Promise<Result> {
    let first: CopyError | null = null;
    for (let attempt = 1; ; attempt++) {
      try {
        return await action();
      } catch (cause) {
        const error = clientError(cause);
        if (first === null || error.code === "timed-out") first = error;
        if (!passing.has(error.code) || attempt >= maxReturnAttempts || this.isOver) throw first;
        await this.untilBack();
      }
    }
  }

  /** Resolves when the service is back, or after the time that it is left for that. */
  async untilBack(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.waiting.add(resolve);
    const timer = setTimeout(resolve, returnMs);
    await promise;
    this.waiting.delete(resolve);
    clearTimeout(timer);
  }

  serviceIsBack(): void {
    for (const wake of this.waiting) wake();
  }

  /** Nobody waits any more. */
  end(): void {
    this.isOver = true;
    this.serviceIsBack();
  }
}
