// An ext4 on a medium as slow or faulty as asked: an image behind a FUSE filesystem that takes its time for each write, or fails it.

import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { type FaultRule, mountFaultyFilesystem, whyNoFaultyFilesystem } from "./faulty-filesystem.ts";
import { whyNoFilesystem } from "./filesystems.ts";
import { run, runChecked } from "./process.ts";
import { firstReason } from "./skip.ts";
import { temporaryDirectory } from "./temporary.ts";

const mebibyte = 1024 * 1024;

export interface SlowMedium extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  /** How slow or faulty it is from now on; none: not at all. */
  setRules(rules: readonly FaultRule[]): Promise<void>;
  /** Unmounts and mounts again: what is read then is what the medium holds. */
  remount(): Promise<void>;
  /** Bytes that the device was given to write since this was mounted. */
  writtenBytes(): number;
}

/** The filesystem's own blocks lie below, those that it keeps of the places of a large file included: what is written beyond is data. */
export const dataFromBytes = 128.5 * mebibyte;

/** Why there can be none here, or null: for testUnless. */
export function whyNoSlowMedium(): string | null {
  return firstReason(whyNoFaultyFilesystem(), whyNoFilesystem("ext4"));
}

/** Mounts one, which is fast at first; dispose makes it fast again and unmounts it. */
export async function mountSlowMedium(sizeBytes = 512 * mebibyte): Promise<SlowMedium> {
  const below = await temporaryDirectory("/dev/shm");
  const mount = await temporaryDirectory();
  const image = `${below.path}/image`;
  writeFileSync(image, "");
  truncateSync(image, sizeBytes);
  await runChecked(["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,packed_meta_blocks=1", image]);
  const fuse = await mountFaultyFilesystem({ directory: below.path, directIo: true });
  const attach = async (): Promise<void> => void (await runChecked(["mount", "-o", "loop", `${fuse.path}/image`, mount.path]));
  await attach();
  const device = (await runChecked(["findmnt", "-no", "SOURCE", mount.path])).stdout.trim().replace("/dev/", "");
  const before = writtenTo(device);
  return {
    path: mount.path,
    setRules: (rules) => fuse.setRules(rules),
    async remount() {
      await runChecked(["umount", mount.path]);
      await attach();
    },
    writtenBytes: () => writtenTo(device) - before,
    async [Symbol.asyncDispose]() {
      await fuse.setRules([]);
      await run(["umount", mount.path]);
      for (const each of [fuse, mount, below]) await each[Symbol.asyncDispose]();
    },
  };
}

/** Bytes that a block device was given to write since it is there. */
function writtenTo(device: string): number {
  return Number(readFileSync(`/sys/block/${device}/stat`, "latin1").trim().split(/\s+/)[6]) * 512;
}
