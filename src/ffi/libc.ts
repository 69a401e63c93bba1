// libc as C declares it, with one convention: every call returns a value >= 0, or -errno. Pointers and offsets are numbers.
//
// errno lives per thread and so does this module: each Worker thread loads its own instance, dlopen's libc again and asks
// for the address of its own errno once. It is read in the expression that follows the call, before anything else can run.

import { dlopen, FFIType, type Pointer, read } from "bun:ffi";

const declared = {
  __errno_location: { args: [], returns: "ptr" },
  openat: { args: ["i32", "ptr", "i32", "u32"], returns: "i32" },
  close: { args: ["i32"], returns: "i32" },
  dup: { args: ["i32"], returns: "i32" },
  dup3: { args: ["i32", "i32", "i32"], returns: "i32" },
  read: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  write: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  pread: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  pwrite: { args: ["i32", "ptr", "u64", "i64"], returns: FFIType.i64_fast },
  preadv2: { args: ["i32", "ptr", "i32", "i64", "i32"], returns: FFIType.i64_fast },
  pwritev2: { args: ["i32", "ptr", "i32", "i64", "i32"], returns: FFIType.i64_fast },
  lseek: { args: ["i32", "i64", "i32"], returns: FFIType.i64_fast },
  ftruncate: { args: ["i32", "i64"], returns: "i32" },
  fallocate: { args: ["i32", "i32", "i64", "i64"], returns: "i32" },
  copy_file_range: { args: ["i32", "ptr", "i32", "ptr", "u64", "u32"], returns: FFIType.i64_fast },
  splice: { args: ["i32", "ptr", "i32", "ptr", "u64", "u32"], returns: FFIType.i64_fast },
  pipe2: { args: ["ptr", "i32"], returns: "i32" },
  fcntl: { args: ["i32", "i32", "i64"], returns: "i32" },
  ioctl: { args: ["i32", "u64", "i64"], returns: "i32" },
  statx: { args: ["i32", "ptr", "i32", "u32", "ptr"], returns: "i32" },
  fstatfs: { args: ["i32", "ptr"], returns: "i32" },
  mkdirat: { args: ["i32", "ptr", "u32"], returns: "i32" },
  mknodat: { args: ["i32", "ptr", "u32", "u64"], returns: "i32" },
  symlinkat: { args: ["ptr", "i32", "ptr"], returns: "i32" },
  readlinkat: { args: ["i32", "ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  linkat: { args: ["i32", "ptr", "i32", "ptr", "i32"], returns: "i32" },
  unlinkat: { args: ["i32", "ptr", "i32"], returns: "i32" },
  renameat2: { args: ["i32", "ptr", "i32", "ptr", "u32"], returns: "i32" },
  fchmod: { args: ["i32", "u32"], returns: "i32" },
  fchmodat: { args: ["i32", "ptr", "u32", "i32"], returns: "i32" },
  fchown: { args: ["i32", "u32", "u32"], returns: "i32" },
  fchownat: { args: ["i32", "ptr", "u32", "u32", "i32"], returns: "i32" },
  futimens: { args: ["i32", "ptr"], returns: "i32" },
  utimensat: { args: ["i32", "ptr", "ptr", "i32"], returns: "i32" },
  faccessat: { args: ["i32", "ptr", "i32", "i32"], returns: "i32" },
  flistxattr: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  fgetxattr: { args: ["i32", "ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  fsetxattr: { args: ["i32", "ptr", "ptr", "u64", "i32"], returns: "i32" },
  fremovexattr: { args: ["i32", "ptr"], returns: "i32" },
  llistxattr: { args: ["ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  lgetxattr: { args: ["ptr", "ptr", "ptr", "u64"], returns: FFIType.i64_fast },
  lsetxattr: { args: ["ptr", "ptr", "ptr", "u64", "i32"], returns: "i32" },
  lremovexattr: { args: ["ptr", "ptr"], returns: "i32" },
  stpcpy: { args: ["ptr", "ptr"], returns: FFIType.u64_fast },
  memccpy: { args: ["ptr", "ptr", "i32", "u64"], returns: FFIType.u64_fast },
  fsync: { args: ["i32"], returns: "i32" },
  fdatasync: { args: ["i32"], returns: "i32" },
  syncfs: { args: ["i32"], returns: "i32" },
  posix_fadvise: { args: ["i32", "i64", "i64", "i32"], returns: "i32" },
  sync_file_range: { args: ["i32", "i64", "i64", "u32"], returns: "i32" },
  getdents64: { args: ["i32", "ptr", "u64"], returns: FFIType.i64_fast },
  mmap: { args: ["u64", "u64", "i32", "i32", "i32", "i64"], returns: FFIType.i64_fast },
  munmap: { args: ["u64", "u64"], returns: "i32" },
  mincore: { args: ["u64", "u64", "ptr"], returns: "i32" },
  prctl: { args: ["i32", "u64", "u64", "u64", "u64"], returns: "i32" },
  umask: { args: ["u32"], returns: "u32" },
  getuid: { args: [], returns: "u32" },
  geteuid: { args: [], returns: "u32" },
  getegid: { args: [], returns: "u32" },
  getrlimit: { args: ["i32", "ptr"], returns: "i32" },
  setrlimit: { args: ["i32", "ptr"], returns: "i32" },
  getrusage: { args: ["i32", "ptr"], returns: "i32" },
  memfd_create: { args: ["ptr", "u32"], returns: "i32" },
  syscall: { args: ["i64", "i64", "i64", "i64", "i64", "i64", "i64"], returns: FFIType.i64_fast },
} as const;

/**
 * At run time an address is a number, and so is a 64-bit result that a number holds, which all of these are: said once, in types. Said in
 * code, it was a function called several times for each file.
 */
type Calls = { readonly [Name in keyof typeof declared]: (...args: Numbers<(typeof declared)[Name]["args"]>) => number };
type Numbers<Args extends readonly unknown[]> = { [Index in keyof Args]: number };
const c = dlopen("libc.so.6", declared).symbols as unknown as Calls;

const errnoAddress = c.__errno_location() as Pointer;

// hot: every call that reports through errno passes here; small enough for the JIT to inline.
function result(returned: number): number {
  return returned < 0 ? -read.i32(errnoAddress) : returned;
}

export const libc = {
  openat: (dirFd: number, path: number, flags: number, mode: number): number => result(c.openat(dirFd, path, flags, mode)),
  close: (fd: number): number => result(c.close(fd)),
  dup: (fd: number): number => result(c.dup(fd)),
  dup3: (fd: number, as: number, flags: number): number => result(c.dup3(fd, as, flags)),
  read: (fd: number, buffer: number, length: number): number => result(c.read(fd, buffer, length)),
  write: (fd: number, buffer: number, length: number): number => result(c.write(fd, buffer, length)),
  pread: (fd: number, buffer: number, length: number, offset: number): number => result(c.pread(fd, buffer, length, offset)),
  pwrite: (fd: number, buffer: number, length: number, offset: number): number => result(c.pwrite(fd, buffer, length, offset)),
  /** `iovecs` is the address of struct iovec: two 64-bit numbers each, address and length. */
  preadv2: (fd: number, iovecs: number, count: number, offset: number, flags: number): number =>
    result(c.preadv2(fd, iovecs, count, offset, flags)),
  pwritev2: (fd: number, iovecs: number, count: number, offset: number, flags: number): number =>
    result(c.pwritev2(fd, iovecs, count, offset, flags)),
  lseek: (fd: number, offset: number, whence: number): number => result(c.lseek(fd, offset, whence)),
  ftruncate: (fd: number, length: number): number => result(c.ftruncate(fd, length)),
  fallocate: (fd: number, mode: number, offset: number, length: number): number => result(c.fallocate(fd, mode, offset, length)),
  /** Offsets are addresses of 64-bit integers, or 0 for the file position. */
  copyFileRange: (fdIn: number, offsetIn: number, fdOut: number, offsetOut: number, length: number): number =>
    result(c.copy_file_range(fdIn, offsetIn, fdOut, offsetOut, length, 0)),
  splice: (fdIn: number, offsetIn: number, fdOut: number, offsetOut: number, length: number, flags: number): number =>
    result(c.splice(fdIn, offsetIn, fdOut, offsetOut, length, flags)),
  pipe2: (fds: number, flags: number): number => result(c.pipe2(fds, flags)),
  fcntl: (fd: number, command: number, argument: number): number => result(c.fcntl(fd, command, argument)),
  ioctl: (fd: number, request: number, argument: number): number => result(c.ioctl(fd, request, argument)),
  statx: (dirFd: number, path: number, flags: number, mask: number, buffer: number): number =>
    result(c.statx(dirFd, path, flags, mask, buffer)),
  fstatfs: (fd: number, buffer: number): number => result(c.fstatfs(fd, buffer)),
  mkdirat: (dirFd: number, path: number, mode: number): number => result(c.mkdirat(dirFd, path, mode)),
  /** `device` as the kernel's dev_t, from makeDevice(). */
  mknodat: (dirFd: number, path: number, mode: number, device: number): number => result(c.mknodat(dirFd, path, mode, device)),
  symlinkat: (target: number, dirFd: number, path: number): number => result(c.symlinkat(target, dirFd, path)),
  readlinkat: (dirFd: number, path: number, buffer: number, length: number): number => result(c.readlinkat(dirFd, path, buffer, length)),
  linkat: (oldDirFd: number, oldPath: number, newDirFd: number, newPath: number, flags: number): number =>
    result(c.linkat(oldDirFd, oldPath, newDirFd, newPath, flags)),
  unlinkat: (dirFd: number, path: number, flags: number): number => result(c.unlinkat(dirFd, path, flags)),
  renameat2: (oldDirFd: number, oldPath: number, newDirFd: number, newPath: number, flags: number): number =>
    result(c.renameat2(oldDirFd, oldPath, newDirFd, newPath, flags)),
  fchmod: (fd: number, mode: number): number => result(c.fchmod(fd, mode)),
  fchmodat: (dirFd: number, path: number, mode: number): number => result(c.fchmodat(dirFd, path, mode, 0)),
  fchown: (fd: number, uid: number, gid: number): number => result(c.fchown(fd, uid, gid)),
  fchownat: (dirFd: number, path: number, uid: number, gid: number, flags: number): number =>
    result(c.fchownat(dirFd, path, uid, gid, flags)),
  /** `times` is the address of two struct timespec: access, then modification. */
  futimens: (fd: number, times: number): number => result(c.futimens(fd, times)),
  utimensat: (dirFd: number, path: number, times: number, flags: number): number => result(c.utimensat(dirFd, path, times, flags)),
  faccessat: (dirFd: number, path: number, mode: number, flags: number): number => result(c.faccessat(dirFd, path, mode, flags)),
  flistxattr: (fd: number, list: number, length: number): number => result(c.flistxattr(fd, list, length)),
  fgetxattr: (fd: number, name: number, value: number, length: number): number => result(c.fgetxattr(fd, name, value, length)),
  fsetxattr: (fd: number, name: number, value: number, length: number, flags: number): number =>
    result(c.fsetxattr(fd, name, value, length, flags)),
  fremovexattr: (fd: number, name: number): number => result(c.fremovexattr(fd, name)),
  llistxattr: (path: number, list: number, length: number): number => result(c.llistxattr(path, list, length)),
  lgetxattr: (path: number, name: number, value: number, length: number): number => result(c.lgetxattr(path, name, value, length)),
  lsetxattr: (path: number, name: number, value: number, length: number, flags: number): number =>
    result(c.lsetxattr(path, name, value, length, flags)),
  lremovexattr: (path: number, name: number): number => result(c.lremovexattr(path, name)),
  /** Copies a C string to an address; returns the address of the NUL it ended with. */
  stpcpy: (destination: number, source: number): number => c.stpcpy(destination, source),
  /** Copies bytes up to and with the first `last`, `most` at most; returns the address behind it, 0 where it is not among them. */
  memccpy: (destination: number, source: number, last: number, most: number): number => c.memccpy(destination, source, last, most),
  fsync: (fd: number): number => result(c.fsync(fd)),
  fdatasync: (fd: number): number => result(c.fdatasync(fd)),
  syncfs: (fd: number): number => result(c.syncfs(fd)),
  /** Returns its errno instead of setting it (posix_fadvise(2)). */
  posixFadvise: (fd: number, offset: number, length: number, advice: number): number => -c.posix_fadvise(fd, offset, length, advice),
  syncFileRange: (fd: number, offset: number, length: number, flags: number): number =>
    result(c.sync_file_range(fd, offset, length, flags)),
  getdents64: (fd: number, buffer: number, length: number): number => result(c.getdents64(fd, buffer, length)),
  mmap: (address: number, length: number, protection: number, flags: number, fd: number, offset: number): number =>
    result(c.mmap(address, length, protection, flags, fd, offset)),
  munmap: (address: number, length: number): number => result(c.munmap(address, length)),
  /** `residency` is the address of one byte for each page. */
  mincore: (address: number, length: number, residency: number): number => result(c.mincore(address, length, residency)),
  prctl: (option: number, a = 0, b = 0, d = 0, e = 0): number => result(c.prctl(option, a, b, d, e)),
  /** Always succeeds; returns the mask before. */
  umask: (mask: number): number => c.umask(mask),
  getuid: (): number => c.getuid(),
  geteuid: (): number => c.geteuid(),
  getegid: (): number => c.getegid(),
  /** `limits` is the address of a struct rlimit: two 64-bit integers, soft and hard. */
  getrlimit: (resource: number, limits: number): number => result(c.getrlimit(resource, limits)),
  setrlimit: (resource: number, limits: number): number => result(c.setrlimit(resource, limits)),
  /** `usage` is the address of a struct rusage. */
  getrusage: (who: number, usage: number): number => result(c.getrusage(who, usage)),
  memfdCreate: (name: number, flags: number): number => result(c.memfd_create(name, flags)),
  /** For calls that glibc 2.36 does not export; the numbers are in syscallNumbers. */
  syscall: (number: number, a = 0, b = 0, d = 0, e = 0, f = 0, g = 0): number => result(c.syscall(number, a, b, d, e, f, g)),
} as const;

const aarch64 = process.arch === "arm64";

/** System call numbers; those above 423 are the same on every architecture (asm/unistd.h). */
export const syscallNumbers = {
  setpriority: aarch64 ? 140 : 141,
  ioprio_set: aarch64 ? 30 : 251,
  fchdir: aarch64 ? 50 : 81,
  sync: aarch64 ? 81 : 162,
  flock: aarch64 ? 32 : 73,
  openat2: 437,
  landlock_create_ruleset: 444,
  landlock_add_rule: 445,
  landlock_restrict_self: 446,
} as const;

/** open(2) flags; three of them differ between x86-64 and aarch64. */
export const Open = {
  O_RDONLY: 0,
  O_WRONLY: 1,
  O_RDWR: 2,
  O_CREAT: 0o100,
  O_EXCL: 0o200,
  O_NOCTTY: 0o400,
  O_TRUNC: 0o1000,
  O_APPEND: 0o2000,
  O_NONBLOCK: 0o4000,
  O_NOATIME: 0o1000000,
  O_CLOEXEC: 0o2000000,
  O_PATH: 0o10000000,
  O_DIRECT: aarch64 ? 0o200000 : 0o40000,
  O_DIRECTORY: aarch64 ? 0o40000 : 0o200000,
  O_NOFOLLOW: aarch64 ? 0o100000 : 0o400000,
  O_TMPFILE: 0o20000000 | (aarch64 ? 0o40000 : 0o200000),
} as const;

export const At = {
  AT_FDCWD: -100,
  AT_SYMLINK_NOFOLLOW: 0x100,
  AT_REMOVEDIR: 0x200,
  /** faccessat(2) takes the same bit as another flag. */
  AT_EACCESS: 0x200,
  AT_SYMLINK_FOLLOW: 0x400,
  AT_EMPTY_PATH: 0x1000,
} as const;

/** openat2(2) resolve flags. */
export const Resolve = { NO_XDEV: 1, NO_MAGICLINKS: 2, NO_SYMLINKS: 4, BENEATH: 8, IN_ROOT: 16 } as const;
export const Rename = { NOREPLACE: 1, EXCHANGE: 2 } as const;
export const Seek = { SET: 0, CUR: 1, END: 2, DATA: 3, HOLE: 4 } as const;
export const Statx = { BASIC_STATS: 0x7ff, BTIME: 0x800, ATTR_MOUNT_ROOT: 0x2000 } as const;
/** File types of st_mode. */
export const Mode = {
  S_IFMT: 0o170000,
  S_IFSOCK: 0o140000,
  S_IFLNK: 0o120000,
  S_IFREG: 0o100000,
  S_IFBLK: 0o60000,
  S_IFDIR: 0o40000,
  S_IFCHR: 0o20000,
  S_IFIFO: 0o10000,
} as const;
/** d_type of getdents64(2). */
export const DirentType = { UNKNOWN: 0, FIFO: 1, CHR: 2, DIR: 4, BLK: 6, REG: 8, LNK: 10, SOCK: 12 } as const;
export const Falloc = { KEEP_SIZE: 1, PUNCH_HOLE: 2, ZERO_RANGE: 16 } as const;
export const Fadvise = { NORMAL: 0, RANDOM: 1, SEQUENTIAL: 2, WILLNEED: 3, DONTNEED: 4, NOREUSE: 5 } as const;
export const Mmap = {
  PROT_READ: 1,
  PROT_WRITE: 2,
  MAP_SHARED: 1,
  MAP_PRIVATE: 2,
  MAP_ANONYMOUS: 0x20,
  MAP_NORESERVE: 0x4000,
  MAP_POPULATE: 0x8000,
} as const;
export const Ioctl = { FICLONE: 0x40049409, FICLONERANGE: 0x4020940d } as const;
export const UTIME_OMIT = 0x3ffffffe;
export const UTIME_NOW = 0x3fffffff;

/** dev_t as mknod(2) takes it (sys/sysmacros.h makedev); exact for minors below 2^20, which Linux guarantees. */
export function makeDevice(major: number, minor: number): number {
  return (minor & 0xff) + (major & 0xfff) * 0x100 + (minor >>> 8) * 0x100000;
}
