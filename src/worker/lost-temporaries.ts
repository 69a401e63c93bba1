// Temporary files of this job that no record names: a power cut keeps a name that the filesystem's journal had, and takes the slot of the
// checkpoint, or the in-flight record, that lay in the page cache. So whoever goes on after another boot looks for such names in each
// directory that it works in: a listing for each, and only then.

import { temporaryPrefix } from "../engines/publish.ts";
import { layout } from "../ffi/layout.ts";
import { libc, Mode, Open } from "../ffi/libc.ts";
import { Arena, NativeMemory } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { nameString, recordLength, recordName } from "../tree/dirents.ts";

const batchBytes = 64 * 1024;
const listFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_NONBLOCK | Open.O_CLOEXEC;
const prefix = Buffer.from(temporaryPrefix);

interface LostTemporariesOptions {
  /** True for a name that the job gives to temporary files. */
  readonly isTemporary: (name: string) => boolean;
  /** The time of birth that all files of the job are younger than, microseconds since 1970. */
  readonly bornSinceUs: number;
  /** True for a name that a worker has in hand, or will go on with. */
  readonly isInUse: (name: string) => boolean;
  /** Asked now and then in a long directory. */
  readonly mayGoOn: () => boolean;
}

export class LostTemporaries implements Disposable {
  private readonly options: LostTemporariesOptions;
  private readonly batch = new NativeMemory(batchBytes);
  private readonly arena = new Arena(4096);
  private readonly stat = new Stat(this.arena.allocate(layout.statx.size)).withBirth();
  private readonly dot = this.arena.cstring(".");
  private readonly uid: number;

  constructor(options: LostTemporariesOptions, uid = process.geteuid?.() ?? -1) {
    this.options = options;
    this.uid = uid;
  }

  /** Removes those in a directory, given by any descriptor of it. One that may not be read, or changed, keeps them. Returns how many. */
  removeFrom(directoryFd: number): number {
    const { batch, options } = this;
    const fd = libc.openat(directoryFd, this.dot, listFlags, 0);
    if (fd < 0) return 0;
    let removed = 0;
    for (let length = this.read(fd); length > 0 && options.mayGoOn(); length = this.read(fd)) {
      for (let offset = 0; offset < length; offset += recordLength(batch.bytes, offset)) {
        const at = recordName(offset);
        if (hasPrefix(batch.bytes, at) && this.remove(fd, nameString(batch.bytes, at))) removed++;
      }
    }
    libc.close(fd);
    return removed;
  }

  [Symbol.dispose](): void {
    this.batch[Symbol.dispose]();
    this.arena[Symbol.dispose]();
  }

  private read(fd: number): number {
    return libc.getdents64(fd, this.batch.address, batchBytes);
  }

  private remove(directoryFd: number, name: string): boolean {
    const { isTemporary, isInUse } = this.options;
    if (!isTemporary(name) || isInUse(name)) return false;
    return this.arena.withString(name, (address) => {
      const isLost = this.stat.ofName(directoryFd, address) === 0 && this.isOfJob();
      return isLost && libc.unlinkat(directoryFd, address, 0) === 0;
    });
  }

  // Whoever may rename in the directory could have given the name to a file that is the only one of its kind: what was there before the
  // job is none of its own, nor what others own, but for root, whose copies get their owners before their names. A further name of an
  // inode is nothing that could be lost.
  private isOfJob(): boolean {
    const { stat, uid, options } = this;
    if (stat.type === Mode.S_IFDIR || (uid !== 0 && stat.uid !== uid)) return false;
    return stat.linkCount > 1 || stat.birthTimeUs >= options.bornSinceUs;
  }
}

// hot: of each name in the directory.
function hasPrefix(bytes: Uint8Array, at: number): boolean {
  for (let index = 0; index < prefix.length; index++) if (bytes[at + index] !== prefix[index]) return false;
  return true;
}
