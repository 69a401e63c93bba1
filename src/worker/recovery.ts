// After a worker died: removes the unfinished files that its in-flight record names, as the same user and in the same sandbox.

import { type DirectoryIdentity, InFlight, InFlightState, recordBytes } from "../engines/in-flight.ts";
import { temporaryPrefix } from "../engines/publish.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Mmap, Mode, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { BeneathOpener } from "../tree/open.ts";
import { inFlightBytes } from "./protocol.ts";
import { maxLanes } from "./shared.ts";

/** Removes what the record in `fd` names. Returns how many files that were; whatever is not surely the dead worker's stays. */
export function removeInFlight(fd: number, token: string): number {
  const address = libc.mmap(0, inFlightBytes, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.MAP_SHARED, fd, 0);
  if (address < 0) return 0;
  let removed = 0;
  for (let lane = 0; lane < maxLanes && (lane + 1) * recordBytes <= inFlightBytes; lane++) {
    if (removeOne(new InFlight(address, lane), token)) removed++;
  }
  libc.munmap(address, inFlightBytes);
  return removed;
}

function removeOne(record: InFlight, token: string): boolean {
  const state = record.state;
  if (state !== InFlightState.creating && state !== InFlightState.created) return false;
  const recorded = record.read();
  const { directory, name } = recorded;
  if (!directory.startsWith("/") || name === "" || name.includes("/") || name.includes("\0")) return false;
  using arena = new Arena(64 * 1024);
  using opener = new BeneathOpener();
  const rootFd = libc.openat(At.AT_FDCWD, arena.cstring("/"), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
  if (rootFd < 0) return false;
  const directoryFd = opener.openFollowing(rootFd, directory.slice(1), Open.O_PATH | Open.O_DIRECTORY);
  libc.close(rootFd);
  if (directoryFd < 0) return false;
  const stat = new Stat(arena.allocate(layout.statx.size));
  const address = arena.cstring(name);
  // Whoever may rename directories above could have led the path elsewhere.
  const isDirectory = stat.ofDescriptor(directoryFd, arena.cstring("")) === 0 && isRecorded(stat, recorded);
  const isThere = isDirectory && stat.ofName(directoryFd, address) === 0 && stat.type !== Mode.S_IFDIR;
  const isTemporary = name.startsWith(`${temporaryPrefix}${token}-`);
  // "creating": killed before or just after the call. A file with content cannot be the dead worker's then.
  const isSameInode = stat.inodeLow === recorded.fileLow && stat.inodeHigh === recorded.fileHigh;
  const isUnfinished =
    stat.type === Mode.S_IFREG && stat.linkCount === 1 && (state === InFlightState.created ? isSameInode : stat.size === 0);
  const removed = isThere && (isTemporary || isUnfinished) && libc.unlinkat(directoryFd, address, 0) === 0;
  libc.close(directoryFd);
  if (removed) record.clear();
  return removed;
}

function isRecorded(stat: Stat, recorded: DirectoryIdentity): boolean {
  return stat.device === recorded.device && stat.inodeLow === recorded.inodeLow && stat.inodeHigh === recorded.inodeHigh;
}
