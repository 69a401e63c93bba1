// What workers say is understood in turns: one frame at a time, and after some milliseconds of it everybody else's turn, as long.
//
// A frame may take milliseconds to understand, and a pipe that was filled while nobody read holds many. Users are answered in between.

/** Frames that together take less than this, milliseconds, are understood one after the other. */
const sliceMs = 4;
const longestRestMs = 50;

export class FrameTurns {
  private readonly waiting: (() => void)[] = [];
  private isTaken = false;
  private beganMs = 0;
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
    const takenMs = performance.now() - this.beganMs;
    this.spentMs += takenMs;
    if (this.spentMs < sliceMs) this.pass();
    else setTimeout(() => this.rested(), Math.min(Math.ceil(this.spentMs), longestRestMs));
    return takenMs;
  }

  private begin(): void {
    this.beganMs = performance.now();
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
