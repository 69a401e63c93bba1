// One directory being copied: its two descriptors, where it is, and what is set on it when its last entry is done.
//
// The record lies in native memory so that a lane can work in a directory that another lane entered. Whoever drops the last
// reference finishes the directory (mode and times last, rule 17) and closes its descriptors.

import { viewOf } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { DeniedNames } from "./policy-guard.ts";
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
  /** Counts the directories that the slot has held: a thief sees whether what it knows of the slot still holds. */
  generation: 13,
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
  /** A former worker of this job made it: it gets its mode at the end, and what is in it is looked at. */
  adopted: 8,
  /** Made without what its mode gives to group and other, who get that after it has its owner. */
  withheld: 16,
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
  /** See Created; set with `mode`. */
  withheld: number;
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
  /** What the policy denies here by name; null until it was asked. */
  deniedSources: DeniedNames | null = null;
  deniedDestinations: DeniedNames | null = null;
  /** What a new file here gets, learnt from the first one. */
  private learnt: Newcomer | null = null;

  constructor(fields: DirectoryFields, slot: number, stat: Stat) {
    this.fields = fields;
    this.slot = slot;
    this.stat = stat;
  }

  /** True when a new file here is known to have this owner and group from the start. hot: */
  givesOwnerOf(stat: Stat): boolean {
    return this.learnt !== null && this.learnt.uid === stat.uid && this.learnt.gid === stat.gid;
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
      withheld: 0,
      ...(this.fields.sourceFd < 0 ? {} : { inheritsAcl: (this.fields.flags & DirectoryFlag.defaultAcl) !== 0 }),
    };
    if (known) this.learnt = learnt;
    return learnt;
  }

  /** As newcomer, of a file that was begun before, and has come as far as it has; it says nothing of new ones. */
  begun({ uid, gid, device, permissions }: Stat): Newcomer {
    const inheritsAcl = (this.fields.flags & DirectoryFlag.defaultAcl) !== 0;
    return { uid, gid, device, mode: permissions, withheld: 0, ...(this.fields.sourceFd < 0 ? {} : { inheritsAcl }) };
  }

  get isMade(): boolean {
    return (this.fields.flags & DirectoryFlag.made) !== 0;
  }
}

/** A slot as one lane sees it. */
interface SlotView {
  readonly words: Int32Array;
  readonly bytes: Buffer;
  readonly stat: Stat;
  /** As which `open` gave it last, and the generation that it was then. */
  directory: Directory | null;
  generation: number;
}

/** A lane's slots: records it may hand out to thieves. */
export class DirectoryTable {
  private readonly shared: Shared;
  private readonly firstSlot: number;
  // One view of each slot and one Directory of what it holds: a lane that steals a million files of one directory makes no garbage.
  private readonly views: (SlotView | undefined)[] = [];

  constructor(shared: Shared, lane: number) {
    this.shared = shared;
    this.firstSlot = lane * slotsPerLane;
  }

  /** Registers a directory in a free slot with one reference, copying the statx there; private when none is free or its path is too long. */
  register(fields: DirectoryFields, stat: Stat): Directory {
    const slot = fields.path.length + fields.destinationRoot.length > maxPathBytes ? -1 : this.freeSlot();
    if (slot < 0) return new Directory(fields, -1, copyOf(stat));
    const { words, bytes, stat: slotStat } = this.view(slot);
    words[word.generation] = ((words[word.generation] ?? 0) + 1) | 0;
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
    bytes.set(stat.bytes, statStart);
    bytes.write(fields.path + fields.destinationRoot, pathStart, "latin1");
    const index = this.shared.slotWords(slot);
    Atomics.store(this.shared.words, index, 1);
    Atomics.store(this.shared.words, index + 1, 1);
    return new Directory(fields, slot, slotStat);
  }

  /** A thief's view; it holds a reference already, taken under the victim's lock. hot: once a stolen entry */
  open(slot: number): Directory {
    const view = this.view(slot);
    const generation = view.words[word.generation] ?? 0;
    if (view.directory === null || view.generation !== generation) {
      view.directory = this.read(slot, view);
      view.generation = generation;
    }
    return view.directory;
  }

  private read(slot: number, { words, bytes, stat }: SlotView): Directory {
    const pathLength = words[word.pathLength] ?? 0;
    const paths = bytes.toString("latin1", pathStart, pathStart + pathLength + (words[word.rootLength] ?? 0));
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
    return new Directory(fields, slot, stat);
  }

  private view(slot: number): SlotView {
    let view = this.views[slot];
    if (view === undefined) {
      const buffer = viewOf(this.shared.slotAddress(slot), slotBytes);
      const stat = new Stat(this.shared.slotAddress(slot) + statStart);
      view = { words: new Int32Array(buffer), bytes: Buffer.from(buffer), stat, directory: null, generation: 0 };
      this.views[slot] = view;
    }
    return view;
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
