// Paths as callers give them: byte arrays and file:// URIs in, byte strings out, or an error that names what is wrong with them.

import { type ByteString, byteString, byteStringFromText, displayText } from "../bytes.ts";
import { CopyError } from "../errors.ts";
import { maxPathBytes } from "../request.ts";

/** An `ay` argument: absolute, one optional trailing NUL, no other. `what` names the argument in errors. Throws bad-path. */
export function pathFromBytes(bytes: Buffer, what: string): ByteString {
  const path = bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes;
  // Before it is decoded: the caller may send megabytes.
  if (path.length > maxPathBytes) throw badPath(what, `is ${path.length} bytes long; paths have at most ${maxPathBytes}`);
  return checked(byteString(path), what);
}

/** A `file://` URI with percent-encoded bytes, or an absolute path in UTF-8. Throws bad-path. */
export function pathFromUri(text: string, what: string): ByteString {
  if (text.startsWith("/")) return checked(byteStringFromText(text), what);
  if (text === "") throw badPath(what, "is empty");
  const match = /^file:\/\/(localhost)?(\/[^?#]*)$/i.exec(text);
  if (match === null) throw badPath(what, `is neither an absolute path nor a file:// URI of this machine: '${excerpt(text)}'`);
  const encoded = byteStringFromText(match[2] ?? "");
  if (/%(?![0-9a-fA-F]{2})/.test(encoded)) throw badPath(what, `has a '%' without two hexadecimal digits: '${excerpt(text)}'`);
  const decoded = encoded.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return checked(decoded as ByteString, what);
}

/** The `file://` URI of a path: what pathFromUri reads. */
export function uriFromPath(path: ByteString): string {
  return `file://${path.replace(/[^A-Za-z0-9/._~-]/g, (byte) => `%${byte.charCodeAt(0).toString(16).padStart(2, "0").toUpperCase()}`)}`;
}

function checked(path: ByteString, what: string): ByteString {
  if (path === "") throw badPath(what, "is empty");
  if (path.includes("\0")) throw badPath(what, `contains a NUL byte: '${excerpt(displayText(path))}'`);
  if (!path.startsWith("/")) throw badPath(what, `is not absolute: '${excerpt(displayText(path))}'`);
  if (path.length > maxPathBytes) throw badPath(what, `is ${path.length} bytes long; paths have at most ${maxPathBytes}`);
  return path;
}

function badPath(what: string, problem: string): CopyError {
  return new CopyError("bad-path", `${what} ${problem}`);
}

/** The beginning of what the caller sent, fit for a message: no control characters, no end to its length. */
export function excerpt(text: string): string {
  const short = text.length > 100 ? `${text.slice(0, 100)}...` : text;
  return short.replace(/\p{Cc}/gu, "?");
}
