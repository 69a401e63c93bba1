// Owner, mode, attributes, ACLs and times of one entry, set in the one order in which no step undoes another.

import { Errno } from "../errno.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { Stat } from "../ffi/stat.ts";
import type { PreserveAttribute } from "../request.ts";
import { type Lost, type XattrAccess, XattrCopier } from "./xattrs.ts";

/** What the new file has now, so that nothing is set twice. */
export interface Created {
  readonly uid: number;
  readonly gid: number;
  /** Permission bits. */
  readonly mode: number;
  /** Bits for group and other that it was made without, until it has its owner; with no mode to be preserved. */
  readonly withheld?: number;
  /** Whether its directory gave it an ACL (see inheritsAcl); left out: the copier looks. */
  readonly inheritsAcl?: boolean;
}

const keep = 0xffffffff;
const setIdBits = 0o6000;
const maxPathBytes = 512;

/**
 * A lane owns one. What could not be kept is told to `lost`, once for each call that failed, and the rest is set all the same;
 * whether a loss is an error, a warning or expected is the caller's to say.
 *
 * The order: owner, then attributes (a user's own attribute needs write permission, which the final mode may deny), then mode
 * (a change of owner clears setuid), then ACLs (which refine the mode), then times (which everything before has touched).
 */
export class MetadataCopier {
  private readonly keepsOwner: boolean;
  private readonly keepsMode: boolean;
  private readonly keepsXattr: boolean;
  private readonly keepsAcl: boolean;
  private readonly keepsTimes: boolean;
  private readonly isRoot = libc.geteuid() === 0;
  private readonly lost: Lost;
  private readonly xattrs: XattrCopier;
  private readonly arena = new Arena(4096);
  private readonly times: number;
  private readonly timesIndex: number;
  private readonly emptyName: number;
  private readonly sourcePath: number;
  private readonly destinationPath: number;
  private readonly madeStat: Stat;
  private readonly devicesWithoutXattrs = new Set<number>();

  constructor(preserve: readonly PreserveAttribute[], lost: Lost) {
    this.keepsOwner = preserve.includes("owner");
    this.keepsMode = preserve.includes("mode");
    this.keepsXattr = preserve.includes("xattr");
    this.keepsAcl = preserve.includes("acl");
    this.keepsTimes = preserve.includes("times");
    this.lost = lost;
    this.xattrs = new XattrCopier(lost);
    this.times = this.arena.allocate(32);
    this.timesIndex = (this.times - this.arena.memory.address) / 4;
    this.emptyName = this.arena.cstring("");
    this.sourcePath = this.arena.allocate(maxPathBytes);
    this.destinationPath = this.arena.allocate(maxPathBytes);
    this.madeStat = new Stat(this.arena.allocate(256));
  }

  /** True when what is made in this directory gets an ACL from it: ask once per directory, for Created.inheritsAcl. */
  inheritsAcl(directoryFd: number): boolean {
    return (this.keepsAcl || this.keepsMode) && this.xattrs.hasDefault(directoryFd);
  }

  /** A regular file or a directory, through descriptors open for reading and writing (a directory: for reading). */
  // hot: with nothing to change but the times, one flistxattr and one futimens.
  toDescriptor(sourceFd: number, source: Stat, destinationFd: number, created: Created): void {
    const isListed = this.listXattrs("descriptor", sourceFd, source.device);
    const isOwnerKept = this.setOwner(destinationFd, this.emptyName, source, created);
    const withheld = created.withheld ?? 0;
    const own = created.mode | withheld;
    if (withheld !== 0) this.giveBack(libc.fchmod(destinationFd, own));
    let mode = own;
    if (isListed && this.keepsXattr && this.xattrs.hasPlain) {
      if (!this.isRoot && (mode & 0o200) === 0 && libc.fchmod(destinationFd, mode | 0o600) >= 0) mode |= 0o600;
      this.xattrs.copyPlain("descriptor", sourceFd, destinationFd);
      if (!this.keepsMode && mode !== own) libc.fchmod(destinationFd, own);
    }
    if (this.keepsMode) this.setMode(destinationFd, this.wantedMode(source, isOwnerKept), mode, source, created);
    if (this.keepsMode || this.keepsAcl) this.setAcls(sourceFd, source, destinationFd, created, isListed, isOwnerKept);
    this.giveTimes(source, destinationFd);
  }

  /** False where a file has attributes, or where they cannot be listed. hot: */
  hasNoAttributes(fd: number, device: number): boolean {
    if (!this.keepsXattr && !this.keepsAcl && !this.keepsMode) return true;
    if (this.devicesWithoutXattrs.size > 0 && this.devicesWithoutXattrs.has(device)) return true;
    return this.xattrs.count(fd) === 0;
  }

  /**
   * As toDescriptor, for a regular file without attributes and special bits that inherited none: made with `mode`, and where `isOwned`, with
   * its owner. hot:
   */
  toPlain(source: Stat, destinationFd: number, mode: number, isOwned: boolean): void {
    if (!isOwned && this.keepsOwner) this.changeOwner(destinationFd, this.emptyName, source.uid, source.gid, At.AT_EMPTY_PATH);
    if (this.keepsMode && mode !== source.permissions) this.giveBack(libc.fchmod(destinationFd, source.permissions));
    this.giveTimes(source, destinationFd);
  }

  // hot:
  private giveTimes(source: Stat, destinationFd: number): void {
    if (!this.keepsTimes) return;
    source.copyTimes(this.arena.memory.u32, this.timesIndex);
    const result = libc.futimens(destinationFd, this.times);
    if (result < 0) this.lost("times", -result, "futimens");
  }

  /** A symlink just made: its owner, times, and for root its attributes. Names are addresses of C strings. */
  toSymlink(sourceDirFd: number, sourceName: number, source: Stat, destinationDirFd: number, destinationName: number): void {
    if (this.keepsOwner) this.changeOwner(destinationDirFd, destinationName, source.uid, source.gid, At.AT_SYMLINK_NOFOLLOW);
    // A symlink has no user attributes and no ACLs; the others are root's alone to set.
    if (this.isRoot && this.keepsXattr) this.copyByPath(sourceDirFd, sourceName, source, destinationDirFd, destinationName);
    this.setTimes(destinationDirFd, destinationName, source, At.AT_SYMLINK_NOFOLLOW);
  }

  /** A symlink to the source, made in its place (cp -s): it gets the source's times. */
  toLinkInstead(source: Stat, destinationDirFd: number, destinationName: number): void {
    this.setTimes(destinationDirFd, destinationName, source, At.AT_SYMLINK_NOFOLLOW);
  }

  /**
   * A FIFO, socket or device just made. It is held by an O_PATH descriptor and nothing is done to what is not of the source's
   * type: somebody may have put something else under its name. Names are addresses of C strings. `withheld`: see Created.
   */
  toSpecial(sourceDirFd: number, sourceName: number, source: Stat, destinationDirFd: number, destinationName: number, withheld = 0): void {
    const fd = libc.openat(destinationDirFd, destinationName, Open.O_PATH | Open.O_NOFOLLOW | Open.O_CLOEXEC, 0);
    const found = fd < 0 ? fd : this.madeStat.ofDescriptor(fd, this.emptyName);
    if (found < 0 || this.madeStat.type !== source.type) this.lost("mode", found < 0 ? -found : Errno.EEXIST, "openat");
    else this.setSpecial(fd, sourceDirFd, sourceName, source, destinationDirFd, destinationName, withheld);
    if (fd >= 0) libc.close(fd);
  }

  [Symbol.dispose](): void {
    this.xattrs[Symbol.dispose]();
    this.arena[Symbol.dispose]();
  }

  private setSpecial(
    fd: number,
    fromDirFd: number,
    fromName: number,
    source: Stat,
    toDirFd: number,
    toName: number,
    withheld: number,
  ): void {
    const made = this.madeStat;
    const isOwnerKept = this.setOwner(fd, this.emptyName, source, made);
    if (withheld !== 0) this.giveBack(this.changeModeOfPath(fd, made.permissions | withheld));
    if (this.keepsXattr || this.keepsAcl || this.keepsMode) this.copyByPath(fromDirFd, fromName, source, toDirFd, toName);
    const mode = this.wantedMode(source, isOwnerKept);
    if (this.keepsMode && (mode !== made.permissions || !isOwnerKept)) {
      const result = this.changeModeOfPath(fd, mode);
      if (result < 0) this.lost("mode", -result, "fchmodat");
    }
    this.setTimes(fd, this.emptyName, source, At.AT_EMPTY_PATH);
  }

  /** fchmod refuses O_PATH descriptors; their name in /proc leads to the inode itself. */
  private changeModeOfPath(fd: number, mode: number): number {
    this.procPath(this.destinationPath, fd, 0);
    return libc.fchmodat(At.AT_FDCWD, this.destinationPath, mode);
  }

  private giveBack(result: number): void {
    if (result < 0) this.lost("mode", -result, "fchmod");
  }

  private listXattrs(access: XattrAccess, file: number, device: number): boolean {
    if (!this.keepsXattr && !this.keepsAcl && !this.keepsMode) return false;
    if (this.devicesWithoutXattrs.size > 0 && this.devicesWithoutXattrs.has(device)) {
      this.xattrs.forget();
      return false;
    }
    const result = this.xattrs.list(access, file);
    if (result >= 0) return true;
    if (result === -Errno.EOPNOTSUPP || result === -Errno.ENOSYS) this.devicesWithoutXattrs.add(device);
    // EBADF: a directory that may not be read, held by an O_PATH descriptor; that was reported already.
    else if (result !== -Errno.EBADF) this.lost("xattr", -result, "flistxattr");
    return false;
  }

  /** Returns whether the destination now has the source's owner and group. */
  private setOwner(fd: number, name: number, source: Stat, now: { readonly uid: number; readonly gid: number }): boolean {
    const { uid, gid } = source;
    if (uid === now.uid && gid === now.gid) return true;
    return this.keepsOwner && this.changeOwner(fd, name, uid, gid, At.AT_EMPTY_PATH);
  }

  private changeOwner(dirFd: number, name: number, uid: number, gid: number, flags: number): boolean {
    const result = libc.fchownat(dirFd, name, uid, gid, flags);
    if (result >= 0) return true;
    // Giving files away is root's; giving them to one's own groups is everybody's (as GNU cp does).
    if (result === -Errno.EPERM || result === -Errno.EINVAL) libc.fchownat(dirFd, name, keep, gid, flags);
    this.lost("owner", -result, "fchown");
    return false;
  }

  /** A file that runs as its owner or group must not do so for somebody the source did not name (rule 20). */
  private wantedMode(source: Stat, isOwnerKept: boolean): number {
    return isOwnerKept ? source.permissions : source.permissions & ~setIdBits;
  }

  private setMode(fd: number, wanted: number, now: number, source: Stat, created: Created): void {
    // A change of owner has cleared setuid and setgid, so that equal modes may differ by now.
    const isUnchanged = source.uid === created.uid && source.gid === created.gid;
    if (wanted === now && (isUnchanged || (wanted & setIdBits) === 0)) return;
    const result = libc.fchmod(fd, wanted);
    if (result < 0) this.lost("mode", -result, "fchmod");
  }

  private setAcls(sourceFd: number, source: Stat, destinationFd: number, created: Created, isListed: boolean, isOwnerKept: boolean): void {
    if (created.inheritsAcl !== false) this.xattrs.removeInheritedAcls("descriptor", destinationFd, source.type === Mode.S_IFDIR);
    if (!isListed || (!this.xattrs.hasAccessAcl && !this.xattrs.hasDefaultAcl)) return;
    let groupBits = -1;
    if (this.keepsAcl) {
      this.xattrs.copyAcls("descriptor", sourceFd, destinationFd);
      groupBits = this.xattrs.lostGroupBits;
    } else if (this.xattrs.hasAccessAcl) groupBits = this.xattrs.readGroupBits("descriptor", sourceFd);
    if (groupBits < 0 || !this.keepsMode) return;
    // With an ACL the mode's group bits are its mask. Without it they would give the owning group what only named users had.
    const wanted = this.wantedMode(source, isOwnerKept);
    const result = libc.fchmod(destinationFd, (wanted & ~0o070) | (wanted & (groupBits << 3)));
    if (result < 0) this.lost("mode", -result, "fchmod");
  }

  private setTimes(dirFd: number, name: number, source: Stat, flags: number): void {
    if (!this.keepsTimes) return;
    source.copyTimes(this.arena.memory.u32, this.timesIndex);
    const result = libc.utimensat(dirFd, name, this.times, flags);
    if (result < 0) this.lost("times", -result, "utimensat");
  }

  /** No call sets attributes by descriptor and name: the descriptor's directory in /proc stands for it. */
  private copyByPath(sourceDirFd: number, sourceName: number, source: Stat, destinationDirFd: number, destinationName: number): void {
    this.procPath(this.sourcePath, sourceDirFd, sourceName);
    this.procPath(this.destinationPath, destinationDirFd, destinationName);
    const isListed = this.listXattrs("path", this.sourcePath, source.device);
    const mayHaveAcl = source.type !== Mode.S_IFLNK && (this.keepsAcl || this.keepsMode);
    if (mayHaveAcl) this.xattrs.removeInheritedAcls("path", this.destinationPath, false);
    if (!isListed) return;
    if (this.keepsXattr) this.xattrs.copyPlain("path", this.sourcePath, this.destinationPath);
    if (this.keepsAcl) this.xattrs.copyAcls("path", this.sourcePath, this.destinationPath);
  }

  /** Writes "/proc/self/fd/N" and, for a name other than 0, "/name" as a C string. AT_FDCWD is "." */
  private procPath(address: number, fd: number, name: number): void {
    const bytes = this.arena.memory.bytes;
    const start = address - this.arena.memory.address;
    let at = start;
    const prefix = fd === At.AT_FDCWD ? "." : `/proc/self/fd/${fd}`;
    for (let index = 0; index < prefix.length; index++) bytes[at++] = prefix.charCodeAt(index);
    if (name !== 0) {
      bytes[at++] = 0x2f;
      libc.stpcpy(address + (at - start), name);
    } else bytes[at] = 0;
  }
}
