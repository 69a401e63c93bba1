// Medians, ratios and how far to believe them.

/** NaN for an empty list; of an even count, the mean of the middle two. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** Linear between neighbours. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * fraction;
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

/** Half the distance between the quartiles: half of the values lie within the median plus and minus about this. */
export function spread(values: readonly number[]): number {
  return values.length === 0 ? 0 : (quantile(values, 0.75) - quantile(values, 0.25)) / 2;
}

export interface RatioSummary {
  /** Median of the baseline's seconds over the median of the tool's: above 1, the tool is faster. */
  readonly ofMedians: number;
  /** Median of the ratios of the runs of one round, which ran one after the other: bad minutes hit both. */
  readonly ofPairs: number;
  /** The spread of those ratios: what a ratio may miss its floor by and still be noise. */
  readonly spread: number;
}

/** Seconds by round, null where a run failed or did not take place. */
export function ratioSummary(baseline: readonly (number | null)[], tool: readonly (number | null)[]): RatioSummary {
  const pairs: number[] = [];
  for (const [round, seconds] of tool.entries()) {
    const other = baseline[round] ?? null;
    if (seconds !== null && other !== null) pairs.push(other / seconds);
  }
  return { ofMedians: median(present(baseline)) / median(present(tool)), ofPairs: median(pairs), spread: spread(pairs) };
}

export function present(values: readonly (number | null)[]): number[] {
  return values.filter((value) => value !== null);
}
