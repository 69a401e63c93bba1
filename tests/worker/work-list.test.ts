// The lists from which idle lanes steal: whatever is taken by whom, every entry is taken exactly once.

import { expect, test } from "bun:test";
import { layout } from "../../src/ffi/layout.ts";
import { DirentType } from "../../src/ffi/libc.ts";
import { NativeMemory } from "../../src/ffi/memory.ts";
import { nameString, recordName, recordType } from "../../src/tree/dirents.ts";
import { Directory, type DirectoryFields } from "../../src/worker/directory.ts";
import { batchBytes, sharedLevels, Word } from "../../src/worker/shared.ts";
import { Thief, WorkList } from "../../src/worker/work-list.ts";
import { statWithInode } from "./stat-with-inode.ts";
import { inThread, type LaneMemory, laneMemory } from "./threads.ts";

const fields: DirectoryFields = {
  sourceFd: -1,
  destinationFd: -1,
  flags: 0,
  argument: 0,
  argumentDevice: 0,
  rootDevice: 0,
  rootInodeLow: 0,
  rootInodeHigh: 0,
  path: "",
  destinationRoot: "",
  createdUid: 0,
  createdGid: 0,
  createdMode: 0,
};

function directory(slot: number): Directory {
  return new Directory(fields, slot, statWithInode(1));
}

/** Fills a lane's batch with records as getdents64 would; returns their length. */
function fillBatch(list: WorkList, entries: readonly (readonly [name: string, type: number])[]): number {
  const at = layout.dirent64;
  let offset = 0;
  for (const [name, type] of entries) {
    const length = (at.d_name + name.length + 1 + 7) & ~7;
    expect(offset + length).toBeLessThanOrEqual(batchBytes);
    list.batch.fill(0, offset, offset + length);
    list.batch[offset + at.d_reclen] = length & 0xff;
    list.batch[offset + at.d_reclen + 1] = length >>> 8;
    list.batch[offset + at.d_type] = type;
    list.batch.set(Buffer.from(name, "latin1"), offset + at.d_name);
    offset += length;
  }
  return offset;
}

function thiefOf(lanes: LaneMemory, lane: number): { steal: () => string | null } {
  const target = new NativeMemory(512);
  const thief = new Thief(lanes.shared, lanes.lanes, lane, target.address);
  const stolen = { slot: -1, type: 0 };
  return { steal: () => (thief.steal(stolen) ? `${stolen.slot}:${stolen.type}:${nameString(target.bytes, 0)}` : null) };
}

test("a thief takes the oldest subdirectory first, then entries, and holds a reference", () => {
  using lanes = laneMemory();
  Atomics.store(lanes.shared.words, Word.lanes, 2);
  Atomics.store(lanes.shared.words, Word.active, 1);
  const list = new WorkList(lanes.shared, lanes.lanes, 0);
  const thief = thiefOf(lanes, 1);
  list.push(directory(0));
  const entries = [
    [".", DirentType.DIR],
    ["..", DirentType.DIR],
    ["sub", DirentType.DIR],
    ["file\xff", DirentType.REG],
    ["last", DirentType.LNK],
  ] as const;
  list.openBatch(directory(0), fillBatch(list, entries));
  for (let taken = 0; taken < 3; taken++) {
    const offset = list.takeEntry();
    if (recordType(list.batch, offset) === DirentType.DIR && taken === 2) expect(list.addSubdirectory(offset)).toBe(true);
  }
  expect(thief.steal()).toBe(`0:${DirentType.DIR}:sub`);
  expect(thief.steal()).toBe(`0:${DirentType.REG}:file\xff`);
  expect(lanes.shared.words[lanes.shared.slotWords(0)]).toBe(2);
  expect(lanes.shared.words[Word.active]).toBe(3);
  expect(nameString(list.batch, recordName(list.takeEntry()))).toBe("last");
  expect(list.takeEntry()).toBe(-1);
  expect(list.takeSubdirectory()).toBe(0);
  expect(thief.steal()).toBeNull();
  list.pop();
  expect(list.level).toBe(0);
});

test("a dropped batch and a left directory offer nothing", () => {
  using lanes = laneMemory();
  Atomics.store(lanes.shared.words, Word.lanes, 2);
  const list = new WorkList(lanes.shared, lanes.lanes, 0);
  const thief = thiefOf(lanes, 1);
  list.push(directory(3));
  list.openBatch(
    directory(3),
    fillBatch(list, [
      ["a", DirentType.DIR],
      ["b", DirentType.REG],
    ]),
  );
  list.addSubdirectory(list.takeEntry());
  list.closeBatch();
  expect(list.takeEntry()).toBe(-1);
  list.pop();
  expect(thief.steal()).toBeNull();
});

test("a private directory's entries are its lane's alone", () => {
  using lanes = laneMemory();
  Atomics.store(lanes.shared.words, Word.lanes, 2);
  const list = new WorkList(lanes.shared, lanes.lanes, 0);
  const thief = thiefOf(lanes, 1);
  list.push(directory(-1));
  list.openBatch(
    directory(-1),
    fillBatch(list, [
      ["a", DirentType.DIR],
      ["b", DirentType.REG],
    ]),
  );
  list.addSubdirectory(list.takeEntry());
  expect(thief.steal()).toBeNull();
  expect(nameString(list.batch, recordName(list.takeEntry()))).toBe("b");
  const name = list.takeSubdirectory();
  expect(nameString(list.names, name - list.namesAddress)).toBe("a");
});

test("names survive any depth, and levels beyond the shared ones stay with their lane", () => {
  using lanes = laneMemory();
  Atomics.store(lanes.shared.words, Word.lanes, 2);
  const list = new WorkList(lanes.shared, lanes.lanes, 0);
  const depth = sharedLevels + 20;
  for (let level = 0; level < depth; level++) {
    list.push(directory(level < 60 ? level : -1));
    list.openBatch(
      directory(-1),
      fillBatch(list, [
        [`left-${level}`, DirentType.DIR],
        [`next-${level}`, DirentType.DIR],
      ]),
    );
    for (let offset = list.takeEntry(); offset >= 0; offset = list.takeEntry()) list.addSubdirectory(offset);
    const name = list.takeSubdirectory();
    expect(nameString(list.names, name - list.namesAddress)).toBe(`left-${level}`);
  }
  const thief = thiefOf(lanes, 1);
  for (let level = 0; level < sharedLevels; level++) expect(thief.steal()).toBe(`${level}:${DirentType.DIR}:next-${level}`);
  expect(thief.steal()).toBeNull();
  for (let level = depth - 1; level >= 0; level--) {
    const name = list.takeSubdirectory();
    if (level < sharedLevels) expect(name).toBe(0);
    else expect(nameString(list.names, name - list.namesAddress)).toBe(`next-${level}`);
    list.pop();
  }
});

test("the arena of names grows in sight with what is in it", () => {
  using lanes = laneMemory();
  const list = new WorkList(lanes.shared, lanes.lanes, 0);
  list.push(directory(0));
  const names = Array.from({ length: 2000 }, (_, index) => `${index}`.padEnd(200, "n"));
  for (let at = 0; at < names.length; at += 100) {
    list.openBatch(
      directory(0),
      fillBatch(
        list,
        names.slice(at, at + 100).map((name) => [name, DirentType.DIR]),
      ),
    );
    for (let offset = list.takeEntry(); offset >= 0; offset = list.takeEntry()) expect(list.addSubdirectory(offset)).toBe(true);
  }
  expect(list.names.length).toBeGreaterThan(2000 * 201);
  for (const name of names) {
    const address = list.takeSubdirectory();
    expect(nameString(list.names, address - list.namesAddress)).toBe(name);
  }
  expect(list.takeSubdirectory()).toBe(0);
});

test("several threads steal while the owner works: every entry is taken exactly once", async () => {
  using lanes = laneMemory();
  const { shared } = lanes;
  const thieves = 3;
  Atomics.store(shared.words, Word.lanes, 1 + thieves);
  Atomics.store(shared.words, Word.active, 1);
  Atomics.store(shared.words, Word.idle, thieves);
  const answers = Array.from({ length: thieves }, (_, index) =>
    inThread({ kind: "steal", lane: index + 1, memory: lanes.memory, lanes: lanes.lanes }),
  );
  await Bun.sleep(100);
  const list = new WorkList(shared, lanes.lanes, 0);
  const wanted: string[] = [];
  const own: string[] = [];
  for (let round = 0; round < 300; round++) {
    const slot = round % 64;
    const entries: [string, number][] = [];
    for (let index = 0; index < 200; index++) {
      const type = index % 5 === 0 ? DirentType.DIR : DirentType.REG;
      const name = `${round}-${index}-${"x".repeat(index % 50)}`;
      entries.push([name, type]);
      wanted.push(`${slot}:${type}:${name}`);
    }
    list.push(directory(slot));
    list.openBatch(directory(slot), fillBatch(list, entries));
    for (let offset = list.takeEntry(); offset >= 0; offset = list.takeEntry()) {
      const type = recordType(list.batch, offset);
      if (type === DirentType.DIR) list.addSubdirectory(offset);
      else own.push(`${slot}:${type}:${nameString(list.batch, recordName(offset))}`);
    }
    for (let name = list.takeSubdirectory(); name !== 0; name = list.takeSubdirectory()) {
      own.push(`${slot}:${DirentType.DIR}:${nameString(list.names, name - list.namesAddress)}`);
    }
    list.pop();
  }
  Atomics.store(shared.words, Word.done, 1);
  const stolen = (await Promise.all(answers)).flatMap(({ names }) => names);
  expect(stolen.length).toBeGreaterThan(0);
  expect([...own, ...stolen].sort()).toEqual(wanted.sort());
  expect(Atomics.load(shared.words, Word.active)).toBe(1);
  for (let slot = 0; slot < 64; slot++) expect(Atomics.load(shared.words, shared.slotWords(slot))).toBe(0);
});
