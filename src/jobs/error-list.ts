// The errors of one job: counted, and as many kept as its limits let.

import type { EntryError } from "../worker/protocol.ts";

export class ErrorList {
  private readonly kept: EntryError[] = [];
  private keptBytes = 0;
  private addedCount = 0;
  private readonly maxCount: number;
  private readonly maxBytes: number;

  constructor(maxCount: number, maxBytes: number) {
    this.maxCount = maxCount;
    this.maxBytes = maxBytes;
  }

  /** How many were added, kept or not. */
  get count(): number {
    return this.addedCount;
  }

  /** Keeps what fits and returns exactly that. The first that does not fit ends the list: what is kept has no gaps. */
  add(errors: readonly EntryError[]): readonly EntryError[] {
    const before = this.kept.length;
    this.addedCount += errors.length;
    for (const error of errors) {
      const bytes = error.path.length + error.message.length + 128;
      if (this.kept.length >= this.maxCount || this.keptBytes + bytes > this.maxBytes) {
        this.keptBytes = this.maxBytes;
        break;
      }
      this.kept.push(error);
      this.keptBytes += bytes;
    }
    return this.kept.slice(before);
  }

  clear(): void {
    this.kept.length = 0;
    this.addedCount = 0;
    this.keptBytes = 0;
  }

  slice(offset: number, limit: number): readonly EntryError[] {
    return this.kept.slice(offset, offset + limit);
  }
}
