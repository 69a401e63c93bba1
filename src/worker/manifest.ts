// Lines of checksum manifests, as sha256sum, md5sum, b3sum and xxhsum write and read them. Pure.
//
// "DIGEST  NAME" a line; a name with a backslash or a line break is escaped, and the line then begins with a backslash. BSD's form,
// "SHA256 (NAME) = DIGEST", is read too.

import type { HashMethod } from "../engines/hash.ts";

export type ManifestLine =
  /** `methods`: one; or, where only the digest's length tells and fits several, each of them. */
  | { readonly kind: "file"; readonly methods: readonly [HashMethod, ...HashMethod[]]; readonly digest: string; readonly name: string }
  | { readonly kind: "nothing" }
  | { readonly kind: "odd"; readonly problem: string };

/** A line for a file, with its end. `name` is a byte string, `digest` lower-case hexadecimal. */
export function manifestLine(method: HashMethod, digest: string, name: string): string {
  // b3sum knows two escapes only; the others would take a carriage return at the end for a part of the line's end.
  const special = method === "blake3" ? /[\\\n]/ : /[\\\n\r]/;
  if (!special.test(name)) return plainLine(method, digest, name);
  const escaped = name.replace(/\\/g, "\\\\").replace(/\n/g, "\\n");
  return `\\${plainLine(method, digest, method === "blake3" ? escaped : escaped.replace(/\r/g, "\\r"))}`;
}

/** xxhsum reads XXH3 in BSD's form only: sixteen digits by themselves are XXH64. */
function plainLine(method: HashMethod, digest: string, name: string): string {
  return method === "xxh3" ? `XXH3 (${name}) = ${digest}\n` : `${digest}  ${name}\n`;
}

const methodOfTag: Readonly<Record<string, HashMethod>> = {
  SHA256: "sha256",
  MD5: "md5",
  BLAKE3: "blake3",
  XXH3: "xxh3",
  CRC32: "crc32",
};
const digestLength: Readonly<Record<HashMethod, number>> = { sha256: 64, blake3: 64, md5: 32, xxh3: 16, crc32: 8 };
/** What other programs write, so that the complaint can name it. */
const unknownLengths: Readonly<Record<number, string>> = {
  16: "XXH64",
  40: "SHA-1",
  56: "SHA-224",
  96: "SHA-384",
  128: "SHA-512 or BLAKE2",
};

/**
 * One line without its end, as a byte string. `assumed`: the method of lines that do not say theirs; null goes by the length, and 64
 * digits may be SHA-256 or BLAKE3.
 */
export function parseManifestLine(line: string, assumed: HashMethod | null): ManifestLine {
  if (line === "" || line === "\r" || line.startsWith("#")) return { kind: "nothing" };
  const isEscaped = line.startsWith("\\");
  const text = isEscaped ? line.slice(1) : line;
  const bsd = /^([A-Z0-9-]+) ?\((.*)\) = ([0-9a-fA-F]+)\r?$/s.exec(text);
  if (bsd !== null) return tagged(bsd[1] ?? "", bsd[2] ?? "", bsd[3] ?? "", isEscaped);
  const plain = /^(XXH3_)?([0-9a-fA-F]+) ([ *])(.+)$/s.exec(text);
  if (plain === null) return odd("it is not a digest, two spaces and a name");
  const digest = plain[2] ?? "";
  const methods = plain[1] !== undefined ? (["xxh3"] as const) : assumed !== null ? ([assumed] as const) : methodsOfLength(digest.length);
  if (methods === null) {
    const known = unknownLengths[digest.length];
    return odd(known === undefined ? `no digest has ${digest.length} digits` : `${known} is not supported`);
  }
  return file(methods, digest, plain[4] ?? "", isEscaped);
}

function tagged(tag: string, name: string, digest: string, isEscaped: boolean): ManifestLine {
  const method = Object.hasOwn(methodOfTag, tag) ? methodOfTag[tag] : undefined;
  return method === undefined ? odd(`${tag} is not supported`) : file([method], digest, name, isEscaped);
}

function file(methods: readonly [HashMethod, ...HashMethod[]], digest: string, written: string, isEscaped: boolean): ManifestLine {
  const [method] = methods;
  const wanted = digestLength[method];
  if (digest.length !== wanted) return odd(`a digest of ${method} has ${wanted} digits, not ${digest.length}`);
  // A manifest that came by way of Windows.
  const name = isEscaped ? unescaped(written.replace(/\r$/, "")) : written;
  if (name === null) return odd("its name has an escape that means nothing");
  if (name.includes("\0")) return odd("its name has a NUL byte");
  if (name === "-") return odd("it names standard input");
  return { kind: "file", methods, digest: digest.toLowerCase(), name };
}

function methodsOfLength(length: number): readonly [HashMethod, ...HashMethod[]] | null {
  return length === 64 ? ["sha256", "blake3"] : length === 32 ? ["md5"] : length === 8 ? ["crc32"] : null;
}

function unescaped(name: string): string | null {
  if (/\\(?![\\nr])/.test(name.replace(/\\\\/g, ""))) return null;
  return name.replace(/\\([\\nr])/g, (_, letter: string) => (letter === "n" ? "\n" : letter === "r" ? "\r" : "\\"));
}

function odd(problem: string): ManifestLine {
  return { kind: "odd", problem };
}
