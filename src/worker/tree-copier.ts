// Copies directory trees depth first without recursion, and lends a hand in other lanes' directories when its own work is done.

import { Errno } from "../errno.ts";
import { DirentType, libc } from "../ffi/libc.ts";
import { isDotOrDotDot, nameLength, recordLength, recordName, recordType } from "../tree/dirents.ts";
import { DirectoryCopier } from "./copy-directory.ts";
import { EntryCopier } from "./copy-file.ts";
import type { Directory } from "./directory.ts";
import { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import type { FileOutcome } from "./making.ts";
import { OpenAhead } from "./open-ahead.ts";
import { ReadAhead } from "./read-ahead.ts";
import { Selection } from "./selection.ts";
import { batchBytes, Word } from "./shared.ts";
import { type Stolen, Thief, WorkList } from "./work-list.ts";

/** What a new directory takes on most filesystems. */
const directoryBytes = 4096;
/** How long an idle lane sleeps before it looks again by itself, milliseconds. */
const idleMs = 20;

export class TreeCopier {
  private readonly context: LaneContext;
  private readonly files: EntryCopier;
  private readonly directories: DirectoryCopier;
  private readonly work: WorkList;
  private readonly thief: Thief;
  private readonly stolen: Stolen = { slot: -1, type: 0 };
  private readonly stolenName: number;
  private readonly selection: Selection;
  private readonly ahead: ReadAhead;
  private readonly opens: OpenAhead;
  private readonly stack: Directory[] = [];
  private entryOrNull: Entry | null = null;
  private readonly follow: boolean;
  private readonly isOrdered: boolean;

  constructor(context: LaneContext, lanesAddress: number) {
    this.context = context;
    this.stolenName = context.arena.allocate(512);
    this.files = new EntryCopier(context);
    this.directories = new DirectoryCopier(context);
    this.work = new WorkList(context.shared, lanesAddress, context.lane);
    this.thief = new Thief(context.shared, lanesAddress, context.lane, this.stolenName);
    this.selection = new Selection(context);
    this.ahead = new ReadAhead(context, this.work, this.selection.isOpen);
    this.opens = new OpenAhead(context, this.work, this.selection.isOpen);
    context.opened = this.opens;
    this.follow = context.options.symlinks === "follow";
    this.isOrdered = context.options.gnu.verbose || context.options.onConflict === "ask";
  }

  /** Copies one argument whose entry was set up by the leader. */
  copyArgument(entry: Entry, followArgument: boolean): FileOutcome {
    const outcome = this.copyFile(entry, followArgument, DirentType.UNKNOWN);
    if (outcome === "is-directory") this.copyDirectory(entry, followArgument);
    return outcome;
  }

  /** Takes one piece of work from another lane and does it. False when there was nothing to take. */
  help(): boolean {
    // A whole entry before a part of one: a large file's owner gets on alone as well.
    if (!this.thief.steal(this.stolen)) return this.context.copier.help();
    const directory = this.context.directories.open(this.stolen.slot);
    const bytes = this.context.arena.memory.bytes;
    const entry = this.entryFor(directory);
    entry.set(directory, this.stolenName, bytes, this.stolenName - this.context.arena.memory.address);
    if (this.context.control.mayGoOn()) this.copyEntry(entry, this.stolen.type);
    this.release(directory);
    const words = this.context.shared.words;
    // The leader may wait for all others, or for all but itself.
    if (Atomics.sub(words, Word.active, 1) <= 2) {
      Atomics.add(words, Word.work, 1);
      Atomics.notify(words, Word.work);
    }
    return true;
  }

  /** How the lane went about it, for --debug and the job's result. */
  reasons(): string[] {
    return [...this.context.copier.reasons(), ...this.ahead.reasons(), ...this.opens.reasons()];
  }

  /** When the lane has nothing more to do. */
  end(): void {
    this.opens.end();
  }

  /** Helps until the job is done; with "ranges", only with large files, where entries must keep their order. */
  helpUntilDone(wanted: "entries" | "ranges"): void {
    const words = this.context.shared.words;
    while (Atomics.load(words, Word.done) === 0) {
      Atomics.add(words, Word.idle, 1);
      const seen = Atomics.load(words, Word.work);
      Atomics.sub(words, Word.idle, 1);
      if (wanted === "entries" ? this.help() : this.context.copier.help()) continue;
      Atomics.add(words, Word.idle, 1);
      if (Atomics.load(words, Word.done) === 0) Atomics.wait(words, Word.work, seen, idleMs);
      Atomics.sub(words, Word.idle, 1);
    }
  }

  /** The leader's: helps until no lane holds any work, or, while it has arguments to go, none but itself. */
  helpUntilQuiet({ holds = 0 }: { readonly holds?: 0 | 1 } = {}): void {
    const words = this.context.shared.words;
    for (;;) {
      const seen = Atomics.load(words, Word.work);
      if (this.help()) continue;
      if (Atomics.load(words, Word.active) <= holds) return;
      Atomics.wait(words, Word.work, seen, idleMs);
    }
  }

  private copyEntry(entry: Entry, type: number): void {
    if (!this.selection.accepts(entry, type)) return;
    if (type === DirentType.DIR) {
      this.copyDirectory(entry, this.follow);
      return;
    }
    if (this.copyFile(entry, this.follow, type) === "is-directory") this.copyDirectory(entry, this.follow);
  }

  // hot:
  private copyFile(entry: Entry, follow: boolean, type: number): FileOutcome {
    if (this.selection.renames) return this.copyRenamed(entry, follow, type);
    return this.files.copy(entry, follow, type);
  }

  // Apart: a function with a closure in it allocates for it at every call, also where it is not made.
  private copyRenamed(entry: Entry, follow: boolean, type: number): FileOutcome {
    return this.selection.copyRenamed(entry, () => this.files.copy(entry, follow, type));
  }

  private copyDirectory(entry: Entry, follow: boolean): void {
    if (!this.context.options.recursive) {
      const what = "-r not specified; omitting directory %s";
      this.context.reporter.fail({ place: entry.place, side: "source", errno: 0, syscall: "", what, code: "source-is-directory" });
      return;
    }
    const base = this.stack.length;
    this.push(entry, follow);
    while (this.stack.length > base) this.step();
  }

  // One directory's turn: list it, or enter its next subdirectory, or leave it.
  private step(): void {
    const directory = this.stack[this.stack.length - 1] as Directory;
    if (!this.context.control.mayGoOn()) {
      this.pop(directory);
      return;
    }
    if (!directory.isListed) {
      directory.isListed = true;
      if (!this.mayDescend(directory)) return;
      if (this.isOrdered) this.listInOrder(directory);
      else this.list(directory);
      return;
    }
    const name = this.work.takeSubdirectory();
    if (name === 0) {
      this.pop(directory);
      return;
    }
    const entry = this.entryFor(directory);
    entry.set(directory, name, this.work.names, name - this.work.namesAddress);
    // In order, the names are of files as well.
    if (!this.isOrdered || this.copyUnlessDirectory(entry) === "is-directory") this.push(entry, this.follow);
  }

  private copyUnlessDirectory(entry: Entry): FileOutcome {
    if (!this.selection.accepts(entry, DirentType.UNKNOWN)) return "skipped";
    return this.copyFile(entry, this.follow, DirentType.UNKNOWN);
  }

  private push(entry: Entry, follow: boolean): void {
    const directory = this.enter(entry, follow);
    if (directory === null) return;
    this.stack.push(directory);
    this.work.push(directory);
  }

  private enter(entry: Entry, follow: boolean): Directory | null {
    const { trouble } = this.context;
    const { sourceFd, destinationFd } = entry.directory.fields;
    trouble.begin();
    let directory = this.directories.enter(entry, follow);
    while (trouble.isPending && directory === null) {
      if (
        !trouble.mayRepeat({
          directory: entry.directory,
          sourceFd,
          destinationFd,
          sourceName: entry.sourceName,
          neededBytes: directoryBytes,
        })
      )
        break;
      directory = this.directories.enter(entry, follow);
    }
    trouble.end(directory !== null);
    return directory;
  }

  private pop(directory: Directory): void {
    this.stack.pop();
    this.work.pop();
    this.release(directory);
  }

  private release(directory: Directory): void {
    if (this.context.directories.release(directory)) this.directories.finish(directory);
  }

  // Files at once, subdirectories later: so one getdents buffer serves a lane whatever the depth.
  private list(directory: Directory): void {
    const { control } = this.context;
    for (;;) {
      const length = this.readBatch(directory);
      if (length === 0) return;
      if (length < 0) return;
      this.work.openBatch(directory, length);
      this.ahead.begin(directory, length);
      this.opens.begin(directory);
      for (let offset = this.opens.takeEntry(); offset >= 0; offset = this.opens.takeEntry()) {
        this.ahead.reached(offset);
        this.listEntry(directory, offset);
        if (!control.mayGoOn()) break;
      }
      if (control.isCancelled) {
        this.opens.drop();
        this.work.closeBatch();
        return;
      }
    }
  }

  // cp reads a directory whole and takes its entries by inode number. Where each one is told or asked about, so does copyd.
  private listInOrder(directory: Directory): void {
    const batch = this.work.batch;
    const numbers = new DataView(batch.buffer, batch.byteOffset, batch.byteLength);
    const entries: { readonly inode: bigint; readonly name: Uint8Array }[] = [];
    for (;;) {
      const length = this.readBatch(directory);
      if (length === 0) break;
      if (length < 0) return;
      for (let offset = 0; offset < length; offset += recordLength(batch, offset)) {
        const at = recordName(offset);
        if (isDotOrDotDot(batch, at)) continue;
        entries.push({ inode: numbers.getBigUint64(offset, true), name: batch.slice(at, at + nameLength(batch, at) + 1) });
      }
    }
    entries.sort((one, other) => (one.inode < other.inode ? -1 : one.inode > other.inode ? 1 : 0));
    if (!entries.every(({ name }) => this.work.addName(name))) this.failFull(directory);
  }

  /** Bytes of records; 0 at the end; negative for a failure, which is told. */
  private readBatch(directory: Directory): number {
    const { trouble } = this.context;
    const { sourceFd, destinationFd } = directory.fields;
    let length = libc.getdents64(sourceFd, this.work.batchAddress, batchBytes);
    if (length >= 0) return length;
    trouble.begin();
    for (;;) {
      this.failList(directory, length);
      if (!trouble.isPending || !trouble.mayRepeat({ directory, sourceFd, destinationFd, sourceName: 0, neededBytes: 0 })) break;
      length = libc.getdents64(sourceFd, this.work.batchAddress, batchBytes);
      if (length >= 0) break;
    }
    trouble.end(length >= 0);
    return length;
  }

  private failList(directory: Directory, result: number): void {
    const { argument, path, destinationRoot } = directory.fields;
    const place = { argument, path, destinationRoot };
    const what = "error reading directory %s";
    this.context.reporter.fail({ place, side: "source", errno: -result, syscall: "getdents64", what });
  }

  // hot: once an entry.
  private listEntry(directory: Directory, offset: number): void {
    const batch = this.work.batch;
    const at = recordName(offset);
    if (isDotOrDotDot(batch, at)) return;
    const type = recordType(batch, offset);
    const entry = this.entryFor(directory);
    entry.set(directory, this.work.batchAddress + at, batch, at);
    if (!this.selection.accepts(entry, type)) return;
    if (type === DirentType.DIR) {
      this.deferSubdirectory(directory, offset);
      return;
    }
    if (this.copyFile(entry, this.follow, type) === "is-directory") this.deferSubdirectory(directory, offset);
  }

  private deferSubdirectory(directory: Directory, offset: number): void {
    if (!this.work.addSubdirectory(offset)) this.failFull(directory);
  }

  private failFull(directory: Directory): void {
    const { argument, path, destinationRoot } = directory.fields;
    const place = { argument, path, destinationRoot };
    this.context.reporter.fail({ place, side: "source", errno: Errno.ENOMEM, syscall: "", what: "too many entries in %s" });
  }

  // -x: a mount point is made, not entered.
  private mayDescend(directory: Directory): boolean {
    return !this.context.options.oneFileSystem || directory.stat.device === directory.fields.argumentDevice;
  }

  private entryFor(directory: Directory): Entry {
    this.entryOrNull ??= new Entry(directory);
    return this.entryOrNull;
  }
}
