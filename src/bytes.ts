// Byte strings: file names and paths as JavaScript strings with one character (0-255) per byte. They compare with ===,
// key a Map, travel in JSON, and lose nothing: file names need not be UTF-8. Only the CLI's display and the URI
// variants of the API decode them.

declare const byteStringBrand: unique symbol;

/** A path or name as bytes: each character's code is one byte. Never contains NUL. */
export type ByteString = string & { readonly [byteStringBrand]: true };

export function byteString(bytes: Uint8Array): ByteString {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1") as ByteString;
}

/** From text as the user typed it (UTF-8; Bun hands argv bytes that are not UTF-8 through /proc/self/cmdline only). */
export function byteStringFromText(text: string): ByteString {
  return Buffer.from(text, "utf8").toString("latin1") as ByteString;
}

/** The bytes, without a trailing NUL. */
export function toBytes(path: ByteString): Buffer {
  return Buffer.from(path, "latin1");
}

/** For people: UTF-8 where it is, U+FFFD for the bytes that are not. Never to be parsed or opened again. */
export function displayText(path: ByteString): string {
  return toBytes(path).toString("utf8");
}

/** True when every character is one byte and none is NUL. */
export function isByteString(value: string): value is ByteString {
  for (let index = 0; index < value.length; index++) {
    const code = value.charCodeAt(index);
    if (code === 0 || code > 255) return false;
  }
  return true;
}
