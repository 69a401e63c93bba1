// After a worker died: removes the unfinished files that its in-flight record names, as the same user and in the same sandbox.

import { type DirectoryIdentity, InFlight, InFlightState, recordBytes } from "../engines/in-flight.ts";
import { isTemporaryOf } from "../engines/publish.ts";
import { layout } from "../ffi/layout.ts";
import { At, libc, Mmap, Mode, Open, Seek } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import { BeneathOpener } from "../tree/open.ts";
import { logStart, maxPartials } from "./checkpoint-layout.ts";
import { PartialSlot } from "./partial-files.ts";
import { inFlightBytes } from "./protocol.ts";
import { maxLanes } from "./shared.ts";

/** Removes the unfinished big files that the slots in use of a job's checkpoint name, and frees the slots. */
export function removePartials(slots: Iterable<PartialSlot>, token: string): number {
  let removed = 0;
  for (const slot of slots) {
    const record = slot.read();
    const isOurs = (directory: Stat, file: Stat): boolean =>
      directory.inodeLow === record.directoryInodeLow && directory.inodeHigh === record.directoryInodeHigh && slot.isFile(file);
    const isRemoved = isTemporaryOf(token, record.name) && removeRecorded(record, isOurs);
    slot.clear();
    if (isRemoved) removed++;
  }
  return removed;
}

/** As removePartials, of a checkpoint that no worker has mapped. */
export function removeCheckpointPartials(fd: number, token: string): number {
  const length = libc.lseek(fd, 0, Seek.END);
  if (length < logStart) return 0;
  const address = libc.mmap(0, logStart, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.MAP_SHARED, fd, 0);
  if (address < 0) return 0;
  const slots = Array.from({ length: maxPartials }, (_, index) => new PartialSlot(address, index));
  const removed = removePartials(
    slots.filter(({ isUsed }) => isUsed),
    token,
  );
  libc.munmap(address, logStart);
  return removed;
}

/**
 * Removes what the record in `fd` names. Returns how many files that were; whatever is not surely the dead worker's stays. `boot`: as the
 * worker's, where the machine was not off since.
 */
export function removeInFlight(fd: number, token: string, boot = 0): number {
  const address = libc.mmap(0, inFlightBytes, Mmap.PROT_READ | Mmap.PROT_WRITE, Mmap.MAP_SHARED, fd, 0);
  if (address < 0) return 0;
  let removed = 0;
  for (let lane = 0; lane < maxLanes && (lane + 1) * recordBytes <= inFlightBytes; lane++) {
    if (removeOne(new InFlight(address, lane), token, boot)) removed++;
  }
  libc.munmap(address, inFlightBytes);
  return removed;
}

function removeOne(record: InFlight, token: string, boot: number): boolean {
  const state = record.state;
  if (state !== InFlightState.creating && state !== InFlightState.created) return false;
  const recorded = record.read();
  const isTemporary = isTemporaryOf(token, recorded.name);
  // A power cut leaves the record as the disk had it, half a minute old. The file may have been whole since, and be all that is left of
  // a source that was moved (rule 5). Whoever goes on with the job looks at the file itself.
  if (!isTemporary && recorded.boot !== boot) return false;
  const removed = removeRecorded(recorded, (directory, file) => {
    if (!isRecorded(directory, recorded)) return false;
    // "creating": killed before or just after the call. A file with content cannot be the dead worker's then.
    const isSameInode = file.inodeLow === recorded.fileLow && file.inodeHigh === recorded.fileHigh;
    const isUnfinished =
      file.type === Mode.S_IFREG && file.linkCount === 1 && (state === InFlightState.created ? isSameInode : file.size === 0);
    return isTemporary || isUnfinished;
  });
  if (removed) record.clear();
  return removed;
}

/** Unlinks a name in a directory that is given by its path, where both are what `isOurs` knows. */
function removeRecorded(
  { directory, name }: { readonly directory: string; readonly name: string },
  isOurs: (directory: Stat, file: Stat) => boolean,
): boolean {
  if (!directory.startsWith("/") || name === "" || name.includes("/") || name.includes("\0")) return false;
  using arena = new Arena(64 * 1024);
  using opener = new BeneathOpener();
  const rootFd = libc.openat(At.AT_FDCWD, arena.cstring("/"), Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
  if (rootFd < 0) return false;
  const directoryFd = opener.openFollowing(rootFd, directory.slice(1), Open.O_PATH | Open.O_DIRECTORY);
  libc.close(rootFd);
  if (directoryFd < 0) return false;
  const directoryStat = new Stat(arena.allocate(layout.statx.size));
  const stat = new Stat(arena.allocate(layout.statx.size)).withBirth();
  const address = arena.cstring(name);
  // Whoever may rename directories above could have led the path elsewhere.
  const isThere =
    directoryStat.ofDescriptor(directoryFd, arena.cstring("")) === 0 &&
    stat.ofName(directoryFd, address) === 0 &&
    stat.type !== Mode.S_IFDIR;
  const removed = isThere && isOurs(directoryStat, stat) && libc.unlinkat(directoryFd, address, 0) === 0;
  // The directory may have the times that it was to keep already.
  const times = arena.allocate(32);
  directoryStat.copyTimes(arena.memory.u32, (times - arena.memory.address) / 4);
  if (removed) libc.utimensat(directoryFd, arena.cstring(""), times, At.AT_EMPTY_PATH);
  libc.close(directoryFd);
  return removed;
}

function isRecorded(stat: Stat, recorded: DirectoryIdentity): boolean {
  return stat.device === recorded.device && stat.inodeLow === recorded.inodeLow && stat.inodeHigh === recorded.inodeHigh;
}
