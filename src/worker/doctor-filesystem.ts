// What a filesystem can do for a copy, found out by doing it with unnamed files in a directory that may be written to.

import type { ByteString } from "../bytes.ts";
import { Errno, errnoName, errnoText } from "../errno.ts";
import { layout } from "../ffi/layout.ts";
import { At, Ioctl, libc, Open, Seek } from "../ffi/libc.ts";
import { Arena } from "../ffi/memory.ts";
import { filesystemName } from "./filesystem-names.ts";

export interface Check {
  readonly name: string;
  /** "unknown": it could not be tried, and `detail` says why. */
  readonly verdict: "ok" | "no" | "unknown";
  /** What was found, and what it means for a copy. */
  readonly detail: string;
  /** What somebody can do about it; "" where there is nothing to do. */
  readonly remedy: string;
}

export interface FilesystemReport {
  /** As given, one character per byte. */
  readonly path: ByteString;
  /** "ext2/3/4", "xfs", ...; "" where the path could not be opened. */
  readonly filesystem: string;
  readonly checks: readonly Check[];
}

const RWF_DONTCACHE = 0x80;
const holeBytes = 1024 * 1024;
const blockBytes = 4096;

/** Examines the filesystem a path lies on; for something that is no directory, in the directory that holds it. Never throws for an errno. */
export function examineFilesystem(path: ByteString): FilesystemReport {
  using arena = new Arena(64 * 1024);
  const opened = openDirectory(arena, path);
  if (opened < 0) return { path, filesystem: "", checks: [unknown("open", `cannot open it: ${errnoText(-opened)}`)] };
  const filesystem = typeOf(arena, opened);
  const probe = Probe.create(arena, opened);
  const checks = typeof probe === "number" ? [notWritable(-probe)] : probe.run();
  libc.close(opened);
  return { path, filesystem, checks };
}

function openDirectory(arena: Arena, path: ByteString): number {
  const flags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC;
  const fd = libc.openat(At.AT_FDCWD, arena.cstring(path), flags, 0);
  if (fd !== -Errno.ENOTDIR) return fd;
  const slash = path.lastIndexOf("/");
  return libc.openat(At.AT_FDCWD, arena.cstring(slash < 0 ? "." : path.slice(0, slash + 1)), flags, 0);
}

function typeOf(arena: Arena, fd: number): string {
  const buffer = arena.allocate(layout.statfs.size);
  const returned = libc.fstatfs(fd, buffer);
  if (returned < 0) return "";
  return filesystemName(arena.memory.u32[(buffer - arena.memory.address + layout.statfs.f_type) / 4] ?? 0);
}

function notWritable(errno: number): Check {
  return unknown("write", `nothing can be written here, so nothing was tried: ${errnoText(errno)}`);
}

/** Two files that nobody sees, and one attempt of each kind. */
class Probe {
  private readonly arena: Arena;
  private readonly source: number;
  private readonly destination: number;
  private readonly anonymous: Check;
  private readonly block: number;

  /** A Probe or -errno where no file can be made. */
  static create(arena: Arena, directory: number): Probe | number {
    const source = openAnonymous(arena, directory);
    if (source >= 0) return new Probe(arena, source, openAnonymous(arena, directory), ok("O_TMPFILE", anonymousHelps));
    const named = openUnlinked(arena, directory, "source");
    if (named < 0) return named;
    const detail = `${errnoName(-source)}: new files get a temporary name until they are whole; a crash may leave one behind`;
    return new Probe(arena, named, openUnlinked(arena, directory, "destination"), no("O_TMPFILE", detail));
  }

  private constructor(arena: Arena, source: number, destination: number, anonymous: Check) {
    this.arena = arena;
    this.source = source;
    this.destination = destination;
    this.anonymous = anonymous;
    this.block = arena.allocate(blockBytes);
  }

  /** Every check, in the order a person wants to read them; the files are gone afterwards. */
  run(): Check[] {
    const written = libc.pwrite(this.source, this.block, blockBytes, holeBytes);
    const checks =
      this.destination < 0 || written !== blockBytes
        ? [notWritable(written < 0 ? -written : Errno.ENOSPC)]
        : [
            this.anonymous,
            this.reflink(),
            this.copyFileRange(),
            this.holes(),
            this.preallocation(),
            ...this.attributes(),
            this.direct(),
            this.dontCache(),
          ];
    libc.close(this.source);
    if (this.destination >= 0) libc.close(this.destination);
    return checks;
  }

  private reflink(): Check {
    const returned = libc.ioctl(this.destination, Ioctl.FICLONE, this.source);
    if (returned >= 0) return ok("reflink", "files on this filesystem are cloned in no time and share their blocks");
    const detail = `${errnoName(-returned)}: files are copied byte by byte`;
    return no("reflink", detail, "btrfs clones, xfs made with reflink=1 (the default since 2019) and zfs with block_cloning too.");
  }

  private copyFileRange(): Check {
    const offset = this.arena.allocate(8);
    const words = new BigInt64Array(this.arena.memory.u32.buffer, offset - this.arena.memory.address, 1);
    words[0] = BigInt(holeBytes);
    const returned = libc.copyFileRange(this.source, offset, this.destination, 0, blockBytes);
    if (returned > 0) return ok("copy_file_range", "the kernel copies within this filesystem by itself");
    return no("copy_file_range", `${returned < 0 ? errnoName(-returned) : "nothing copied"}: io_uring, splice or read/write serve`);
  }

  private holes(): Check {
    const data = libc.lseek(this.source, 0, Seek.DATA);
    if (data > 0) return ok("SEEK_HOLE", "holes of sparse files are found and kept");
    return no("SEEK_HOLE", "holes are not reported: sparse files are read whole; sparse=always finds zeros", "Copy with sparse=always.");
  }

  private preallocation(): Check {
    const returned = libc.fallocate(this.destination, 0, 0, 16 * blockBytes);
    if (returned >= 0) return ok("fallocate", "space is reserved before a large file is written");
    return no("fallocate", `${errnoName(-returned)}: a full disk shows only while writing`);
  }

  private attributes(): Check[] {
    const xattr = libc.fsetxattr(this.source, this.arena.cstring("user.copyd"), this.block, 4, 0);
    const acl = libc.fsetxattr(this.source, this.arena.cstring("system.posix_acl_access"), this.acl(), aclWords * 4, 0);
    const lost = (errno: number): string => `${errnoName(errno)}: they are lost in a copy to here, and the copy says so`;
    return [
      xattr >= 0
        ? ok("xattrs", "extended attributes are kept")
        : no("xattrs", lost(-xattr), "Use a filesystem with extended attributes; mount options such as nouser_xattr switch them off."),
      acl >= 0
        ? ok("ACLs", "POSIX access control lists are kept")
        : no("ACLs", lost(-acl), "Use a filesystem with POSIX ACLs, or mount it with the option acl."),
    ];
  }

  private direct(): Check {
    const path = this.arena.cstring(`/proc/self/fd/${this.source}`);
    const fd = libc.openat(At.AT_FDCWD, path, Open.O_RDONLY | Open.O_DIRECT | Open.O_CLOEXEC, 0);
    if (fd >= 0) libc.close(fd);
    if (fd >= 0) return ok("O_DIRECT", "verifying reads the medium, past the page cache");
    if (fd === -Errno.ENOENT) return unknown("O_DIRECT", "/proc is not mounted");
    return no("O_DIRECT", `${errnoName(-fd)}: verifying drops the page cache and reads again`);
  }

  private dontCache(): Check {
    const iovec = this.arena.allocate(layout.iovec.size);
    const words = new BigUint64Array(this.arena.memory.u32.buffer, iovec - this.arena.memory.address, 2);
    words[0] = BigInt(this.block);
    words[1] = BigInt(blockBytes);
    const returned = libc.pwritev2(this.source, iovec, 1, 0, RWF_DONTCACHE);
    if (returned >= 0) return ok("RWF_DONTCACHE", "cache=drop leaves other programs' cache alone at no cost");
    const detail = `${errnoName(-returned)}: cache=drop writes back and drops pages behind the copy`;
    return no("RWF_DONTCACHE", detail, "ext4 and xfs have it from Linux 6.14 on.");
  }

  /** posix_acl_xattr(7): version 2; the owner rw-, user 65534 r--, the group r--, mask r--, others ---. */
  private acl(): number {
    const address = this.arena.allocate(aclWords * 4);
    const words = this.arena.memory.u32;
    const entries = [
      [0x01, 6, aclNoId],
      [0x02, 4, 65534],
      [0x04, 4, aclNoId],
      [0x10, 4, aclNoId],
      [0x20, 0, aclNoId],
    ] as const;
    let at = (address - this.arena.memory.address) / 4;
    words[at++] = 2;
    for (const [tag, permissions, id] of entries) {
      words[at++] = tag | (permissions << 16);
      words[at++] = id;
    }
    return address;
  }
}

const aclNoId = 0xffff_ffff;
const aclWords = 1 + 5 * 2;
const anonymousHelps = "new files have no name until they are whole; nothing is left over after a crash";

function openAnonymous(arena: Arena, directory: number): number {
  return libc.openat(directory, arena.cstring("."), Open.O_RDWR | Open.O_TMPFILE | Open.O_CLOEXEC, 0o600);
}

/** A named file whose name is gone at once. */
function openUnlinked(arena: Arena, directory: number, role: string): number {
  const name = arena.cstring(`.copyd-doctor-${process.pid}-${role}`);
  const fd = libc.openat(directory, name, Open.O_RDWR | Open.O_CREAT | Open.O_EXCL | Open.O_NOFOLLOW | Open.O_CLOEXEC, 0o600);
  if (fd >= 0) libc.unlinkat(directory, name, 0);
  return fd;
}

function ok(name: string, detail: string): Check {
  return { name, verdict: "ok", detail, remedy: "" };
}

function no(name: string, detail: string, remedy = ""): Check {
  return { name, verdict: "no", detail, remedy };
}

function unknown(name: string, detail: string): Check {
  return { name, verdict: "unknown", detail, remedy: "" };
}
