// Settings from TOML files, each with the line it stands on: the file itself, and what administrators dropped in beside it.

import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { camelCase } from "./config-settings.ts";
import { CopyError } from "./errors.ts";

/** A value as it was given, unchecked, and where: "FILE:LINE", "environment" or "command line". */
export interface Given {
  readonly value: unknown;
  readonly origin: string;
}

/** Settings of one origin: section -> key (camelCase) -> what was given. A key may be "" where the section itself is wrong. */
export type Layer = Map<string, Map<string, Given>>;

/** Drop-ins beyond these are somebody's mistake. */
const maxDropIns = 256;

/** FILE (null where it is absent and nobody named it), then FILE.d/*.toml in the order of their names. Throws bad-config. */
export function readConfigFiles(
  file: string,
  { isNamed }: { readonly isNamed: boolean },
): { readonly files: string[]; readonly layers: Layer[] } {
  const files: string[] = [];
  const layers: Layer[] = [];
  const main = readText(file, { mayBeAbsent: !isNamed });
  if (main !== null) {
    files.push(file);
    layers.push(parseLayer(file, main));
  }
  for (const path of dropIns(`${file}.d`)) {
    const text = readText(path, { mayBeAbsent: true });
    if (text === null) continue;
    files.push(path);
    layers.push(parseLayer(path, text));
  }
  return { files, layers };
}

export function put(layer: Layer, section: string, key: string, given: Given): void {
  const values = layer.get(section) ?? new Map<string, Given>();
  layer.set(section, values.set(key, given));
}

function dropIns(directory: string): string[] {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    if (isAbsent(directory, code)) return [];
    throw new CopyError("bad-config", `${directory} cannot be read (${code}): it is a folder for drop-ins`, { path: directory }, cause);
  }
  const paths = names
    .filter((name) => name.endsWith(".toml") && !name.startsWith("."))
    .sort()
    .map((name) => join(directory, name));
  if (paths.length <= maxDropIns) return paths;
  throw new CopyError("bad-config", `${directory} holds ${paths.length} files; ${maxDropIns} are read at most`, { path: directory });
}

function readText(path: string, { mayBeAbsent }: { readonly mayBeAbsent: boolean }): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    if (mayBeAbsent && isAbsent(path, code)) return null;
    throw new CopyError("bad-config", `${path} cannot be read (${code}): check the path given with --config and its mode`, { path }, cause);
  }
}

/** A link to nothing is there: whoever made it means the file to count, and it may be one with a policy. */
function isAbsent(path: string, code: string): boolean {
  return code === "ENOENT" && lstatSync(path, { throwIfNoEntry: false }) === undefined;
}

function parseLayer(path: string, text: string): Layer {
  let parsed: object;
  try {
    parsed = Bun.TOML.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.replace(/^TOML Parse error: /, "") : String(cause);
    throw new CopyError("bad-config", `${path}:${lineOfMistake(text)}: not TOML: ${reason}`, { path }, cause);
  }
  const lineOf = lines(text);
  const layer: Layer = new Map();
  for (const [section, values] of Object.entries(parsed)) {
    if (typeof values !== "object" || values === null || Array.isArray(values)) {
      // Whatever its name, it is nobody's section.
      put(layer, "", section, { value: values, origin: `${path}:${lineOf("", section)}` });
      continue;
    }
    put(layer, section, "", { value: undefined, origin: `${path}:${lineOf(section, "")}` });
    for (const [key, value] of Object.entries(values)) {
      if (section === "policy" && isTable(value)) putGroup(layer, `policy.${key}`, value, (at, of) => `${path}:${lineOf(at, of)}`);
      else put(layer, section, camelCase(key), { value, origin: `${path}:${lineOf(section, key)}` });
    }
  }
  return layer;
}

function isTable(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** [policy.GROUP], which TOML has as a table in a table, is a section here. */
function putGroup(layer: Layer, section: string, values: object, originOf: (section: string, key: string) => string): void {
  put(layer, section, "", { value: undefined, origin: originOf(section, "") });
  for (const [key, value] of Object.entries(values)) put(layer, section, camelCase(key), { value, origin: originOf(section, key) });
}

/** The parser does not say where: the line after the longest beginning that it takes. */
function lineOfMistake(text: string): number {
  const all = text.split("\n");
  for (let taken = all.length - 1; taken > 0; taken--) {
    try {
      Bun.TOML.parse(all.slice(0, taken).join("\n"));
      return taken + 1;
    } catch {
      // Still too long.
    }
  }
  return 1;
}

/** Finds the line of a key in a section (1 where it is written in a way of TOML's that nobody uses here); "" is a section's own. */
function lines(text: string): (section: string, key: string) => number {
  const found = new Map<string, number>();
  let section = "";
  for (const [index, line] of text.split("\n").entries()) {
    const header = /^\s*\[\s*([^\]]*?)\s*\]/.exec(line)?.[1]?.replace(/["']/g, "").replaceAll("\\\\", "\\");
    if (header !== undefined) section = header;
    const key = header === undefined ? /^\s*"?([\w.-]+)"?\s*=/.exec(line)?.[1] : "";
    const name = key === undefined ? undefined : `${section}\0${key}`;
    if (name !== undefined && !found.has(name)) found.set(name, index + 1);
  }
  return (inSection, key) => found.get(`${inSection}\0${key}`) ?? found.get(`\0${inSection}.${key}`) ?? found.get(`${inSection}\0`) ?? 1;
}
