// The keys of the options of Copy and Move: one for each field of the request's options, with its D-Bus type. No zod here: clients
// start fast.

import { type ByteString, byteString, toBytes } from "../bytes.ts";
import type { JobOptions, TypedNames } from "../request.ts";
import { Variant, type VariantDict } from "./values.ts";

export type OptionSignature = "s" | "b" | "t" | "u" | "as" | "ay" | "aay";

export interface OptionKey {
  /** Kebab-case, as on the bus. */
  readonly key: string;
  readonly signature: OptionSignature;
  /** Where the value lies in the request's options. */
  readonly field: readonly string[];
}

type Signatures<Fields> = Readonly<Record<keyof Fields, OptionSignature>>;

// Complete by type: a new field of the request does not compile before it has a key here, and a line in the XML.
const plain: Signatures<Omit<JobOptions, "gnu">> = {
  onConflict: "s",
  preserve: "as",
  recursive: "b",
  symlinks: "s",
  reflink: "s",
  sparse: "s",
  engine: "s",
  verify: "s",
  manifest: "ay",
  durability: "s",
  oneFileSystem: "b",
  bandwidthLimit: "t",
  priority: "s",
  onDisconnect: "s",
  onError: "s",
  onFull: "s",
  onLost: "s",
  cache: "s",
  umask: "u",
  renameMatch: "s",
  renameReplace: "s",
  include: "as",
  exclude: "as",
  maxFileSize: "t",
  target: "s",
  specials: "b",
};
const gnu: Signatures<Omit<JobOptions["gnu"], "names">> = {
  inPlace: "b",
  force: "b",
  removeDestination: "b",
  onlyOlder: "b",
  askIfUnwritable: "b",
  backup: "s",
  backupSuffix: "ay",
  attributesOnly: "b",
  make: "s",
  parents: "b",
  keepDirectorySymlink: "b",
  followDanglingDestination: "b",
  exchange: "b",
  noCopy: "b",
  copyContents: "b",
  defaultMode: "b",
  required: "as",
  reduceDiagnostics: "b",
  verbose: "b",
  debug: "b",
};
const names: Signatures<TypedNames> = { program: "s", sources: "aay", destination: "ay", charset: "s" };

/** Every option that is part of a request; `token` is an argument of the call and not among them. */
export const optionKeys: readonly OptionKey[] = [
  ...keysOf(plain, [], ""),
  ...keysOf(gnu, ["gnu"], ""),
  ...keysOf(names, ["gnu", "names"], "names-"),
];

const byKey = new Map(optionKeys.map((option) => [option.key, option]));

export function optionKey(key: string): OptionKey | undefined {
  return byKey.get(key);
}

/** All options as an `a{sv}`, the defaults spelt out. */
export function encodeOptions(options: JobOptions): Map<string, Variant> {
  const dict = new Map<string, Variant>();
  for (const { key, signature, field } of optionKeys) {
    const value = valueAt(options, field);
    if (value !== undefined && value !== null) dict.set(key, new Variant(signature, wireValue(signature, value)));
  }
  return dict;
}

/**
 * The options that a service's `Options` property tells. For clients, which trust the service: nothing is checked, and a field
 * that an older service does not know is undefined.
 */
export function optionsAsTold(dict: VariantDict): JobOptions {
  const options: OptionTree = { gnu: { names: null } };
  for (const [key, variant] of dict) {
    const option = optionKey(key);
    if (option !== undefined && variant.signature === option.signature) {
      setAt(options, option.field, plainValue(option.signature, variant.value));
    }
  }
  return options as unknown as JobOptions;
}

export interface OptionTree {
  [field: string]: unknown;
}

/** A value from the bus, of the option's signature, as the request's schema wants it. */
export function plainValue(signature: OptionSignature, value: unknown): unknown {
  if (signature === "t") return Number(value);
  if (signature === "ay") return withoutTrailingNul(value as Buffer);
  if (signature === "aay") return (value as Buffer[]).map(withoutTrailingNul);
  return value;
}

/** Sets a field of nested objects, making those on the way. */
export function setAt(tree: OptionTree, field: readonly string[], value: unknown): void {
  let node = tree;
  for (const name of field.slice(0, -1)) {
    if (typeof node[name] !== "object" || node[name] === null) node[name] = {};
    node = node[name] as OptionTree;
  }
  const last = field.at(-1);
  if (last !== undefined) node[last] = value;
}

function valueAt(options: JobOptions, field: readonly string[]): unknown {
  let node: unknown = options;
  for (const name of field) node = typeof node === "object" && node !== null ? (node as OptionTree)[name] : undefined;
  return node;
}

function wireValue(signature: OptionSignature, value: unknown): unknown {
  if (signature === "ay") return withTrailingNul(value as ByteString);
  if (signature === "aay") return (value as ByteString[]).map(withTrailingNul);
  return value;
}

function withTrailingNul(value: ByteString): Buffer {
  const bytes = Buffer.alloc(value.length + 1);
  bytes.write(value, "latin1");
  return bytes;
}

function withoutTrailingNul(bytes: Buffer): ByteString {
  return byteString(bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes);
}

function keysOf(signatures: Readonly<Record<string, OptionSignature>>, parents: readonly string[], prefix: string): OptionKey[] {
  return Object.entries(signatures).map(([name, signature]) => ({
    key: prefix + name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
    signature,
    field: [...parents, name],
  }));
}

/** A path as the API sends it: its bytes and a NUL. An empty byte string, for "none", is sent as no bytes at all. */
export function pathBytes(path: ByteString): Buffer {
  return path === "" ? toBytes(path) : withTrailingNul(path);
}
