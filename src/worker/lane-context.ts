// What every step of one lane needs: its request, memory, engines and counters, made once per thread.

import type { ByteString } from "../bytes.ts";
import { FileCopier } from "../engines/file-copier.ts";
import { FileHasher } from "../engines/file-hasher.ts";
import { hashMethodOf, type StreamHash } from "../engines/hash.ts";
import { InFlight } from "../engines/in-flight.ts";
import { MetadataCopier } from "../engines/metadata.ts";
import { Publisher } from "../engines/publish.ts";
import { RangeBoard } from "../engines/range-board.ts";
import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { Policy } from "../policy.ts";
import { engineNames, type JobOptions, type JobRequest, type PreserveAttribute } from "../request.ts";
import { BeneathOpener } from "../tree/open.ts";
import { Announcer } from "./announcer.ts";
import { BackupKeeper } from "./backup.ts";
import { CheckpointLog } from "./checkpoint-log.ts";
import { CopiedList } from "./copied-set.ts";
import { DirectoryTable } from "./directory.ts";
import { SharedDirtyBounds } from "./dirty-bounds.ts";
import type { Entry } from "./entry.ts";
import { flushFilesystem, isMarked, mayEndWithFlush } from "./flush.ts";
import { HardLinks } from "./hard-links.ts";
import { commandRetries, LaneControl } from "./lane-control.ts";
import type { OpenAhead } from "./open-ahead.ts";
import { PolicyCheck } from "./policy-check.ts";
import { Questions } from "./questions.ts";
import { type EntryPlace, type LaneMessage, Reporter } from "./reporter.ts";
import { Resumption } from "./resumption.ts";
import { Counter, Float, maxSyncDevices, type Shared, Word } from "./shared.ts";
import { Trouble } from "./trouble.ts";

/** F_DUPFD_CLOEXEC of fcntl(2). */
const dupCloseOnExec = 1030;

/** Who wants to know of each regular file that was published, by its descriptor, before that is closed. */
export interface PublishedFiles {
  /** A further name of a file that was noted already, or will be. */
  noteLink(entry: Entry): void;
  note(entry: Entry, fd: number, how: "new" | "in-place"): void;
  /** A file that a former worker published: its source is read once more for what it is to be compared with. */
  noteFinished(entry: Entry, sourceFd: number): void;
}

export interface LaneSetup {
  readonly lane: number;
  readonly shared: Shared;
  readonly request: JobRequest;
  readonly token: string;
  /** By default there is none. */
  readonly policy?: Policy;
  readonly post: (message: LaneMessage) => void;
  /** Where the sources are found without following a link; null: where they are named. */
  readonly guardedSources: readonly ByteString[] | null;
  /** What files are hashed with where the method asked for needs more than FileHasher has by itself. */
  readonly hash?: StreamHash | null;
  /** Instead of one that posts errors and lines: a dry run's. */
  readonly reporter?: Reporter;
}

export class LaneContext {
  readonly lane: number;
  readonly shared: Shared;
  readonly request: JobRequest;
  readonly options: JobOptions;
  readonly preserve: ReadonlySet<PreserveAttribute>;
  readonly reporter: Reporter;
  readonly questions: Questions;
  /** Failures that may be tried again, and what is asked about them. */
  readonly trouble: Trouble;
  readonly control: LaneControl;
  readonly copier: FileCopier;
  /** Hashes what the copier copies; null where nobody asked. */
  readonly hasher: FileHasher | null;
  /** The verifier, or null where nothing is verified. */
  published: PublishedFiles | null = null;
  /** Files that were opened before their turn; null where nobody lists directories. */
  opened: OpenAhead | null = null;
  readonly metadata: MetadataCopier;
  readonly publisher: Publisher;
  readonly directories: DirectoryTable;
  readonly hardLinks: HardLinks;
  /** What this job finishes, for whoever resumes it; null: nobody does. */
  readonly log: CheckpointLog | null;
  /** What a former worker left; null: there was none. */
  readonly resumption: Resumption | null;
  /** A move's record of what it may delete later; null for a copy. */
  readonly copied: CopiedList | null;
  readonly opener = new BeneathOpener();
  readonly guardedSources: readonly ByteString[] | null;
  /** Scratch C strings; each step resets to its own mark. */
  readonly arena = new Arena(256 * 1024);
  readonly empty: number;
  /** The source entry at hand, its state afterwards, and whatever stands at the destination. */
  readonly sourceStat: Stat;
  readonly afterStat: Stat;
  readonly destinationStat: Stat;
  /** The finished copy, as the log knows it. */
  readonly copyStat: Stat;
  /** The entry or the directory at hand, for progress and for the report of a metadata loss. */
  entry: Entry | null = null;
  /** What this job made for its arguments: the identity of the entry by the path it was made under. Only the leader's fills. */
  readonly justMade = new Map<string, string>();
  /** For -v and --debug. */
  readonly announcer: Announcer | null;
  readonly backups: BackupKeeper;
  /** What the administrator allows; null where everything is. */
  readonly policy: PolicyCheck | null;
  /** False where the copy is the backup. */
  makesBackups = true;
  finishing: EntryPlace | null = null;
  private readonly counters: number;
  private readonly toldLosses = new Set<PreserveAttribute>();
  private readonly otherDevices = new Map<number, number>();

  constructor(setup: LaneSetup) {
    this.lane = setup.lane;
    this.shared = setup.shared;
    this.request = setup.request;
    this.options = setup.request.options;
    this.guardedSources = setup.guardedSources;
    this.preserve = new Set(this.options.preserve);
    this.counters = this.shared.counters(setup.lane);
    this.reporter = setup.reporter ?? new Reporter(this.shared, setup.lane, setup.request, setup.post);
    const retries = this.options.gnu.names === null ? undefined : commandRetries;
    this.control = new LaneControl(this.shared, setup.lane, () => this.reporter.current(this.place), retries);
    this.hasher = hashMethodOf(this.options) !== null ? new FileHasher(setup.hash ?? null, () => this.control.mayGoOn()) : null;
    const { ranges } = this.shared;
    const board = ranges === null ? null : new RangeBoard(ranges, setup.lane, () => this.shared.announceWork());
    this.copier = new FileCopier({ ...this.options, hashes: this.hasher !== null }, this.control, this.hasher, board);
    if (this.isBounded) this.copier.bound(new SharedDirtyBounds(this.shared));
    this.metadata = new MetadataCopier(this.options.preserve, (attribute, errno, syscall) => this.lost(attribute, errno, syscall));
    this.publisher = new Publisher({
      token: setup.token,
      inFlight: new InFlight(this.shared.inFlight, setup.lane, this.shared.words[Word.boot]),
      nextTemporary: () => Atomics.add(this.shared.words, Word.nextTemporary, 1),
    });
    this.directories = new DirectoryTable(this.shared, setup.lane);
    this.copied = setup.request.operation === "move" ? new CopiedList(this.shared, setup.lane) : null;
    this.hardLinks = new HardLinks(this.shared);
    this.announcer = this.options.gnu.verbose ? new Announcer(this.reporter, this.options.gnu, this.request.operation) : null;
    this.backups = new BackupKeeper(this);
    this.questions = new Questions(this.shared, this.control, this.reporter);
    this.trouble = new Trouble(this);
    this.policy = PolicyCheck.of(setup.policy ?? [], this);
    this.empty = this.arena.cstring("");
    this.sourceStat = new Stat(this.arena.allocate(layout.statx.size));
    this.copyStat = new Stat(this.arena.allocate(layout.statx.size)).withBirth();
    this.afterStat = new Stat(this.arena.allocate(layout.statx.size));
    this.destinationStat = new Stat(this.arena.allocate(layout.statx.size));
    const { checkpoint } = setup.shared;
    this.log = checkpoint === null ? null : new CheckpointLog(setup.shared, setup.lane, checkpoint);
    if (this.log !== null) this.publisher.stat.withBirth();
    this.resumption = checkpoint === null || checkpoint.known === null ? null : new Resumption(this, checkpoint, checkpoint.known);
  }

  /** Adds to one of this lane's counters. hot: */
  count(counter: number, amount: number): void {
    const index = this.counters + counter;
    this.shared.floats[index] = (this.shared.floats[index] ?? 0) + amount;
  }

  /** After a whole file: its engine, and its holes, which count as done since totals are logical sizes. hot: */
  countFile(): void {
    const { length, copied, cloned, kept } = this.copier;
    if (length > copied + cloned + kept) this.count(Counter.bytesDone, length - copied - cloned - kept);
    const index = engineNames.indexOf(this.copier.engine);
    this.count(Counter.engineFiles + index, 1);
    this.shared.floats[this.counters + Counter.engine] = index + 1;
  }

  /** A destination directory on another filesystem than the job's (a mount point inside it) is flushed by whoever entered it. */
  noteDevice(device: number, fd: number): void {
    if (!this.mayBeFlushed || this.otherDevices.has(device)) return;
    const kept = libc.fcntl(fd, dupCloseOnExec, 0);
    if (kept < 0) return;
    this.otherDevices.set(device, kept);
    this.noteForOthers(device, kept);
  }

  /** The device that an argument is copied to, by a descriptor of its directory that may be O_PATH, which nothing flushes through. */
  noteArgumentDevice(directoryFd: number): void {
    const { afterStat, arena } = this;
    if (!this.mayBeFlushed || afterStat.ofDescriptor(directoryFd, this.empty) < 0) return;
    if (this.otherDevices.has(afterStat.device)) return;
    const fd = arena.withString(".", (address) => libc.openat(directoryFd, address, Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC, 0));
    if (fd < 0) return;
    this.noteDevice(afterStat.device, fd);
    libc.close(fd);
  }

  /** What noteDevice kept of a device; null: nothing. It hears of all errors since, whoever else was told of them. */
  keptDescriptor(device: number): number | null {
    return this.otherDevices.get(device) ?? null;
  }

  private get mayBeFlushed(): boolean {
    return this.isFlushed || this.isBounded || isMarked(this.shared, this.request);
  }

  /** Whether somebody sees how far the job is: then it keeps to what the device can write. */
  private get isBounded(): boolean {
    return this.shared.words[Word.isWatched] === 1;
  }

  private get isFlushed(): boolean {
    return mayEndWithFlush(this.request);
  }

  /** For the thread that flushes, and for the leader before it removes what was moved. */
  private noteForOthers(device: number, fd: number): void {
    const { words, floats } = this.shared;
    this.shared.lock(Word.syncDevicesLock);
    const count = words[Word.syncDevices] ?? 0;
    let index = 0;
    while (index < count && floats[Float.syncDevices + index * 2] !== device) index++;
    if (index === maxSyncDevices) Atomics.store(words, Word.marksOff, 1);
    else if (index === count) {
      floats[Float.syncDevices + index * 2] = device;
      floats[Float.syncDevices + index * 2 + 1] = fd;
      Atomics.store(words, Word.syncDevices, count + 1);
    }
    this.shared.unlock(Word.syncDevicesLock);
  }

  /** At the end, after the job's own flush: flushes what noteDevice kept and that flush did not reach. */
  syncOtherDevices(): void {
    const flushed = this.shared.floats[Float.flushedDevice];
    for (const [device, fd] of this.otherDevices) {
      const result = this.control.isCancelled || !this.isFlushed || device === flushed ? 0 : flushFilesystem(this.shared, fd);
      libc.close(fd);
      if (result === 0) continue;
      const what = "cannot flush a filesystem below %d";
      this.reporter.fail({ place: this.place, side: "destination", errno: -result, syscall: "syncfs", what, code: "flush-failed" });
    }
    this.otherDevices.clear();
  }

  /** Opens a directory that an argument names: by the links in its path or, guarded, by a path without any. -errno on failure. */
  openNamed(path: string, flags: number): number {
    if (this.guardedSources !== null) return this.opener.openWithoutLinks(At.AT_FDCWD, path, flags);
    return this.arena.withString(path, (address) => libc.openat(At.AT_FDCWD, address, flags, 0));
  }

  close(fd: number): void {
    if (fd >= 0) libc.close(fd);
  }

  private get place(): EntryPlace {
    return this.finishing ?? this.entry?.place ?? { argument: 0, path: "", destinationRoot: this.request.destination };
  }

  private lost(attribute: PreserveAttribute, errno: number, syscall: string): void {
    const gnu = this.options.gnu;
    const isRequired = gnu.required.includes(attribute);
    // That only root can give files away is no news to whom cp serves; root hears of it.
    const isRefused = errno === Errno.EPERM || errno === Errno.EINVAL;
    const isExpected = attribute === "owner" && isRefused && !isRequired && process.geteuid?.() !== 0;
    if (isExpected && gnu.names !== null) return;
    if (!isRequired && gnu.reduceDiagnostics) return;
    // For a job of the service, one warning a lane and attribute tells it; the others are counted.
    if (!isRequired && gnu.names === null) {
      if (this.toldLosses.has(attribute)) {
        this.count(Counter.warnings, 1);
        return;
      }
      this.toldLosses.add(attribute);
    }
    this.reporter.fail({
      place: this.place,
      side: "destination",
      errno,
      syscall,
      what: lossWords[attribute],
      code: lossCodes[attribute],
      severity: isRequired ? "error" : "warning",
    });
  }
}

const lossWords: Record<PreserveAttribute, string> = {
  mode: "preserving permissions for %d",
  times: "preserving times for %d",
  owner: "failed to preserve ownership for %d",
  xattr: "setting attributes for %d",
  acl: "preserving permissions for %d",
  hardlinks: "cannot create hard link %d",
  links: "cannot create symbolic link %d",
  sparse: "cannot keep holes of %d",
};

const lossCodes = {
  mode: "mode-not-preserved",
  times: "times-not-preserved",
  owner: "owner-not-preserved",
  xattr: "xattr-not-preserved",
  acl: "xattr-not-preserved",
  hardlinks: "too-many-links",
  links: "not-supported",
  sparse: "not-supported",
} as const;
