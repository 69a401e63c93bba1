// The one place that chooses between engines: per pair of filesystems, by what was measured, asked for and refused so far.

import { errnoName } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { NativeMemory } from "../ffi/memory.ts";
import { type EngineName, engineNames, type JobOptions } from "../request.ts";
import { isWholePairErrno } from "./unsupported.ts";

export interface EngineOptions extends Pick<JobOptions, "engine" | "reflink" | "sparse" | "cache"> {
  /** The data is hashed on its way: engines that never see it are left out, unless one is forced. */
  readonly hashes?: boolean;
}

/** An errno that may be one file's own (EINVAL for a swap file) excludes an engine after this many refusals without a success. */
const maxRefusals = 8;

interface FilesystemTraits {
  readonly name: string;
  /** Files from this size on are cloned where cloning works; below, writing is cheaper. Measured: bench/engines.md. */
  readonly cloneFromBytes: number;
  /** Allocating the blocks of a large file before its data makes writing faster. */
  readonly preallocateFromBytes: number;
  /**
   * Larger files go through a ring, whose reads and writes overlap. Up to here a lane reads and writes by itself: other lanes use the
   * other processors, and a ring's hand-overs cost. Measured: bench/ring.md.
   */
  readonly ringFromBytes: number;
  /** copy_file_range can do what no other engine can: copy on the server. */
  readonly copiesOnServer: boolean;
  /** A regular file holds exactly as many bytes as its size says, at every moment: not so in /proc, behind FUSE or a network. */
  readonly sizesAreTrue: boolean;
  /** Neither a network nor another process is behind it, that is known. */
  readonly isLocal: boolean;
}

const never = Number.POSITIVE_INFINITY;
const other = {
  cloneFromBytes: 1,
  preallocateFromBytes: never,
  ringFromBytes: 64 * 1024 * 1024,
  copiesOnServer: false,
  sizesAreTrue: false,
  isLocal: false,
};
const local = { ...other, sizesAreTrue: true, isLocal: true };
const server = { ...other, ringFromBytes: 4 * 1024 * 1024, copiesOnServer: true };

/** By f_type of statfs(2), linux/magic.h. */
const filesystems: ReadonlyMap<number, FilesystemTraits> = new Map([
  [0xef53, { name: "ext4", ...local, preallocateFromBytes: 1024 * 1024, ringFromBytes: never }],
  [0x58465342, { name: "xfs", ...local, cloneFromBytes: 4096, ringFromBytes: never }],
  [0x9123683e, { name: "btrfs", ...local }],
  [0x01021994, { name: "tmpfs", ...local }],
  [0x794c7630, { name: "overlay", ...other }],
  [0x6969, { name: "nfs", ...server }],
  [0xff534d42, { name: "cifs", ...server }],
  [0xfe534d42, { name: "smb2", ...server }],
  [0x00c36400, { name: "ceph", ...server }],
  [0x65735546, { name: "fuse", ...server }],
]);

/** What is known about copying from one filesystem to another. Learns from each attempt; orders are settled anew only then. */
export class Pair {
  readonly sourceDevice: number;
  readonly destinationDevice: number;
  /** Whether a source's size tells where it ends; whoever relies on it looks at the size again afterwards. */
  readonly sizesAreTrue: boolean;
  /** Whether both are this machine's own: no call waits for a server, or for another process. */
  readonly isLocal: boolean;
  /** Whether the source's is. */
  readonly isSourceLocal: boolean;
  private readonly options: EngineOptions;
  private readonly names: string;
  private readonly traits: FilesystemTraits;
  private readonly refusals = new Map<EngineName, number>();
  private readonly succeeded = new Set<EngineName>();
  private readonly excluded: Map<EngineName, string>;
  /** For files too small to clone, for small ones, and for the rest. */
  private tiny: readonly EngineName[] = [];
  private small: readonly EngineName[] = [];
  private large: readonly EngineName[] = [];
  private cloneFromBytes = 0;

  constructor(options: EngineOptions, from: FilesystemTraits, to: FilesystemTraits, devices: readonly [number, number]) {
    this.options = options;
    this.sourceDevice = devices[0];
    this.destinationDevice = devices[1];
    this.names = `${from.name} to ${to.name}`;
    this.traits = to;
    this.sizesAreTrue = from.sizesAreTrue;
    this.isLocal = from.isLocal && to.isLocal;
    this.isSourceLocal = from.isLocal;
    this.excluded = excludedByOptions(options);
    this.settle();
  }

  /** The engines to try in turn for `size` bytes. hot: no allocation. */
  orderFor(size: number): readonly EngineName[] {
    if (size < this.cloneFromBytes) return this.tiny;
    return size <= this.traits.ringFromBytes ? this.small : this.large;
  }

  /** For a part of a file, which cannot be cloned whole. */
  orderForPart(size: number): readonly EngineName[] {
    return size <= this.traits.ringFromBytes ? this.tiny : this.withoutReflink;
  }
  private withoutReflink: readonly EngineName[] = [];

  /** True when FICLONE has worked between the two: copy_file_range then clones as well. */
  get clones(): boolean {
    return this.succeeded.has("reflink");
  }

  /** Whether a file of this size is to have its blocks allocated before its data. */
  shouldPreallocate(size: number): boolean {
    return size >= this.traits.preallocateFromBytes;
  }

  /** Whether plain reading and writing, from several threads perhaps, may take the place of what else would serve. */
  get mayReadAndWrite(): boolean {
    return !this.traits.copiesOnServer && this.withoutReflink.includes("read-write");
  }

  /** True when it is settled whether the two clone: FICLONE has worked, or is out. */
  get knowsClones(): boolean {
    return this.clones || this.excluded.has("reflink");
  }

  get isForced(): boolean {
    return this.options.engine !== "auto" || this.options.reflink === "always";
  }

  worked(name: EngineName): void {
    if (this.succeeded.has(name)) return;
    this.succeeded.add(name);
  }

  /** An engine said "unsupported". */
  refused(name: EngineName, errno: number): void {
    if (this.succeeded.has(name) || this.excluded.has(name)) return;
    const refusals = (this.refusals.get(name) ?? 0) + 1;
    this.refusals.set(name, refusals);
    if (isWholePairErrno(errno) || refusals >= maxRefusals) this.exclude(name, errnoName(errno));
  }

  /** The engine cannot serve at all (no io_uring here): for this pair as for every other. */
  exclude(name: EngineName, reason: string): void {
    this.excluded.set(name, reason);
    this.settle();
  }

  /** One line for people. */
  get reason(): string {
    const excluded = [...this.excluded].map(([name, why]) => `${name}: ${why}`);
    return `${this.names}: ${this.large.join(", ")}${excluded.length === 0 ? "" : ` (not ${excluded.join("; ")})`}`;
  }

  private settle(): void {
    if (this.isForced) {
      // Another option may contradict the forced engine: then nothing can serve, which is better said than ignored.
      const forced = this.options.reflink === "always" ? "reflink" : this.options.engine;
      this.large = engineNames.filter((name) => name === forced && !this.excluded.has(name));
      this.small = this.large;
      this.tiny = this.large;
      this.withoutReflink = this.large;
      return;
    }
    const order: readonly EngineName[] = this.traits.copiesOnServer
      ? ["reflink", "copy-file-range", "io-uring", "read-write"]
      : ["reflink", "io-uring", "copy-file-range", "read-write"];
    const hasRing = this.traits.ringFromBytes !== never;
    this.large = order.filter((name) => !this.excluded.has(name) && (hasRing || name === "reflink" || name === "read-write"));
    this.withoutReflink = this.large.filter((name) => name !== "reflink");
    this.small = this.large.filter((name) => name === "reflink" || name === "read-write");
    this.tiny = ["read-write"];
    this.cloneFromBytes = this.excluded.has("reflink") ? 0 : this.traits.cloneFromBytes;
    if (this.traits.copiesOnServer) this.small = this.large;
  }
}

function excludedByOptions(options: EngineOptions): Map<EngineName, string> {
  const excluded = new Map<EngineName, string>();
  // copy_file_range may clone by itself, so whoever forbids sharing forbids both.
  if (options.reflink === "never") {
    excluded.set("reflink", "reflink=never");
    excluded.set("copy-file-range", "reflink=never");
  }
  // Both would keep the source's holes and never make new ones.
  if (options.sparse !== "auto") {
    const why = `sparse=${options.sparse}`;
    excluded.set("reflink", why);
    excluded.set("copy-file-range", why);
    // Only read-write looks at what it writes.
    if (options.sparse === "always") for (const name of ["io-uring", "splice"] as const) excluded.set(name, why);
  }
  if (options.hashes === true && options.reflink !== "always" && options.engine === "auto")
    for (const name of ["reflink", "copy-file-range", "splice"] as const) excluded.set(name, "verify");
  // RWF_DONTCACHE is read-write's; a clone brings nothing into the cache. Forced, the others' pages are dropped behind them.
  if (options.cache === "drop" && options.engine === "auto")
    for (const name of ["copy-file-range", "io-uring", "splice"] as const) excluded.set(name, "cache=drop");
  return excluded;
}

/** Remembers each pair of a job; one lane owns one chooser. */
export class Chooser {
  private readonly options: EngineOptions;
  private readonly pairs = new Map<number, Map<number, Pair>>();
  private latest: Pair | undefined;

  constructor(options: EngineOptions) {
    this.options = options;
  }

  /** The pair of two devices (Stat.device); the descriptors name the filesystems when it is seen for the first time. hot. */
  pairOf(sourceDevice: number, destinationDevice: number, sourceFd: number, destinationFd: number): Pair {
    const latest = this.latest;
    if (latest !== undefined && latest.sourceDevice === sourceDevice && latest.destinationDevice === destinationDevice) return latest;
    let bySource = this.pairs.get(sourceDevice);
    if (bySource === undefined) {
      bySource = new Map();
      this.pairs.set(sourceDevice, bySource);
    }
    let pair = bySource.get(destinationDevice);
    if (pair === undefined) {
      pair = new Pair(this.options, traitsOf(sourceFd), traitsOf(destinationFd), [sourceDevice, destinationDevice]);
      bySource.set(destinationDevice, pair);
    }
    this.latest = pair;
    return pair;
  }

  /** Whether files of the latest pair are read, from a filesystem of this machine's own. */
  get readsLocally(): boolean {
    return this.latest?.isLocal === true && !this.latest.clones;
  }

  /** Whether files of the latest pair may come from a server, or from another process. hot: */
  get readsFromAfar(): boolean {
    return this.latest?.isSourceLocal === false;
  }

  /** One line for each pair seen: the order of engines, and why others are not in it. */
  reasons(): string[] {
    const lines: string[] = [];
    for (const bySource of this.pairs.values()) for (const pair of bySource.values()) lines.push(pair.reason);
    return [...new Set(lines)];
  }
}

function traitsOf(fd: number): FilesystemTraits {
  using buffer = new NativeMemory(4096);
  // f_type is the first word of struct statfs on every 64-bit architecture.
  const type = libc.fstatfs(fd, buffer.address) < 0 ? 0 : (buffer.u32[0] ?? 0);
  return filesystems.get(type) ?? { name: `filesystem 0x${type.toString(16)}`, ...other };
}
