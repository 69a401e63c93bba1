// Numbers in arguments: byte counts with units ("10M", "1.5GB") and small counts.

import type { ByteString } from "../bytes.ts";
import { type MessageCharset, quoteWord } from "../quote.ts";
import { UsageError } from "./getopt.ts";

/** K, M, G, T (and KiB...) are powers of 1024, KB, MB, GB, TB powers of 1000, as everywhere in coreutils. */
const form = /^(\d+(?:\.\d+)?)(?:([kmgt])(i?b)?|b)?$/i;

/** Bytes, from 0 to what a number holds exactly. Throws UsageError, naming the option. */
export function parseByteCount(option: string, typed: ByteString, charset: MessageCharset): number {
  const bytes = bytesOf(typed);
  if (bytes !== null) return bytes;
  throw new UsageError(`invalid ${option} argument ${quoteWord(typed, charset)}: a number of bytes like 500K, 20M or 1.5G is wanted`);
}

/** null: that is no number of bytes. */
export function bytesOf(typed: string): number | null {
  const [, digits, unit, suffix] = form.exec(typed) ?? [];
  const base = suffix?.toLowerCase() === "b" ? 1000 : 1024;
  const power = unit === undefined ? 0 : "kmgt".indexOf(unit.toLowerCase()) + 1;
  const bytes = digits === undefined ? Number.NaN : Math.round(Number(digits) * base ** power);
  // Less than a byte must not become 0, which is no limit.
  return !Number.isSafeInteger(bytes) || (bytes === 0 && Number(digits) > 0) ? null : bytes;
}

/** A whole number from 0 to `most`. */
export function parseCount(option: string, typed: ByteString, most: number, charset: MessageCharset): number {
  const count = /^\d{1,9}$/.test(typed) ? Number(typed) : Number.NaN;
  if (!(count <= most)) {
    throw new UsageError(`invalid ${option} argument ${quoteWord(typed, charset)}: a number from 0 to ${most} is wanted`);
  }
  return count;
}
