// The table of inodes with several names: each is copied once, whoever meets it first, and nobody waits for ever.

import { expect, test } from "bun:test";
import { HardLinks } from "../../src/worker/hard-links.ts";
import { Word } from "../../src/worker/shared.ts";
import { statWithInode } from "./stat-with-inode.ts";
import { inThread, laneMemory } from "./threads.ts";

test("the first name is copied, later ones are pending until it is done, then links", () => {
  using lanes = laneMemory();
  const [one, other] = [new HardLinks(lanes.shared), new HardLinks(lanes.shared)];
  const stat = statWithInode(42);
  expect(one.claim(stat)).toEqual({ kind: "first" });
  expect(other.claim(stat)).toEqual({ kind: "pending" });
  one.finished(stat, "/copy/\xff\n");
  expect(other.claim(stat)).toEqual({ kind: "link", path: "/copy/\xff\n" });
});

test("where the first copy failed, the next one takes over", () => {
  using lanes = laneMemory();
  const [one, other] = [new HardLinks(lanes.shared), new HardLinks(lanes.shared)];
  const stat = statWithInode(42);
  one.claim(stat);
  one.finished(stat, null);
  expect(other.claim(stat)).toEqual({ kind: "first" });
  expect(one.claim(stat)).toEqual({ kind: "pending" });
  other.finished(stat, "/second");
  expect(one.claim(stat)).toEqual({ kind: "link", path: "/second" });
});

test("the same number on another device, and the same lower half, is another file", () => {
  using lanes = laneMemory();
  const links = new HardLinks(lanes.shared);
  for (const stat of [statWithInode(42), statWithInode(42, 2), statWithInode(42 + 2 ** 32), statWithInode(2 ** 32 * 42)]) {
    expect(links.claim(stat).kind).toBe("first");
    links.finished(stat, `/${stat.identity}`);
  }
  expect(links.claim(statWithInode(42, 2))).toEqual({ kind: "link", path: `/${statWithInode(42, 2).identity}` });
});

test("the table grows without losing anything, also for lanes that have not looked for long", () => {
  using lanes = laneMemory();
  const [busy, slow] = [new HardLinks(lanes.shared), new HardLinks(lanes.shared)];
  const count = 50_000;
  const early = statWithInode(7);
  expect(slow.claim(early).kind).toBe("first");
  for (let inode = 100; inode < count; inode++) {
    const stat = statWithInode(inode);
    expect(busy.claim(stat).kind).toBe("first");
    busy.finished(stat, `/p/${inode}`);
    if (inode % 4099 === 0) expect(slow.claim(stat)).toEqual({ kind: "link", path: `/p/${inode}` });
  }
  expect(lanes.shared.words[Word.hardLinkCapacity]).toBeGreaterThan(count);
  expect(busy.claim(early).kind).toBe("pending");
  slow.finished(early, "/early");
  for (let inode = 100; inode < count; inode += 97) {
    expect(slow.claim(statWithInode(inode))).toEqual({ kind: "link", path: `/p/${inode}` });
  }
});

test("a waiting lane is woken when the copy it waits for has ended", async () => {
  using lanes = laneMemory();
  const links = new HardLinks(lanes.shared);
  const stat = statWithInode(1);
  links.claim(stat);
  const waiting = inThread({ kind: "hard-links", lane: 1, memory: lanes.memory, inodes: 1, failEvery: 0 });
  await Bun.sleep(150);
  links.finished(stat, "/one");
  expect(await waiting).toEqual({ kind: "hard-links", copied: [], linked: [[1, "/one"]] });
});

test("many threads: every inode is copied once, and every other name links to that copy", async () => {
  using lanes = laneMemory();
  const [inodes, threads] = [20_000, 4];
  const answers = await Promise.all(
    Array.from({ length: threads }, (_, lane) => inThread({ kind: "hard-links", lane, memory: lanes.memory, inodes, failEvery: 0 })),
  );
  const copies = new Map<number, string>();
  for (const [lane, { copied }] of answers.entries()) {
    for (const inode of copied) {
      expect(copies.has(inode)).toBe(false);
      copies.set(inode, `/copy/of/${inode}/by/${lane}`);
    }
  }
  expect(copies.size).toBe(inodes);
  expect(answers.reduce((sum, { linked }) => sum + linked.length, 0)).toBe(inodes * (threads - 1));
  expect(answers.flatMap(({ linked }) => linked).filter(([inode, path]) => copies.get(inode) !== path)).toEqual([]);
});

test("many threads with failing copies: no inode is copied twice, and no link leads to a copy that failed", async () => {
  using lanes = laneMemory();
  const [inodes, threads] = [5000, 4];
  const answers = await Promise.all(
    Array.from({ length: threads }, (_, lane) => inThread({ kind: "hard-links", lane, memory: lanes.memory, inodes, failEvery: 3 })),
  );
  const copies = new Map<number, string>();
  for (const [lane, { copied }] of answers.entries()) {
    for (const inode of copied) {
      expect(copies.has(inode)).toBe(false);
      copies.set(inode, `/copy/of/${inode}/by/${lane}`);
    }
  }
  expect(answers.flatMap(({ linked }) => linked).filter(([inode, path]) => copies.get(inode) !== path)).toEqual([]);
});
