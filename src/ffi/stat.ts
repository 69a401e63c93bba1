// One struct statx in native memory, read without BigInt: 64-bit identities as two halves, sizes and times as numbers.

import { layout } from "./layout.ts";
import { At, libc, Mode, Statx } from "./libc.ts";
import { viewOf } from "./memory.ts";

const at = layout.statx;
const two32 = 2 ** 32;
/** Indexes of the 32-bit words of a field and, for a time, of its nanoseconds. */
const wordsOf = (offset: number, count: 2 | 3): readonly number[] => Array.from({ length: count }, (_, word) => offset / 4 + word);
const numberWords = wordsOf(at.stx_ino, 2);
const deviceWords = [at.stx_dev_major / 4, at.stx_dev_minor / 4];
const modificationWords = wordsOf(at.stx_mtime, 3);
const birthWords = wordsOf(at.stx_btime, 3);
const dataWords = [...wordsOf(at.stx_size, 2), ...modificationWords];
const identityWords = [...numberWords, ...deviceWords];
const inodeWords = [...numberWords, ...birthWords];
const contentWords = [...numberWords, ...dataWords];
/** What stays as it is in a finished copy: not ctime, which a second name changes. */
const copyWords = [...contentWords, ...birthWords];
/** What tells one state of a source from another after a reboot, too: devices may have other numbers then. */
const sourceWords = [...contentWords, ...wordsOf(at.stx_ctime, 3)];
/** What tells one state of an inode from another. */
const stateWords = [...identityWords, ...dataWords, ...wordsOf(at.stx_ctime, 3)];

/** A view of one struct statx at an address somebody else owns (256 bytes); fields read the kernel's latest answer. */
export class Stat {
  readonly address: number;
  readonly bytes: Uint8Array;
  /** What statx is asked for. */
  private mask: number = Statx.BASIC_STATS;
  private readonly u32: Uint32Array;
  private readonly i32: Int32Array;
  private readonly u16: Uint16Array;

  constructor(address: number, buffer: ArrayBuffer = viewOf(address, at.size)) {
    this.address = address;
    this.bytes = new Uint8Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.i32 = new Int32Array(buffer);
    this.u16 = new Uint16Array(buffer);
  }

  /** A copy on JavaScript's heap of what another one holds; it has no address, so nothing can be asked with it. */
  static owned(bytes: Uint8Array): Stat {
    return new Stat(0, bytes.slice().buffer as ArrayBuffer);
  }

  /** Has every look ask for the time of birth as well: for the keys of copies. Some network filesystems take it dearly. */
  withBirth(): this {
    this.mask = Statx.BASIC_STATS | Statx.BTIME;
    return this;
  }

  /** statx() of a name (address of a C string) below a directory, never following a final symlink. 0 or -errno. */
  ofName(dirFd: number, name: number): number {
    return libc.statx(dirFd, name, At.AT_SYMLINK_NOFOLLOW, this.mask, this.address);
  }

  /** statx() following symlinks. 0 or -errno. */
  ofTarget(dirFd: number, name: number): number {
    return libc.statx(dirFd, name, 0, this.mask, this.address);
  }

  /** statx() of an open descriptor; `emptyName` is the address of an empty C string. 0 or -errno. */
  ofDescriptor(fd: number, emptyName: number): number {
    return libc.statx(fd, emptyName, At.AT_EMPTY_PATH, this.mask, this.address);
  }

  get mode(): number {
    return this.u16[at.stx_mode / 2] ?? 0;
  }
  get type(): number {
    return this.mode & Mode.S_IFMT;
  }
  get permissions(): number {
    return this.mode & 0o7777;
  }
  get linkCount(): number {
    return this.u32[at.stx_nlink / 4] ?? 0;
  }
  get uid(): number {
    return this.u32[at.stx_uid / 4] ?? 0;
  }
  get gid(): number {
    return this.u32[at.stx_gid / 4] ?? 0;
  }
  get inodeLow(): number {
    return this.u32[at.stx_ino / 4] ?? 0;
  }
  get inodeHigh(): number {
    return this.u32[at.stx_ino / 4 + 1] ?? 0;
  }
  /** The device as one exact number: major * 2^20 + minor (minors have 20 bits). */
  get device(): number {
    return (this.u32[at.stx_dev_major / 4] ?? 0) * 0x100000 + (this.u32[at.stx_dev_minor / 4] ?? 0);
  }
  get rdevMajor(): number {
    return this.u32[at.stx_rdev_major / 4] ?? 0;
  }
  get rdevMinor(): number {
    return this.u32[at.stx_rdev_minor / 4] ?? 0;
  }
  /** Bytes; exact up to 2^53. */
  get size(): number {
    return this.u64(at.stx_size);
  }
  /** 512-byte units. */
  get blocks(): number {
    return this.u64(at.stx_blocks);
  }
  get mtimeSeconds(): number {
    return this.seconds(at.stx_mtime);
  }
  get mtimeNanoseconds(): number {
    return this.u32[at.stx_mtime / 4 + 2] ?? 0;
  }
  get ctimeSeconds(): number {
    return this.seconds(at.stx_ctime);
  }
  get ctimeNanoseconds(): number {
    return this.u32[at.stx_ctime / 4 + 2] ?? 0;
  }

  /** True for what something is mounted on, if only itself (since Linux 5.8). */
  get isMountRoot(): boolean {
    return ((this.u32[at.stx_attributes / 4] ?? 0) & Statx.ATTR_MOUNT_ROOT) !== 0;
  }

  /** Whether the filesystem keeps times of birth. */
  get knowsBirth(): boolean {
    return ((this.u32[at.stx_mask / 4] ?? 0) & Statx.BTIME) !== 0;
  }

  /** When the inode was made, microseconds since 1970; where the filesystem does not know, when it was last changed. */
  get birthTimeUs(): number {
    const offset = this.knowsBirth ? at.stx_btime : at.stx_ctime;
    return this.seconds(offset) * 1e6 + Math.floor((this.u32[offset / 4 + 2] ?? 0) / 1000);
  }

  /** True for the same inode of the same device. */
  isSameFile(other: Stat): boolean {
    return this.inodeLow === other.inodeLow && this.inodeHigh === other.inodeHigh && this.device === other.device;
  }

  /** Equal for the same inode of the same device only. Allocates: for planning and messages. */
  get identity(): string {
    return `${this.device}:${this.inodeHigh}:${this.inodeLow}`;
  }

  /** True when nothing wrote to the inode between the two: size, mtime and ctime to the nanosecond. hot: */
  isUnchanged(later: Stat): boolean {
    for (let index = at.stx_ctime / 4; index < at.stx_ctime / 4 + 3; index++) {
      if (this.u32[index] !== later.u32[index]) return false;
    }
    for (let index = at.stx_mtime / 4; index < at.stx_mtime / 4 + 3; index++) {
      if (this.u32[index] !== later.u32[index]) return false;
    }
    return this.u32[at.stx_size / 4] === later.u32[at.stx_size / 4] && this.u32[at.stx_size / 4 + 1] === later.u32[at.stx_size / 4 + 1];
  }

  /** 32 bits of a hash over device, inode, size, mtime and ctime (MurmurHash3's mixing); two seeds make 64. hot: */
  stateKey(seed: number): number {
    return this.hashOf(stateWords, seed);
  }

  /** As stateKey, without the device. hot: */
  sourceKey(seed: number): number {
    return this.hashOf(sourceWords, seed);
  }

  /** Likewise of inode, size, mtime and time of birth: a finished copy, as long as nobody writes to it. hot: */
  copyKey(seed: number): number {
    return this.hashOf(copyWords, seed);
  }

  /** Takes on all that copyKey tells of a whole copy of `source`, with its times, that was made as `made`. hot: */
  foretell(made: Stat, source: Stat): void {
    for (const index of inodeWords) this.u32[index] = made.u32[index] ?? 0;
    for (const index of dataWords) this.u32[index] = source.u32[index] ?? 0;
  }

  /** Likewise of inode and time of birth: the inode, whatever is written to it. */
  inodeKey(seed: number): number {
    return this.hashOf(inodeWords, seed);
  }

  /** Likewise of device and inode alone: what stays while a directory's entries come and go. */
  identityKey(seed: number): number {
    return this.hashOf(identityWords, seed);
  }

  /** Likewise of inode, size and mtime: what is in it, whatever names and attributes it has. */
  contentKey(seed: number): number {
    return this.hashOf(contentWords, seed);
  }

  private hashOf(words: readonly number[], seed: number): number {
    let hash = seed;
    for (const index of words) {
      let word = Math.imul(this.u32[index] ?? 0, 0xcc9e2d51);
      word = Math.imul((word << 15) | (word >>> 17), 0x1b873593);
      hash ^= word;
      hash = (Math.imul((hash << 13) | (hash >>> 19), 5) + 0xe6546b64) | 0;
    }
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    return (hash ^ (hash >>> 16)) >>> 0;
  }

  /** True for the same mtime, to the nanosecond. */
  hasMtimeOf(other: Stat): boolean {
    return modificationWords.every((index) => this.u32[index] === other.u32[index]);
  }

  /** Writes atime and mtime as two struct timespec for utimensat(2) at a 32-bit word index, word by word: no rounding. */
  copyTimes(timespecs: Uint32Array, index: number): void {
    for (let word = 0; word < 3; word++) {
      timespecs[index + word] = this.u32[at.stx_atime / 4 + word] ?? 0;
      timespecs[index + 4 + word] = this.u32[at.stx_mtime / 4 + word] ?? 0;
    }
    timespecs[index + 3] = 0;
    timespecs[index + 7] = 0;
  }

  private u64(offset: number): number {
    return (this.u32[offset / 4] ?? 0) + (this.u32[offset / 4 + 1] ?? 0) * two32;
  }

  private seconds(offset: number): number {
    return (this.u32[offset / 4] ?? 0) + (this.i32[offset / 4 + 1] ?? 0) * two32;
  }
}
