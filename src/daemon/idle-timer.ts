// Ends the service when nobody has needed it for a while: asks, when the time has come, whether it may, and else waits anew.

export class IdleTimer implements Disposable {
  private currentTimeoutMs: number;
  /** Gives the name up if nobody needs the service; false: somebody does. */
  private readonly release: () => Promise<boolean>;
  private timer: Timer | undefined;
  private isReleasing = false;
  /** Settled while nothing is being given up. An end for another reason waits for it. */
  releasing: Promise<void> = Promise.resolve();
  /** True once nobody can come in any more. */
  hasReleased = false;
  onReleased: () => void = () => {};

  /** 0 ms: never. The first period begins at once: a service that nobody calls after its start ends too. */
  constructor(timeoutMs: number, release: () => Promise<boolean>) {
    this.currentTimeoutMs = timeoutMs;
    this.release = release;
    this.restart();
  }

  get timeoutMs(): number {
    return this.currentTimeoutMs;
  }

  /** Counts anew from now on. */
  set timeoutMs(timeoutMs: number) {
    this.currentTimeoutMs = timeoutMs;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.restart();
  }

  /** Why the service ends, for its log. */
  get words(): string {
    return `nothing to do for ${this.timeoutMs / 1000} s`;
  }

  /** Somebody needed the service just now. */
  restart(): void {
    if (this.timeoutMs === 0 || this.isReleasing) return;
    // Thousands of calls a second restart it: refresh() allocates nothing.
    if (this.timer === undefined) this.timer = setTimeout(() => this.begin(), this.timeoutMs);
    else this.timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.timer);
    this.isReleasing = true;
  }

  private begin(): void {
    this.isReleasing = true;
    this.releasing = this.expire();
  }

  private async expire(): Promise<void> {
    // A bus that has gone meanwhile ends the service in its own way.
    const released = await this.release().catch(() => false);
    if (released) {
      this.hasReleased = true;
      this.onReleased();
      return;
    }
    this.isReleasing = false;
    this.restart();
  }
}
