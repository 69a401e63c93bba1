// What a thread's own reads have brought from a medium, what was read ahead of them included (getrusage(2), ru_inblock).

import { layout } from "./layout.ts";
import { libc } from "./libc.ts";
import { NativeMemory } from "./memory.ts";

const RUSAGE_THREAD = 1;
/** ru_inblock counts in these, whatever the medium's blocks are. */
export const inblockBytes = 512;

export class MediumReads implements Disposable {
  private readonly memory = new NativeMemory(layout.rusage.size);
  private before = 0;

  /** Bytes since it was asked before, or since the thread began. */
  take(): number {
    const at = layout.rusage.ru_inblock / 4;
    if (libc.getrusage(RUSAGE_THREAD, this.memory.address) < 0) return 0;
    const { u32 } = this.memory;
    const blocks = (u32[at] ?? 0) + (u32[at + 1] ?? 0) * 2 ** 32;
    const bytes = (blocks - this.before) * inblockBytes;
    this.before = blocks;
    return bytes;
  }

  [Symbol.dispose](): void {
    this.memory[Symbol.dispose]();
  }
}
