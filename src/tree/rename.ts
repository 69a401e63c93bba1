// New names by a regular expression, each validated before anything is created under it. Pure.

import type { JobOptions } from "../request.ts";

export type Renamed =
  | { readonly kind: "name"; readonly name: string }
  /** Why the result cannot be a file name, as a whole sentence's end: "is empty". */
  | { readonly kind: "invalid"; readonly reason: string };

const maxNameBytes = 255;

/** Throws SyntaxError for a pattern that is not a regular expression. */
export class NameRewriter {
  private readonly pattern: RegExp | null;
  private readonly replacement: string;

  constructor(options: Pick<JobOptions, "renameMatch" | "renameReplace">) {
    this.pattern = options.renameMatch === "" ? null : new RegExp(options.renameMatch, "u");
    this.replacement = options.renameReplace;
  }

  get isIdentity(): boolean {
    return this.pattern === null;
  }

  /**
   * The new name of a file, as a byte string: the first match replaced ($1, $<name> and $& as in String.replace). A name that does
   * not match, or is not UTF-8, stays as it is.
   */
  rewrite(name: string): Renamed {
    if (this.pattern === null) return { kind: "name", name };
    const text = decodeUtf8(name);
    if (text === null || !this.pattern.test(text)) return { kind: "name", name };
    const renamed = Buffer.from(text.replace(this.pattern, this.replacement), "utf8").toString("latin1");
    const reason = whyInvalid(renamed);
    return reason === null ? { kind: "name", name: renamed } : { kind: "invalid", reason };
  }
}

/** Why bytes cannot be a file's name, or null. */
export function whyInvalid(name: string): string | null {
  if (name === "") return "is empty";
  if (name === "." || name === "..") return `is "${name}"`;
  if (name.includes("/")) return "contains a slash";
  if (name.includes("\0")) return "contains a NUL byte";
  return name.length > maxNameBytes ? `has ${name.length} bytes, more than ${maxNameBytes}` : null;
}

function decodeUtf8(name: string): string | null {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(Buffer.from(name, "latin1"));
  } catch {
    // Not UTF-8: such a name has no characters to match.
    return null;
  }
}
