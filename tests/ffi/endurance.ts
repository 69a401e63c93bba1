// FFI under the JIT's top tier and a busy garbage collector: many operations, each of whose results is known beforehand.
// Every function returns what went wrong, in a line each; nothing is right.

import { type ByteString, byteStringFromText } from "../../src/bytes.ts";
import { Errno } from "../../src/errno.ts";
import { layout } from "../../src/ffi/layout.ts";
import { At, libc, Open, Seek } from "../../src/ffi/libc.ts";
import { Arena, NativeMemory } from "../../src/ffi/memory.ts";
import { Ring } from "../../src/ffi/ring.ts";
import { Stat } from "../../src/ffi/stat.ts";

const block = 4096;
const maxProblems = 5;

/** Calls that fail and calls that succeed by turns: each result must be this very call's. `file` exists, in a directory. */
export function endureErrno(rounds: number, file: string): string[] {
  using arena = new Arena(64 * 1024);
  const path = arena.cstring(byteStringFromText(file));
  const missing = arena.cstring(byteStringFromText(`${file}-missing`));
  const below = arena.cstring(byteStringFromText(`${file}/below`));
  const buffer = arena.allocate(64);
  const stat = new Stat(arena.allocate(layout.statx.size));
  const fd = libc.openat(At.AT_FDCWD, path, Open.O_RDONLY | Open.O_CLOEXEC, 0);
  const problems: string[] = [];
  const expectResult = (what: string, found: number, wanted: number): void => {
    if (found !== wanted && problems.length < maxProblems) problems.push(`${what}: ${found}, not ${wanted}`);
  };
  for (let round = 0; round < rounds; round++) {
    expectResult("openat of nothing", libc.openat(At.AT_FDCWD, missing, Open.O_RDONLY, 0), -Errno.ENOENT);
    expectResult("statx", stat.ofName(At.AT_FDCWD, path), 0);
    expectResult("read of no descriptor", libc.read(-1, buffer, 8), -Errno.EBADF);
    expectResult("pread", libc.pread(fd, buffer, 8, 0), 8);
    expectResult("openat below a file", libc.openat(At.AT_FDCWD, below, Open.O_RDONLY, 0), -Errno.ENOTDIR);
    expectResult("lseek", libc.lseek(fd, 3, Seek.SET), 3);
    expectResult("lseek to nowhere", libc.lseek(fd, -1, Seek.SET), -Errno.EINVAL);
    expectResult("mkdirat of what is there", libc.mkdirat(At.AT_FDCWD, path, 0o700), -Errno.EEXIST);
    expectResult("write to a reader", libc.write(fd, buffer, 8), -Errno.EBADF);
    expectResult("read to nowhere", libc.pread(fd, 8, 8, 0), -Errno.EFAULT);
    if (round % 1000 === 0) churn();
  }
  libc.close(fd);
  return problems;
}

/** Blocks written and read back through a ring, many at a time, each with its own bytes. `file` is made anew. */
export function endureRing(rounds: number, file: string): string[] {
  const depth = 16;
  const ring = Ring.create(depth);
  if (!ring.available) return [ring.message];
  using owned = ring;
  using memory = new NativeMemory(2 * depth * block);
  using arena = new Arena(8192);
  const flags = Open.O_RDWR | Open.O_CREAT | Open.O_TRUNC | Open.O_CLOEXEC;
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(byteStringFromText(file)), flags, 0o600);
  if (fd < 0) return [`openat: ${fd}`];
  const problems: string[] = [];
  const words = block / 4;
  for (let round = 0; round < rounds && problems.length < maxProblems; round++) {
    for (let slot = 0; slot < depth; slot++) {
      memory.u32.fill(mixed(round, slot), slot * words, (slot + 1) * words);
      owned.prepareWrite(fd, memory.address + slot * block, block, slot * block, slot);
    }
    if (round % 200 === 0) churn();
    if (!takeAll(owned, depth, block)) problems.push(`round ${round}: a write was short, or its completion lost`);
    memory.u32.fill(0, depth * words);
    for (let slot = 0; slot < depth; slot++) {
      owned.prepareRead(fd, memory.address + (depth + slot) * block, block, slot * block, slot);
    }
    if (round % 200 === 100) churn();
    if (!takeAll(owned, depth, block)) problems.push(`round ${round}: a read was short, or its completion lost`);
    for (let slot = 0; slot < depth; slot++) {
      const first = (depth + slot) * words;
      const wanted = mixed(round, slot);
      if (memory.u32[first] !== wanted || memory.u32[first + words - 1] !== wanted)
        problems.push(`round ${round}: block ${slot} is another`);
    }
  }
  libc.close(fd);
  return problems;
}

/** Rings made, used and disposed of, with an operation in flight at the end: descriptors and memory do not grow. */
export function endureLifecycles(rounds: number): string[] {
  using memory = new NativeMemory(4096);
  const name = byteStringFromText("/proc/self/statm");
  const cycle = (round: number): string | null => {
    const ring = Ring.create(8);
    if (!ring.available) return ring.message;
    using owned = ring;
    owned.prepareNop(round);
    owned.submitAndWait(1);
    if (!owned.next() || owned.tag !== round) return `round ${round}: lost a completion`;
    owned.prepareNop(round);
    owned.submit();
    owned.prepareNop(round);
    return null;
  };
  const warmUp = Math.floor(rounds / 5);
  let before = { residentKib: 0, descriptors: 0 };
  for (let round = 0; round < rounds; round++) {
    if (round === warmUp) before = usage(name, memory);
    const problem = cycle(round);
    if (problem !== null) return [problem];
  }
  const after = usage(name, memory);
  const problems: string[] = [];
  if (after.descriptors !== before.descriptors) problems.push(`descriptors went from ${before.descriptors} to ${after.descriptors}`);
  // One leaked page per ring would be 4 KiB a round; the collector's own ups and downs are some MiB.
  const grownKib = after.residentKib - before.residentKib;
  if (grownKib > Math.max(16 * 1024, rounds - warmUp)) problems.push(`memory grew by ${grownKib} KiB in ${rounds - warmUp} rings`);
  return problems;
}

function takeAll(ring: Ring, count: number, result: number): boolean {
  if (ring.submitAndWait(count) !== 0) return false;
  let seen = 0;
  for (let taken = 0; taken < count; taken++) {
    if (!ring.next() || ring.result !== result) return false;
    seen |= 1 << ring.tag;
  }
  return seen === (1 << count) - 1 && !ring.next();
}

/** Garbage of every size, and a full collection. */
function churn(): void {
  const garbage: unknown[] = [];
  for (let size = 1; size < 5000; size += 97) garbage.push(new Uint8Array(size), { size }, `${size}`.repeat(10));
  garbage.length = 0;
  Bun.gc(true);
}

function mixed(round: number, slot: number): number {
  return Math.imul(round * 64 + slot + 1, 2654435761) >>> 0;
}

function usage(statm: ByteString, memory: NativeMemory): { residentKib: number; descriptors: number } {
  Bun.gc(true);
  using arena = new Arena(4096);
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(statm), Open.O_RDONLY | Open.O_CLOEXEC, 0);
  const length = libc.read(fd, memory.address, 4096);
  libc.close(fd);
  const residentPages = Number(
    Buffer.from(memory.bytes.subarray(0, Math.max(length, 0)))
      .toString("latin1")
      .split(" ")[1],
  );
  // The lowest free number tells how many are open, as long as none is leaked.
  return { residentKib: residentPages * 4, descriptors: fd };
}
