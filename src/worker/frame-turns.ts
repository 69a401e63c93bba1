// What workers say is understood in turns: one frame at a time, and after some milliseconds of it everybody else's turn, as long. What
// passed since the last frame was such a turn, too: a worker that says two words is not kept waiting for what others said long ago.
//
// A frame may take milliseconds to understand, and a pipe that was filled while nobody read holds many. Users are answered in between.

/** Frames that together take less than this, milliseconds, are understood one after the other. */
const sliceMs = 4;
const longestRestMs = 50;

export class FrameTurns {
  private readonly waiting: (() => void)[] = [];
  private isTaken = false;
  private beganMs = 0;
  private doneAtMs = 0;
  private spentMs = 0;

  /** Resolves when it is the caller's turn, who came first coming first; null: it is at once. The caller calls `done` soon. */
  take(): Promise<void> | null {
    if (this.isTaken) return new Promise<void>((resolve) => this.waiting.push(resolve)).then(() => this.begin());
    this.isTaken = true;
    this.begin();
    return null;
  }

  /** How long the caller's turn was, milliseconds. */
  done(): number {
    this.doneAtMs = performance.now();
    const takenMs = this.doneAtMs - this.beganMs;
    this.spentMs += takenMs;
    if (this.spentMs < sliceMs) this.pass();
    else setTimeout(() => this.rested(), Math.min(Math.ceil(this.spentMs), longestRestMs));
    return takenMs;
  }

  private begin(): void {
    this.beganMs = performance.now();
    this.spentMs = Math.max(0, this.spentMs - (this.beganMs - this.doneAtMs));
  }

  private rested(): void {
    this.spentMs = 0;
    this.pass();
  }

  private pass(): void {
    const next = this.waiting.shift();
    if (next === undefined) this.isTaken = false;
    else next();
  }
}
