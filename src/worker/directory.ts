// One directory being copied: its two descriptors, where it is, and what is set on it when its last entry is done.
//
// The record lies in native memory so that a lane can work in a directory that another lane entered. Whoever drops the last
// reference finishes the directory (mode and times last, rule 17) and closes its descriptors.

import { viewOf } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { type Shared, slotBytes, slotsPerLane } from "./shared.ts";

const word = {
  sourceFd: 0,
  destinationFd: 1,
  flags: 2,
  argument: 3,
  createdUid: 4,
  createdGid: 5,
  createdMode: 6,
  pathLength: 7,
  rootLength: 8,
  argumentDevice: 9,
  rootDevice: 10,
  rootInodeLow: 11,
  rootInodeHigh: 12,
} as const;
const statStart = 64;
const pathStart = 512;
/** Longest paths that a stealable record holds; deeper directories stay with the lane that entered them. */
const maxPathBytes = slotBytes - pathStart;

export const DirectoryFlag = {
  /** This job made it: its files can be created under their final names. */
  made: 1,
  /** Metadata is to be set when it is done. */
  finish: 2,
  /** New entries inherit an ACL from it, which must not survive on copies. */
  defaultAcl: 4,
} as const;

export interface DirectoryFields {
  readonly sourceFd: number;
  readonly destinationFd: number;
  readonly flags: number;
  /** Index of the request's source that it belongs to. */
  readonly argument: number;
  /** The device of the argument's top directory, for one-file-system. */
  readonly argumentDevice: number;
  /** Below the argument, "" for the argument itself; no leading slash. */
  readonly path: string;
  /** The argument's final place, absolute: what `path` is below of at the destination. */
  readonly destinationRoot: string;
  /** Owner, group and mode that the destination directory has now. */
  readonly createdUid: number;
  readonly createdGid: number;
  readonly createdMode: number;
  /** The destination directory of the argument itself, which must never turn up among what is copied. */
  readonly rootDevice: number;
  readonly rootInodeLow: number;
  readonly rootInodeHigh: number;
}

/** What a newly created file has: for the metadata's "nothing twice". `mode` is set for each file. */
export interface Newcomer {
  readonly uid: number;
  readonly gid: number;
  readonly device: number;
  mode: number;
  /** Left out for an argument's parent: the metadata copier looks for itself. */
  readonly inheritsAcl?: boolean;
}

/** A lane's view of a directory. `slot` is -1 for a private one. */
export class Directory {
  readonly fields: DirectoryFields;
  readonly slot: number;
  /** The source's statx, taken before it was read: what its copy gets. */
  readonly stat: Stat;
  /** Its names were read; what is left are its subdirectories. */
  isListed = false;
  /** The directory above, kept only where symlinks are followed, to find a circle. */
  parent: Directory | null = null;
  /** What a new file here gets, learnt from the first one. */
  private learnt: Newcomer | null = null;

  constructor(fields: DirectoryFields, slot: number, stat: Stat) {
    this.fields = fields;
    this.slot = slot;
    this.stat = stat;
  }

  get newUid(): number {
    return this.learnt?.uid ?? -1;
  }

  get newGid(): number {
    return this.learnt?.gid ?? -1;
  }

  /** Owner, group and device of a new file here; asks the kernel for the first file only. hot: */
  newcomer(fd: number, scratch: { readonly afterStat: Stat; readonly empty: number }): Newcomer {
    if (this.learnt !== null) return this.learnt;
    const stat = scratch.afterStat;
    const known = stat.ofDescriptor(fd, scratch.empty) === 0;
    const learnt: Newcomer = {
      uid: known ? stat.uid : -1,
      gid: known ? stat.gid : -1,
      device: known ? stat.device : -1,
      mode: 0,
      ...(this.fields.sourceFd < 0 ? {} : { inheritsAcl: (this.fields.flags & DirectoryFlag.defaultAcl) !== 0 }),
    };
    if (known) this.learnt = learnt;
    return learnt;
  }

  get isMade(): boolean {
    return (this.fields.flags & DirectoryFlag.made) !== 0;
  }
}

/** A lane's slots: records it may hand out to thieves. */
export class DirectoryTable {
  private readonly shared: Shared;
  private readonly firstSlot: number;

  constructor(shared: Shared, lane: number) {
    this.shared = shared;
    this.firstSlot = lane * slotsPerLane;
  }

  /** Registers a directory in a free slot with one reference, copying the statx there; private when none is free or its path is too long. */
  register(fields: DirectoryFields, stat: Stat): Directory {
    const slot = fields.path.length + fields.destinationRoot.length > maxPathBytes ? -1 : this.freeSlot();
    if (slot < 0) return new Directory(fields, -1, copyOf(stat));
    const address = this.shared.slotAddress(slot);
    const words = new Int32Array(viewOf(address, slotBytes));
    words[word.sourceFd] = fields.sourceFd;
    words[word.destinationFd] = fields.destinationFd;
    words[word.flags] = fields.flags;
    words[word.argument] = fields.argument;
    words[word.createdUid] = fields.createdUid;
    words[word.createdGid] = fields.createdGid;
    words[word.createdMode] = fields.createdMode;
    words[word.argumentDevice] = fields.argumentDevice;
    words[word.rootDevice] = fields.rootDevice;
    words[word.rootInodeLow] = fields.rootInodeLow;
    words[word.rootInodeHigh] = fields.rootInodeHigh;
    words[word.pathLength] = fields.path.length;
    words[word.rootLength] = fields.destinationRoot.length;
    const bytes = new Uint8Array(words.buffer);
    bytes.set(stat.bytes, statStart);
    Buffer.from(words.buffer as ArrayBuffer, pathStart).write(fields.path + fields.destinationRoot, "latin1");
    const index = this.shared.slotWords(slot);
    Atomics.store(this.shared.words, index, 1);
    Atomics.store(this.shared.words, index + 1, 1);
    return new Directory(fields, slot, new Stat(address + statStart));
  }

  /** A thief's view; it holds a reference already, taken under the victim's lock. */
  open(slot: number): Directory {
    const address = this.shared.slotAddress(slot);
    const words = new Int32Array(viewOf(address, slotBytes));
    const pathLength = words[word.pathLength] ?? 0;
    const paths = Buffer.from(words.buffer as ArrayBuffer, pathStart, pathLength + (words[word.rootLength] ?? 0)).toString("latin1");
    const fields: DirectoryFields = {
      sourceFd: words[word.sourceFd] ?? -1,
      destinationFd: words[word.destinationFd] ?? -1,
      flags: words[word.flags] ?? 0,
      argument: words[word.argument] ?? 0,
      createdUid: words[word.createdUid] ?? 0,
      createdGid: words[word.createdGid] ?? 0,
      createdMode: words[word.createdMode] ?? 0,
      argumentDevice: (words[word.argumentDevice] ?? 0) >>> 0,
      rootDevice: (words[word.rootDevice] ?? 0) >>> 0,
      rootInodeLow: (words[word.rootInodeLow] ?? 0) >>> 0,
      rootInodeHigh: (words[word.rootInodeHigh] ?? 0) >>> 0,
      path: paths.slice(0, pathLength),
      destinationRoot: paths.slice(pathLength),
    };
    return new Directory(fields, slot, new Stat(address + statStart));
  }

  /** Drops a reference. True: it was the last one, and the caller finishes the directory and then frees it. */
  release(directory: Directory): boolean {
    if (directory.slot < 0) return true;
    return Atomics.sub(this.shared.words, this.shared.slotWords(directory.slot), 1) === 1;
  }

  /** After finishing: the slot may be used again. */
  free(directory: Directory): void {
    if (directory.slot >= 0) Atomics.store(this.shared.words, this.shared.slotWords(directory.slot) + 1, 0);
  }

  private freeSlot(): number {
    for (let slot = this.firstSlot; slot < this.firstSlot + slotsPerLane; slot++) {
      if (Atomics.load(this.shared.words, this.shared.slotWords(slot) + 1) === 0) return slot;
    }
    return -1;
  }
}

function copyOf(stat: Stat): Stat {
  return Stat.owned(stat.bytes);
}
