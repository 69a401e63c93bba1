// The settings of the service: files, environment and flags become one frozen Config. config-settings.ts lists them.

import { isAbsolute, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type Layer, put, readConfigFiles } from "./config-file.ts";
import { camelCase, kebabCase, policyGroup, type Settings, sections, sectionText, settingsOf } from "./config-settings.ts";
import { CopyError } from "./errors.ts";
import { gidOf, hasRules, type PolicyGroup } from "./policy-groups.ts";

export type Config = Settings & {
  readonly bus: "system" | "session";
  /** Absolute. Survives a reboot: the job store. */
  readonly stateDirectory: string;
  /** Absolute. Emptied at boot: in-flight records, sockets. */
  readonly runtimeDirectory: string;
  /** [policy.GROUP], by group; each as [policy]. */
  readonly policyGroups: readonly PolicyGroup[];
  /** The files that were read, absolute, the last of which wins. */
  readonly files: readonly string[];
};

type Environment = Readonly<Record<string, string | undefined>>;

/** One setting in force, and where it comes from. */
export interface SettingInForce {
  readonly section: string;
  /** As in a file: kebab-case. */
  readonly key: string;
  readonly value: unknown;
  /** "FILE:LINE", "environment", "command line", or null for the standard value. */
  readonly origin: string | null;
}

/**
 * The settings of `copyd daemon`. Flags win over the environment, that over the files, those over the standard values.
 * Throws CopyError: usage for a wrong command line, bad-config with origin, key and remedy for a wrong value.
 */
export function loadConfig(argv: readonly string[], environment: Environment): Config {
  const { bus, files, layers } = readLayers(argv, environment);
  const [problem] = layers.flatMap(problemsOf);
  if (problem !== undefined) throw new CopyError("bad-config", problem);
  return deepFreeze({
    ...merged(layers),
    policyGroups: groupsIn(layers),
    bus,
    ...directories(bus, environment),
    files: files.map((file) => resolve(file)),
  });
}

/** What the files say is wrong, every one of it, or what is in force. Throws bad-config for files that cannot be read or parsed. */
export function examineConfig(
  argv: readonly string[],
  environment: Environment,
): { readonly files: readonly string[]; readonly problems: readonly string[]; readonly settings: readonly SettingInForce[] } {
  const { files, layers } = readLayers(argv, environment);
  const mistakes = layers.flatMap(problemsOf);
  const problems = mistakes.length > 0 ? mistakes : groupsIn(layers).flatMap(groupProblem);
  const settings =
    problems.length > 0 ? [] : [...Object.keys(sections), ...groupSections(layers)].flatMap((section) => inForce(section, layers));
  return { files, problems, settings };
}

/** Only what has rules needs somebody to hold them to. */
function groupProblem(group: PolicyGroup): string[] {
  try {
    if (hasRules(group.rules)) gidOf(group);
    return [];
  } catch (error) {
    if (error instanceof CopyError) return [error.message];
    throw error;
  }
}

/** All standard values, for tests and for the embedded mode. */
export function standardSettings(): Settings {
  return deepFreeze(merged([]));
}

function readLayers(
  argv: readonly string[],
  environment: Environment,
): { readonly bus: Config["bus"]; readonly files: readonly string[]; readonly layers: readonly Layer[] } {
  const flags = parseFlags(argv);
  const bus = flags.session ? "session" : "system";
  const named = flags.config ?? environment.COPYD_CONFIG;
  const { files, layers } = readConfigFiles(named ?? standardFile(bus, environment), { isNamed: named !== undefined });
  return { bus, files, layers: [...layers, environmentLayer(environment), flags.layer] };
}

interface Flags {
  readonly session: boolean;
  readonly config: string | undefined;
  readonly layer: Layer;
}

function parseFlags(argv: readonly string[]): Flags {
  const options = {
    session: { type: "boolean" },
    config: { type: "string" },
    "log-level": { type: "string" },
    set: { type: "string", multiple: true },
  } as const;
  let values: { session?: boolean; config?: string; "log-level"?: string; set?: string[] };
  try {
    values = parseArgs({ args: [...argv], options, strict: true, allowPositionals: false }).values;
  } catch (cause) {
    throw new CopyError("usage", `copyd daemon: ${cause instanceof Error ? cause.message : String(cause)}`, {}, cause);
  }
  const layer: Layer = new Map();
  const origin = "command line";
  if (values["log-level"] !== undefined) put(layer, "service", "logLevel", { value: values["log-level"], origin });
  for (const setting of values.set ?? []) {
    const parts = /^([a-z]+)\.([a-z-]+)=(.*)$/.exec(setting);
    if (parts === null) throw new CopyError("usage", `copyd daemon: --set takes SECTION.KEY=VALUE, not "${setting}"`);
    put(layer, parts[1] ?? "", camelCase(parts[2] ?? ""), { value: scalar(parts[3] ?? ""), origin });
  }
  return { session: values.session === true, config: values.config, layer };
}

function standardFile(bus: Config["bus"], environment: Environment): string {
  if (bus === "system") return "/etc/copyd/copyd.toml";
  return `${environment.XDG_CONFIG_HOME ?? `${environment.HOME ?? ""}/.config`}/copyd/copyd.toml`;
}

/** systemd names its directories in the environment (systemd.exec(5)), several of them separated by colons. */
function directories(bus: Config["bus"], environment: Environment): Pick<Config, "stateDirectory" | "runtimeDirectory"> {
  const home = environment.HOME ?? "";
  const state = bus === "system" ? "/var/lib/copyd" : `${environment.XDG_STATE_HOME ?? `${home}/.local/state`}/copyd`;
  const runtime = bus === "system" ? "/run/copyd" : `${environment.XDG_RUNTIME_DIR ?? `/run/user/${process.getuid?.() ?? 0}`}/copyd`;
  const first = (name: "STATE_DIRECTORY" | "RUNTIME_DIRECTORY", standard: string): string => {
    const path = environment[name]?.split(":")[0] || standard;
    if (isAbsolute(path)) return path;
    throw new CopyError("bad-config", `environment: ${name} is "${path}": it must be an absolute path`);
  };
  return { stateDirectory: first("STATE_DIRECTORY", state), runtimeDirectory: first("RUNTIME_DIRECTORY", runtime) };
}

/** COPYD_SECTION_KEY; COPYD_CONFIG names the file. Names that begin otherwise are not ours. */
function environmentLayer(environment: Environment): Layer {
  const layer: Layer = new Map();
  for (const [name, value] of Object.entries(environment)) {
    const parts = /^COPYD_([A-Z]+)_([A-Z_]+)$/.exec(name);
    const section = parts?.[1]?.toLowerCase() ?? "";
    if (value === undefined || settingsOf(section) === undefined) continue;
    const key = camelCase((parts?.[2] ?? "").toLowerCase().replaceAll("_", "-"));
    put(layer, section, key, { value: scalar(value), origin: "environment" });
  }
  return layer;
}

/** Each as "FILE:LINE: section.key = value: what is wrong; what to do". */
function problemsOf(layer: Layer): string[] {
  const problems: string[] = [];
  for (const [section, values] of layer) {
    const known = settingsOf(section);
    for (const [key, { value, origin }] of values) {
      if (section === "") problems.push(`${origin}: "${key}" stands outside a section: settings go below [${sectionNames()}]`);
      else if (known === undefined) problems.push(`${origin}: there is no section [${sectionText(section)}]; there are ${sectionNames()}`);
      if (known === undefined) break;
      const problem = key === "" ? null : problemOf(section, key, value, known);
      if (problem !== null) problems.push(`${origin}: ${problem}`);
    }
  }
  return problems;
}

function problemOf(section: string, key: string, value: unknown, known: NonNullable<ReturnType<typeof settingsOf>>): string | null {
  const name = `${sectionText(section)}.${kebabCase(key)}`;
  const setting = Object.hasOwn(known, key) ? known[key] : undefined;
  if (setting === undefined)
    return `${name} is not a setting; [${sectionText(section)}] has ${Object.keys(known).map(kebabCase).join(", ")}`;
  const result = setting.schema.safeParse(value);
  if (result.success) return null;
  const problem = result.error.issues[0]?.message ?? "not valid";
  const remedy = `correct it, or leave it out for ${shown(setting.standard)}`;
  return `${name} = ${shown(value)}: ${problem}; ${remedy}`;
}

function shown(value: unknown): string {
  return Array.isArray(value) || typeof value === "string" ? JSON.stringify(value) : String(value);
}

/** Layers must have been checked. */
function merged(layers: readonly Layer[]): Settings {
  const settings = Object.keys(sections).map((section) => {
    const values = inForce(section, layers).map(({ key, value }): [string, unknown] => [camelCase(key), value]);
    return [section, Object.fromEntries(values)];
  });
  return Object.fromEntries(settings);
}

/** Each "policy.GROUP" that is spoken of. */
function groupSections(layers: readonly Layer[]): string[] {
  return [...new Set(layers.flatMap((layer) => [...layer.keys()]))].filter((section) => policyGroup(section) !== undefined);
}

function groupsIn(layers: readonly Layer[]): PolicyGroup[] {
  return groupSections(layers).map((section) => {
    const rules = Object.fromEntries(inForce(section, layers).map(({ key, value }): [string, unknown] => [camelCase(key), value]));
    const origin = layers.map((layer) => layer.get(section)?.values().next().value?.origin).findLast((found) => found !== undefined);
    return { group: policyGroup(section) ?? "", origin: origin ?? "", rules: rules as Settings["policy"] };
  });
}

function inForce(section: string, layers: readonly Layer[]): SettingInForce[] {
  return Object.entries(settingsOf(section) ?? {}).map(([key, { standard }]) => {
    const given = layers
      .findLast((layer) => layer.get(section)?.has(key) === true)
      ?.get(section)
      ?.get(key);
    return { section, key: kebabCase(key), value: given === undefined ? standard : given.value, origin: given?.origin ?? null };
  });
}

function deepFreeze<Value extends object>(value: Value): Value {
  for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) Object.freeze(inner);
  return Object.freeze(value);
}

function scalar(text: string): string | number {
  return /^-?\d+$/.test(text) ? Number(text) : text;
}

function sectionNames(): string {
  return Object.keys(sections).join(", ");
}
