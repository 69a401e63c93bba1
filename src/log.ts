// The log for an operator: one line per state change with job, path and code. Under systemd, levels as sd-daemon prefixes.

import { fstatSync, writeSync } from "node:fs";

export const logLevels = ["error", "warning", "notice", "info", "debug"] as const;
export type LogLevel = (typeof logLevels)[number];

/** What a line is about, as `key=value` after its words; undefined is left out. Paths as text for people (displayText). */
export type LogFacts = Readonly<Record<string, string | number | boolean | undefined>>;

/** Takes a line with its facts as fields; false where it cannot, and the line is written as text. */
export type StructuredSink = (level: LogLevel, line: string, facts: LogFacts) => boolean;

export interface LogSettings {
  /** Lines below this level are dropped. */
  readonly level: LogLevel;
  /** Prefix lines for the journal instead of naming the level. */
  readonly journal: boolean;
  readonly write: (line: string) => void;
  /** Asked first. */
  readonly sink?: StructuredSink | null;
}

/** sd-daemon(3): syslog's levels in angle brackets. */
const journalPrefixes: Readonly<Record<LogLevel, string>> = { error: "<3>", warning: "<4>", notice: "<5>", info: "<6>", debug: "<7>" };

export class Log {
  private settings: LogSettings;

  constructor(settings: LogSettings) {
    this.settings = settings;
  }

  setLevel(level: LogLevel): void {
    this.settings = { ...this.settings, level };
  }

  setSink(sink: StructuredSink | null): void {
    this.settings = { ...this.settings, sink };
  }

  error(message: string, facts?: LogFacts): void {
    this.line("error", message, facts);
  }

  warning(message: string, facts?: LogFacts): void {
    this.line("warning", message, facts);
  }

  notice(message: string, facts?: LogFacts): void {
    this.line("notice", message, facts);
  }

  info(message: string, facts?: LogFacts): void {
    this.line("info", message, facts);
  }

  debug(message: string, facts?: LogFacts): void {
    this.line("debug", message, facts);
  }

  line(level: LogLevel, message: string, facts: LogFacts = {}): void {
    if (logLevels.indexOf(level) > logLevels.indexOf(this.settings.level)) return;
    const prefix = this.settings.journal ? journalPrefixes[level] : `copyd: ${level}: `;
    const words = [oneLine(message)];
    for (const [key, value] of Object.entries(facts)) if (value !== undefined) words.push(`${key}=${factText(value)}`);
    const line = words.join(" ");
    if (this.settings.sink?.(level, line, facts) === true) return;
    this.settings.write(`${prefix}${line}\n`);
  }
}

/** A log that drops everything. */
export const silentLog = new Log({ level: "error", journal: false, write: () => undefined });

/** The log of this process, on standard error. */
export const log = new Log({ level: "info", journal: isJournal(process.env.JOURNAL_STREAM), write: writeToStandardError });

/**
 * True when standard error is the journal's own stream: systemd says its device and inode (systemd.exec(5)). A child that
 * inherited the variable but writes elsewhere must not prefix its lines.
 */
export function isJournal(stream: string | undefined, fd = 2): boolean {
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    // A closed standard error is no journal.
    return false;
  }
}

function writeToStandardError(line: string): void {
  try {
    writeSync(2, line);
  } catch {
    // The reader is gone or the disk is full: there is nobody left to tell, and a log must never end the program.
  }
}

/** Names hold newlines and terminal controls at their owner's pleasure: a line stays one line, and stays a line. */
function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/g, escaped);
}

function escaped(character: string): string {
  if (character === "\n") return "\\n";
  if (character === "\t") return "\\t";
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}

function factText(value: string | number | boolean): string {
  if (typeof value !== "string") return String(value);
  return /^[\w./:@+-]+$/.test(value) ? value : `"${oneLine(value.replace(/["\\]/g, "\\$&"))}"`;
}
