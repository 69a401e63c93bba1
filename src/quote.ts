// GNU's quoting of file names in messages ('a b', "it's", 'a'$'\n''b'), on byte strings. A leaf: the worker composes messages with it.
//
// The rules are those of coreutils' shell-escape-always style (what `ls --quoting-style=shell-escape-always` prints), so a
// name in a message can be pasted into a shell, and no control character of a name ever reaches a terminal.

import type { ByteString } from "./bytes.ts";

/** How the reader's terminal takes bytes above 127: as UTF-8, or (locale C or POSIX) not at all. */
export const messageCharsets = ["utf-8", "ascii"] as const;
export type MessageCharset = (typeof messageCharsets)[number];

/** The name as coreutils prints it in `cannot stat 'x'` and `'a' -> 'b'`. ASCII or UTF-8 bytes, never a control character. */
export function quoteName(name: ByteString, charset: MessageCharset = "utf-8"): ByteString {
  if (plain.test(name)) return `'${name}'` as ByteString;
  const scan = scanName(name, charset);
  if (scan.doubleQuotable) return `"${name}"` as ByteString;

  let quoted = "'";
  let inEscape = false;
  for (const piece of scan.pieces) {
    if (piece.escaped) {
      if (!inEscape) quoted += "'$'";
      quoted += piece.text;
      inEscape = true;
    } else if (piece.text === "'") {
      // Closes whichever quotes are open, and opens plain ones again.
      quoted += "'\\''";
      inEscape = false;
    } else {
      if (inEscape) quoted += "''";
      quoted += piece.text;
      inEscape = false;
    }
  }
  return `${quoted}'` as ByteString;
}

/** A word in a usage message, as `invalid argument ‘x’`: typographic quotes in UTF-8, apostrophes otherwise, escapes as in C. */
export function quoteWord(word: ByteString, charset: MessageCharset = "utf-8"): ByteString {
  const [left, right] = charset === "utf-8" ? ["\xe2\x80\x98", "\xe2\x80\x99"] : ["'", "'"];
  const inner = scanName(word, charset)
    .pieces.map((piece) => (piece.text === "\\" || piece.text === right ? `\\${piece.text}` : piece.text))
    .join("");
  return `${left}${inner}${right}` as ByteString;
}

/** The charset of the messages for a process with this environment, as setlocale(LC_CTYPE, "") would choose. */
export function messageCharset(environment: Readonly<Record<string, string | undefined>>): MessageCharset {
  const locale = environment.LC_ALL || environment.LC_CTYPE || environment.LANG || "C";
  return /utf-?8/i.test(locale) ? "utf-8" : "ascii";
}

/** Printable ASCII without the apostrophe: nearly every name there is. */
const plain = /^[ -&(-~]*$/;
/** With an apostrophe and nothing that a shell expands within double quotes, GNU prefers "it's". */
const doubleQuotableByte = /[A-Za-z0-9%+,./:\]_@' -]/;

interface Piece {
  readonly text: string;
  /** `text` is a backslash escape that only $'' understands. */
  readonly escaped: boolean;
}

interface Scan {
  readonly pieces: readonly Piece[];
  readonly doubleQuotable: boolean;
}

function scanName(name: string, charset: MessageCharset): Scan {
  const pieces: Piece[] = [];
  let hasApostrophe = false;
  let compatible = true;
  for (let at = 0; at < name.length; ) {
    const length = characterLength(name, at, charset);
    if (length === 0) {
      pieces.push({ text: escapeOf(name.charCodeAt(at)), escaped: true });
      compatible = false;
      at += 1;
      continue;
    }
    const text = name.slice(at, at + length);
    if (length > 1 && !isPrintable(text)) {
      for (const byte of text) pieces.push({ text: escapeOf(byte.charCodeAt(0)), escaped: true });
      compatible = false;
    } else {
      pieces.push({ text, escaped: false });
      if (text === "'") hasApostrophe = true;
      if (length === 1 && !isDoubleQuotable(name, at)) compatible = false;
    }
    at += length;
  }
  return { pieces, doubleQuotable: hasApostrophe && compatible };
}

function isDoubleQuotable(name: string, at: number): boolean {
  const character = name.charAt(at);
  if (character === "#" || character === "~") return at === 0;
  return doubleQuotableByte.test(character);
}

/** Bytes of the character at this index: 1 for printable ASCII, 2-4 for well-formed UTF-8, 0 for a byte that needs an escape. */
function characterLength(name: string, at: number, charset: MessageCharset): number {
  const first = name.charCodeAt(at);
  if (first < 0x80) return first >= 0x20 && first !== 0x7f ? 1 : 0;
  if (charset === "ascii" || first < 0xc2 || first > 0xf4) return 0;
  const length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  if (at + length > name.length) return 0;
  for (let index = 1; index < length; index++) {
    if ((name.charCodeAt(at + index) & 0xc0) !== 0x80) return 0;
  }
  // Overlong forms, surrogates and what lies beyond U+10FFFF are not characters.
  const second = name.charCodeAt(at + 1);
  if (first === 0xe0 && second < 0xa0) return 0;
  if (first === 0xed && second > 0x9f) return 0;
  if (first === 0xf0 && second < 0x90) return 0;
  if (first === 0xf4 && second > 0x8f) return 0;
  return length;
}

/** Unicode's letters, marks, numbers, punctuation, symbols, spaces, format and private-use characters, as iswprint has it. */
const printable = /^[\p{L}\p{M}\p{N}\p{P}\p{S}\p{Zs}\p{Cf}\p{Co}]$/u;

function isPrintable(utf8: string): boolean {
  return printable.test(Buffer.from(utf8, "latin1").toString("utf8"));
}

const namedEscapes: Readonly<Record<number, string>> = { 7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r" };

function escapeOf(byte: number): string {
  return namedEscapes[byte] ?? `\\${byte.toString(8).padStart(3, "0")}`;
}
