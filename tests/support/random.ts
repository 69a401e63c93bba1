// Random choices that a failing test can repeat: from a seed that it prints, or that COPYD_TEST_SEED gives.

export class Random {
  readonly seed: number;
  private state: number;

  constructor(seed = Number(process.env.COPYD_TEST_SEED ?? Math.floor(Math.random() * 1e9))) {
    this.seed = seed;
    this.state = seed >>> 0;
  }

  /** One whose seed is printed at once, for tests that may fail by running out of time. */
  static announced(): Random {
    const random = new Random();
    console.log(`seed ${random.seed}`);
    return random;
  }

  /** A whole number from 0 to below - 1 (mulberry32). */
  below(below: number): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let mixed = this.state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
  }

  pick<Value>(values: readonly Value[]): Value {
    const value = values[this.below(values.length)];
    if (value === undefined) throw new Error("nothing to pick from");
    return value;
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}
