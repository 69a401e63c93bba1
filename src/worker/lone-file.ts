// A job's one small file, copied in the worker's main thread: a lane's thread takes several times as long to start (bench/start.md).
//
// The main thread hears the parent and shows that the worker lives, so it may not wait: the source must be in the page cache, both
// filesystems this machine's own. Nothing is told here. Whatever is not so, or fails, is undone, and a lane does the job as if nothing had been.

import { Chooser } from "../engines/chooser.ts";
import { InFlight } from "../engines/in-flight.ts";
import { MetadataCopier } from "../engines/metadata.ts";
import { Publisher } from "../engines/publish.ts";
import { isUnsupportedErrno } from "../engines/unsupported.ts";
import { Errno } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, Ioctl, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { type EngineName, engineNames, type JobRequest } from "../request.ts";
import { CheckpointLog } from "./checkpoint-log.ts";
import { baseName, Destination, parentOf } from "./destination.ts";
import { maxLoneBytes } from "./protocol.ts";
import { Counter, type Shared } from "./shared.ts";

const directoryFlags = Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC;
const readFlags = Open.O_RDONLY | Open.O_NOCTTY | Open.O_NONBLOCK | Open.O_CLOEXEC;
/** preadv2(2): -EAGAIN instead of waiting for the device. */
const RWF_NOWAIT = 0x8;
const specialBits = 0o7000;
const silent = { fail: (): void => undefined };

/** True when it was copied, and counted as lane 0's; the umask is the job's. For what mayBeLone lets through. */
export function copyLoneFile(request: JobRequest, shared: Shared, token: string): boolean {
  using file = new LoneFile(request, shared, token);
  return file.copy();
}

class LoneFile {
  private readonly request: JobRequest;
  private readonly shared: Shared;
  private readonly arena = new Arena(maxLoneBytes + 64 * 1024);
  private readonly empty: number;
  private readonly source: Stat;
  private readonly after: Stat;
  private readonly made: Stat;
  private readonly copyStat: Stat;
  private readonly directory: Stat;
  private readonly publisher: Publisher;
  private readonly metadata: MetadataCopier;
  private readonly log: CheckpointLog | null;
  private readonly follow: boolean;
  private hasLost = false;

  constructor(request: JobRequest, shared: Shared, token: string) {
    this.request = request;
    this.shared = shared;
    const stat = (): Stat => new Stat(this.arena.allocate(layout.statx.size));
    this.empty = this.arena.cstring("");
    this.source = stat();
    this.after = stat();
    this.made = stat();
    this.copyStat = stat().withBirth();
    this.directory = stat();
    // It makes nothing that has a name, so nothing is to be recorded.
    this.publisher = new Publisher({ token, inFlight: new InFlight(0, 0), nextTemporary: () => 0 });
    this.metadata = new MetadataCopier(request.options.preserve, () => {
      this.hasLost = true;
    });
    this.log = shared.checkpoint === null ? null : new CheckpointLog(shared, 0, shared.checkpoint);
    this.follow = request.options.symlinks !== "copy";
  }

  copy(): boolean {
    const root = this.place();
    if (root === null) return false;
    const directoryFd = libc.openat(At.AT_FDCWD, this.arena.cstring(parentOf(root)), directoryFlags, 0);
    if (directoryFd < 0) return false;
    const name = this.arena.cstring(baseName(root));
    const isFree = this.made.ofName(directoryFd, name) === -Errno.ENOENT;
    const sourceFd = isFree ? this.open() : -1;
    const isCopied = sourceFd >= 0 && this.copyOpened(sourceFd, directoryFd, name);
    if (sourceFd >= 0) libc.close(sourceFd);
    libc.close(directoryFd);
    return isCopied;
  }

  [Symbol.dispose](): void {
    this.publisher[Symbol.dispose]();
    this.metadata[Symbol.dispose]();
    this.arena[Symbol.dispose]();
  }

  /** The final absolute path of the copy; null where a file cannot be. */
  private place(): string | null {
    const { request, arena, log } = this;
    const { options } = request;
    const destination = new Destination({ request, options, destinationStat: this.made, arena, log, resumption: null, reporter: silent });
    return destination.resolve() && destination.slashErrno === 0 ? destination.placeOf(0) : null;
  }

  /** A descriptor of the source, or -errno. What is no regular file is not opened: opening a FIFO wakes who waits to write to it. */
  private open(): number {
    const path = this.arena.cstring(this.request.sources[0] ?? "");
    const looked = this.follow ? this.source.ofTarget(At.AT_FDCWD, path) : this.source.ofName(At.AT_FDCWD, path);
    if (looked < 0 || this.source.type !== Mode.S_IFREG) return -Errno.EINVAL;
    return libc.openat(At.AT_FDCWD, path, this.follow ? readFlags : readFlags | Open.O_NOFOLLOW, 0);
  }

  private copyOpened(sourceFd: number, directoryFd: number, name: number): boolean {
    const { source, directory, empty } = this;
    if (source.ofDescriptor(sourceFd, empty) < 0 || directory.ofDescriptor(directoryFd, empty) < 0 || !this.isPlain()) return false;
    const pair = new Chooser(this.request.options).pairOf(source.device, directory.device, sourceFd, directoryFd);
    if (!pair.isLocal || !this.metadata.hasNoAttributes(sourceFd, source.device)) return false;
    const data = this.arena.allocate(source.size);
    if (!this.read(sourceFd, data)) return false;
    const mode = source.permissions & (this.request.options.preserve.includes("mode") ? 0o700 : 0o777);
    const fd = this.publisher.createUnnamed(directoryFd, name, mode);
    if (fd < 0) return false;
    const engine = this.fill(sourceFd, fd, data, pair.orderFor(source.size));
    const isPublished = engine !== null && this.complete(sourceFd, fd, mode) && this.publisher.publish(false) === 0;
    if (!isPublished) this.publisher.abandon();
    // On these filesystems nothing is done at a close that could fail.
    libc.close(fd);
    if (isPublished) this.count(engine);
    return isPublished;
  }

  private isPlain(): boolean {
    const { source } = this;
    const isSmall = source.size > 0 && source.size <= maxLoneBytes && source.blocks * 512 >= source.size;
    return source.type === Mode.S_IFREG && isSmall && source.linkCount === 1 && (source.permissions & specialBits) === 0;
  }

  /** All of the source, without waiting for its device. */
  private read(fd: number, data: number): boolean {
    const { arena, source } = this;
    const iovec = arena.allocate(16);
    const at = (iovec - arena.memory.address) / 4;
    const { u32 } = arena.memory;
    u32[at] = data >>> 0;
    u32[at + 1] = Math.floor(data / 2 ** 32);
    u32[at + 2] = source.size;
    u32[at + 3] = 0;
    const got = libc.preadv2(fd, iovec, 1, 0, RWF_NOWAIT);
    // tmpfs does not know the flag, and has no device to wait for.
    return (got === -Errno.EOPNOTSUPP ? libc.pread(fd, data, source.size, 0) : got) === source.size;
  }

  /** Gives a new file its data by the first engine that serves; null where none of these does, or where it fails. */
  private fill(sourceFd: number, fd: number, data: number, order: readonly EngineName[]): EngineName | null {
    const { size } = this.source;
    for (const engine of order) {
      if (engine === "reflink") {
        // It waits for what of these few blocks is still to be written, and for nothing else.
        const cloned = libc.ioctl(fd, Ioctl.FICLONE, sourceFd);
        if (cloned === 0) return engine;
        if (!isUnsupportedErrno(-cloned)) return null;
      } else return engine === "read-write" && libc.pwrite(fd, data, size, 0) === size ? engine : null;
    }
    return null;
  }

  /** Metadata, proof that the source held still (rule 12), and the log's record. False: the copy is not as a lane would make it. */
  private complete(sourceFd: number, fd: number, mode: number): boolean {
    const { source, made, after, copyStat, empty, metadata, log } = this;
    if (made.ofDescriptor(fd, empty) < 0 || !metadata.hasNoAttributes(fd, made.device)) return false;
    metadata.toPlain(source, fd, mode, made.uid === source.uid && made.gid === source.gid);
    if (this.hasLost || after.ofDescriptor(sourceFd, empty) < 0 || !source.isUnchanged(after)) return false;
    if (log !== null && copyStat.ofDescriptor(fd, empty) === 0) log.done(source, copyStat);
    return true;
  }

  private count(engine: EngineName): void {
    const { shared, source } = this;
    const index = engineNames.indexOf(engine);
    const add = (counter: number, amount: number): void => {
      const at = shared.counters(0) + counter;
      shared.floats[at] = (shared.floats[at] ?? 0) + amount;
    };
    add(Counter.bytesDone, source.size);
    if (engine === "reflink") add(Counter.bytesCloned, source.size);
    add(Counter.engineFiles + index, 1);
    add(Counter.engine, index + 1);
    add(Counter.filesDone, 1);
  }
}
