// How a worker process is started: as whom, with which capabilities, environment, descriptors and command line. Parent side.

import { fs } from "./late-fs.ts";
import type { Identity } from "./protocol.ts";

/** Descriptor of the in-flight record in the worker. */
export const inFlightChildFd = 3;
/** Descriptor of the checkpoint in the worker, where the job has one. */
export const checkpointChildFd = 4;

export interface Credentials {
  readonly uid: number;
  readonly gid: number;
  /** All groups, the primary one among them. */
  readonly groups: readonly number[];
}

/**
 * What a worker of root keeps: to read and write anybody's files and to give them owner, mode, setuid bits and file capabilities
 * (SETFCAP), and to make device nodes. Not SYS_ADMIN: it would keep trusted.* attributes and give away the machine.
 * Not LINUX_IMMUTABLE: flags are not copied. Numbers and names as in linux/capability.h and capabilities(7).
 */
const rootCapabilities: readonly (readonly [name: string, number: number])[] = [
  ["chown", 0],
  ["dac_override", 1],
  ["dac_read_search", 2],
  ["fowner", 3],
  ["fsetid", 4],
  ["mknod", 27],
  ["setfcap", 31],
];

/** Whom a worker for these credentials must find itself to be. `bounding` is this process's own capability bounding set. */
export function expectedIdentity(credentials: Credentials, bounding: bigint = ownBoundingSet()): Identity {
  const groups = [...new Set(credentials.groups)].sort((one, other) => one - other);
  const mask = credentials.uid === 0 ? kept(bounding).reduce((sum, [, number]) => sum | (1n << BigInt(number)), 0n) : 0n;
  return { uid: credentials.uid, gid: credentials.gid, groups, capabilities: mask.toString(16) };
}

/**
 * The whole command line of a worker: through setpriv for an identity, plain for null (the parent's own child, embedded).
 * `binaryFd`: where setpriv finds the binary that `openOwnBinary` opened, when it is that. After exec uid 0 regains what the bounding set holds and nothing else; any other uid has no capability at all.
 */
export function workerCommand(identity: Identity | null, self: readonly string[], binaryFd = -1): string[] {
  if (identity === null) return [...self];
  // /proc/self is setpriv's by then, and ours is closed to whom it has become; its own descriptors are not.
  const own = self[0] === ownBinary ? [`/proc/self/fd/${binaryFd}`, ...self.slice(1)] : self;
  const capabilities = BigInt(`0x${identity.capabilities}`);
  const added = rootCapabilities.filter(([, number]) => (capabilities >> BigInt(number)) & 1n).map(([name]) => `,+${name}`);
  return [
    setprivPath(),
    `--reuid=${identity.uid}`,
    `--regid=${identity.gid}`,
    identity.groups.length === 0 ? "--clear-groups" : `--groups=${identity.groups.join(",")}`,
    "--no-new-privs",
    "--inh-caps=-all",
    "--ambient-caps=-all",
    `--bounding-set=-all${added.join("")}`,
    // A worker must not outlive the one that records what it does: recovery after a crash relies on it.
    "--pdeathsig=KILL",
    "--",
    ...own,
  ];
}

/** argv[0] of a child that is this very program: a copy of the binary named `cp` would else take the role for a file to copy. */
export const selfName = "copyd";

/** The binary that runs, even when its file has been replaced or removed: an upgrade must not end the jobs of those who run. */
const ownBinary = "/proc/self/exe";
let ownBinaryFd: number | null = null;

/** A descriptor of the running binary for workers to begin from, or null when the command names another program. Stays open. */
export function openOwnBinary(self: readonly string[]): number | null {
  if (self[0] !== ownBinary) return null;
  ownBinaryFd ??= fs().openSync(ownBinary, "r");
  return ownBinaryFd;
}

/** This very program in the role of a worker: the compiled binary, or Bun with the source it runs. */
export function selfCommand(): string[] {
  if (Bun.main.startsWith("/$bunfs/")) {
    // Its size tells that it is there, without node:fs.
    return [Bun.file(ownBinary).size > 0 ? ownBinary : process.execPath, "worker"];
  }
  return [process.execPath, Bun.fileURLToPath(new URL("../main.ts", import.meta.url)), "worker"];
}

/**
 * Nothing of the parent's environment: BUN_OPTIONS, LD_PRELOAD and the like would turn the worker into something else.
 * Without JavaScriptCore's last compiler: a lane's own code is a few per cent of its time, and compiling it once more in each
 * thread cost more than the copy of 30,000 files. The one before it starts later than usual: what runs once for each directory is not
 * worth it (bench/jit.md).
 */
export const workerEnvironment: Readonly<Record<string, string>> = {
  PATH: "/usr/bin:/bin",
  LANG: "C.UTF-8",
  BUN_JSC_useFTLJIT: "0",
  BUN_JSC_thresholdForOptimizeAfterWarmUp: "6000",
  BUN_JSC_thresholdForOptimizeAfterLongWarmUp: "6000",
};

export type WorkerProcess = Bun.Subprocess<"pipe", "pipe", "pipe">;

export interface SpawnOptions {
  /** As of workerCommand. */
  readonly identity: Identity | null;
  /** Descriptors of ours that it gets, from 3 on. */
  readonly records: readonly number[];
  readonly cgroup?: string | undefined;
}

/** Starts a worker's command line in its own session. Throws Bun's errors. */
export function spawnWorker(command: readonly string[], { identity, records, cgroup }: SpawnOptions): WorkerProcess {
  return Bun.spawn({
    cmd: [...command],
    ...(identity === null ? { argv0: selfName } : {}),
    ...(cgroup === undefined ? {} : { cgroup }),
    cwd: "/",
    env: { ...workerEnvironment },
    // A session of its own: a terminal's Ctrl-C reaches the parent only, which then cancels in good order.
    detached: true,
    stdio: ["pipe", "pipe", "pipe", ...records],
  });
}

/**
 * What is wrong with a process that should have this identity, as the kernel tells it, or null. The worker's own word does
 * not count here: the user it runs as may have changed it.
 */
export function identityProblem(pid: number, expected: Identity): string | null {
  let status: string;
  try {
    status = fs().readFileSync(`/proc/${pid}/status`, "latin1");
  } catch (cause) {
    // Gone already, as the worker of a tiny job may be: it can do nothing any more, as whomever it ran.
    if (cause instanceof Error && "code" in cause && (cause.code === "ENOENT" || cause.code === "ESRCH")) return null;
    return `/proc/${pid}/status cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`;
  }
  const fields = new Map(
    status.split("\n").map((line): [string, string] => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trim()];
    }),
  );
  const four = (id: number): string => `${id} ${id} ${id} ${id}`;
  const mask = expected.capabilities.padStart(16, "0");
  const none = "0".repeat(16);
  const wanted: readonly (readonly [string, string])[] = [
    ["Uid", four(expected.uid)],
    ["Gid", four(expected.gid)],
    ["Groups", expected.groups.join(" ")],
    ["CapInh", none],
    ["CapPrm", mask],
    ["CapEff", mask],
    ["CapBnd", mask],
    ["CapAmb", none],
    ["NoNewPrivs", "1"],
  ];
  for (const [name, value] of wanted) {
    const found = (fields.get(name) ?? "").replace(/\s+/g, " ");
    if (found !== value) return `${name} is "${found}", not "${value}"`;
  }
  return null;
}

/** True when two identities are the same, groups in order. */
export function sameIdentity(one: Identity, other: Identity): boolean {
  return (
    one.uid === other.uid &&
    one.gid === other.gid &&
    one.groups.length === other.groups.length &&
    one.groups.every((group, index) => group === other.groups[index]) &&
    BigInt(`0x${one.capabilities}`) === BigInt(`0x${other.capabilities}`)
  );
}

function kept(bounding: bigint): (typeof rootCapabilities)[number][] {
  return rootCapabilities.filter(([, number]) => (bounding >> BigInt(number)) & 1n);
}

/** A container may hold less than a full set; what it does not hold cannot be kept for the worker either. */
function ownBoundingSet(): bigint {
  const found = /^CapBnd:\s*([0-9a-f]+)$/m.exec(fs().readFileSync("/proc/self/status", "latin1"));
  return BigInt(`0x${found?.[1] ?? "0"}`);
}

/** By its full path: PATH is not to decide what runs as root. */
function setprivPath(): string {
  const candidates = ["/usr/bin/setpriv", "/bin/setpriv", "/usr/sbin/setpriv"];
  return candidates.find((path) => fs().existsSync(path)) ?? "/usr/bin/setpriv";
}
