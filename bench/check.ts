// Holds a result against the floors: which are reached, which are missed by more than the noise, which were not measured.

import { type Floor, floors, maxPssBytes } from "./floors.ts";
import type { BenchResult, CellResult, ToolResult } from "./result-file.ts";

export type Verdict =
  /** `within-noise`: below the floor, but by less than the spread. */
  "reached" | "within-noise" | "missed" | "not-measured";

export interface FloorCheck {
  readonly cell: string;
  readonly tool: string;
  readonly verdict: Verdict;
  /** "1.93 of 2.00 (spread 0.11)". */
  readonly words: string;
}

/** Every floor against the embedded copyd and, where it was measured, the service; then memory, then what failed. */
export function checkResult(result: BenchResult): FloorCheck[] {
  const checks = floors.flatMap((floor) => {
    const cell = result.cells.find(({ id }) => id === floor.cell);
    const ours = cell === undefined ? [] : ownTools(cell);
    if (cell === undefined || ours.length === 0) {
      const reason = result.skipped.find((skipped) => skipped.cell === floor.cell)?.reason ?? "not in this result";
      return [{ cell: floor.cell, tool: "copyd", verdict: "not-measured" as const, words: reason }];
    }
    return ours.map((tool): FloorCheck => ({ cell: cell.id, tool: tool.name, ...floorVerdict(floor, cell, tool) }));
  });
  return [...checks, ...result.cells.flatMap((cell) => [...memoryChecks(cell), ...failureChecks(cell)])];
}

/** A load above this is somebody else's work. */
export const quietLoad = 0.5;
/** Of fewer runs the spread says nothing. */
const believableRuns = 5;

/** Why not to believe a result, in words; none for a good one. */
export function doubtsAbout({ load, cells }: BenchResult): string[] {
  const doubts = load.before > quietLoad ? [`the machine was at work before (load ${load.before.toFixed(1)})`] : [];
  const few = cells.filter((cell) => ownTools(cell).some(({ runs }) => runs.filter((run) => run !== null).length < believableRuns));
  if (few.length > 0) doubts.push(`fewer than ${believableRuns} runs: the noise is not known in ${few.map(({ id }) => id).join(", ")}`);
  return doubts;
}

/** Whether a tool reached a floor in a cell. */
export function floorVerdict(floor: Floor, cell: CellResult, tool: ToolResult): { readonly verdict: Verdict; readonly words: string } {
  const baseline = cell.tools.find(({ role }) => role === "baseline");
  if (tool.seconds === null) return { verdict: "not-measured", words: "no run succeeded" };
  if (floor.measure === "ratio") {
    if (tool.ratio === null) return { verdict: "not-measured", words: "no run of the baseline succeeded" };
    const { ofMedians, spread } = tool.ratio;
    const words = `${ofMedians.toFixed(2)} of ${floor.limit.toFixed(2)} (spread ${spread.toFixed(2)})`;
    return { verdict: judge(ofMedians - floor.limit, spread), words };
  }
  const own = tool.seconds * 1000;
  const ownSpread = (tool.secondsSpread ?? 0) * 1000;
  if (floor.measure === "milliseconds") {
    const words = `${own.toFixed(1)} ms of at most ${floor.limit} (spread ${ownSpread.toFixed(1)})`;
    return { verdict: judge(floor.limit - own, ownSpread), words };
  }
  if (baseline?.seconds == null) return { verdict: "not-measured", words: "no run of the baseline succeeded" };
  const more = own - baseline.seconds * 1000;
  const bothSpread = ownSpread + (baseline.secondsSpread ?? 0) * 1000;
  const words = `${more.toFixed(1)} ms more than ${baseline.name}, of at most ${floor.limit} (spread ${bothSpread.toFixed(1)})`;
  return { verdict: judge(floor.limit - more, bothSpread), words };
}

function judge(surplus: number, noise: number): Verdict {
  if (surplus >= 0) return "reached";
  return surplus >= -noise ? "within-noise" : "missed";
}

function ownTools({ tools }: CellResult): ToolResult[] {
  return tools.filter(({ role }) => role === "copyd" || role === "service");
}

function memoryChecks(cell: CellResult): FloorCheck[] {
  return ownTools(cell).flatMap(({ name, peakPssBytes }) =>
    peakPssBytes === null || peakPssBytes <= maxPssBytes
      ? []
      : [
          {
            cell: cell.id,
            tool: name,
            verdict: "missed" as const,
            words: `${megabytes(peakPssBytes)} MB of memory, of at most ${megabytes(maxPssBytes)}`,
          },
        ],
  );
}

function failureChecks(cell: CellResult): FloorCheck[] {
  return cell.failures.map((words) => ({ cell: cell.id, tool: "copyd", verdict: "missed" as const, words }));
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(0);
}
