// Names made fit for a terminal: nothing in them steers it, and they are cut to a width in columns.

import { type ByteString, displayText } from "../bytes.ts";

/**
 * A name for people. Bytes that are not UTF-8 show as U+FFFD; controls, bidirectional overrides and the like as escapes. For
 * reading only; what can be pasted into a shell is quoteName's.
 */
export function visibleText(name: ByteString): string {
  return escapeControls(displayText(name));
}

/** Text from elsewhere (a service, a message) without anything that steers the terminal. */
export function escapeControls(text: string): string {
  // The joiners hold emoji together and move nothing.
  return text.replace(/(?![\u200c\u200d])[\p{C}\p{Zl}\p{Zp}]/gu, escapeOf);
}

/** The columns that a text takes. */
export function columnsOf(text: string): number {
  return Bun.stringWidth(text);
}

/** The text where it fits, else its end after an ellipsis: of a path, the end tells most. */
export function cutStart(text: string, columns: number, ellipsis: string): string {
  if (columnsOf(text) <= columns) return text;
  const wanted = columns - columnsOf(ellipsis);
  if (wanted <= 0) return "";
  // What is drawn ten times a second need not look at more of a long path than could fit: a column takes one UTF-16 unit or more,
  // and clusters of more than eight are rare and only make the result shorter.
  const clusters = [...segmenter().segment(text.slice(-wanted * 8))];
  let used = 0;
  let kept = "";
  for (const { segment } of clusters.reverse()) {
    used += columnsOf(segment);
    if (used > wanted) break;
    kept = segment + kept;
  }
  return ellipsis + kept;
}

let sharedSegmenter: Intl.Segmenter | undefined;

/** Made when first needed: most names fit. */
function segmenter(): Intl.Segmenter {
  sharedSegmenter ??= new Intl.Segmenter(undefined, { granularity: "grapheme" });
  return sharedSegmenter;
}

const named: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", "\x1b": "\\e" };

function escapeOf(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  if (code < 0x100) return named[character] ?? `\\x${code.toString(16).padStart(2, "0")}`;
  return `\\u{${code.toString(16)}}`;
}
