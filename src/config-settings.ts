// Every setting of the service: its range, its standard value and, in words for its manual page, what it is for and why.

import { z } from "zod";
import { type LogLevel, logLevels } from "./log.ts";

export interface Setting<Value> {
  readonly schema: z.ZodType<Value>;
  readonly standard: Value;
  /** What may be written, for people. */
  readonly range: string;
  /** Sentences for the manual page. */
  readonly about: string;
}

/** A whole number with its standard value and the range that makes sense. */
function whole(standard: number, least: number, most: number, about: string): Setting<number> {
  return { schema: z.number().int().min(least).max(most), standard, range: `${least} to ${most}`, about };
}

/** Paths as the kernel would take them at once: whoever reads the file is to see where a rule holds. */
function paths(about: string): Setting<readonly string[]> {
  const path = z
    .string()
    .max(4095)
    .regex(/^\/$|^(\/(?!\.{1,2}(\/|$))[^/\0]+)+$/, "paths are absolute, without . and .. and a slash at their end");
  return { schema: z.array(path).max(1000), standard: [], range: "a list of absolute paths", about };
}

function extensions(about: string): Setting<readonly string[]> {
  const extension = z
    .string()
    .max(64)
    .regex(/^([^./\0A-Z][^/\0A-Z]*)?$/, "extensions are in small letters, without the dot before them");
  return { schema: z.array(extension).max(1000), standard: [], range: "a list of extensions", about };
}

const mebibyte = 1024 * 1024;

/** What a JavaScript number holds exactly is more than any device moves. */
const mostBytesPerSecond = Number.MAX_SAFE_INTEGER;

function bytesPerSecond(about: string): Setting<number> {
  const refusal = "bytes a second are a whole number, as 20000000; 0 is no limit";
  const schema = z.number(refusal).int(refusal).min(0, refusal).max(mostBytesPerSecond, refusal);
  return { schema, standard: 0, range: `0 to ${mostBytesPerSecond}`, about: `${about} 0: no limit.` };
}

const memoryForm = /^(\d{1,15})([KMGT]?)$/;

/** Bytes of "60%" (of this machine's memory), "2G" or a number; null: it is none of these, or too little for a worker. 0 is no limit. */
export function memoryBytes(value: string | number, machineBytes: number): number | null {
  const percent = /^(\d{1,3})%$/.exec(String(value))?.[1];
  if (percent !== undefined) {
    const share = Number(percent) / 100;
    return share > 0 && share <= 1 ? Math.max(leastMemory, Math.floor(share * machineBytes)) : null;
  }
  const [, digits = "", unit = ""] = memoryForm.exec(String(value)) ?? [];
  const bytes = digits === "" ? Number.NaN : Number(digits) * 1024 ** ["", "K", "M", "G", "T"].indexOf(unit);
  return Number.isSafeInteger(bytes) && (bytes === 0 || bytes >= leastMemory) ? bytes : null;
}

/** One worker with its lanes and what it keeps of a large tree. */
const leastMemory = 128 * mebibyte;

function memory(standard: string, about: string): Setting<string | number> {
  const refusal = 'a share of the memory ("60%"), or bytes ("2G", 2147483648), 128M at least; 0 is no limit';
  const schema = z.union([z.string(), z.number()], refusal).refine((value) => memoryBytes(value, 0) !== null, refusal);
  return { schema, standard, range: "1% to 100%, or 128M and more (K, M, G and T are powers of 1024), or 0 for no limit", about };
}

export const sections = {
  service: {
    logLevel: {
      schema: z.enum(logLevels),
      standard: "info",
      range: logLevels.join(", "),
      about: "What goes to the journal: lines of this level and of those before it.",
    } as Setting<LogLevel>,
    idleExitSeconds: whole(
      60,
      0,
      86_400,
      "Without jobs, callers and subscribers for so long the service ends; the next call starts it again. 0: it stays.",
    ),
  },
  calls: {
    maxSources: whole(
      16_384,
      1,
      100_000,
      "Paths in one call. A file manager sends one for each selected file; a folder is one path whatever it holds. Decoding and checking so many takes some 20 ms, during which nobody else is served.",
    ),
    maxArgumentBytes: whole(4 * mebibyte, 4096, 16 * mebibyte, "Bytes of paths in one call. A command line of the usual ARG_MAX fits."),
    maxSubscriptions: whole(
      64,
      1,
      4096,
      "Connections of one user that are sent signals. No desktop runs this many programs that watch copies.",
    ),
    maxWaits: whole(256, 1, 4096, "Calls of Wait of one user that are not answered yet. Each is a reply that the service owes."),
    maxListedJobs: whole(
      1000,
      1,
      10_000,
      "Jobs in one reply. Replies are built in memory, and the bus ends connections that send messages beyond its own limit.",
    ),
    maxListedErrors: whole(1000, 1, 10_000, "Errors in one reply of GetErrors, for the same reason."),
    maxPreviewOperations: whole(1000, 1, 10_000, "Operations in one reply of Preview, for the same reason. Its summary counts all."),
  },
  jobs: {
    maxRunning: whole(4, 1, 64, "Jobs that move data at once. More only make the devices seek."),
    maxRunningNow: whole(2, 0, 64, "Jobs of priority now that may run beyond max-running, one for each user."),
    maxRunningPerUser: whole(3, 1, 64, "Of max-running, how many one user may hold: long jobs of one must leave room for another's."),
    maxRunningPerSlowDevice: whole(
      1,
      0,
      64,
      "Jobs that move data at once on one rotating or USB device, whose head or controller two would only make run to and fro; those on other devices go on beside. Jobs of priority now do not wait for it. 0: no rule.",
    ),
    bandwidthLimit: bytesPerSecond(
      "Bytes a second that all jobs together may move. Users share it evenly, and so do the jobs of one user; what one does not use goes to the others.",
    ),
    bandwidthLimitPerUser: bytesPerSecond("Bytes a second that all jobs of one user together may move."),
    maxWorkersPerUser: whole(
      8,
      1,
      256,
      "Worker processes of one user, those of paused and asking jobs included. Each is some tens of megabytes.",
    ),
    fanOutWindow: whole(
      512 * mebibyte,
      0,
      1024 * 1024 * mebibyte,
      "Bytes by which one job of a copy to several destinations may be ahead of the last, and an eighth of the memory at most: what it has read should still be in the page cache, so that the source is read once. 0: each as fast as it can.",
    ),
    maxPreviews: whole(8, 1, 64, "Dry runs at once, of all users. Each is a worker that reads directories."),
    maxPreviewsPerUser: whole(2, 1, 64, "Of max-previews, how many one user may hold."),
    previewTimeoutMs: whole(120_000, 1000, 3_600_000, "How long a dry run may look; then it says what it has found by then."),
    maxJobsPerUser: whole(
      1000,
      1,
      100_000,
      "Jobs of one user that have not ended: a script that calls in a loop is told before memory is.",
    ),
    maxArgumentBytesPerUser: whole(
      16 * mebibyte,
      4096,
      1024 * mebibyte,
      "Bytes of paths in those jobs' requests, which are held in memory.",
    ),
    maxErrorsPerJob: whole(
      10_000,
      1,
      1_000_000,
      "Errors kept of one job. A medium that fails everywhere gives one for each file; beyond these they are counted only.",
    ),
    maxErrorBytesPerJob: whole(4 * mebibyte, 4096, 256 * mebibyte, "Bytes of the errors kept of one job."),
    lingerMs: whole(
      60_000,
      0,
      86_400_000,
      "How long an ended job stays an object on the bus, so that a client that was away can read its result.",
    ),
    maxEndedPerUser: whole(200, 0, 10_000, "Ended jobs of one user that stay objects: a storm of tiny jobs does not fill the object tree."),
    cancelTimeoutMs: whole(
      10_000,
      100,
      600_000,
      "How long a worker that was told to stop may take before it is killed. One that is blocked by a dead device cannot stop sooner than the kernel lets it.",
    ),
    recoverTimeoutMs: whole(60_000, 1000, 3_600_000, "How long the removal of what a dead worker left half-made may take."),
  },
  limits: {
    workerMemory: memory(
      "60%",
      "Memory of all workers of one user together, the page cache that they fill and what they write to a tmpfs included; swap is not counted. The kernel takes page cache back first; where that is not enough it ends a worker, which is told (worker-out-of-memory). The unit's MemoryMax holds for all users together. A tmpfs is as large as half of the memory where nobody said otherwise: below that, copies to it end early.",
    ),
    workerProcesses: {
      schema: z
        .number()
        .int()
        .min(0)
        .max(100_000)
        .refine((count) => count === 0 || count >= 64, "less than 64 is not enough for one worker; 0 is no limit"),
      standard: 1024,
      range: "64 to 100000, or 0 for no limit",
      about:
        "Processes and threads of all workers of one user together. A worker has some twenty threads, and io_uring's beside; the unit's TasksMax holds for all users together.",
    } as Setting<number>,
  },
  policy: {
    denySources: paths(
      "Nothing at or below these paths is copied or moved from there. A path that leads to one through links, .. or another mount of it, of the directory above it or of something inside it is the same path; mounts are looked at as the job starts.",
    ),
    allowSources: paths("Unless it is empty, only what lies at or below these is copied or moved from there."),
    denyDestinations: paths("Nothing is written at or below these paths."),
    allowDestinations: paths("Unless it is empty, things are written only at or below these."),
    denyExtensions: extensions(
      'Regular files whose names end in a dot and one of these are not copied: ["iso", "tar.gz"]. Capitals do not matter.',
    ),
    allowExtensions: extensions('Unless it is empty, only such files are; "" stands for names without a dot.'),
    maxFileSize: whole(0, 0, Number.MAX_SAFE_INTEGER, "Bytes that a regular file may have; 0: any number."),
  },
  history: {
    retentionDays: whole(30, 0, 3650, "How long ended jobs stay in the store, for those who ask later what became of a copy."),
    maxJobsPerUser: whole(1000, 0, 100_000, "Ended jobs of one user in the store. Each is some kilobytes."),
    auditDays: whole(
      90,
      0,
      3650,
      "How long the records that `copyd audit` shows are kept: who asked for what, what was refused and granted.",
    ),
    maxAuditRecordsPerUser: whole(
      10_000,
      100,
      1_000_000,
      "Records of one user and of one kind, so that neither a user's flood nor its own refusals push out what is to be found later.",
    ),
    maxAuditRecords: whole(
      200_000,
      1000,
      10_000_000,
      "Records in all; each is some hundred bytes. Beyond, the users with the most lose their oldest.",
    ),
  },
};

/** What each section is about, and whether a reload takes it up. */
export const sectionTexts: Readonly<Record<SectionName, { readonly about: string; readonly reloads: boolean }>> = {
  service: { about: "The service as a whole.", reloads: true },
  calls: { about: "What one call, or one caller, may ask. The property Limits tells callers.", reloads: false },
  jobs: { about: "How much is done at once, and for whom.", reloads: true },
  limits: {
    about:
      "What the workers of one user may take of the machine. The kernel holds them to it by a control group of version 2 for each user, below the one of the service, which its unit asks for (Delegate=). Where there is none, or without the controller, only what the unit says holds; the journal and copyd doctor tell.",
    reloads: true,
  },
  policy: {
    about:
      'What may be copied by way of the service, and where to. [policy] holds for everybody, [policy.GROUP], with the same keys and a group\'s name or number (in quotes where it is no plain word, as [policy."domain users"]), also for who is in that group; each section that concerns a caller must allow it. What is refused is an error (PolicyViolation) of the call or of the one entry. For what callers do as administrators (CopyAsAdmin) this is a boundary; of what they may do as themselves it keeps the service only, not cp.',
    reloads: true,
  },
  history: { about: "What is kept of jobs that have ended, and of who asked for what.", reloads: false },
};

export type Sections = typeof sections;
export type SectionName = keyof Sections;
export type Values<Section> = { readonly [Key in keyof Section]: Section[Key] extends Setting<infer Value> ? Value : never };
export type Settings = { readonly [Name in SectionName]: Values<Sections[Name]> };

/** What may stand in a section, by key in camelCase; undefined where there is no such section. */
export function settingsOf(section: string): Readonly<Record<string, Setting<unknown>>> | undefined {
  if (policyGroup(section) !== undefined) return sections.policy;
  return Object.hasOwn(sections, section) ? sections[section as SectionName] : undefined;
}

/**
 * The group of "policy.GROUP", the one section of which there may be many. Directories of users beyond this machine have names like
 * "DOMAIN\domain users"; the group database has room for anything but colons and commas.
 */
export function policyGroup(section: string): string | undefined {
  return /^policy\.((?![\s-])[^\p{C}:,]{1,256}(?<!\s))$/u.exec(section)?.[1];
}

/** A section's name as a file has it between its brackets: what is no plain word is quoted. */
export function sectionText(section: string): string {
  const group = policyGroup(section);
  return group === undefined || /^[\w-]+$/.test(group) ? section : `policy.${JSON.stringify(group)}`;
}

export function camelCase(key: string): string {
  return key.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

export function kebabCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
