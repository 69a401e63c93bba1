// One large file, warm: each engine against cp on fresh filesystems, interleaved in one run; with --tune the choices behind the defaults.
// Usage: bun bench/engines.ts [--mib=2048] [--rounds=7] [--filesystems=ext4,xfs,btrfs,tmpfs] [--tune]
//
// Loop images in memory take the disk out of it: what is measured is the way through the page cache. A file is created by each
// tool in turn, in an order that rotates; the flush before it is not part of its time. Columns: the median in milliseconds, the
// ratio of medians cp/engine, and the ratio of the best runs, which other work on the machine disturbs least.

import { parseArgs } from "node:util";
import type { Engine } from "../src/engines/engine.ts";
import { FileCopier } from "../src/engines/file-copier.ts";
import { IoUring } from "../src/engines/io-uring.ts";
import { ReadWrite } from "../src/engines/read-write.ts";
import { At, Falloc, libc, Mmap, Open } from "../src/ffi/libc.ts";
import { Arena, NativeMemory } from "../src/ffi/memory.ts";
import { Stat } from "../src/ffi/stat.ts";
import { type EngineChoice, engineNames } from "../src/request.ts";
import { type FilesystemKind, filesystemKinds, mountFilesystem } from "../tests/support/filesystems.ts";
import { runChecked } from "../tests/support/process.ts";

const kibibyte = 1024;
const mebibyte = 1024 * kibibyte;
const { values } = parseArgs({
  options: {
    mib: { type: "string", default: "2048" },
    rounds: { type: "string", default: "7" },
    filesystems: { type: "string", default: filesystemKinds.join(",") },
    tune: { type: "boolean", default: false },
  },
});
const size = Number(values.mib) * mebibyte;
const rounds = Number(values.rounds);
const always = { advanced: (): boolean => true };

type Tool = (sourceFd: number, destinationFd: number) => void;

for (const kind of filesystemKinds.filter((name) => values.filesystems.split(",").includes(name))) await measure(kind);

async function measure(kind: FilesystemKind): Promise<void> {
  await using filesystem = await mountFilesystem(kind, { sizeBytes: 2.5 * size + 512 * mebibyte });
  const { path } = filesystem;
  // Memory that a virtual machine never touched is slow the first time: touch as much as the filesystem will take.
  await runChecked(["sh", "-ec", `head -c ${3 * size} /dev/zero > /dev/shm/copyd-bench-$$; rm /dev/shm/copyd-bench-$$`]);
  await runChecked(["sh", "-ec", `head -c ${size} /dev/urandom > source; sync -f .; cat source > /dev/null`], { cwd: path });
  const tools = new Map<string, Tool | null>([["cp --reflink=never", null], ...(values.tune ? choices() : engines())]);
  const times = new Map<string, number[]>();
  for (let round = 0; round < rounds; round++) {
    const names = [...tools.keys()];
    for (let index = 0; index < names.length; index++) {
      const name = names[(index + round * 3) % names.length] ?? "";
      const ms = await time(path, tools.get(name) ?? null);
      if (ms > 0) times.set(name, [...(times.get(name) ?? []), ms]);
    }
  }
  report(kind, times);
}

/** Milliseconds of one copy; 0 where the engine is unavailable here. */
async function time(path: string, tool: Tool | null): Promise<number> {
  await runChecked(["sh", "-ec", "rm -f copy; sync -f ."], { cwd: path });
  using arena = new Arena(8192);
  const started = performance.now();
  if (tool === null) Bun.spawnSync(["cp", "--reflink=never", `${path}/source`, `${path}/copy`]);
  else {
    const sourceFd = libc.openat(At.AT_FDCWD, arena.cstring(`${path}/source`), Open.O_RDONLY, 0);
    const destinationFd = libc.openat(At.AT_FDCWD, arena.cstring(`${path}/copy`), Open.O_WRONLY | Open.O_CREAT, 0o600);
    tool(sourceFd, destinationFd);
    libc.close(sourceFd);
    libc.close(destinationFd);
  }
  const ended = performance.now();
  return Bun.file(`${path}/copy`).size === size ? ended - started : 0;
}

function report(kind: string, times: ReadonlyMap<string, number[]>): void {
  const baseline = times.get("cp --reflink=never") ?? [];
  console.log(`\n${kind}, ${size / mebibyte} MiB, ${rounds} rounds\n| | median ms | ratio | best to best |\n|---|---|---|---|`);
  for (const [name, own] of times) {
    const best = Math.min(...baseline) / Math.min(...own);
    console.log(`| ${name} | ${median(own).toFixed(0)} | ${(median(baseline) / median(own)).toFixed(2)} | ${best.toFixed(2)} |`);
  }
}

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? 0;
}

/** The engines as a job uses them: `auto` may not clone, so that it copies like the others. */
function engines(): [string, Tool][] {
  return (["auto", ...engineNames] as const).map((engine) => [engine === "auto" ? "auto, reflink=never" : engine, throughCopier(engine)]);
}

function throughCopier(engine: EngineChoice): Tool {
  const copier = new FileCopier({ engine, reflink: engine === "auto" ? "never" : "auto", sparse: "auto", cache: "keep" }, always);
  const arena = new Arena(4096);
  const stat = new Stat(arena.allocate(256));
  const empty = arena.cstring("");
  return (sourceFd, destinationFd) => {
    stat.ofDescriptor(sourceFd, empty);
    copier.copyFile(sourceFd, destinationFd, stat, stat.device);
  };
}

/** What was tried before the defaults were set. */
function choices(): [string, Tool][] {
  const tools: [string, Tool][] = [];
  for (const block of [128, 256, 512, 1024]) tools.push([`read/write, ${block} KiB`, plainLoop(block * kibibyte)]);
  for (const engine of [new ReadWrite(), new IoUring()]) {
    tools.push([`${engine.name}, blocks allocated before`, allocated(direct(engine))]);
    tools.push([`${engine.name}, not allocated`, direct(engine)]);
  }
  for (const [block, depth] of [
    [256, 4],
    [256, 8],
    [512, 4],
    [512, 8],
    [1024, 4],
  ] as const) {
    tools.push([`io-uring, ${depth} x ${block} KiB`, direct(new IoUring({ blockBytes: block * kibibyte, depth }))]);
  }
  for (const reads of ["inline", "mixed", "async"] as const) tools.push([`io-uring, ${reads} reads`, direct(new IoUring({ reads }))]);
  tools.push(["io-uring, registered buffers", direct(new IoUring({ buffers: "registered" }))]);
  tools.push(["write from mapped memory, 64 MiB populated", fromMapped(64 * mebibyte, Mmap.MAP_POPULATE)]);
  tools.push(["write from mapped memory, 8 MiB", fromMapped(8 * mebibyte, 0)]);
  return tools;
}

function direct(engine: Engine): Tool {
  return (sourceFd, destinationFd) => {
    const copy = { sourceFd, destinationFd, offset: 0, end: size, sourceEnded: false, failedSide: "source" as const, failedSyscall: "" };
    engine.copy(copy, always);
  };
}

function allocated(tool: Tool): Tool {
  return (sourceFd, destinationFd) => {
    libc.fallocate(destinationFd, Falloc.KEEP_SIZE, 0, size);
    tool(sourceFd, destinationFd);
  };
}

function plainLoop(blockBytes: number): Tool {
  const memory = new NativeMemory(blockBytes);
  return (sourceFd, destinationFd) => {
    for (let offset = 0; offset < size; offset += blockBytes) {
      const length = libc.pread(sourceFd, memory.address, blockBytes, offset);
      libc.pwrite(destinationFd, memory.address, length, offset);
    }
  };
}

/** write(2) from the source's own pages: one copy less, and a source that shrinks is EFAULT, not SIGBUS. */
function fromMapped(windowBytes: number, flags: number): Tool {
  return (sourceFd, destinationFd) => {
    for (let offset = 0; offset < size; offset += windowBytes) {
      const length = Math.min(windowBytes, size - offset);
      const address = libc.mmap(0, length, Mmap.PROT_READ, Mmap.MAP_SHARED | flags, sourceFd, offset);
      for (let at = 0; at < length; at += mebibyte) libc.pwrite(destinationFd, address + at, Math.min(mebibyte, length - at), offset + at);
      libc.munmap(address, length);
    }
  };
}
