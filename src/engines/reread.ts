// Reads that failed and may succeed when tried again: a flaky medium, a server that was away for a moment.

import { Errno } from "../errno.ts";
import { isRetryable } from "../errors.ts";
import type { EngineName } from "../request.ts";
import { type CopyControl, type DataCopy, type Engine, stopped } from "./engine.ts";

export class Rereader {
  /** The first failure that a further try cured in the latest copy(), a positive errno, and its offset; 0: none. */
  curedErrno = 0;
  curedOffset = 0;
  private readonly control: CopyControl;

  constructor(control: CopyControl) {
    this.control = control;
  }

  /** Whether an engine's failure is one of reading that may pass. Of writing, none is: what was written before may be lost (rule 2). */
  mayHelp(name: EngineName, data: DataCopy, result: number): boolean {
    if (this.control.mayRetry === undefined) return false;
    // Reading one byte there may succeed where the call's own read failed, so the side it blames is a guess.
    const isUnsure = name === "copy-file-range" && (result === -Errno.EIO || result === -Errno.EREMOTEIO);
    return (data.failedSide === "source" || isUnsure) && isRetryable(-result, "source");
  }

  /** Goes on at the offset of a failure, with waits between the tries; a failure further on has tries of its own. */
  copy(engine: Engine, data: DataCopy, counting: CopyControl, failure: number): number {
    this.curedErrno = 0;
    let result = failure;
    let failedAt = data.offset;
    for (let attempt = 0; ; attempt++) {
      if (this.control.mayRetry?.(attempt) !== true) return this.control.advanced(0, "copied") ? result : stopped;
      const offset = failedAt;
      const errno = -result;
      result = engine.copy(data, counting);
      if (result === 0 || data.offset > offset) this.cured(errno, offset);
      if (result >= 0 || result === stopped || !this.mayHelp(engine.name, data, result)) return result;
      if (data.offset > failedAt) attempt = -1;
      failedAt = data.offset;
    }
  }

  private cured(errno: number, offset: number): void {
    this.control.retryHelped?.();
    if (this.curedErrno !== 0) return;
    this.curedErrno = errno;
    this.curedOffset = offset;
  }
}
