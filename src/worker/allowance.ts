// A limit of so much a second, with a burst (a token bucket).

/** Times are monotonic milliseconds. An infinite rate never says no. */
export class Allowance {
  private readonly perMs: number;
  private readonly burst: number;
  private left: number;
  private lastMs = performance.now();

  constructor(perSecond: number, burst: number) {
    this.perMs = perSecond / 1000;
    this.burst = burst;
    this.left = burst;
  }

  /** Takes it in any case; returns by how many milliseconds that was too early, 0 when it was allowed. */
  take(amount: number): number {
    if (this.perMs === Number.POSITIVE_INFINITY) return 0;
    const nowMs = performance.now();
    this.left = Math.min(this.burst, this.left + (nowMs - this.lastMs) * this.perMs) - amount;
    this.lastMs = nowMs;
    return this.left >= 0 ? 0 : -this.left / this.perMs;
  }
}
