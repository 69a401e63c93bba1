// Where a run takes place: a filesystem made afresh for it, with its source in it and warm or cold as the cell wants.

import { closeSync, existsSync, openSync, statfsSync, writeFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type FaultyFilesystem, mountFaultyFilesystem, whyNoFaultyFilesystem } from "../tests/support/faulty-filesystem.ts";
import { whyNoFilesystem } from "../tests/support/filesystems.ts";
import { run, runChecked } from "../tests/support/process.ts";
import { remove, temporaryDirectory } from "../tests/support/temporary.ts";
import type { Cell } from "./cells.ts";
import { availableBytes } from "./held-memory.ts";
import type { Workload } from "./workloads.ts";

/** One run's surroundings; dispose takes everything away. */
export interface Site extends AsyncDisposable {
  readonly source: string;
  /** Bytes of data in the source. */
  readonly sourceBytes: number;
  /** A path that does not exist; one for each repetition. */
  destination(repetition: number): string;
}

export interface Place extends AsyncDisposable {
  /** What the cell's numbers are about, for the report. */
  readonly description: string;
  fresh(workload: Workload): Promise<Site>;
}

/** What all cells of a benchmark share. */
export interface Ground {
  /** In memory; images and mount points are in it. */
  readonly directory: string;
  /** A directory on a real disk. */
  readonly disk: string;
  /** One size for all images, so that no cell differs from another by it. */
  readonly imageBytes: number;
}

const mebibyte = 1024 ** 2;
/** Delay of each call behind the slow source. */
const slowCallMs = 2;

type ImageKind = "ext4" | "xfs" | "btrfs";

/** Nothing is left to do in the background later: no lazy inode tables, no discards. */
const mkfs: Readonly<Record<ImageKind, readonly string[]>> = {
  ext4: ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
  xfs: ["mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1"],
  btrfs: ["mkfs.btrfs", "-q", "-f", "-K"],
};

/** The size of image that these cells need: source, copy, and what the filesystem keeps for itself. */
export function imageBytesFor(cells: readonly Cell[]): number {
  return Math.max(0, ...cells.filter(({ place }) => place !== "tmpfs" && place !== "disk").map(imageBytesOf));
}

function imageBytesOf({ workload }: Cell): number {
  return Math.ceil((workload.sizeBytes * 2.3 + 700 * mebibyte) / (256 * mebibyte)) * 256 * mebibyte;
}

/** What the page cache, or a tmpfs, holds of the largest of these cells, and a good deal for what is cached besides. */
export function memoryBytesFor(cells: readonly Cell[]): number {
  return Math.max(0, ...cells.map(({ workload }) => workload.sizeBytes)) * 2.3 + 3072 * mebibyte;
}

/** Why a cell cannot be measured here, or null. */
export function whyNotHere({ place, workload }: Cell, ground: Ground): string | null {
  const kind = place === "slow" || place === "disk" ? "ext4" : place;
  const reason = whyNoFilesystem(kind) ?? (place === "slow" ? whyNoFaultyFilesystem() : null);
  if (reason !== null) return reason;
  const { bsize, bavail, type } = statfsSync(ground.disk);
  if (place === "disk") {
    const inMemory = type === 0x01021994 || type === 0x858458f6;
    if (inMemory) return `${ground.disk} is in memory: name a directory on a real disk with --disk`;
    return bsize * bavail < workload.sizeBytes * 3 ? `${ground.disk} has too little room: --disk names another` : null;
  }
  // The page cache of the image's filesystem holds everything once more: what is evicted in mid-run is not warm.
  const image = place === "tmpfs" || existsSync(join(ground.directory, "image")) ? 0 : ground.imageBytes;
  const needed = image + workload.sizeBytes * 2.3;
  const available = availableBytes();
  if (needed > available) return `needs ${(needed / 1e9).toFixed(1)} GB of free memory; there are ${(available / 1e9).toFixed(1)}`;
  return null;
}

export async function openPlace(cell: Cell, ground: Ground): Promise<Place> {
  const kind = cell.place;
  if (kind === "disk") return diskPlace(ground, imageBytesOf(cell));
  if (kind === "slow") return slowPlace(ground);
  if (kind === "tmpfs") return tmpfsPlace(ground);
  return imagePlace(kind, ground);
}

async function imagePlace(kind: ImageKind, ground: Ground): Promise<Place> {
  const device = await openDevice(ground);
  return {
    description: `${kind} on a loop image of ${Math.round(ground.imageBytes / mebibyte)} MiB in memory, made anew for every run`,
    fresh: async (workload) => siteIn(await mountAnew(kind, device, ground), workload),
    [Symbol.asyncDispose]: async () => device[Symbol.dispose](),
  };
}

interface LoopDevice extends Disposable {
  readonly path: string;
}

/** The image as a block device; its memory was touched once, before all runs, and stays. */
async function openDevice(
  { directory, imageBytes }: Pick<Ground, "directory" | "imageBytes">,
  options: readonly string[] = [],
): Promise<LoopDevice> {
  const image = join(directory, "image");
  if (!existsSync(image)) {
    const count = Math.round(imageBytes / mebibyte);
    await runChecked(["dd", "if=/dev/zero", `of=${image}`, "bs=1M", `count=${count}`, "status=none"], { timeoutMs: 300_000 });
  }
  const path = (await runChecked(["losetup", "--find", "--show", ...options, image])).stdout.trim();
  // Detached now, it goes when its last user does: this descriptor, even if we are killed. One device for all runs, because a
  // device that is still going away when the image is mounted again would show the old filesystem.
  const descriptor = openSync(path, "r");
  await runChecked(["losetup", "--detach", path]);
  return { path, [Symbol.dispose]: () => closeSync(descriptor) };
}

async function mountAnew(kind: ImageKind, device: LoopDevice, { directory }: Pick<Ground, "directory">): Promise<Mounted> {
  const path = join(directory, "mount");
  await mkdir(path, { recursive: true });
  const env = { ...(process.env as Record<string, string>), PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` };
  const command = [...mkfs[kind], device.path];
  // Whoever looks at new block devices may have this one open for a moment.
  for (let attempt = 0; attempt < 10 && (await run(command, { env, timeoutMs: 120_000 })).status !== 0; attempt++) {
    if (attempt === 9) await runChecked(command, { env, timeoutMs: 120_000 });
    await Bun.sleep(200);
  }
  await runChecked(["mount", "-t", kind, "-o", "nodiscard", device.path, path]);
  if (kind === "ext4") await runChecked(["rmdir", join(path, "lost+found")]);
  return { path, end: () => unmount(path) };
}

function tmpfsPlace({ directory }: Ground): Place {
  const path = join(directory, "mount");
  return {
    description: "a tmpfs, mounted anew for every run",
    fresh: async (workload) => {
      await mkdir(path, { recursive: true });
      const size = Math.ceil(workload.sizeBytes * 2.3 + 256 * mebibyte);
      await runChecked(["mount", "-t", "tmpfs", "-o", `mode=755,size=${size}`, "copyd-bench", path]);
      return siteIn({ path, end: () => unmount(path) }, workload);
    },
    [Symbol.asyncDispose]: async () => {},
  };
}

/**
 * An image on the disk without a cache of its own: each block comes from the medium. The disk's own filesystem will not do, for it cannot be
 * made anew: ext4 looks around every inode that was freed within five minutes, and copies grow slower from run to run.
 */
async function diskPlace({ disk }: Ground, imageBytes: number): Promise<Place> {
  const directory = await temporaryDirectory(disk);
  const device = await openDevice({ directory: directory.path, imageBytes }, ["--direct-io=on"]);
  const { stdout } = await runChecked(["findmnt", "-n", "-o", "FSTYPE", "-T", disk]);
  const below = stdout.trim();
  return {
    description: `ext4 on a loop image on the machine's disk (${below}, direct I/O), made anew and out of the page cache for every run`,
    fresh: async (workload) => siteIn(await mountAnew("ext4", device, { directory: directory.path }), workload),
    [Symbol.asyncDispose]: async () => {
      device[Symbol.dispose]();
      await directory[Symbol.asyncDispose]();
    },
  };
}

/** A source in memory seen through a FUSE filesystem that takes its time, mounted anew so that nothing of it is cached. */
async function slowPlace(ground: Ground): Promise<Place> {
  const device = await openDevice(ground);
  const below = await temporaryDirectory(ground.directory);
  let made: { readonly workload: Workload; readonly bytes: number } | undefined;
  return {
    description: `from a FUSE filesystem with ${slowCallMs} ms a call to ext4 on a loop image in memory, both made anew for every run`,
    fresh: async (workload) => {
      if (made?.workload !== workload) made = { workload, bytes: await workload.make(join(below.path, "source")) };
      const target = await mountAnew("ext4", device, ground);
      let slow: FaultyFilesystem;
      try {
        slow = await mountFaultyFilesystem({ directory: below.path, delayMs: slowCallMs });
      } catch (error) {
        await target.end();
        throw error;
      }
      return {
        source: join(slow.path, "source"),
        sourceBytes: made.bytes,
        destination: (repetition) => join(target.path, `copy-${repetition}`),
        [Symbol.asyncDispose]: async () => {
          await slow[Symbol.asyncDispose]();
          await target.end();
        },
      };
    },
    [Symbol.asyncDispose]: async () => {
      device[Symbol.dispose]();
      await below[Symbol.asyncDispose]();
    },
  };
}

interface Mounted {
  readonly path: string;
  readonly end: () => Promise<void>;
}

async function siteIn({ path, end }: Mounted, workload: Workload): Promise<Site> {
  const source = join(path, "source");
  try {
    const sourceBytes = await workload.make(source);
    return {
      source,
      sourceBytes,
      destination: (repetition) => join(path, `copy-${repetition}`),
      [Symbol.asyncDispose]: end,
    };
  } catch (error) {
    await end();
    throw error;
  }
}

async function unmount(path: string): Promise<void> {
  // The image is made anew next: nothing may write to it any more, hence no lazy unmount but as the last resort.
  for (let attempt = 0; attempt < 20; attempt++) {
    if ((await run(["umount", path], { timeoutMs: 300_000 })).status === 0) return;
    await Bun.sleep(100);
  }
  await remove(path);
  throw new Error("a filesystem of the benchmark could not be unmounted: a tool left a process in it");
}

/** Brings the page cache into the state that the cell is about; everything is written back before. */
export async function prepareCache(cache: "warm" | "cold", source: string, programs: readonly string[]): Promise<void> {
  await runChecked(["sync"], { timeoutMs: 600_000 });
  if (cache === "cold") writeFileSync("/proc/sys/vm/drop_caches", "3");
  else
    await runChecked(["sh", "-c", `find ${source} -type f -exec cat {} + >/dev/null; ls -lR ${source} >/dev/null`], { timeoutMs: 600_000 });
  // Cold is the data, not the programs.
  for (const program of programs) {
    await runChecked([
      "sh",
      "-c",
      `cat "$1" >/dev/null; ldd "$1" 2>/dev/null | sed -n 's/.*=> \\([^ ]*\\).*/\\1/p' | xargs -r cat >/dev/null`,
      "warm",
      program,
    ]);
  }
}

/** Takes a copy out of the page cache; it must have been written back. */
export async function evict(path: string): Promise<void> {
  const script = `find "$1" -type f -exec dd if={} iflag=nocache count=0 status=none \\;`;
  await runChecked(["sh", "-c", script, "evict", path], { timeoutMs: 300_000 });
}
