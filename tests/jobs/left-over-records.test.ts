// The records that embedded jobs leave: where they may lie, and what becomes of them.

import { expect, test } from "bun:test";
import { chmodSync, chownSync, existsSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { InFlight, inFlightBytes } from "../../src/engines/in-flight.ts";
import { layout } from "../../src/ffi/layout.ts";
import { At, libc, Mmap } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { Stat } from "../../src/ffi/stat.ts";
import { createInFlightFile } from "../../src/jobs/in-flight-file.ts";
import { ownRecordDirectory, removeLeftOvers } from "../../src/jobs/left-over-records.ts";
import { bootNumber } from "../../src/jobs/process-identity.ts";
import { requestSchema } from "../../src/request-schema.ts";
import { directoryOfEachTest } from "../support/each-test.ts";
import { childrenOf } from "../support/embedded-job.ts";
import { testUnless, unlessRoot } from "../support/skip.ts";

const directory = directoryOfEachTest();

/** The directory for records below a runtime directory in which `copyd` was made so. */
function directoryWith(make: (path: string) => void): string | null {
  const path = join(directory.path, "copyd");
  rmSync(path, { recursive: true, force: true });
  make(path);
  return ownRecordDirectory({ XDG_RUNTIME_DIR: directory.path });
}

function makeWithMode(mode: number): (path: string) => void {
  return (path) => {
    mkdirSync(path);
    chmodSync(path, mode);
  };
}

test("records lie where only their user may write: not in a directory of others, nor behind a link", () => {
  const path = join(directory.path, "copyd");
  expect(directoryWith(() => undefined)).toBe(path);
  expect(statSync(path).mode & 0o777).toBe(0o700);
  expect(directoryWith(makeWithMode(0o700))).toBe(path);
  // Made under an umask that denies its own user.
  expect(directoryWith(makeWithMode(0o100))).toBe(path);
  for (const mode of [0o770, 0o707, 0o720, 0o1777]) expect(directoryWith(makeWithMode(mode))).not.toBe(path);
  const elsewhere = join(directory.path, "elsewhere");
  mkdirSync(elsewhere, { mode: 0o700 });
  expect(directoryWith((name) => symlinkSync(elsewhere, name))).not.toBe(path);
  expect(directoryWith((name) => writeFileSync(name, "", { mode: 0o600 }))).not.toBe(path);
  // What is relative means another directory to each process.
  rmSync(path);
  const here = relative(process.cwd(), directory.path);
  expect(ownRecordDirectory({ XDG_RUNTIME_DIR: here })).not.toBe(join(here, "copyd"));
});

testUnless(unlessRoot(), "a directory for records that is another user's is not used", () => {
  const isMade = (name: string): void => {
    mkdirSync(name, { mode: 0o700 });
    chownSync(name, 61_000, 61_000);
  };
  expect(directoryWith(isMade)).not.toBe(join(directory.path, "copyd"));
});

/** As a worker of a process that is gone had them in flight when it was killed: by its final name, and by a temporary one. */
function leaveHalf(records: string, lane: number): { readonly half: string; readonly temporary: string; readonly record: string } {
  const [half, temporary] = [join(directory.path, "half"), join(directory.path, ".copyd-dead-7")];
  for (const path of [half, temporary]) writeFileSync(path, "half");
  const file = createInFlightFile(records, "in-flight-1-5-dead");
  const address = libc.mmap(0, inFlightBytes, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.MAP_SHARED, file.fd, 0);
  using arena = new Arena(8192);
  const stat = new Stat(arena.allocate(layout.statx.size));
  expect(stat.ofName(At.AT_FDCWD, arena.cstring(directory.path))).toBe(0);
  const inFlight = new InFlight(address, lane, bootNumber());
  expect(inFlight.enter(directory.path, stat)).toBe(true);
  inFlight.creating(arena.cstring("half"));
  expect(stat.ofName(At.AT_FDCWD, arena.cstring(half))).toBe(0);
  inFlight.created(stat.inodeLow, stat.inodeHigh);
  const another = new InFlight(address, lane + 1, bootNumber());
  expect(stat.ofName(At.AT_FDCWD, arena.cstring(directory.path))).toBe(0);
  expect(another.enter(directory.path, stat)).toBe(true);
  another.creating(arena.cstring(".copyd-dead-7"));
  libc.munmap(address, inFlightBytes);
  file.keep();
  return { half, temporary, record: join(records, "in-flight-1-5-dead") };
}

test("a recovery that is killed leaves the record, of whichever lane, for the next one", async () => {
  const records = join(directory.path, "records");
  mkdirSync(records, { mode: 0o700 });
  const { half, temporary, record } = leaveHalf(records, 3);
  const request = requestSchema.parse({ operation: "copy", sources: [half], destination: join(directory.path, "copy") });
  const before = new Set(childrenOf(process.pid));
  const first = removeLeftOvers(records, request);
  const workers = childrenOf(process.pid).filter((pid) => !before.has(pid));
  for (const worker of workers) process.kill(worker, "SIGKILL");
  await first;
  expect([workers.length, existsSync(record), existsSync(half)]).toEqual([1, true, true]);
  await removeLeftOvers(records, request);
  expect([record, half, temporary].filter(existsSync)).toEqual([]);
}, 20_000);
