// What a lane has published and not yet verified: path, identity, length and hashes of each file, in native memory of bounded size.
//
// A record is a head of 32-bit words, two words a stretch, and the bytes of its names. The directory's descriptor is closed long
// before the record is read, so it names its file by path; the identity says whether that path still leads to it.

import type { FileHasher } from "../engines/file-hasher.ts";
import { maxDigestBytes } from "../engines/hash.ts";
import { NativeMemory } from "../ffi/memory.ts";
import type { Stat } from "../ffi/stat.ts";
import type { EntryPlace } from "./reporter.ts";

/** Some 40,000 small files, or files of a terabyte. */
const listBytes = 8 * 1024 * 1024;

const head = {
  bytes: 0,
  argument: 1,
  device: 2,
  inodeLow: 3,
  inodeHigh: 4,
  kind: 5,
  mtimeSeconds: 6,
  mtimeNanoseconds: 7,
  sourceKeyLow: 8,
  sourceKeyHigh: 9,
  stretchBlocks: 10,
  stretchCount: 11,
  rootBytes: 12,
  pathBytes: 13,
  /** 0: the copy's path is its source's. */
  destinationPathBytes: 14,
  isCloned: 15,
  /** A float. */
  length: 16,
  digest: 18,
  words: 18 + maxDigestBytes / 4,
} as const;

/** in-place: an existing file, whose name may be a symlink to it. link: a further name, of which only the path is known. */
const kinds = ["new", "in-place", "link"] as const;
export type PublishedKind = (typeof kinds)[number];

/** What is known of a file when it has just been published. */
export interface PublishedFile {
  readonly place: EntryPlace;
  /** Of the copy. */
  readonly stat: Stat;
  readonly length: number;
  readonly kind: PublishedKind;
  readonly isCloned: boolean;
  /** Keys of the source's state, for a move; see copied-set.ts. */
  readonly sourceKey: readonly [low: number, high: number];
  /** null: only the length is compared. */
  readonly hasher: FileHasher | null;
}

/** One file of the list, decoded. */
export interface VerifyRecord {
  readonly place: EntryPlace;
  readonly length: number;
  readonly kind: PublishedKind;
  readonly isCloned: boolean;
  readonly sourceKey: readonly [low: number, high: number];
  readonly stretchBlocks: number;
  readonly stretchCount: number;
  /** Index in `words` of the first stretch, and in `bytes` of the digest. */
  readonly stretchWord: number;
  readonly digestByte: number;
  /** Index in `words` of the head. */
  readonly at: number;
  readonly next: number;
}

export class VerifyList {
  readonly words: Uint32Array;
  readonly bytes: Uint8Array;
  private readonly floats: Float64Array;
  private readonly memory = new NativeMemory(listBytes);
  /** In words, a multiple of two. */
  private used = 0;

  constructor() {
    this.words = this.memory.u32;
    this.bytes = this.memory.bytes;
    this.floats = new Float64Array(this.bytes.buffer as ArrayBuffer);
  }

  get isEmpty(): boolean {
    return this.used === 0;
  }

  /** False when there is no room; an empty list has room for any file whose path a message could name. */
  add(file: PublishedFile): boolean {
    const { place, stat, hasher } = file;
    const destinationPath = place.destinationPath === place.path ? undefined : place.destinationPath;
    const names = place.destinationRoot.length + place.path.length + (destinationPath?.length ?? 0);
    const stretches = hasher?.stretchCount ?? 0;
    const size = Math.ceil((head.words + stretches * 2 + Math.ceil(names / 4)) / 2) * 2;
    const at = this.used;
    const words = this.words;
    if (at + size > words.length) return false;
    words[at + head.bytes] = size;
    words[at + head.argument] = place.argument;
    words[at + head.device] = stat.device;
    words[at + head.inodeLow] = stat.inodeLow;
    words[at + head.inodeHigh] = stat.inodeHigh;
    words[at + head.kind] = kinds.indexOf(file.kind);
    words[at + head.mtimeSeconds] = stat.mtimeSeconds % 2 ** 32;
    words[at + head.mtimeNanoseconds] = stat.mtimeNanoseconds;
    words[at + head.sourceKeyLow] = file.sourceKey[0];
    words[at + head.sourceKeyHigh] = file.sourceKey[1];
    words[at + head.stretchBlocks] = hasher?.stretchBlocks ?? 0;
    words[at + head.stretchCount] = stretches;
    words[at + head.rootBytes] = place.destinationRoot.length;
    words[at + head.pathBytes] = place.path.length;
    words[at + head.destinationPathBytes] = destinationPath?.length ?? 0;
    words[at + head.isCloned] = file.isCloned ? 1 : 0;
    this.floats[(at + head.length) / 2] = file.length;
    if (hasher !== null) {
      for (let index = 0; index < maxDigestBytes; index++) this.bytes[(at + head.digest) * 4 + index] = hasher.digest[index] ?? 0;
      for (let index = 0; index < stretches * 2; index++) words[at + head.words + index] = hasher.stretches[index] ?? 0;
    }
    let byte = (at + head.words + stretches * 2) * 4;
    byte = this.write(place.destinationRoot, byte);
    byte = this.write(place.path, byte);
    if (destinationPath !== undefined) this.write(destinationPath, byte);
    this.used = at + size;
    return true;
  }

  /** The record at a word index (0 is the first, `next` the one after it), or null past the end. Allocates: once a file. */
  recordAt(at: number): VerifyRecord | null {
    if (at >= this.used) return null;
    const word = (index: number): number => this.words[at + index] ?? 0;
    const stretchCount = word(head.stretchCount);
    const rootByte = (at + head.words + stretchCount * 2) * 4;
    const pathByte = rootByte + word(head.rootBytes);
    const destinationPathByte = pathByte + word(head.pathBytes);
    const destinationPath = this.text(destinationPathByte, word(head.destinationPathBytes));
    const place = {
      argument: word(head.argument),
      path: this.text(pathByte, word(head.pathBytes)),
      destinationRoot: this.text(rootByte, word(head.rootBytes)),
    };
    return {
      place: destinationPath === "" ? place : { ...place, destinationPath },
      length: this.floats[(at + head.length) / 2] ?? 0,
      kind: kinds[word(head.kind)] ?? "new",
      isCloned: word(head.isCloned) === 1,
      sourceKey: [word(head.sourceKeyLow), word(head.sourceKeyHigh)],
      stretchBlocks: word(head.stretchBlocks),
      stretchCount,
      stretchWord: at + head.words,
      digestByte: (at + head.digest) * 4,
      at,
      next: at + word(head.bytes),
    };
  }

  /** True when a descriptor's stat is of the very file that was published, and nobody wrote to it since. */
  isSameFile({ at }: VerifyRecord, stat: Stat): boolean {
    return (
      this.words[at + head.inodeLow] === stat.inodeLow &&
      this.words[at + head.inodeHigh] === stat.inodeHigh &&
      this.words[at + head.device] === stat.device &&
      this.words[at + head.mtimeSeconds] === (stat.mtimeSeconds % 2 ** 32) >>> 0 &&
      this.words[at + head.mtimeNanoseconds] === stat.mtimeNanoseconds
    );
  }

  clear(): void {
    this.used = 0;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }

  private write(text: string, at: number): number {
    for (let index = 0; index < text.length; index++) this.bytes[at + index] = text.charCodeAt(index);
    return at + text.length;
  }

  private text(at: number, length: number): string {
    return Buffer.from(this.bytes.buffer as ArrayBuffer, this.bytes.byteOffset + at, length).toString("latin1");
  }
}
