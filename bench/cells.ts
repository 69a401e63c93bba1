// The matrix: every cell with its place, its workload and the commands that are compared in it.

import { havePrograms } from "../tests/support/process.ts";
import { type Workload, workloads } from "./workloads.ts";

/** Where source and destination lie: one fresh filesystem in memory, the real disk, or a slow source before an ext4. */
export type PlaceKind = "ext4" | "xfs" | "btrfs" | "tmpfs" | "disk" | "slow";

export type Step =
  /** Timed. {src} and {dst} are paths, {copyd} and {native} are programs; neither is quoted, for the paths hold no blanks. */
  | { readonly kind: "run"; readonly command: readonly string[] }
  /** Not timed: the copy leaves the page cache, so that the next step reads the medium. */
  | { readonly kind: "evict" };

/** Absolute paths of "{copyd}" and, where it takes part, "{native}". */
export type Programs = Readonly<Record<string, string>>;

export type Role = "baseline" | "copyd" | "service" | "rival";

export interface Tool {
  readonly name: string;
  readonly role: Role;
  readonly steps: readonly Step[];
}

export interface Cell {
  /** "ext4/small": as in the table of floors. */
  readonly id: string;
  readonly place: PlaceKind;
  readonly workload: Workload;
  readonly cache: "warm" | "cold";
  readonly baseline: Tool;
  /** What follows `copyd cp`. */
  readonly copydOptions: readonly string[];
  /** Whether rivals that copy as cp -a does are comparable here. */
  readonly rivals: boolean;
  /** How bench/native.c copies this, which shows what the machine allows; null where it cannot. */
  readonly native: "write" | "clone" | null;
  /** A run is so many commands one after the other, each to a destination of its own, where one is too short to time. */
  readonly repeat: number;
  /** Runs of a small command cost nothing and vary more. */
  readonly minRuns: number;
}

const source = "{src}";
const destination = "{dst}";
const treePlaces = ["ext4", "xfs", "btrfs", "tmpfs"] as const;
const imagePlaces = ["ext4", "xfs", "btrfs"] as const;

export const cells: readonly Cell[] = [
  ...treePlaces.map((place) => cell(place, "small", workloads.small)),
  ...treePlaces.map((place) => cell(place, "flat", workloads.flat)),
  ...treePlaces.map((place) => cell(place, "usr", workloads.usr)),
  ...treePlaces.map((place) => physical(place, "big", workloads.big)),
  ...treePlaces.map((place) => physical(place, "medium", workloads.medium)),
  { ...cell("disk", "cold-small", workloads.small), cache: "cold" },
  { ...cell("disk", "cold-big", workloads.big), cache: "cold" },
  { ...cell("slow", "slow-source", workloads.few), id: "ext4/slow-source", cache: "cold" },
  ...(["xfs", "btrfs"] as const).map((place) => clone(place)),
  { ...cell("ext4", "tiny", workloads.tiny), repeat: 10, minRuns: 9 },
  ...imagePlaces.map((place) => durable(place)),
  ...imagePlaces.map((place) => verified(place)),
];

/** The cells of QUICK=1, in their order: what is likeliest to be lost by a change comes first. */
export const quickCells = ["ext4/tiny", "ext4/small", "tmpfs/flat", "xfs/clone", "ext4/big", "btrfs/small"] as const;

function cell(place: PlaceKind, name: string, workload: Workload): Cell {
  return {
    id: `${place}/${name}`,
    place,
    workload,
    cache: "warm",
    baseline: baseline("cp -a", ["cp", "-a", source, destination]),
    copydOptions: ["-a"],
    rivals: true,
    native: nativeWay(place, workload),
    repeat: 1,
    minRuns: 1,
  };
}

/**
 * Against a physical copy. Where the filesystem clones, copyd is told not to, as cp is: a clone would be no contest. Elsewhere
 * it is the command that a user types.
 */
function physical(place: (typeof treePlaces)[number], name: string, workload: Workload): Cell {
  const clones = place === "xfs" || place === "btrfs";
  return {
    ...cell(place, name, workload),
    baseline: baseline("cp -a --reflink=never", ["cp", "-a", "--reflink=never", source, destination]),
    copydOptions: clones ? ["-a", "--reflink=never"] : ["-a"],
    native: "write",
  };
}

function clone(place: "xfs" | "btrfs"): Cell {
  return {
    ...cell(place, "clone", workloads.big),
    baseline: baseline("cp -a --reflink=always", ["cp", "-a", "--reflink=always", source, destination]),
    rivals: false,
    native: null,
  };
}

function durable(place: PlaceKind): Cell {
  const steps = [run("cp", "-a", source, destination), run("sync", "-f", destination)];
  return {
    ...cell(place, "durable", workloads.small),
    baseline: { name: "cp -a && sync -f", role: "baseline", steps },
    copydOptions: ["-a", "--durability=job"],
    rivals: false,
    native: null,
  };
}

/** What a careful person does by hand. Cloning is off on both sides: a clone proves nothing about the medium. */
function verified(place: PlaceKind): Cell {
  const steps: Step[] = [
    run("cp", "-a", "--reflink=never", source, destination),
    run("sync", "-f", destination),
    { kind: "evict" },
    run("diff", "-rq", "--no-dereference", source, destination),
  ];
  return {
    ...cell(place, "verify", workloads.medium),
    baseline: { name: "cp -a && sync -f && cmp", role: "baseline", steps },
    copydOptions: place === "ext4" ? ["-a", "--verify=xxh3"] : ["-a", "--reflink=never", "--verify=xxh3"],
    rivals: false,
    native: null,
  };
}

function baseline(name: string, command: readonly string[]): Tool {
  return { name, role: "baseline", steps: [{ kind: "run", command }] };
}

function run(...command: readonly string[]): Step {
  return { kind: "run", command };
}

/** Files and directories is all it knows. Where cp clones, it does. */
function nativeWay(place: PlaceKind, { name }: Workload): Cell["native"] {
  if (!["small", "flat"].includes(name) || place === "slow") return null;
  return place === "btrfs" ? "clone" : "write";
}

/** As many as small files are copied by on most machines: more wait for each other. */
const nativeThreads = 2;

/** Who takes part. */
export interface BenchTools {
  readonly service: boolean;
  /** Whether bench/native.c is measured too. */
  readonly native: boolean;
  /** Those that the command line names. */
  readonly named: readonly Tool[];
  /** Whether the usual ones that are installed take part too. */
  readonly installed: boolean;
}

/** The tools of a cell: the baseline, copyd embedded, copyd through the service, and the rivals that there are. */
export function toolsOf(wanted: Cell, { service, native, named, installed }: BenchTools): Tool[] {
  const tools: Tool[] = [
    wanted.baseline,
    { name: "copyd", role: "copyd", steps: [run("{copyd}", "cp", ...wanted.copydOptions, "--local", source, destination)] },
  ];
  if (service) {
    tools.push({ name: "copyd (service)", role: "service", steps: [run("{copyd}", "cp", ...wanted.copydOptions, source, destination)] });
  }
  if (native && wanted.native !== null) {
    tools.push({
      name: `C, ${nativeThreads} threads`,
      role: "rival",
      steps: [run("{native}", `${nativeThreads}`, wanted.native, source, destination)],
    });
  }
  if (!wanted.rivals) return tools;
  return [...tools, ...named, ...(installed ? installedRivals(wanted) : [])];
}

function installedRivals({ workload }: Cell): Tool[] {
  const isTree = workload.kind === "tree";
  const rivals: Tool[] = [];
  const add = (name: string, ...command: readonly string[]): void => {
    if (havePrograms(command[0] ?? "")) rivals.push({ name, role: "rival", steps: [{ kind: "run", command }] });
  };
  if (isTree) add("rsync", "rsync", "-aHAX", `${source}/`, `${destination}/`);
  else add("rsync", "rsync", "-aHAX", source, destination);
  add("rclone", "rclone", isTree ? "copy" : "copyto", "--links", "--metadata", "--config=", source, destination);
  return rivals;
}

/** A rival as the command line names it: "NAME=COMMAND with {src} {dst}". Throws for what is not of that form. */
export function parseRival(text: string): Tool {
  const [, name, command] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
  if (name === undefined || command === undefined || !command.includes(source) || !command.includes(destination)) {
    throw new Error(`--rival takes 'NAME=COMMAND' whose command names {src} and {dst}: ${text}`);
  }
  // A shell costs a millisecond; only who uses its language pays it.
  const plain = /^[\w\s./:=+,@%{}-]+$/.test(command);
  return { name: name.trim(), role: "rival", steps: [run(...(plain ? command.trim().split(/\s+/) : ["sh", "-c", command]))] };
}

/** A tool's command for people: what is timed, with its placeholders. */
export function shownCommand({ steps }: Tool): string {
  return steps
    .map((step) =>
      step.kind === "run" ? step.command.join(" ").replace("{copyd}", "copyd").replace("{native}", "native") : "(evict {dst})",
    )
    .join(" && ");
}
