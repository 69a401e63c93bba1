// Fresh ext4, xfs, btrfs and tmpfs of a given size for a test, as loop images in memory, gone when the test ends.

import { existsSync } from "node:fs";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import { havePrograms, run, runChecked } from "./process.ts";
import { unlessRoot } from "./skip.ts";
import { remove, temporaryDirectory } from "./temporary.ts";

export const filesystemKinds = ["ext4", "xfs", "btrfs", "tmpfs"] as const;
export type FilesystemKind = (typeof filesystemKinds)[number];

export interface FilesystemOptions {
  /** The image is sparse: only what is written takes memory. */
  readonly sizeBytes?: number;
  /** As for mount -o. */
  readonly mountOptions?: readonly string[];
  readonly mkfsOptions?: readonly string[];
}

export interface TestFilesystem extends AsyncDisposable {
  readonly kind: FilesystemKind;
  /** Where it is mounted: an empty directory of mode 0755 (ext4: with lost+found removed). */
  readonly path: string;
  /** The medium, for tests that change it behind the filesystem's back; a tmpfs has none. */
  readonly image: string;
  /** Unmounts and mounts again: the page cache of this filesystem starts empty. */
  remount(options?: readonly string[]): Promise<void>;
}

const mebibyte = 1024 * 1024;
export const defaultSizeBytes = 1024 * mebibyte;
/** Small enough to fill in a moment; ext4 and tmpfs only (xfs needs 300 MiB, btrfs 109). */
export const tinySizeBytes = 20 * mebibyte;

const mkfs: Record<Exclude<FilesystemKind, "tmpfs">, readonly string[]> = {
  ext4: ["mkfs.ext4", "-q", "-F", "-m", "0", "-E", "nodiscard"],
  xfs: ["mkfs.xfs", "-q", "-f", "-K", "-m", "reflink=1"],
  btrfs: ["mkfs.btrfs", "-q", "-f", "-K"],
};

/** Why such a filesystem cannot be made here, or null where it can: for testUnless. */
export function whyNoFilesystem(kind: FilesystemKind): string | null {
  const reason = unlessRoot();
  if (reason !== null) return `${reason} to mount ${kind}`;
  if (kind === "tmpfs") return null;
  const program = `mkfs.${kind}`;
  if (!havePrograms(program)) return `${program} is not installed`;
  if (!existsSync("/dev/loop-control")) return "there are no loop devices";
  return null;
}

/** Makes and mounts a filesystem; dispose unmounts it, which also frees its loop device. */
export async function mountFilesystem(kind: FilesystemKind, options: FilesystemOptions = {}): Promise<TestFilesystem> {
  const sizeBytes = options.sizeBytes ?? defaultSizeBytes;
  const directory = await temporaryDirectory(existsSync("/dev/shm") ? "/dev/shm" : undefined);
  const image = join(directory.path, "image");
  const path = join(directory.path, "mount");
  try {
    await mkdir(path);
    await runChecked(["chmod", "755", directory.path]);
    if (kind !== "tmpfs") await format(kind, image, sizeBytes, options.mkfsOptions ?? []);
    const mountNow = (extra: readonly string[]): Promise<void> => mount(kind, image, path, sizeBytes, extra);
    await mountNow(options.mountOptions ?? []);
    if (kind === "ext4") await runChecked(["rmdir", join(path, "lost+found")]);
    return {
      kind,
      path,
      image,
      remount: async (extra = options.mountOptions ?? []) => {
        if (kind === "tmpfs") throw new Error("a tmpfs would lose its files when mounted again");
        await runChecked(["umount", path]);
        await mountNow(extra);
      },
      [Symbol.asyncDispose]: () => remove(directory.path),
    };
  } catch (error) {
    await directory[Symbol.asyncDispose]();
    throw error;
  }
}

async function format(kind: Exclude<FilesystemKind, "tmpfs">, image: string, sizeBytes: number, extra: readonly string[]): Promise<void> {
  const file = await open(image, "w");
  await file.truncate(sizeBytes);
  await file.close();
  const env = { ...(process.env as Record<string, string>), PATH: `${process.env.PATH ?? ""}:/usr/sbin:/sbin` };
  await runChecked([...mkfs[kind], ...extra, image], { env });
}

async function mount(kind: FilesystemKind, image: string, path: string, sizeBytes: number, extra: readonly string[]): Promise<void> {
  // The loop device frees itself when unmounted: mount sets autoclear. Another run may take the free device between
  // mount's question and its answer, hence the second and third tries.
  const command =
    kind === "tmpfs"
      ? ["mount", "-t", "tmpfs", "-o", ["mode=755", `size=${sizeBytes}`, ...extra].join(","), "copyd-test", path]
      : ["mount", "-t", kind, "-o", ["loop", ...extra].join(","), image, path];
  for (let attempt = 1; attempt < 5; attempt++) {
    const result = await run(command);
    if (result.status === 0) return;
    await Bun.sleep(50 * attempt);
  }
  await runChecked(command);
}
