// One line that says how far a job is, in as many columns as there are. Pure: what is drawn when is progress.ts's matter.

import type { JobView } from "../jobs/api.ts";
import type { MessageCharset } from "../quote.ts";
import { columnsOf, cutStart, visibleText } from "./terminal-text.ts";
import { formatBytes, formatCount, formatDuration, formatRate } from "./units.ts";

export type ProgressView = Pick<
  JobView,
  | "state"
  | "phase"
  | "totalsValid"
  | "bytesTotal"
  | "bytesDone"
  | "bytesVerified"
  | "bytesToVerify"
  | "filesTotal"
  | "filesDone"
  | "filesSkipped"
  | "errorCount"
  | "rate"
  | "expectedEndTimeUs"
  | "currentFile"
>;

export interface LineStyle {
  /** What the line may take, at least 1. */
  readonly columns: number;
  readonly color: boolean;
  readonly charset: MessageCharset;
  /** Microseconds of CLOCK_REALTIME, for the time left. */
  readonly nowUs: number;
}

/** Below this width the bar says less than the percentage alone. */
const smallestBar = 8;
const largestBar = 40;
/** A file name of fewer columns is not worth its place. */
const smallestName = 8;

/**
 * For example `42% ━━━━━━━━─────── 1.2 GB of 2.9 GB  312 MB/s  0:05 left  1,234 files  …/name`. Parts are left out from the least
 * important until it fits. A percentage only where the totals are known.
 */
export function progressLine(view: ProgressView, style: LineStyle): string {
  const symbols = style.charset === "utf-8" ? utf8Symbols : asciiSymbols;
  const state = stateText(view);
  const fraction = fractionOf(view);
  const head = fraction === null || style.columns < 4 ? "" : `${Math.floor(fraction * 100)}%`.padStart(4);
  // In order of importance; shown in the order of `position`.
  const parts = [
    { text: state, position: 0 },
    { text: amountText(view), position: 1 },
    { text: view.rate > 0 && state === "" ? formatRate(view.rate) : "", position: 2 },
    { text: timeLeftText(view, style.nowUs), position: 3 },
    { text: view.errorCount > 0 ? `${formatCount(view.errorCount)} ${view.errorCount === 1 ? "error" : "errors"}` : "", position: 5 },
    { text: filesText(view), position: 4 },
  ].filter(({ text }) => text !== "");

  const separator = "  ";
  const shown: typeof parts = [];
  let used = columnsOf(head);
  for (const part of parts) {
    const needed = columnsOf(part.text) + (used === 0 ? 0 : separator.length);
    if (used + needed > style.columns) break;
    shown.push(part);
    used += needed;
  }
  shown.sort((one, other) => one.position - other.position);

  const room = style.columns - used;
  const nameRoom = Math.max(0, Math.min(room - separator.length, Math.ceil(room * nameShare)));
  const name = nameText(view, nameRoom, symbols);
  const barRoom = room - (name === "" ? 0 : columnsOf(name) + separator.length) - 1;
  const bar = fraction === null ? "" : barText(fraction, Math.min(barRoom, largestBar), symbols, style.color);
  const front = [head, bar].filter((text) => text !== "").join(" ");
  return [front, ...shown.map(({ text }) => text), name].filter((text) => text !== "").join(separator);
}

/** Done in words, for lines that go into a file: no bar, no colour, nothing left out. */
export function progressSentence(view: ProgressView, nowUs: number): string {
  const fraction = fractionOf(view);
  const name = visibleText(view.currentFile);
  const parts = [
    stateText(view),
    fraction === null ? "" : `${Math.floor(fraction * 100)}%`,
    amountText(view),
    view.rate > 0 ? formatRate(view.rate) : "",
    timeLeftText(view, nowUs),
    filesText(view),
    view.errorCount > 0 ? `${formatCount(view.errorCount)} errors` : "",
    name,
  ];
  return parts.filter((text) => text !== "").join(", ");
}

/** From 0 to 1, or null while the totals are not known. Never 1 while there is something left to do. */
export function fractionOf(view: ProgressView): number | null {
  if (!view.totalsValid) return null;
  const all = view.bytesTotal > 0 ? view.bytesTotal + view.bytesToVerify : view.filesTotal;
  const done = view.bytesTotal > 0 ? view.bytesDone + view.bytesVerified : view.filesDone + view.filesSkipped;
  if (all <= 0) return null;
  const most = view.state === "completed" ? 1 : 0.999;
  return Math.min(most, done / all);
}

interface Symbols {
  readonly full: string;
  readonly rest: string;
  readonly ellipsis: string;
}

const utf8Symbols: Symbols = { full: "━", rest: "─", ellipsis: "…" };
const asciiSymbols: Symbols = { full: "=", rest: "-", ellipsis: "..." };
/** Of the columns that are left after the numbers; the bar has the rest. */
const nameShare = 0.6;

function stateText({ state, phase }: ProgressView): string {
  switch (state) {
    case "queued":
      return "waiting";
    case "paused":
      return "paused";
    case "question":
      return "asking";
    default:
      break;
  }
  if (phase === "flushing") return "flushing to the device";
  return phase === "verifying" ? "verifying" : "";
}

/** The total is provisional, marked by a plus, until the walk has ended. */
function amountText({ phase, bytesDone, bytesTotal, bytesVerified, bytesToVerify, totalsValid }: ProgressView): string {
  if (phase === "verifying" && bytesToVerify > 0) return `${formatBytes(bytesVerified)} of ${formatBytes(bytesToVerify)}`;
  if (bytesTotal <= 0) return bytesDone > 0 ? formatBytes(bytesDone) : "";
  if (totalsValid) return `${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}`;
  return bytesTotal > bytesDone ? `${formatBytes(bytesDone)} of ${formatBytes(bytesTotal)}+` : formatBytes(bytesDone);
}

function timeLeftText({ expectedEndTimeUs, totalsValid, state, phase }: ProgressView, nowUs: number): string {
  const isMoving = state === "running" || (state === "finishing" && phase !== "copying");
  if (!totalsValid || expectedEndTimeUs <= nowUs || !isMoving) return "";
  return `${formatDuration((expectedEndTimeUs - nowUs) / 1e6)} left`;
}

function filesText({ filesDone, filesSkipped }: ProgressView): string {
  const files = filesDone + filesSkipped;
  if (files === 0) return "";
  return files === 1 ? "1 file" : `${formatCount(files)} files`;
}

function nameText({ currentFile }: ProgressView, columns: number, { ellipsis }: Symbols): string {
  if (currentFile === "" || columns < smallestName) return "";
  return cutStart(visibleText(currentFile), columns, ellipsis);
}

function barText(fraction: number, columns: number, { full, rest }: Symbols, color: boolean): string {
  if (columns < smallestBar) return "";
  const filled = Math.round(fraction * columns);
  const done = full.repeat(filled);
  const left = rest.repeat(columns - filled);
  return color ? `\x1b[36m${done}\x1b[0m\x1b[2m${left}\x1b[0m` : done + left;
}
