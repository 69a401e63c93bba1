// Marks: what of a checkpoint a power cut cannot take away. First the copies are flushed, then the log, and only then the mark is written.

import { libc } from "../ffi/libc.ts";
import { viewOf } from "../ffi/memory.ts";
import { checkOfMark } from "./checkpoint-file.ts";
import { HeadWord, logStart, MarkWord, markStarts, PageWord, tailBytes, tailsStart } from "./checkpoint-layout.ts";
import { flushCopies, flushErrorOf } from "./flush.ts";
import { maxLanes, type Shared, Word } from "./shared.ts";

export class CheckpointMarker {
  private readonly shared: Shared;
  private readonly fd: number;
  private readonly head: Uint32Array;

  constructor(shared: Shared) {
    const { checkpoint } = shared;
    if (checkpoint === null) throw new Error("a marker needs a checkpoint");
    this.shared = shared;
    this.fd = checkpoint.fd;
    this.head = new Uint32Array(viewOf(checkpoint.head, logStart));
  }

  /**
   * Makes all that is noted until now durable and says so. "log": without a flush of the copies, for records that are true without
   * them. False: it could not, and the former mark stands. Blocks for as long as the devices take.
   */
  mark(what: "copies" | "log", { isLast }: { readonly isLast: boolean } = { isLast: false }): boolean {
    const { shared } = this;
    shared.lock(Word.markLock);
    try {
      if (Atomics.load(shared.words, Word.marksOff) === 1 && !isLast) return false;
      const next = this.nextMark();
      this.fill(next);
      // What a failed flush lost is not written anew by the next one, however well that goes (rule 2).
      if (what === "copies" && (flushErrorOf(shared) !== 0 || !flushCopies(shared, "relied"))) return false;
      if (libc.fdatasync(this.fd) < 0) return false;
      this.head[next + MarkWord.check] = checkOfMark(this.head, next);
      return libc.fdatasync(this.fd) === 0;
    } finally {
      shared.unlock(Word.markLock);
    }
  }

  /** Index of the mark to be written; it is not valid until it has its check. */
  private nextMark(): number {
    const [one, other] = [markStarts[0] / 4, markStarts[1] / 4];
    const isOther = (this.head[one + MarkWord.sequence] ?? 0) > (this.head[other + MarkWord.sequence] ?? 0);
    return isOther ? other : one;
  }

  private fill(mark: number): void {
    const { shared, head } = this;
    const before = Math.max(head[markStarts[0] / 4 + MarkWord.sequence] ?? 0, head[markStarts[1] / 4 + MarkWord.sequence] ?? 0);
    head[mark + MarkWord.check] = 0;
    head[mark + MarkWord.sequence] = before + 1;
    head[mark + MarkWord.removing] = head[HeadWord.removing] ?? 0;
    // Under the log's lock no tail is on its way to the log.
    shared.lock(Word.checkpointLock);
    head[mark + MarkWord.pages] = shared.words[Word.checkpointPages] ?? 0;
    for (let lane = 0; lane < maxLanes; lane++) {
      const tail = (tailsStart + lane * tailBytes) / 4;
      head[mark + MarkWord.tails + lane * 2] = head[tail + PageWord.generation] ?? 0;
      head[mark + MarkWord.tails + lane * 2 + 1] = Atomics.load(head, tail + PageWord.used);
    }
    shared.unlock(Word.checkpointLock);
  }
}
