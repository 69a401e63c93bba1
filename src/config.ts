// The settings of the service: file, environment and flags become one frozen Config. Every limit has its reason here.

import { readFileSync } from "node:fs";
import { isAbsolute, resolve } from "node:path";
import { parseArgs } from "node:util";
import { z } from "zod";
import { CopyError } from "./errors.ts";
import { type LogLevel, logLevels } from "./log.ts";

interface Setting<Value> {
  readonly schema: z.ZodType<Value>;
  readonly standard: Value;
}

/** A whole number with its standard value and the range that makes sense. */
function whole(standard: number, least: number, most: number): Setting<number> {
  return { schema: z.number().int().min(least).max(most), standard };
}

const mebibyte = 1024 * 1024;

const sections = {
  service: {
    logLevel: { schema: z.enum(logLevels), standard: "info" } as Setting<LogLevel>,
    // Without jobs, callers and subscribers for so long, the service ends; the next call starts it again. 0: it stays.
    idleExitSeconds: whole(60, 0, 86_400),
  },
  /** What one call, or one caller, may ask of the bus side. */
  calls: {
    // A file manager sends one path per selected file; a folder is one path whatever it holds. Decoding and checking so many
    // takes some 20 ms, during which nobody else is served.
    maxSources: whole(16_384, 1, 100_000),
    // A command line of the usual ARG_MAX fits.
    maxArgumentBytes: whole(4 * mebibyte, 4096, 16 * mebibyte),
    // A subscription costs a match on each job's change; no desktop runs this many programs that watch copies.
    maxSubscriptions: whole(64, 1, 4096),
    // A pending Wait is a reply that the service owes.
    maxWaits: whole(256, 1, 4096),
    // Replies are built in memory and the bus cuts messages off at 32 MiB.
    maxListedJobs: whole(1000, 1, 10_000),
    maxListedErrors: whole(1000, 1, 10_000),
  },
  jobs: {
    // Jobs that move data at once. More only make the devices seek.
    maxRunning: whole(4, 1, 64),
    // Jobs of priority `now` that may run beyond maxRunning, one for each user.
    maxRunningNow: whole(2, 0, 64),
    // Long jobs of one user must leave room for another's.
    maxRunningPerUser: whole(3, 1, 64),
    // Worker processes of one user, paused and asking ones included: each is some tens of megabytes.
    maxWorkersPerUser: whole(8, 1, 256),
    // Jobs of one user that have not ended: a script that calls in a loop is told before memory is.
    maxJobsPerUser: whole(1000, 1, 100_000),
    // Paths in those jobs' requests, which are held in memory.
    maxArgumentBytesPerUser: whole(16 * mebibyte, 4096, 1024 * mebibyte),
    // A medium that fails everywhere gives an error per file; beyond these they are counted only.
    maxErrorsPerJob: whole(10_000, 1, 1_000_000),
    maxErrorBytesPerJob: whole(4 * mebibyte, 4096, 256 * mebibyte),
    // Time for a client that was away to read the result before the object goes.
    lingerMs: whole(60_000, 0, 86_400_000),
    // Ended jobs that linger, of one user: a storm of tiny jobs does not fill the object tree.
    maxEndedPerUser: whole(200, 0, 10_000),
    // A worker blocked in the kernel by a dead device cannot stop sooner than the kernel lets it.
    cancelTimeoutMs: whole(10_000, 100, 600_000),
    recoverTimeoutMs: whole(60_000, 1000, 3_600_000),
  },
  history: {
    // Ended jobs stay in the store for those who ask later what became of a copy.
    retentionDays: whole(30, 0, 3650),
    // Some kilobytes each.
    maxJobsPerUser: whole(1000, 0, 100_000),
  },
};

type Sections = typeof sections;
type SectionName = keyof Sections;
type Values<Section> = { readonly [Key in keyof Section]: Section[Key] extends Setting<infer Value> ? Value : never };

export type Config = { readonly [Name in SectionName]: Values<Sections[Name]> } & {
  readonly bus: "system" | "session";
  /** Absolute. Survives a reboot: the job store. */
  readonly stateDirectory: string;
  /** Absolute. Emptied at boot: in-flight records, sockets. */
  readonly runtimeDirectory: string;
  /** The file that was read, or null. */
  readonly file: string | null;
};

export const daemonUsage = `Usage: copyd daemon [--session] [--config FILE] [--log-level LEVEL] [--set SECTION.KEY=VALUE]...

  --session        serve the user's session bus, with the user's own rights
  --config FILE    settings in TOML (/etc/copyd/copyd.toml, or ~/.config/copyd/copyd.toml with --session)
  --log-level L    ${logLevels.join(", ")}
  --set S.K=V      one setting, as jobs.max-running=2; in the environment it is COPYD_JOBS_MAX_RUNNING
`;

type Environment = Readonly<Record<string, string | undefined>>;
/** Settings of one origin: section -> key (camelCase) -> unchecked value. */
type Layer = Map<string, Map<string, unknown>>;

/**
 * The settings of `copyd daemon`. Flags win over the environment, that over the file, that over the standard values.
 * Throws CopyError: usage for a wrong command line, bad-config with origin, key and remedy for a wrong value.
 */
export function loadConfig(argv: readonly string[], environment: Environment): Config {
  const flags = parseFlags(argv);
  const bus = flags.session ? "session" : "system";
  const named = flags.config ?? environment.COPYD_CONFIG;
  const file = named ?? standardFile(bus, environment);
  const text = readConfigFile(file, named !== undefined);
  const layers: readonly [origin: string, layer: Layer][] = [
    [file, text === null ? new Map() : fileLayer(file, text)],
    ["environment", environmentLayer(environment)],
    ["command line", flags.layer],
  ];
  for (const [origin, layer] of layers) check(origin, layer);
  return deepFreeze({
    ...merged(layers.map(([, layer]) => layer)),
    bus,
    ...directories(bus, environment),
    file: text === null ? null : resolve(file),
  });
}

/** All standard values, for tests and for the embedded mode. */
export function standardSettings(): { readonly [Name in SectionName]: Values<Sections[Name]> } {
  return deepFreeze(merged([]));
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
  if (values["log-level"] !== undefined) put(layer, "service", "logLevel", values["log-level"]);
  for (const setting of values.set ?? []) {
    const parts = /^([a-z]+)\.([a-z-]+)=(.*)$/.exec(setting);
    if (parts === null) throw new CopyError("usage", `copyd daemon: --set takes SECTION.KEY=VALUE, not "${setting}"`);
    put(layer, parts[1] ?? "", camel(parts[2] ?? ""), scalar(parts[3] ?? ""));
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

/** The file's text; null where it is absent and nobody named it. */
function readConfigFile(path: string, isNamed: boolean): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (cause) {
    const code = (cause as NodeJS.ErrnoException).code ?? String(cause);
    if (code === "ENOENT" && !isNamed) return null;
    throw new CopyError("bad-config", `${path} cannot be read (${code}): check the path given with --config and its mode`, { path }, cause);
  }
}

function fileLayer(path: string, text: string): Layer {
  let parsed: object;
  try {
    parsed = Bun.TOML.parse(text);
  } catch (cause) {
    throw new CopyError("bad-config", `${path} is not TOML: ${cause instanceof Error ? cause.message : String(cause)}`, { path }, cause);
  }
  const layer: Layer = new Map();
  for (const [section, values] of Object.entries(parsed)) {
    if (typeof values !== "object" || values === null || Array.isArray(values)) {
      throw new CopyError("bad-config", `${path}: "${section}" stands outside a section: settings go below [${sectionNames()}]`, { path });
    }
    layer.set(section, new Map());
    for (const [key, value] of Object.entries(values)) put(layer, section, camel(key), value);
  }
  return layer;
}

/** COPYD_SECTION_KEY; COPYD_CONFIG names the file. Names that begin otherwise are not ours. */
function environmentLayer(environment: Environment): Layer {
  const layer: Layer = new Map();
  for (const [name, value] of Object.entries(environment)) {
    const parts = /^COPYD_([A-Z]+)_([A-Z_]+)$/.exec(name);
    const section = parts?.[1]?.toLowerCase() ?? "";
    if (value === undefined || !Object.hasOwn(sections, section)) continue;
    put(layer, section, camel((parts?.[2] ?? "").toLowerCase().replaceAll("_", "-")), scalar(value));
  }
  return layer;
}

function put(layer: Layer, section: string, key: string, value: unknown): void {
  const values = layer.get(section) ?? new Map<string, unknown>();
  layer.set(section, values.set(key, value));
}

function check(origin: string, layer: Layer): void {
  for (const [section, values] of layer) {
    const known: Readonly<Record<string, Setting<unknown>>> | undefined = Object.hasOwn(sections, section)
      ? sections[section as SectionName]
      : undefined;
    if (known === undefined) throw new CopyError("bad-config", `${origin}: there is no section [${section}]; there are ${sectionNames()}`);
    for (const [key, value] of values) {
      const name = `${section}.${kebab(key)}`;
      const setting = Object.hasOwn(known, key) ? known[key] : undefined;
      if (setting === undefined) {
        const there = Object.keys(known).map(kebab).join(", ");
        throw new CopyError("bad-config", `${origin}: ${name} is not a setting; [${section}] has ${there}`);
      }
      const result = setting.schema.safeParse(value);
      if (result.success) continue;
      const problem = result.error.issues[0]?.message ?? "not valid";
      const remedy = `correct it, or leave it out for ${String(setting.standard)}`;
      throw new CopyError("bad-config", `${origin}: ${name} = ${JSON.stringify(value) ?? String(value)}: ${problem}; ${remedy}`);
    }
  }
}

/** Layers must have been checked. */
function merged(layers: readonly Layer[]): { readonly [Name in SectionName]: Values<Sections[Name]> } {
  const settings = Object.entries(sections).map(([section, known]) => {
    const values = Object.entries(known).map(([key, { standard }]): [string, unknown] => [key, standard]);
    for (const layer of layers) values.push(...(layer.get(section) ?? []));
    return [section, Object.fromEntries(values)];
  });
  return Object.fromEntries(settings);
}

function deepFreeze<Value extends object>(value: Value): Value {
  for (const inner of Object.values(value)) if (typeof inner === "object" && inner !== null) Object.freeze(inner);
  return Object.freeze(value);
}

function scalar(text: string): string | number {
  return /^-?\d+$/.test(text) ? Number(text) : text;
}

function camel(key: string): string {
  return key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function sectionNames(): string {
  return Object.keys(sections).join(", ");
}
