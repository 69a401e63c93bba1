// A thread that does one part of a lane's work over shared memory, so that several of them meet as lanes do.

import { NativeMemory } from "../../src/ffi/memory.ts";
import { SharedDirtyBounds } from "../../src/worker/dirty-bounds.ts";
import { HardLinks } from "../../src/worker/hard-links.ts";
import { LaneControl } from "../../src/worker/lane-control.ts";
import { LaneWord, Shared, type SharedMemory, Word } from "../../src/worker/shared.ts";
import { Thief } from "../../src/worker/work-list.ts";
import { statWithInode } from "./stat-with-inode.ts";

export type ThreadTask =
  | {
      readonly kind: "hard-links";
      readonly lane: number;
      readonly memory: SharedMemory;
      /** Claims each of the inodes below this, from another start than the others. */
      readonly inodes: number;
      /** Every so many first copies fail. */
      readonly failEvery: number;
    }
  /** Steals until the owner says that it is done. */
  | { readonly kind: "steal"; readonly lane: number; readonly memory: SharedMemory; readonly lanes: number }
  /** Moves blocks for a time. */
  | { readonly kind: "advance"; readonly lane: number; readonly memory: SharedMemory; readonly blockBytes: number; readonly forMs: number }
  /** Leaves small files in the page cache, as far as the bound lets it. */
  | { readonly kind: "leave"; readonly lane: number; readonly memory: SharedMemory; readonly files: number; readonly bytes: number };

export type ThreadAnswer =
  | {
      readonly kind: "hard-links";
      readonly copied: readonly number[];
      readonly linked: readonly (readonly [inode: number, path: string])[];
    }
  | { readonly kind: "steal"; readonly names: readonly string[] }
  | { readonly kind: "advance"; readonly bytes: number; readonly elapsedMs: number; readonly wasCancelled: boolean }
  | { readonly kind: "leave" };

declare const self: {
  onmessage: ((event: { readonly data: ThreadTask }) => void) | null;
  postMessage(message: ThreadAnswer): void;
};

self.onmessage = ({ data }) => {
  const shared = new Shared(data.memory);
  switch (data.kind) {
    case "hard-links":
      return self.postMessage(claimAll(shared, data.lane, data.inodes, data.failEvery));
    case "steal":
      return self.postMessage(stealAll(shared, data.lane, data.lanes));
    case "advance":
      return self.postMessage(advance(shared, data.lane, data.blockBytes, data.forMs));
    case "leave":
      return self.postMessage(leave(shared, data.files, data.bytes));
  }
};

function leave(shared: Shared, files: number, bytes: number): ThreadAnswer {
  const bounds = new SharedDirtyBounds(shared);
  for (let file = 0; file < files; file++) bounds.left(bytes);
  return { kind: "leave" };
}

function claimAll(shared: Shared, lane: number, inodes: number, failEvery: number): ThreadAnswer {
  const links = new HardLinks(shared);
  const copied: number[] = [];
  const linked: [number, string][] = [];
  for (let step = 0; step < inodes; step++) {
    const inode = ((step + lane * 7919) % inodes) + 1;
    const stat = statWithInode(inode);
    for (;;) {
      const answer = links.claim(stat);
      if (answer.kind === "pending") {
        links.waitForEvent(50);
        continue;
      }
      if (answer.kind === "link") {
        linked.push([inode, answer.path]);
        break;
      }
      const fails = failEvery > 0 && (step + lane) % failEvery === 0;
      links.finished(stat, fails ? null : `/copy/of/${inode}/by/${lane}`);
      if (!fails) copied.push(inode);
      // A failed copy is reported once: this name is done with.
      break;
    }
  }
  return { kind: "hard-links", copied, linked };
}

function stealAll(shared: Shared, lane: number, lanes: number): ThreadAnswer {
  using memory = new NativeMemory(4096);
  const thief = new Thief(shared, lanes, lane, memory.address);
  const stolen = { slot: -1, type: 0 };
  const names: string[] = [];
  while (Atomics.load(shared.words, Word.done) === 0) {
    const seen = Atomics.load(shared.words, Word.work);
    if (!thief.steal(stolen)) {
      Atomics.wait(shared.words, Word.work, seen, 1);
      continue;
    }
    const end = memory.bytes.indexOf(0);
    names.push(`${stolen.slot}:${stolen.type}:${Buffer.from(memory.bytes.subarray(0, end)).toString("latin1")}`);
    Atomics.sub(shared.words, shared.slotWords(stolen.slot), 1);
    Atomics.sub(shared.words, Word.active, 1);
  }
  return { kind: "steal", names };
}

function advance(shared: Shared, lane: number, blockBytes: number, forMs: number): ThreadAnswer {
  const control = new LaneControl(shared, lane, () => {
    shared.words[shared.laneWords(lane) + LaneWord.wantCurrent] = 2;
  });
  const start = performance.now();
  let bytes = 0;
  let goesOn = true;
  while (goesOn && performance.now() - start < forMs) {
    goesOn = control.advanced(blockBytes, "copied");
    bytes += blockBytes;
  }
  return { kind: "advance", bytes, elapsedMs: performance.now() - start, wasCancelled: !goesOn };
}
