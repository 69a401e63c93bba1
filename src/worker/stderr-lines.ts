// What a worker writes to stderr, as lines fit for a log: limited in length and without control characters.

/** Bytes into lines of printable text; what exceeds the limit of a line is dropped. */
export class LineCutter {
  private pending = "";
  private readonly maxBytes: number;

  constructor(maxBytes: number) {
    this.maxBytes = maxBytes;
  }

  /** The lines that this chunk completes. */
  push(chunk: Uint8Array): string[] {
    const lines: string[] = [];
    const parts = Buffer.from(chunk).toString("latin1").split("\n");
    for (const [index, part] of parts.entries()) {
      if (index > 0) {
        lines.push(printable(this.pending));
        this.pending = "";
      }
      this.pending = (this.pending + part).slice(0, this.maxBytes);
    }
    return lines;
  }
}

/** The log is read in terminals: no control characters from somebody else's process. */
function printable(bytes: string): string {
  return Buffer.from(bytes, "latin1")
    .toString("utf8")
    .replace(/\p{Cc}/gu, "?");
}
