// The floors: what copyd must reach in each cell, on any machine of two cores and up. `make bench-check` holds results against them.

/** Ratios: the baseline's median seconds over copyd's. The others are milliseconds of copyd's median, alone or beyond the baseline's. */
export type FloorMeasure = "ratio" | "milliseconds" | "milliseconds-over";

export interface Floor {
  readonly cell: string;
  readonly measure: FloorMeasure;
  /** A ratio is at least this, milliseconds are at most this. */
  readonly limit: number;
}

type Row = Readonly<Partial<Record<"ext4" | "xfs" | "btrfs" | "tmpfs" | "disk", number>>>;

const ratios: Readonly<Record<string, Row>> = {
  small: { ext4: 2.0, xfs: 1.9, btrfs: 1.4, tmpfs: 1.8 },
  flat: { ext4: 1.4, xfs: 1.6, btrfs: 1.15, tmpfs: 1.7 },
  usr: { ext4: 1.7, xfs: 1.7, btrfs: 1.3, tmpfs: 1.6 },
  big: { ext4: 1.6, xfs: 1.6, btrfs: 1.1, tmpfs: 1.2 },
  medium: { ext4: 1.8, xfs: 1.6, btrfs: 1.0, tmpfs: 1.8 },
  "cold-small": { disk: 2.0 },
  "cold-big": { disk: 1.25 },
  "slow-source": { ext4: 6 },
  durable: { ext4: 1.4, xfs: 1.4, btrfs: 1.2 },
  verify: { ext4: 1.3, xfs: 1.3, btrfs: 1.3 },
};

export const floors: readonly Floor[] = [
  ...Object.entries(ratios).flatMap(([workload, row]) =>
    Object.entries(row).map(([place, limit]): Floor => ({ cell: `${place}/${workload}`, measure: "ratio", limit })),
  ),
  { cell: "xfs/clone", measure: "milliseconds", limit: 60 },
  { cell: "btrfs/clone", measure: "milliseconds", limit: 60 },
  { cell: "ext4/tiny", measure: "milliseconds-over", limit: 40 },
];

/** Of copyd with all its processes, the service's daemon among them: proportional set size, in every cell. */
export const maxPssBytes = 100e6;

export function floorOf(cell: string): Floor | undefined {
  return floors.find((floor) => floor.cell === cell);
}
