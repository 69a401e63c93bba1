// Whether a frame's JSON has the shape of a message, by counting: many small values cost a hundred times their bytes to understand.

const quote = 0x22;
const comma = 0x2c;
const colon = 0x3a;
const openBracket = 0x5b;
const backslash = 0x5c;
const closeBracket = 0x5d;
const openBrace = 0x7b;
const closeBrace = 0x7d;

/** A batch of errors has some 260 objects and lists and 2600 fields, and is four deep; a user may be in 65,536 groups. */
const maxLevels = 8;
const maxOpened = 1024;
const maxFields = 4096;
const maxElements = 70_000;

/** False for what no worker says. What is no JSON may be either: whoever parses it finds out. */
export function hasMessageShape(body: Uint8Array): boolean {
  let level = 0;
  let opened = 0;
  let fields = 0;
  let elements = 0;
  let isInString = false;
  for (let at = 0; at < body.length; at++) {
    const byte = body[at];
    if (isInString) {
      if (byte === backslash) at++;
      else if (byte === quote) isInString = false;
    } else if (byte === quote) isInString = true;
    else if (byte === comma) elements++;
    else if (byte === colon) fields++;
    else if (byte === openBracket || byte === openBrace) {
      opened++;
      if (++level > maxLevels || opened > maxOpened) return false;
    } else if (byte === closeBracket || byte === closeBrace) level--;
  }
  return fields <= maxFields && elements <= maxElements;
}
