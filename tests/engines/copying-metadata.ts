// Makes an entry of the source's type and gives it the source's metadata as a lane would; says what was lost.

import { basename, dirname } from "node:path";
import { MetadataCopier } from "../../src/engines/metadata.ts";
import { At, libc, Mode, makeDevice, Open } from "../../src/ffi/libc.ts";
import { Arena } from "../../src/ffi/memory.ts";
import { Stat } from "../../src/ffi/stat.ts";
import type { PreserveAttribute } from "../../src/request.ts";
import { opened, statOf } from "./copying.ts";

export interface Loss {
  readonly attribute: PreserveAttribute;
  readonly errno: number;
  readonly syscall: string;
}

export const everything: readonly PreserveAttribute[] = ["mode", "times", "owner", "xattr", "acl"];

/** Files are made 0600 and directories 0700, as unpublished ones are. Returns the losses in their order. */
export function copyMetadata(source: string, destination: string, preserve: readonly PreserveAttribute[] = everything): Loss[] {
  const losses: Loss[] = [];
  using copier = new MetadataCopier(preserve, (attribute, errno, syscall) => losses.push({ attribute, errno, syscall }));
  using arena = new Arena(64 * 1024);
  const stat = new Stat(arena.allocate(256));
  const result = stat.ofName(At.AT_FDCWD, arena.cstring(source));
  if (result < 0) throw new Error(`statx ${source}: errno ${-result}`);
  if (stat.type === Mode.S_IFREG || stat.type === Mode.S_IFDIR) throughDescriptor(copier, arena, source, destination, stat);
  else throughName(copier, arena, source, destination, stat);
  return losses;
}

function throughDescriptor(copier: MetadataCopier, arena: Arena, source: string, destination: string, stat: Stat): void {
  const isDirectory = stat.type === Mode.S_IFDIR;
  if (isDirectory) check(libc.mkdirat(At.AT_FDCWD, arena.cstring(destination), 0o700));
  const sourceFd = opened(arena, source, Open.O_RDONLY);
  const flags = isDirectory ? Open.O_RDONLY | Open.O_DIRECTORY : Open.O_WRONLY | Open.O_CREAT | Open.O_EXCL;
  const destinationFd = opened(arena, destination, flags);
  const made = statOf(arena, destinationFd);
  copier.toDescriptor(sourceFd, stat, destinationFd, { uid: made.uid, gid: made.gid, mode: made.permissions });
  libc.close(sourceFd);
  libc.close(destinationFd);
}

function throughName(copier: MetadataCopier, arena: Arena, source: string, destination: string, stat: Stat): void {
  const sourceDirFd = opened(arena, dirname(source), Open.O_RDONLY | Open.O_DIRECTORY);
  const destinationDirFd = opened(arena, dirname(destination), Open.O_RDONLY | Open.O_DIRECTORY);
  const from = arena.cstring(basename(source));
  const to = arena.cstring(basename(destination));
  if (stat.type === Mode.S_IFLNK) {
    check(libc.symlinkat(arena.cstring("target"), destinationDirFd, to));
    copier.toSymlink(sourceDirFd, from, stat, destinationDirFd, to);
  } else {
    check(libc.mknodat(destinationDirFd, to, stat.type | 0o600, makeDevice(stat.rdevMajor, stat.rdevMinor)));
    copier.toSpecial(sourceDirFd, from, stat, destinationDirFd, to);
  }
  libc.close(sourceDirFd);
  libc.close(destinationDirFd);
}

function check(result: number): void {
  if (result < 0) throw new Error(`errno ${-result}`);
}
