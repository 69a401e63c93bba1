// A lane's part of the checkpoint: notes each finished copy in its tail, which a kill -9 cannot take, and appends full tails to the log.

import { libc } from "../ffi/libc.ts";
import { viewOf } from "../ffi/memory.ts";
import type { Stat } from "../ffi/stat.ts";
import type { CheckpointMemory } from "./checkpoint-file.ts";
import {
  HeadWord,
  linkHeadWords,
  logStart,
  maxLinkPathBytes,
  maxLogPages,
  noteBit,
  PageKind,
  PageWord,
  pageBytes,
  recordsPerPage,
  recordWords,
  tailBytes,
  tailsStart,
} from "./checkpoint-layout.ts";
import { type Shared, Word } from "./shared.ts";

/** Each kind of record has its own two hash functions, so that one table holds them all. */
const copySeeds = [0x3c6ef372, 0xa54ff53a] as const;
const begunSeeds = [0x510e527f, 0x9b05688c] as const;
const renameSeeds = [0x1f83d9ab, 0x5be0cd19] as const;
const sourceSeeds = [0xcbbb9d5d, 0x629a292a] as const;
const unlinkSeeds = [0x3956c25b, 0x59f111f1] as const;
/** In the place of the state afterwards: it is not known, for the removal was interrupted. */
export const unlinking = [1, 0] as const;
const answerSeeds = [0x27b70a85, 0x4d2c6dfc] as const;
const removalKey = [0x9159015b, 0x152fecd9] as const;

export class CheckpointLog {
  private readonly shared: Shared;
  private readonly fd: number;
  private readonly address: number;
  private readonly tail: Uint32Array;
  private readonly links: Uint32Array;
  private readonly head: Int32Array;

  constructor(shared: Shared, lane: number, memory: CheckpointMemory) {
    this.shared = shared;
    this.fd = memory.fd;
    this.address = memory.head + tailsStart + lane * tailBytes;
    this.tail = new Uint32Array(viewOf(this.address, pageBytes));
    this.tail[PageWord.kind] = PageKind.copies;
    this.links = new Uint32Array(viewOf(this.address + pageBytes, pageBytes));
    this.head = new Int32Array(viewOf(memory.head, pageBytes));
  }

  /**
   * Notes that `copy` is whole, with all its metadata: before it gets its name, so that no finished file is ever unknown. Where it does
   * not get one, the record means nothing. hot:
   */
  done(source: Stat, copy: Stat): void {
    const low = copy.copyKey(copySeeds[0]) & ~noteBit;
    this.append(low, copy.copyKey(copySeeds[1]), source.sourceKey(sourceSeeds[0]), source.sourceKey(sourceSeeds[1]));
  }

  /** Notes where the first copy of an inode with several names is, or is about to be. */
  linked(source: Stat, path: string): void {
    const { links } = this;
    const words = linkHeadWords + Math.ceil(path.length / 4);
    if (path.length > maxLinkPathBytes) return;
    let used = links[PageWord.used] ?? 0;
    if (PageWord.records + used + words > pageBytes / 4) {
      if (!this.flush(links, this.address + pageBytes)) return;
      used = 0;
    }
    links[PageWord.kind] = PageKind.links;
    const at = PageWord.records + used;
    [links[at], links[at + 1]] = sourceKeyOf(source);
    links[at + 2] = path.length;
    Buffer.from(links.buffer, links.byteOffset).write(path, (at + linkHeadWords) * 4, "latin1");
    Atomics.store(links, PageWord.used, used + words);
  }

  /** Notes that an existing inode is about to be written into ("begun"), or that it is whole again. */
  inPlace(inode: Stat, state: "begun" | "ended"): void {
    this.note(inode.inodeKey(begunSeeds[0]), inode.inodeKey(begunSeeds[1]), state === "begun" ? 1 : 0, 0);
  }

  /** Notes that an argument is about to be renamed. */
  willRename(argument: number, source: Stat): void {
    const [low, high] = renameKey(argument, source);
    this.note(low, high, 1, 0);
  }

  /** Notes that all of an argument was copied, and that its removal begins. */
  willRemove(argument: number): void {
    const [low, high] = removeKey(argument);
    this.note(low, high, 1, 0);
  }

  /**
   * Notes that one of several names of a source is about to be removed, which changes the ctime of the others; and, after it, the state
   * that they have now.
   */
  unlinks(source: Stat, after: Stat | null): void {
    const [low, high] = unlinkKeyOf(source);
    const [afterLow, afterHigh] = after === null ? unlinking : sourceKeyOf(after);
    this.note(low, high, afterLow, afterHigh);
  }

  /** Notes what was answered about a source and what stands in its place, which holds as long as both are as they are. */
  answered(source: Stat, destination: Stat, answer: number): void {
    const [low, high] = answerKeyOf(source, destination);
    this.note(low, high, answer, 0);
  }

  get placement(): number {
    return this.head[HeadWord.placement] ?? 0;
  }

  set placement(placement: number) {
    this.head[HeadWord.placement] = placement;
  }

  set isRemoving(isRemoving: boolean) {
    this.head[HeadWord.removing] = isRemoving ? 1 : 0;
  }

  /** A record that is no copy's. */
  private note(low: number, high: number, valueLow: number, valueHigh: number): void {
    this.append(low | noteBit, high, valueLow, valueHigh);
  }

  // hot: no call, but once in 255 files.
  private append(copyLow: number, copyHigh: number, sourceLow: number, sourceHigh: number): void {
    const { tail } = this;
    let used = tail[PageWord.used] ?? 0;
    if (used >= recordsPerPage) {
      if (!this.flush(tail, this.address)) {
        this.head[HeadWord.incomplete] = 1;
        return;
      }
      used = 0;
    }
    const at = PageWord.records + used * recordWords;
    tail[at] = copyLow;
    tail[at + 1] = copyHigh;
    tail[at + 2] = sourceLow;
    tail[at + 3] = sourceHigh;
    // The record before its number: a kill, or a mark, between the two sees neither.
    Atomics.store(tail, PageWord.used, used + 1);
  }

  /** False: the log takes no more (a full disk, ten million files). Later files are then known by their content only. */
  private flush(tail: Uint32Array, address: number): boolean {
    const { shared } = this;
    const { words } = shared;
    shared.lock(Word.checkpointLock);
    const pages = words[Word.checkpointPages] ?? 0;
    const isWritten = pages < maxLogPages && libc.pwrite(this.fd, address, pageBytes, logStart + pages * pageBytes) === pageBytes;
    if (isWritten) {
      Atomics.store(words, Word.checkpointPages, pages + 1);
      tail[PageWord.generation] = ((tail[PageWord.generation] ?? 0) + 1) >>> 0;
      Atomics.store(tail, PageWord.used, 0);
    }
    shared.unlock(Word.checkpointLock);
    return isWritten;
  }
}

export function copyKeyOf(copy: Stat): readonly [low: number, high: number] {
  return [copy.copyKey(copySeeds[0]), copy.copyKey(copySeeds[1])];
}

export function sourceKeyOf(source: Stat): readonly [low: number, high: number] {
  return [source.sourceKey(sourceSeeds[0]), source.sourceKey(sourceSeeds[1])];
}

export function begunKeyOf(inode: Stat): readonly [low: number, high: number] {
  return [inode.inodeKey(begunSeeds[0]), inode.inodeKey(begunSeeds[1])];
}

export function unlinkKeyOf(source: Stat): readonly [low: number, high: number] {
  return [source.contentKey(unlinkSeeds[0]), source.contentKey(unlinkSeeds[1])];
}

export function answerKeyOf(source: Stat, destination: Stat): readonly [low: number, high: number] {
  const [seed, other] = answerSeeds;
  return [
    source.sourceKey(seed) ^ Math.imul(destination.sourceKey(seed), 3),
    source.sourceKey(other) ^ Math.imul(destination.sourceKey(other), 3),
  ];
}

export function renameKey(argument: number, source: Stat): readonly [low: number, high: number] {
  return [source.inodeKey(renameSeeds[0] ^ argument), source.inodeKey(renameSeeds[1] + argument)];
}

export function removeKey(argument: number): readonly [low: number, high: number] {
  return [(removalKey[0] ^ Math.imul(argument + 1, 0x9e3779b1)) >>> 0, (removalKey[1] + argument) >>> 0];
}
