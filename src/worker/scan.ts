// Counts what there is to copy while it is being copied: a thread of its own, so that a percentage costs the copy nothing.
//
// Started only for jobs that last (a small one ends before its total would be known). On a cold disk it also warms the inodes
// that the lanes are about to need.

import { layout } from "../ffi/layout.ts";
import { At, DirentType, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena, NativeMemory } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { JobRequest } from "../request.ts";
import { isDotOrDotDot, nameString, recordLength, recordName, recordType } from "../tree/dirents.ts";
import { KeySet } from "./key-set.ts";
import { batchBytes, Command, Counter, maxLanes, type Shared, Word } from "./shared.ts";
import type { SpaceCheck } from "./space-check.ts";

const directoryFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NONBLOCK | Open.O_CLOEXEC;

/** How often a paused scan looks whether the job has ended. */
const lookMs = 100;

interface OpenDirectory {
  readonly fd: number;
  readonly device: number;
  readonly subdirectories: string[];
}

export class Scanner {
  private readonly shared: Shared;
  private readonly request: JobRequest;
  private readonly batch = new NativeMemory(batchBytes);
  private readonly arena = new Arena(16 * 1024);
  private readonly stat = new Stat(this.arena.allocate(layout.statx.size));
  private readonly empty = this.arena.cstring("");
  private readonly mark = this.arena.mark();
  private readonly links = new KeySet(512);
  private readonly counters: number;
  private readonly keepsHardLinks: boolean;

  /** What the arguments that count for it will take at the destination, bytes. */
  private neededBytes = 0;
  private countsSpace = false;
  private readonly space: SpaceCheck | null;

  constructor(shared: Shared, request: JobRequest, space: SpaceCheck | null = null) {
    this.space = space;
    this.shared = shared;
    this.request = request;
    this.counters = shared.counters(maxLanes - 1);
    this.keepsHardLinks = request.options.preserve.includes("hardlinks");
  }

  /** Counts all arguments; sets Word.totalsKnown when nothing was left out. Errors are the lanes' to report. */
  run(): void {
    const { options, sources } = this.request;
    for (const [argument, source] of sources.entries()) {
      this.countsSpace = this.space?.countsArgument(argument) ?? false;
      this.arena.reset(this.mark);
      const name = this.arena.cstring(source);
      const status = options.symlinks === "copy" ? this.stat.ofName(At.AT_FDCWD, name) : this.stat.ofTarget(At.AT_FDCWD, name);
      if (status < 0) continue;
      if (this.stat.type !== Mode.S_IFDIR) this.countFile();
      else if (options.recursive && !this.scanTree(source)) return;
    }
    Atomics.store(this.shared.words, Word.totalsKnown, 1);
    this.space?.run(this.neededBytes);
  }

  /** Before each entry: waits while the job is paused, for looking is input, too; false when it is over. */
  private mayGoOn(): boolean {
    const { words } = this.shared;
    const isDone = (): boolean => Atomics.load(words, Word.done) === 1;
    // The end comes without a word here.
    while (Atomics.load(words, Word.command) === Command.pause && !isDone()) Atomics.wait(words, Word.command, Command.pause, lookMs);
    return !isDone() && Atomics.load(words, Word.command) !== Command.cancel;
  }

  /** False when the job ended first. Symlinks to directories below the argument count as links even where they are followed. */
  private scanTree(source: string): boolean {
    const stack: OpenDirectory[] = [];
    this.enter(stack, At.AT_FDCWD, source, 0);
    while (stack.length > 0) {
      const directory = stack[stack.length - 1] as OpenDirectory;
      const name = directory.subdirectories.pop();
      if (!this.mayGoOn()) break;
      if (name !== undefined) {
        this.enter(stack, directory.fd, name, directory.device);
        continue;
      }
      stack.pop();
      libc.close(directory.fd);
    }
    const isWhole = stack.length === 0;
    for (const { fd } of stack) libc.close(fd);
    return isWhole;
  }

  private enter(stack: OpenDirectory[], parentFd: number, name: string, device: number): void {
    this.arena.reset(this.mark);
    const flags = stack.length === 0 ? directoryFlags : directoryFlags | Open.O_NOFOLLOW;
    const fd = libc.openat(parentFd, this.arena.cstring(name), flags, 0);
    if (fd < 0) return;
    if (this.stat.ofDescriptor(fd, this.empty) < 0 || (this.request.options.oneFileSystem && device !== 0 && this.stat.device !== device)) {
      libc.close(fd);
      return;
    }
    const directory = { fd, device: this.stat.device, subdirectories: [] };
    stack.push(directory);
    this.list(directory);
  }

  private list(directory: OpenDirectory): void {
    for (;;) {
      const length = libc.getdents64(directory.fd, this.batch.address, batchBytes);
      if (length <= 0) return;
      for (let offset = 0; offset < length; offset += recordLength(this.batch.bytes, offset)) {
        const at = recordName(offset);
        if (isDotOrDotDot(this.batch.bytes, at)) continue;
        if (!this.mayGoOn()) return;
        const type = recordType(this.batch.bytes, offset);
        if (type === DirentType.DIR) directory.subdirectories.push(nameString(this.batch.bytes, at));
        else if (type !== DirentType.REG && type !== DirentType.UNKNOWN) this.add(Counter.filesTotal, 1);
        else if (this.stat.ofName(directory.fd, this.batch.address + at) === 0) this.countEntry(directory, at);
      }
    }
  }

  private countEntry(directory: OpenDirectory, at: number): void {
    if (this.stat.type === Mode.S_IFDIR) directory.subdirectories.push(nameString(this.batch.bytes, at));
    else this.countFile();
  }

  private countFile(): void {
    this.add(Counter.filesTotal, 1);
    if (this.stat.type !== Mode.S_IFREG) return;
    // A second name of an inode will be a link and cost no bytes.
    if (this.keepsHardLinks && this.stat.linkCount > 1) {
      const { inodeLow, inodeHigh, device } = this.stat;
      if (!this.links.add(inodeLow, Math.imul(inodeHigh, 31) ^ device)) return;
    }
    this.add(Counter.bytesTotal, this.stat.size);
    const { size, blocks } = this.stat;
    if (this.countsSpace) this.neededBytes += this.request.options.sparse === "never" ? size : Math.min(size, blocks * 512);
  }

  private add(counter: number, amount: number): void {
    this.shared.floats[this.counters + counter] = (this.shared.floats[this.counters + counter] ?? 0) + amount;
  }
}
