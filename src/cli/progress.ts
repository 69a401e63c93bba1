// The one place that draws progress: a line that follows the terminal's width and clears itself, or plain lines in a pipe.

import type { MessageCharset } from "../quote.ts";
import { isTerminal } from "./is-terminal.ts";
import { type ProgressView, progressLine, progressSentence } from "./progress-line.ts";
import { columnsOf } from "./terminal-text.ts";

/** Where progress goes; standard error, but for tests. */
export interface ProgressTerminal {
  readonly isTerminal: boolean;
  /** Columns now; asked at each drawing, so that a resize needs no signal. */
  readonly columns: () => number;
  readonly write: (text: string) => void;
}

export interface ProgressStyle {
  readonly mode: "line" | "sentences" | "off";
  readonly color: boolean;
  readonly charset: MessageCharset;
}

/** What to draw, from what was asked (--progress=WHEN), the terminal, and the environment. */
export function progressStyle(
  when: "auto" | "always" | "never",
  terminal: Pick<ProgressTerminal, "isTerminal">,
  environment: Readonly<Record<string, string | undefined>>,
  charset: MessageCharset,
): ProgressStyle {
  const canDraw = terminal.isTerminal && environment.TERM !== "dumb" && (environment.TERM ?? "") !== "";
  const mode = when === "never" ? "off" : canDraw ? "line" : when === "always" ? "sentences" : "off";
  // The convention of no-color.org: set and not empty.
  return { mode, color: (environment.NO_COLOR ?? "") === "", charset };
}

/** At most ten a second: more is flicker, and each drawing costs the copy time. */
const lineIntervalMs = 100;
const sentenceIntervalMs = 1000;
/** What is done sooner needs no progress. */
const firstDrawMs = 400;

/** Draws until it is closed. Everything else that is printed meanwhile goes through `interrupt`. */
export class ProgressDisplay {
  private readonly style: ProgressStyle;
  private readonly terminal: ProgressTerminal;
  private readonly now: () => number;
  private latest: ProgressView | null = null;
  private nextDrawMs: number;
  /** The columns of the line on the screen; 0: none. */
  private drawnColumns = 0;
  /** How many want nothing to be drawn: a question, and Ctrl-Z during it. */
  private suspenders = 0;
  private timer: ReturnType<typeof setInterval> | null = null;

  /** `now` is milliseconds of the wall clock. */
  constructor(style: ProgressStyle, terminal: ProgressTerminal, now: () => number = Date.now) {
    this.style = style;
    this.terminal = terminal;
    this.now = now;
    this.nextDrawMs = now() + firstDrawMs;
    // A job that sends nothing for a while still counts the time down, and a resized terminal is drawn anew.
    if (style.mode !== "off") this.timer = setInterval(() => this.drawIfDue(), this.intervalMs);
  }

  update(view: ProgressView): void {
    this.latest = view;
    this.drawIfDue();
  }

  /** Lets somebody else print: the line is cleared before, and drawn again by and by. */
  interrupt(print: () => void): void {
    this.clear();
    print();
  }

  /** Clears the line and draws nothing until `resume`: somebody is asked something. */
  suspend(): void {
    this.suspenders++;
    this.clear();
  }

  resume(): void {
    this.suspenders = Math.max(0, this.suspenders - 1);
  }

  /** Clears the line and draws no more. */
  close(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
    this.latest = null;
    this.clear();
  }

  private get intervalMs(): number {
    return this.style.mode === "sentences" ? sentenceIntervalMs : lineIntervalMs;
  }

  private drawIfDue(): void {
    const view = this.latest;
    const nowMs = this.now();
    if (view === null || this.suspenders > 0 || this.style.mode === "off" || nowMs < this.nextDrawMs) return;
    this.nextDrawMs = nowMs + this.intervalMs;
    if (this.style.mode === "sentences") this.terminal.write(`${progressSentence(view, nowMs * 1000)}\n`);
    else this.drawLine(view, nowMs);
  }

  private drawLine(view: ProgressView, nowMs: number): void {
    // The last column is left free, since writing there makes some terminals wrap, and two for the ^C that a terminal echoes.
    const columns = Math.max(1, this.terminal.columns() - 3);
    const line = progressLine(view, { columns, color: this.style.color, charset: this.style.charset, nowUs: nowMs * 1000 });
    this.terminal.write(`${this.clearing()}${line}`);
    this.drawnColumns = columnsOf(line);
  }

  private clear(): void {
    if (this.drawnColumns > 0) this.terminal.write(this.clearing());
    this.drawnColumns = 0;
  }

  /** To the start of the line on the screen, which a terminal made narrower has wrapped into several, and clear to the end. */
  private clearing(): string {
    const rows = Math.ceil(this.drawnColumns / Math.max(1, this.terminal.columns()));
    return rows > 1 ? `\r\x1b[${rows - 1}A\x1b[J` : "\r\x1b[K";
  }
}

/** Standard error, by its own descriptor. */
export function standardErrorTerminal(write: (text: string) => void): ProgressTerminal {
  return { isTerminal: isTerminal(2), columns: () => process.stderr.columns ?? 80, write };
}
