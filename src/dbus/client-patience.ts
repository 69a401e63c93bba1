// What a client does where the service goes meanwhile: it waits for its return, and makes again the calls that may be made twice.

import { CopyError, type FailureCode } from "../errors.ts";
import { clientError } from "./client-errors.ts";

/** How long a service that has gone is left to come back by itself before a call starts it, and how often that is tried. */
const returnMs = 3_000;
const maxReturnAttempts = 20;
/** Attempts that are not answered at all are fewer: some minutes are enough to wait for a job's first word. Milliseconds. */
export const firstWordMs = 2 * 60_000;
/** It is just ending, cannot be started while it does, or ended once more. */
const passing: ReadonlySet<FailureCode> = new Set(["shutting-down", "no-service", "no-answer"]);

/**
 * What is asked before the service is asked for a job. Where that is not answered within the time, there is no job either, and no service
 * for it: throws CopyError `no-service`.
 */
export async function beforeAnyJob<Result>(asked: Promise<Result>, limitMs: number): Promise<Result> {
  const { promise: timedOut, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new CopyError("no-service", `no answer within ${limitMs} ms`)), limitMs);
  try {
    return await Promise.race([asked, timedOut]);
  } catch (error) {
    if (!(error instanceof CopyError) || error.code !== "no-answer") throw error;
    throw new CopyError("no-service", error.message, {}, error);
  } finally {
    clearTimeout(timer);
  }
}

export class Patience {
  private readonly waiting = new Set<() => void>();
  private isOver = false;

  /**
   * Again and again where the service went meanwhile, for calls that may be made twice. Throws what went wrong first, or, where that
   * happened, that a call's fate is not known.
   */
  async during<Result>(action: () => Promise<Result>, limitMs = firstWordMs): Promise<Result> {
    const untilMs = performance.now() + limitMs;
    let first: CopyError | null = null;
    for (let attempt = 1; ; attempt++) {
      try {
        return await action();
      } catch (cause) {
        const error = clientError(cause);
        if (first === null || error.code === "no-answer") first = error;
        const isEnough = attempt >= maxReturnAttempts || performance.now() > untilMs;
        if (!passing.has(error.code) || isEnough || this.isOver) throw first;
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
