// Values as they travel on the bus: which JavaScript types stand for which D-Bus types, and narrow ways to read them.

import { Variant } from "dbus-next/lib/variant.js";

export { Variant };

/**
 * `y n q i u d h` are numbers, `x t` BigInts (numbers too when sent), `b` booleans, `s o g` strings, `ay` a Buffer, other arrays and
 * structs arrays, dicts Maps (never objects: a key may be "__proto__"), `v` a Variant.
 */
export type WireValue = unknown;

/** A dict of variants, `a{sv}`. */
export type VariantDict = ReadonlyMap<string, Variant>;

/** Builds an `a{sv}` from pairs; a convenience for literals. */
export function variantDict(entries: Record<string, Variant>): Map<string, Variant> {
  return new Map(Object.entries(entries));
}

/** The `a{sv}` that a decoded body holds at a place whose signature has been checked before; anything else is empty. */
export function asVariantDict(value: WireValue): VariantDict {
  return value instanceof Map ? value : new Map();
}

/** The value of one key when it is a variant of this signature, else undefined. */
export function dictValue(dict: VariantDict, key: string, signature: "s" | "o"): string | undefined;
export function dictValue(dict: VariantDict, key: string, signature: "u" | "i"): number | undefined;
export function dictValue(dict: VariantDict, key: string, signature: "t"): bigint | undefined;
export function dictValue(dict: VariantDict, key: string, signature: "b"): boolean | undefined;
export function dictValue(dict: VariantDict, key: string, signature: "ay"): Buffer | undefined;
export function dictValue(dict: VariantDict, key: string, signature: "as"): readonly string[] | undefined;
export function dictValue(dict: VariantDict, key: string, signature: "au"): readonly number[] | undefined;
export function dictValue(dict: VariantDict, key: string, signature: string): unknown {
  const variant = dict.get(key);
  return variant?.signature === signature ? variant.value : undefined;
}
