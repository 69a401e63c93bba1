// The journal's own socket: lines with fields of their own, so that `journalctl COPYD_UID=1000` and `-o json` find them.
//
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL: one datagram an entry, FIELD=value lines. What it does not take goes to standard error.

import type { LogFacts, LogLevel, StructuredSink } from "../log.ts";

const socketPath = "/run/systemd/journal/socket";
/** The datagrams' buffer holds 8 kB; a line beyond this goes the other way, whole. */
const maxEntryBytes = 7_000;
/** As syslog(3) numbers them. */
const priorities: Readonly<Record<LogLevel, number>> = { error: 3, warning: 4, notice: 5, info: 6, debug: 7 };

/** A sink for the log, or null where there is no journal to be had. */
export async function journalSink(path: string = socketPath): Promise<StructuredSink | null> {
  const { unixDatagrams } = await import("../ffi/unix-datagram.ts");
  // Lives as long as the process does: the last line may be the most wanted one.
  const socket = unixDatagrams(path);
  if (socket === null) return null;
  return (level, line, facts) => {
    const entry = journalEntry(level, line, facts);
    return Buffer.byteLength(entry) <= maxEntryBytes && socket.send(entry);
  };
}

/** One entry. `line` is the whole line for people; its facts come again as COPYD_ fields. */
export function journalEntry(level: LogLevel, line: string, facts: LogFacts): string {
  const fields = [`MESSAGE=${oneLine(line)}`, `PRIORITY=${priorities[level]}`, "SYSLOG_IDENTIFIER=copyd"];
  for (const [key, value] of Object.entries(facts)) {
    if (value !== undefined) fields.push(`COPYD_${key.toUpperCase().replace(/[^A-Z0-9]/g, "_")}=${oneLine(String(value))}`);
  }
  return `${fields.join("\n")}\n`;
}

/** A newline in a value would begin a field of the writer's choosing. */
function oneLine(text: string): string {
  return text.replace(/[\n\0]/g, " ");
}
