// Answers to cp -i and mv -i: a line of standard input for each question, as coreutils reads them.

interface ChunkReader {
  read(): Promise<{ readonly done: boolean; readonly value?: Uint8Array | undefined }>;
  cancel(): Promise<void>;
}

/** Reads lines without holding the process back, so that Ctrl-C works while nobody answers. */
export class AnswerReader {
  private reader: ChunkReader | null = null;
  private buffered = "";
  private ended = false;

  /** True for a line that begins with "y" or "Y". The end of input is a no. */
  async isYes(): Promise<boolean> {
    return /^[yY]/.test((await this.line()) ?? "");
  }

  /** The next line without its end; null at the end of input. */
  async line(): Promise<string | null> {
    const line = await this.readLine();
    return line === "" && this.ended ? null : line;
  }

  /** Lets go of standard input; a question still open is answered with no. */
  async close(): Promise<void> {
    this.ended = true;
    await this.reader?.cancel();
  }

  private async readLine(): Promise<string> {
    for (;;) {
      const newline = this.buffered.indexOf("\n");
      if (newline !== -1 || this.ended) {
        const line = newline === -1 ? this.buffered : this.buffered.slice(0, newline);
        this.buffered = newline === -1 ? "" : this.buffered.slice(newline + 1);
        return line;
      }
      const reader: ChunkReader = this.reader ?? Bun.stdin.stream().getReader();
      this.reader = reader;
      const { done, value } = await reader.read();
      if (done || value === undefined) this.ended = true;
      else this.buffered += Buffer.from(value).toString("latin1");
    }
  }
}
