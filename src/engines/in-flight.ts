// The in-flight record: which unfinished file each lane has under a name, so that whoever comes after a killed worker can remove it.
//
// A page-cache-backed file that the parent made and the worker maps shared: a kill -9 loses nothing of it. One record per lane,
// written before a name exists and cleared when its file is whole. Rule 3 is kept by record instead of by link or rename where the
// directory itself was made by this very job; that saves a third of the cost of creating a small file.

import { libc } from "../ffi/libc.ts";
import { viewOf } from "../ffi/memory.ts";

/** Bytes of one lane's record, and of the whole file: 64 records. */
export const recordBytes = 64 * 1024;
export const inFlightBytes = 64 * recordBytes;

export const InFlightState = {
  idle: 0,
  /** About to create the name: if it exists and is not empty, it is somebody else's. */
  creating: 1,
  /** The name is ours and its file is not whole. */
  created: 2,
} as const;

const stateWord = 0;
const directoryLengthWord = 1;
const nameLengthWord = 2;
// Which inode the directory is: a path may lead elsewhere by the time somebody recovers.
const deviceWord = 3;
const inodeLowWord = 4;
const inodeHighWord = 5;
// Which inode the unfinished file is: by the time of the recovery the name may belong to a file that is whole.
const fileLowWord = 6;
const fileHighWord = 7;
// In which boot it was written: from another one, it may be long out of date.
const bootWord = 8;
const nameStart = 64;
const directoryStart = 512;
/** With the NUL. */
const maxNameBytes = directoryStart - nameStart;
const maxDirectoryBytes = recordBytes - directoryStart;

/** A directory's device (as Stat gives it) and inode. */
export interface DirectoryIdentity {
  readonly device: number;
  readonly inodeLow: number;
  readonly inodeHigh: number;
}

/** The directory, and in it the name and (in the state "created") the inode of the unfinished file. */
export interface RecordedFile extends DirectoryIdentity {
  readonly directory: string;
  readonly name: string;
  readonly fileLow: number;
  readonly fileHigh: number;
  readonly boot: number;
}

/** One lane's record; address 0 means that there is none, and exclusive creation is off. */
export class InFlight {
  readonly available: boolean;
  private readonly nameAddress: number;
  private readonly words: Uint32Array;
  private readonly bytes: Uint8Array;
  private readonly boot: number;

  /** `boot`: what tells this boot from others, for whoever writes. */
  constructor(base: number, lane: number, boot = 0) {
    this.available = base !== 0;
    this.boot = boot;
    const buffer = this.available ? viewOf(base + lane * recordBytes, recordBytes) : new ArrayBuffer(recordBytes);
    this.nameAddress = base + lane * recordBytes + nameStart;
    this.words = new Uint32Array(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  /**
   * Where the names to come live: the destination directory as an absolute byte string. False when it is too long to record, or goes
   * through a process (a working directory too deep for a path, /dev/fd): nobody could find it once that has gone.
   */
  enter(directory: string, identity: DirectoryIdentity): boolean {
    if (!this.available || directory.length > maxDirectoryBytes || directory.startsWith("/proc/")) return false;
    this.words[deviceWord] = identity.device;
    this.words[inodeLowWord] = identity.inodeLow;
    this.words[inodeHighWord] = identity.inodeHigh;
    for (let index = 0; index < directory.length; index++) this.bytes[directoryStart + index] = directory.charCodeAt(index);
    this.words[directoryLengthWord] = directory.length;
    this.words[bootWord] = this.boot;
    return true;
  }

  /** Before the name is created: the address of a C string, or 0 for one that no arena had room for, which is not going to be. hot: */
  creating(name: number): void {
    if (!this.available || name === 0) return;
    // Names are of 255 bytes at most, but for some behind FUSE; and an argument's may be as long as it likes, and is then refused.
    const end = libc.memccpy(this.nameAddress, name, 0, maxNameBytes);
    this.words[nameLengthWord] = end === 0 ? 0 : end - 1 - this.nameAddress;
    this.words[stateWord] = InFlightState.creating;
  }

  /** The name is made, and this is its inode. hot: */
  created(inodeLow: number, inodeHigh: number): void {
    this.words[fileLowWord] = inodeLow;
    this.words[fileHighWord] = inodeHigh;
    this.words[stateWord] = InFlightState.created;
  }

  /** The file is whole, or gone. hot: */
  clear(): void {
    this.words[stateWord] = InFlightState.idle;
  }

  get state(): number {
    return this.words[stateWord] ?? 0;
  }

  /** What the record names, for recovery; lengths are clamped, since the record is as hostile as its worker was. */
  read(): RecordedFile {
    const directoryLength = Math.min(this.words[directoryLengthWord] ?? 0, maxDirectoryBytes);
    const nameLength = Math.min(this.words[nameLengthWord] ?? 0, 255);
    const text = (start: number, length: number): string => Buffer.from(this.bytes.subarray(start, start + length)).toString("latin1");
    const word = (index: number): number => this.words[index] ?? 0;
    return {
      directory: text(directoryStart, directoryLength),
      name: text(nameStart, nameLength),
      device: word(deviceWord),
      inodeLow: word(inodeLowWord),
      inodeHigh: word(inodeHighWord),
      fileLow: word(fileLowWord),
      fileHigh: word(fileHighWord),
      boot: word(bootWord),
    };
  }
}
