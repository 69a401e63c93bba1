// Extended attributes and ACLs from one file to another: which travel, which losses are expected, and what an ACL's loss means.

import { Errno } from "../errno.ts";
import { libc } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import type { PreserveAttribute } from "../request.ts";

/** XATTR_LIST_MAX and XATTR_SIZE_MAX of linux/limits.h: no list and no value is longer. */
const maxListBytes = 65536;
const maxValueBytes = 65536;
const maxNameBytes = 256;

/** "descriptor": files are descriptors; "path": addresses of C strings, a final symlink not followed. */
export type XattrAccess = "descriptor" | "path";
export type Lost = (attribute: PreserveAttribute, errno: number, syscall: string) => void;
type NameKind = "plain" | "quiet" | "acl" | "never";

/** What the kernel or another filesystem keeps for itself; copying it is refused or wrong (see attr's xattr.conf). */
const neverPrefixes = ["trusted.SGI_", "xfsroot.", "afs.", "security.evm"] as const;
/** Namespaces that belong to a security policy or to one filesystem: where they are refused, GNU cp -a is silent too. */
const quietPrefixes = ["security.selinux", "trusted.", "btrfs.", "system."] as const;
/** Access rules in attributes: POSIX ACLs, and those of NFSv4 which the server translates. */
const aclNames: ReadonlySet<string> = new Set([
  "system.posix_acl_access",
  "system.posix_acl_default",
  "system.nfs4_acl",
  "system.nfs4_dacl",
  "system.nfs4_sacl",
]);
const refusals: ReadonlySet<number> = new Set([Errno.EPERM, Errno.EACCES, Errno.EOPNOTSUPP, Errno.EINVAL, Errno.ENOSYS]);

/** Copies attributes with its own buffers; a lane owns one. */
export class XattrCopier {
  /** After list(): whether the source has attributes besides ACLs, an access ACL, a default ACL. */
  hasPlain = false;
  hasAccessAcl = false;
  hasDefaultAcl = false;
  /** After copyAcls(): the owning group's own permission bits of an access ACL that was lost; -1: none was lost. */
  lostGroupBits = -1;

  private readonly lost: Lost;
  private readonly arena = new Arena(maxListBytes + maxValueBytes + 2 * maxNameBytes);
  private readonly listAt: number;
  private readonly valueAt: number;
  private readonly nameAt: number;
  private readonly accessAclName: number;
  private readonly defaultAclName: number;
  private names: string[] = [];
  private readonly none: string[] = [];

  constructor(lost: Lost) {
    this.lost = lost;
    this.listAt = this.arena.allocate(maxListBytes);
    this.valueAt = this.arena.allocate(maxValueBytes);
    this.nameAt = this.arena.allocate(maxNameBytes);
    this.accessAclName = this.arena.cstring("system.posix_acl_access");
    this.defaultAclName = this.arena.cstring("system.posix_acl_default");
  }

  /** Looks at what a file has. Returns 0 or -errno (EOPNOTSUPP: no file of this filesystem has any). hot: one call for most files. */
  list(access: XattrAccess, file: number): number {
    this.forget();
    const length =
      access === "descriptor" ? libc.flistxattr(file, this.listAt, maxListBytes) : libc.llistxattr(file, this.listAt, maxListBytes);
    if (length <= 0) return length;
    const start = this.listAt - this.arena.memory.address;
    const text = Buffer.from(this.arena.memory.bytes.buffer, start, length - 1).toString("latin1");
    this.names = text.split("\0");
    for (const name of this.names) {
      if (name === "system.posix_acl_access") this.hasAccessAcl = true;
      else if (name === "system.posix_acl_default") this.hasDefaultAcl = true;
      if (kindOf(name) !== "acl" && kindOf(name) !== "never") this.hasPlain = true;
    }
    return 0;
  }

  /** The bytes of a file's list of names, or -errno. hot: */
  count(fd: number): number {
    return libc.flistxattr(fd, this.listAt, maxListBytes);
  }

  /** As if list() had found nothing. */
  forget(): void {
    this.names = this.none;
    this.hasPlain = false;
    this.hasAccessAcl = false;
    this.hasDefaultAcl = false;
  }

  /** Copies what list() found except ACLs. Each loss that nobody expects is reported as "xattr". */
  copyPlain(access: XattrAccess, source: number, destination: number): void {
    for (const name of this.names) {
      const kind = kindOf(name);
      if (kind === "plain" || kind === "quiet") this.copyOne(access, source, destination, name, kind);
    }
  }

  /** Copies the ACLs that list() found, default ACLs included. Losses are reported as "acl". */
  copyAcls(access: XattrAccess, source: number, destination: number): void {
    this.lostGroupBits = -1;
    for (const name of this.names) if (kindOf(name) === "acl") this.copyOne(access, source, destination, name, "acl");
  }

  /** Reads the source's access ACL only to learn what its owning group may: for a copy of the mode without the ACL. */
  readGroupBits(access: XattrAccess, source: number): number {
    const length = this.get(access, source, this.accessAclName);
    return length < 0 ? -1 : this.groupBits(length);
  }

  /** Removes ACLs that a fresh file got from its directory and its source does not have. */
  removeInheritedAcls(access: XattrAccess, destination: number, isDirectory: boolean): void {
    if (!this.hasAccessAcl) this.removeAcl(access, destination, this.accessAclName);
    if (isDirectory && !this.hasDefaultAcl) this.removeAcl(access, destination, this.defaultAclName);
  }

  /** True when files made in this directory get an ACL from it. */
  hasDefault(directoryFd: number): boolean {
    return libc.fgetxattr(directoryFd, this.defaultAclName, this.valueAt, maxValueBytes) > 0;
  }

  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }

  private copyOne(access: XattrAccess, source: number, destination: number, name: string, kind: NameKind): void {
    const address = this.cstring(name);
    const length = this.get(access, source, address);
    // Removed since it was listed: the source does not have it either.
    if (length === -Errno.ENODATA) return;
    if (length < 0) {
      if (kind !== "quiet" || !refusals.has(-length)) this.lost(kind === "acl" ? "acl" : "xattr", -length, "fgetxattr");
      return;
    }
    const result =
      access === "descriptor"
        ? libc.fsetxattr(destination, address, this.valueAt, length, 0)
        : libc.lsetxattr(destination, address, this.valueAt, length, 0);
    if (result >= 0 || (kind === "quiet" && refusals.has(-result))) return;
    if (name === "system.posix_acl_access") this.lostGroupBits = this.groupBits(length);
    this.lost(kind === "acl" ? "acl" : "xattr", -result, "fsetxattr");
  }

  private get(access: XattrAccess, file: number, name: number): number {
    return access === "descriptor"
      ? libc.fgetxattr(file, name, this.valueAt, maxValueBytes)
      : libc.lgetxattr(file, name, this.valueAt, maxValueBytes);
  }

  /** Asks before it removes: removing what is not there succeeds too, but costs a transaction of the filesystem. */
  private removeAcl(access: XattrAccess, destination: number, name: number): void {
    if (this.get(access, destination, name) <= 0) return;
    const result = access === "descriptor" ? libc.fremovexattr(destination, name) : libc.lremovexattr(destination, name);
    if (result < 0 && result !== -Errno.ENODATA) this.lost("acl", -result, "fremovexattr");
  }

  /** The ACL_GROUP_OBJ entry of the ACL in the value buffer (linux/posix_acl_xattr.h: version, then tag, permission, id). */
  private groupBits(length: number): number {
    const start = this.valueAt - this.arena.memory.address;
    const view = new DataView(this.arena.memory.bytes.buffer, start, length);
    for (let at = 4; at + 8 <= length; at += 8) if (view.getUint16(at, true) === 0x04) return view.getUint16(at + 2, true) & 7;
    return 0;
  }

  private cstring(name: string): number {
    const start = this.nameAt - this.arena.memory.address;
    const length = Math.min(name.length, maxNameBytes - 1);
    const bytes = this.arena.memory.bytes;
    for (let index = 0; index < length; index++) bytes[start + index] = name.charCodeAt(index);
    bytes[start + length] = 0;
    return this.nameAt;
  }
}

function kindOf(name: string): NameKind {
  if (aclNames.has(name)) return "acl";
  if (neverPrefixes.some((prefix) => name.startsWith(prefix))) return "never";
  return quietPrefixes.some((prefix) => name.startsWith(prefix)) ? "quiet" : "plain";
}
