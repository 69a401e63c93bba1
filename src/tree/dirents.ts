// Reading names straight out of a getdents64(2) buffer: bytes in native memory, no strings, no allocation.

import { layout } from "../ffi/layout.ts";

const at = layout.dirent64;

/** Length of the record at `offset`, in bytes. hot: */
export function recordLength(bytes: Uint8Array, offset: number): number {
  return (bytes[offset + at.d_reclen] ?? 0) + (bytes[offset + at.d_reclen + 1] ?? 0) * 256;
}

/** d_type of the record at `offset` (DirentType); UNKNOWN where the filesystem does not tell. hot: */
export function recordType(bytes: Uint8Array, offset: number): number {
  return bytes[offset + at.d_type] ?? 0;
}

/** Offset of the record's NUL-terminated name. hot: */
export function recordName(offset: number): number {
  return offset + at.d_name;
}

/** True for "." and "..". hot: */
export function isDotOrDotDot(bytes: Uint8Array, name: number): boolean {
  if (bytes[name] !== 0x2e) return false;
  const second = bytes[name + 1];
  return second === 0 || (second === 0x2e && bytes[name + 2] === 0);
}

/** Length of the C string at `name`, at most 255 for a file name. hot: */
export function nameLength(bytes: Uint8Array, name: number): number {
  let end = name;
  while (bytes[end] !== 0) end++;
  return end - name;
}

/** The C string at `name` as a byte string. Allocates: for messages and subdirectories, not for every file. */
export function nameString(bytes: Uint8Array, name: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + name, nameLength(bytes, name)).toString("latin1");
}
