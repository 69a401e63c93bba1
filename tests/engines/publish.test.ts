// How a finished file gets its name: nobody sees half a file under it, nothing is left of one that was given up.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { linkSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { InFlight, InFlightState, recordBytes } from "../../src/engines/in-flight.ts";
import { Publisher, temporaryPrefix } from "../../src/engines/publish.ts";
import { Errno } from "../../src/errno.ts";
import { At, libc, Open } from "../../src/ffi/libc.ts";
import { Arena, NativeMemory } from "../../src/ffi/memory.ts";
import { type FaultRule, mountFaultyFilesystem, whyNoFaultyFilesystem } from "../support/faulty-filesystem.ts";
import { filesystemKinds, mountFilesystem, type TestFilesystem, whyNoFilesystem } from "../support/filesystems.ts";
import { runChecked } from "../support/process.ts";
import { describeUnless, testUnless, unlessRoot } from "../support/skip.ts";
import { temporaryDirectory } from "../support/temporary.ts";

type Way = "exclusive" | "anonymous" | "named";

/** One lane's publisher in one directory. */
class Bench {
  readonly inFlight: InFlight;
  readonly publisher: Publisher;
  readonly directoryFd: number;
  private readonly memory = new NativeMemory(recordBytes);
  private readonly arena = new Arena(16 * 1024);
  private serial = 0;

  constructor(directory: string, options: { readonly madeByThisJob: boolean; readonly recorded?: boolean }) {
    this.inFlight = new InFlight(options.recorded === false ? 0 : this.memory.address, 0);
    this.publisher = new Publisher({ token: "bench", inFlight: this.inFlight, nextTemporary: () => this.serial++ });
    this.directoryFd = libc.openat(At.AT_FDCWD, this.arena.cstring(directory), Open.O_RDONLY | Open.O_DIRECTORY, 0);
    if (this.directoryFd < 0) throw new Error(`open ${directory}: errno ${-this.directoryFd}`);
    this.publisher.enterDirectory(directory, this.directoryFd, options.madeByThisJob);
  }

  create(name: string, replace = false): number {
    return this.publisher.create(this.directoryFd, this.arena.cstring(name), 0o640, replace);
  }

  write(fd: number, text: string): void {
    expect(libc.write(fd, this.arena.cstring(text), text.length)).toBe(text.length);
  }

  [Symbol.dispose](): void {
    libc.close(this.directoryFd);
    this.publisher[Symbol.dispose]();
    this.arena[Symbol.dispose]();
    this.memory[Symbol.dispose]();
  }
}

function benchFor(way: Way, directory: string): Bench {
  return new Bench(directory, { madeByThisJob: way === "exclusive" });
}

for (const kind of filesystemKinds) {
  describeUnless(whyNoFilesystem(kind), `publishing on ${kind}`, () => {
    let filesystem: TestFilesystem;
    let path = "";
    beforeAll(async () => {
      filesystem = await mountFilesystem(kind, { sizeBytes: 320 * 1024 * 1024 });
    });
    afterAll(() => filesystem[Symbol.asyncDispose]());
    const fresh = (): string => {
      path = `${filesystem.path}/directory`;
      rmSync(path, { recursive: true, force: true });
      mkdirSync(path);
      return path;
    };

    for (const way of ["exclusive", "anonymous", "named"] as const) {
      // The named way serves replacements here: every one of these filesystems has O_TMPFILE.
      const replace = way === "named";

      test(`${way}: the whole file appears under its name, and nothing besides`, () => {
        using bench = benchFor(way, fresh());
        const fd = bench.create("file", replace);
        expect(fd).toBeGreaterThanOrEqual(0);
        bench.write(fd, "whole");
        if (way !== "exclusive") expect(readdirSync(path)).not.toContain("file");
        expect(bench.inFlight.state).toBe(way === "anonymous" ? InFlightState.idle : InFlightState.created);
        expect(bench.publisher.publish(replace)).toBe(0);
        libc.close(fd);
        expect(readdirSync(path)).toEqual(["file"]);
        expect(readFileSync(`${path}/file`, "utf8")).toBe("whole");
        expect(statSync(`${path}/file`).nlink).toBe(1);
        expect(bench.inFlight.state).toBe(InFlightState.idle);
      });

      test(`${way}: nothing is left of a file that was given up`, () => {
        using bench = benchFor(way, fresh());
        const fd = bench.create("file", replace);
        bench.write(fd, "ha");
        bench.publisher.abandon();
        libc.close(fd);
        expect(readdirSync(path)).toEqual([]);
        expect(bench.inFlight.state).toBe(InFlightState.idle);
      });

      test(`${way}: giving up leaves alone what somebody else put in the file's place`, () => {
        using bench = benchFor(way, fresh());
        const fd = bench.create("file", replace);
        for (const name of readdirSync(path)) {
          rmSync(`${path}/${name}`);
          writeFileSync(`${path}/${name}`, "another's");
        }
        const others = readdirSync(path);
        bench.publisher.abandon();
        libc.close(fd);
        expect(readdirSync(path)).toEqual(others);
      });
    }

    test("exclusive: a name that is taken is EEXIST at once, and stays as it is", () => {
      using bench = benchFor("exclusive", fresh());
      writeFileSync(`${path}/file`, "old");
      expect(bench.create("file")).toBe(-Errno.EEXIST);
      expect(bench.inFlight.state).toBe(InFlightState.idle);
      bench.publisher.abandon();
      expect(readFileSync(`${path}/file`, "utf8")).toBe("old");
    });

    test("anonymous: a name taken in the meantime is EEXIST, and stays as it is", () => {
      using bench = benchFor("anonymous", fresh());
      const fd = bench.create("file");
      bench.write(fd, "new");
      writeFileSync(`${path}/file`, "old");
      expect(bench.publisher.publish(false)).toBe(-Errno.EEXIST);
      bench.publisher.abandon();
      libc.close(fd);
      expect(readdirSync(path)).toEqual(["file"]);
      expect(readFileSync(`${path}/file`, "utf8")).toBe("old");
    });

    test("named: a name taken in the meantime is EEXIST where replacing was not asked", () => {
      using bench = benchFor("named", fresh());
      const fd = bench.create("file", true);
      writeFileSync(`${path}/file`, "old");
      expect(bench.publisher.publish(false)).toBe(-Errno.EEXIST);
      bench.publisher.abandon();
      libc.close(fd);
      expect(readdirSync(path)).toEqual(["file"]);
      expect(readFileSync(`${path}/file`, "utf8")).toBe("old");
    });

    test("replacing keeps the old file whole until the new one is, and spares its other links", () => {
      using bench = benchFor("named", fresh());
      writeFileSync(`${path}/file`, "old");
      linkSync(`${path}/file`, `${path}/other-link`);
      const fd = bench.create("file", true);
      bench.write(fd, "new");
      expect(readFileSync(`${path}/file`, "utf8")).toBe("old");
      expect(bench.publisher.publish(true)).toBe(0);
      libc.close(fd);
      expect(readdirSync(path).sort()).toEqual(["file", "other-link"]);
      expect(readFileSync(`${path}/file`, "utf8")).toBe("new");
      expect(readFileSync(`${path}/other-link`, "utf8")).toBe("old");
    });

    test("a temporary name says whose it is, and is passed over when it is taken", () => {
      using bench = benchFor("named", fresh());
      writeFileSync(`${path}/${temporaryPrefix}bench-0`, "in the way");
      const fd = bench.create("file", true);
      expect(readdirSync(path).sort()).toEqual([`${temporaryPrefix}bench-0`, `${temporaryPrefix}bench-1`]);
      expect(bench.inFlight.read().name).toBe(`${temporaryPrefix}bench-1`);
      bench.publisher.abandon();
      libc.close(fd);
      expect(readFileSync(`${path}/${temporaryPrefix}bench-0`, "utf8")).toBe("in the way");
    });

    test("replaceNode puts a link in a file's place, also over another link of the same file", () => {
      using bench = benchFor("named", fresh());
      using arena = new Arena(4096);
      writeFileSync(`${path}/one`, "one");
      linkSync(`${path}/one`, `${path}/two`);
      writeFileSync(`${path}/file`, "old");
      for (const name of ["file", "two"]) {
        const make = (temporary: number): number => {
          expect(bench.inFlight.state).toBe(InFlightState.creating);
          return libc.linkat(bench.directoryFd, arena.cstring("one"), bench.directoryFd, temporary, 0);
        };
        expect(bench.publisher.replaceNode(bench.directoryFd, arena.cstring(name), make)).toBe(0);
      }
      expect(readdirSync(path).sort()).toEqual(["file", "one", "two"]);
      expect(statSync(`${path}/one`).nlink).toBe(3);
      expect(bench.inFlight.state).toBe(InFlightState.idle);
    });

    test("what has a temporary file's name already is neither given a name nor removed", () => {
      using bench = benchFor("named", fresh());
      using arena = new Arena(4096);
      const theirs = `${temporaryPrefix}bench-`;
      for (const serial of [0, 1]) writeFileSync(`${path}/${theirs}${serial}`, "in the way");
      const make = (temporary: number): number => libc.symlinkat(arena.cstring("target"), bench.directoryFd, temporary);
      expect(bench.publisher.addNode(bench.directoryFd, arena.cstring("file"), make)).toBe(-Errno.EEXIST);
      expect(bench.publisher.failedSyscall).toBe("linkat");
      writeFileSync(`${path}/file`, "old");
      expect(bench.publisher.replaceNode(bench.directoryFd, arena.cstring("file"), make)).toBe(-Errno.EEXIST);
      expect(readFileSync(`${path}/file`, "utf8")).toBe("old");
      expect(readdirSync(path).sort()).toEqual([`${theirs}0`, `${theirs}1`, "file"]);
    });

    test("addNode leaves a name that is taken in the meantime as it is, and nothing of what was made", () => {
      using bench = benchFor("named", fresh());
      using arena = new Arena(4096);
      const make = (temporary: number): number => {
        writeFileSync(`${path}/file`, "theirs");
        return libc.symlinkat(arena.cstring("target"), bench.directoryFd, temporary);
      };
      expect(bench.publisher.addNode(bench.directoryFd, arena.cstring("file"), make)).toBe(-Errno.EEXIST);
      expect([readdirSync(path), readFileSync(`${path}/file`, "utf8")]).toEqual([["file"], "theirs"]);
    });

    test("in a directory of the job's own a file is replaced by one that is whole, too", () => {
      using bench = benchFor("exclusive", fresh());
      writeFileSync(`${path}/file`, "old");
      const fd = bench.create("file", true);
      bench.write(fd, "new");
      expect(readFileSync(`${path}/file`, "utf8")).toBe("old");
      expect(bench.publisher.publish(true)).toBe(0);
      libc.close(fd);
      expect([readdirSync(path), readFileSync(`${path}/file`, "utf8")]).toEqual([["file"], "new"]);
    });

    test("without a record nothing is created under its final name", () => {
      using bench = new Bench(fresh(), { madeByThisJob: true, recorded: false });
      const fd = bench.create("file");
      expect(fd).toBeGreaterThanOrEqual(0);
      expect(readdirSync(path)).toEqual([]);
      expect(bench.publisher.publish(false)).toBe(0);
      libc.close(fd);
      expect(readdirSync(path)).toEqual(["file"]);
      using other = benchFor("exclusive", path);
      expect(other.publisher.isExclusive).toBe(true);
      // Nor where it cannot be told which directory that would be.
      other.publisher.enterDirectory(path, -1, true);
      expect(other.publisher.isExclusive).toBe(false);
    });
  });
}

// A message queue filesystem has neither O_TMPFILE nor rename nor link: files are created under names, and giving up works.
testUnless(whyNoMqueue(), "where O_TMPFILE is missing a temporary name serves, and what cannot be published is removed", async () => {
  await using directory = await temporaryDirectory();
  await runChecked(["mount", "-t", "mqueue", "none", directory.path]);
  const before = readdirSync(directory.path);
  {
    using bench = new Bench(directory.path, { madeByThisJob: false });
    // There is one such filesystem, wherever it is mounted: what a test run that was killed has left is in it still.
    const fd = bench.create(`file-${process.pid}`);
    expect(fd).toBeGreaterThanOrEqual(0);
    expect(readdirSync(directory.path)).toContain(`${temporaryPrefix}bench-0`);
    expect(bench.inFlight.state).toBe(InFlightState.created);
    expect(bench.publisher.publish(false)).toBe(-Errno.EPERM);
    bench.publisher.abandon();
    libc.close(fd);
  }
  expect(readdirSync(directory.path)).toEqual(before);
});

test("a record holds a directory beyond PATH_MAX, and refuses one that does not fit", () => {
  using memory = new NativeMemory(2 * recordBytes);
  const record = new InFlight(memory.address, 1, 5);
  const long = `/${"d".repeat(60_000)}`;
  expect(record.enter(long, { device: 7, inodeLow: 1, inodeHigh: 2 })).toBe(true);
  using arena = new Arena(recordBytes);
  record.creating(arena.cstring("name\xff"));
  const known = { device: 7, inodeLow: 1, inodeHigh: 2, boot: 5 };
  expect(record.read()).toEqual({ directory: long, name: "name\xff", ...known, fileLow: 0, fileHigh: 0 });
  expect(record.enter(`/${"d".repeat(recordBytes)}`, { device: 7, inodeLow: 1, inodeHigh: 2 })).toBe(false);
  // Through a process: nobody could find it once that has gone.
  expect(record.enter("/proc/77/cwd/deep", { device: 7, inodeLow: 1, inodeHigh: 2 })).toBe(false);
  expect(new InFlight(0, 0).enter("/x", { device: 7, inodeLow: 1, inodeHigh: 2 })).toBe(false);
});

test("a name longer than a record has room for leaves the directory in it, and the next lane's record, as they are", () => {
  using memory = new NativeMemory(2 * recordBytes);
  using arena = new Arena(3 * recordBytes);
  const record = new InFlight(memory.address, 0);
  const identity = { device: 7, inodeLow: 1, inodeHigh: 2 };
  expect(record.enter("/directory", identity)).toBe(true);
  record.creating(arena.cstring("n".repeat(2 * recordBytes)));
  // Its beginning may be another file's name.
  expect(record.read()).toMatchObject({ ...identity, directory: "/directory", name: "" });
  expect(memory.bytes.subarray(recordBytes).every((byte) => byte === 0)).toBe(true);
  record.creating(arena.cstring("n".repeat(255)));
  expect(record.read()).toMatchObject({ directory: "/directory", name: "n".repeat(255) });
});

test("lengths that a hostile worker wrote into a record are clamped", () => {
  using memory = new NativeMemory(recordBytes);
  memory.u32.fill(0xffffffff, 0, 16);
  const { directory, name } = new InFlight(memory.address, 0).read();
  expect(name.length).toBe(255);
  expect(directory.length).toBeLessThan(recordBytes);
});

function whyNoMqueue(): string | null {
  if (unlessRoot() !== null) return unlessRoot();
  return readFileSync("/proc/filesystems", "utf8").includes("\tmqueue\n") ? null : "this kernel has no mqueue filesystem";
}

/** As NFS, or a phone behind FUSE: rename(2) takes no flags. The time is for who comes between it and what is tried next. */
const refusesFlags: FaultRule = { operations: ["rename"], errno: "EINVAL", delayMs: 400, times: 1 };

/** Publishes a new file where it must not replace anything; the result. */
function publishNew(bench: Bench, name: string): number {
  const fd = bench.create(name);
  bench.write(fd, "new");
  const published = bench.publisher.publish(false);
  if (published < 0) bench.publisher.abandon();
  libc.close(fd);
  return published;
}

testUnless(whyNoFaultyFilesystem(), "without RENAME_NOREPLACE, a name taken in the last moment stays as it is", async () => {
  await using below = await temporaryDirectory();
  await using filesystem = await mountFaultyFilesystem({ directory: below.path, cacheMs: 0, rules: [refusesFlags] });
  using bench = benchFor("named", filesystem.path);
  const other = Bun.spawn(["sh", "-c", `sleep 0.2; printf old >'${below.path}/file'`]);
  expect(publishNew(bench, "file")).toBe(-Errno.EEXIST);
  await other.exited;
  expect(readdirSync(below.path)).toEqual(["file"]);
  expect(readFileSync(`${below.path}/file`, "utf8")).toBe("old");
});

testUnless(whyNoFaultyFilesystem(), "without RENAME_NOREPLACE, a free name is given by a link, and the temporary one goes", async () => {
  await using below = await temporaryDirectory();
  await using filesystem = await mountFaultyFilesystem({ directory: below.path, cacheMs: 0, rules: [{ ...refusesFlags, delayMs: 0 }] });
  using bench = benchFor("named", filesystem.path);
  expect(publishNew(bench, "file")).toBe(0);
  expect(readdirSync(below.path)).toEqual(["file"]);
  expect([readFileSync(`${below.path}/file`, "utf8"), statSync(`${below.path}/file`).nlink]).toEqual(["new", 1]);
});

testUnless(
  whyNoFaultyFilesystem(),
  "with neither RENAME_NOREPLACE nor hard links, a name that is free is given, and no other",
  async () => {
    await using below = await temporaryDirectory();
    const rules: readonly FaultRule[] = [refusesFlags, { operations: ["link"], errno: "EPERM" }];
    await using filesystem = await mountFaultyFilesystem({ directory: below.path, cacheMs: 0, rules });
    using bench = benchFor("named", filesystem.path);
    writeFileSync(`${below.path}/taken`, "old");
    expect(publishNew(bench, "taken")).toBe(-Errno.EEXIST);
    expect(publishNew(bench, "free")).toBe(0);
    expect(readdirSync(below.path).sort()).toEqual(["free", "taken"]);
    expect(readFileSync(`${below.path}/free`, "utf8")).toBe("new");
    expect(readFileSync(`${below.path}/taken`, "utf8")).toBe("old");
  },
);
