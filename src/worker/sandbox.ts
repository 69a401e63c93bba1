// The worker's sandbox: Landlock to the job's own paths, worked out from the request and put on before anything is opened.
//
// It is the second lock. The first is that the worker is the caller: it can do nothing the caller may not do. This one holds a
// worker that was tricked (a directory swapped for a symlink, a bug of ours) to the job it was given. What it allows:
//  - each source is read, with everything below it, wherever it really lies; the directories above it need no right at all;
//  - the destination is written: the directory that it is, or that it will be made in;
//  - a move may also take the source away: its names in its parent directory, and all that lies below the source;
//  - `symlinks: follow` reads whatever the links lead to, which nobody knows before: then reading is not confined.
//  - `cp -l` gives the sources' files new names, which takes the rights they get there.
//  - the process's own /proc/self/statm is read, by the runtime;
//  - cp writes into existing files through symlinks at the destination: into what such an argument leads to, and, where a tree is
//    merged into one that exists, into any file, since nobody knows the links in it before. Nothing is made or removed there.
// A denied call fails with EACCES, or with EXDEV for a link or rename between directories, and the entry reports it.

import { resolve } from "node:path";
import { type ByteString, byteStringFromText } from "../bytes.ts";
import { Errno, errnoName, errnoText } from "../errno.ts";
import { Access, accessOfAbi, fileAccess, landlockAbi, Ruleset } from "../ffi/landlock.ts";
import { At, libc, Open } from "../ffi/libc.ts";
import { loadLiburing } from "../ffi/liburing.ts";
import { Arena } from "../ffi/memory.ts";
import type { JobRequest } from "../request.ts";

/** What a job may touch. Absolute paths, symlinks in them followed; one that is missing allows nothing and is no error. */
export interface SandboxPaths {
  /** Files and trees to read. */
  readonly readOnly: readonly ByteString[];
  /** Files and trees to read, write, fill and clear. */
  readonly readWrite: readonly ByteString[];
  /** Directories that something is moved out of: names in them (and below: Landlock knows no "only here") may go. */
  readonly removeFrom: readonly ByteString[];
  /** Directories whose files get hard links elsewhere. */
  readonly linkFrom: readonly ByteString[];
  /** Existing files, and trees with them, to write into. */
  readonly writeInto: readonly ByteString[];
}

export type SandboxResult =
  | { readonly confined: true; readonly abi: number }
  | {
      readonly confined: false;
      readonly abi: number;
      /** True where the kernel has no Landlock to offer; false where it has and putting it on failed. */
      readonly unavailable: boolean;
      readonly message: string;
      readonly remedy: string;
    };

/** ABI 1 (before Linux 5.19) forbids every hard link and rename between directories: copies would lose their hard links. */
const oldestUsefulAbi = 2;
/** landlock(7): the file lies in no filesystem with names (a pipe behind /dev/stdin); what has no path needs no rule. */
const EBADFD = 77;
const readAccess = Access.READ_FILE | Access.READ_DIR;
const removeAccess = Access.REMOVE_FILE | Access.REMOVE_DIR | Access.REFER;

/** The paths of one job. Looks at what the destination is now. */
export function sandboxPaths(request: JobRequest): SandboxPaths {
  const { sources, destination, options, operation } = request;
  const readOnly = options.symlinks === "follow" ? [everything] : sources;
  const intoDirectory = isDirectory(destination);
  // An exact destination is itself replaced, renamed or backed up: in its parent.
  const readWrite = intoDirectory && options.target !== "exact" ? [destination] : [destination, parentOf(destination)];
  if (options.gnu.keepDirectorySymlink) readWrite.push(everything);
  if (options.manifest !== "") readWrite.push(parentOf(options.manifest));
  const writeInto = operation === "copy" ? writtenThroughLinks(request, intoDirectory) : [];
  const paths = { readOnly, readWrite, removeFrom: [], linkFrom: [], writeInto };
  const isLinked = options.gnu.make === "hard-link";
  if (operation === "copy" && !isLinked) return paths;
  const parents = [...new Set(sources.map(parentOf))];
  // A file may not gain rights by a rename or a new link: what is moved or linked has those that it gets at the destination.
  if (options.gnu.exchange) return { ...paths, readWrite: [...readWrite, ...sources, ...parents] };
  const moved = { ...paths, readWrite: [...readWrite, ...sources] };
  return isLinked ? { ...moved, linkFrom: parents } : { ...moved, removeFrom: parents };
}

/** The paths of a dry run: it reads and writes nothing at all. Where names can be made there, it asks without making any. */
export function previewPaths(request: JobRequest): SandboxPaths {
  const { readOnly, readWrite } = sandboxPaths({ ...request, operation: "copy" });
  return { readOnly: [...readOnly, ...readWrite], readWrite: [], removeFrom: [], linkFrom: [], writeInto: [] };
}

const everything = "/" as ByteString;

/** What lies elsewhere and cp's contract has it write into: the ends of symlinks at the destination. */
function writtenThroughLinks({ sources, destination, options }: JobRequest, intoDirectory: boolean): readonly ByteString[] {
  const { gnu } = options;
  if (!gnu.inPlace || gnu.make !== "copy" || gnu.removeDestination || gnu.backup !== "none" || !intoDirectory) return [];
  const isInto = options.target !== "exact";
  if (options.recursive && (gnu.parents || !isInto)) return [everything];
  const places = isInto ? sources.map((source) => `${destination}/${lastNameOf(source)}` as ByteString) : [];
  return options.recursive && places.some(isDirectory) ? [everything] : places;
}

function lastNameOf(path: ByteString): string {
  const end = path.replace(/\/+$/, "");
  return end.slice(end.lastIndexOf("/") + 1);
}

/**
 * Confines this thread, and every thread started from it later, to these paths for good; never throws. Open descriptors, rings
 * made before and threads that exist already (Bun's own) keep what they could do: call it before lanes and rings are made.
 */
export function confine(paths: SandboxPaths): SandboxResult {
  const abi = landlockAbi();
  if (abi < oldestUsefulAbi) return unavailable(abi);
  // A library that is loaded already is found by every thread without opening a file.
  loadLiburing();
  const ruleset = Ruleset.create(abi);
  if (typeof ruleset === "number") return failed(abi, "landlock_create_ruleset", ruleset);
  using rules = ruleset;
  const all = accessOfAbi(abi) & ~Access.EXECUTE;
  const granted: readonly (readonly [readonly ByteString[], number])[] = [
    [runtimePaths(), readAccess],
    [paths.readOnly, readAccess],
    [paths.readWrite, all],
    [paths.removeFrom, removeAccess],
    [paths.linkFrom, Access.REFER],
    // Reading back for a verification included.
    [paths.writeInto, Access.WRITE_FILE | Access.TRUNCATE | Access.READ_FILE],
  ];
  for (const [list, access] of granted) {
    for (const path of list) {
      const returned = allow(rules, path, access);
      if (returned < 0) return failed(abi, "landlock_add_rule", returned);
    }
  }
  const returned = allowOwnMemorySize(rules);
  if (returned < 0) return failed(abi, "landlock_add_rule", returned);
  const restricted = rules.restrictThread();
  return restricted < 0 ? failed(abi, "landlock_restrict_self", restricted) : { confined: true, abi };
}

/** The compiled binary carries its code in its memory. From source, a new thread reads its own and what that imports. */
function runtimePaths(): ByteString[] {
  return Bun.main.startsWith("/$bunfs/") ? [] : [byteStringFromText(resolve(import.meta.dir, "../.."))];
}

const ownMemorySize = byteStringFromText("/proc/self/statm");

/**
 * The runtime looks how much memory the process has, at moments of its own: also between a failed call and the reading of its errno, which
 * a look that is denied would make EACCES (seen: a job that failed on a directory that was there already). One that succeeds leaves errno
 * alone. The descriptor stays open, for it holds the inode that the rule is for: the kernel may drop others of /proc and make them anew.
 */
function allowOwnMemorySize(rules: Ruleset): number {
  const found = open(ownMemorySize);
  if (found.kind === "missing") return 0;
  return found.kind === "error" ? found.errno : rules.allow(found.fd, Access.READ_FILE);
}

/** Allows `access` at a path. 0, also where nothing can be reached by this path: then there is nothing to allow. Else -errno. */
function allow(rules: Ruleset, path: ByteString, access: number): number {
  const found = open(path);
  switch (found.kind) {
    case "error":
      return found.errno;
    case "missing":
      return 0;
    case "directory":
    case "file": {
      const kept = found.kind === "directory" ? access : access & fileAccess;
      const returned = kept === 0 ? 0 : rules.allow(found.fd, kept);
      libc.close(found.fd);
      return returned === -EBADFD ? 0 : returned;
    }
  }
}

type Found =
  | { readonly kind: "directory" | "file"; readonly fd: number }
  | { readonly kind: "missing" }
  | { readonly kind: "error"; readonly errno: number };

/** Opens a path with O_PATH, symlinks followed: that needs no right on it, only on the way to it. */
function open(path: ByteString): Found {
  using arena = new Arena(path.length + 1);
  const name = arena.cstring(path);
  const directory = libc.openat(At.AT_FDCWD, name, Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC, 0);
  if (directory >= 0) return { kind: "directory", fd: directory };
  const fd = directory === -Errno.ENOTDIR ? libc.openat(At.AT_FDCWD, name, Open.O_PATH | Open.O_CLOEXEC, 0) : directory;
  if (fd >= 0) return { kind: "file", fd };
  return isOutOfResources(-fd) ? { kind: "error", errno: fd } : { kind: "missing" };
}

function isDirectory(path: ByteString): boolean {
  const found = open(path);
  if (found.kind === "directory" || found.kind === "file") libc.close(found.fd);
  return found.kind === "directory";
}

/** Failures that say nothing about the path; any other means that it cannot be reached, now and in the sandbox. */
function isOutOfResources(errno: number): boolean {
  return errno === Errno.EMFILE || errno === Errno.ENFILE || errno === Errno.ENOMEM || errno === Errno.EINTR;
}

/** The directory that holds a path's last name; slashes at its end do not count. */
function parentOf(path: ByteString): ByteString {
  const end = path.replace(/\/+$/, "");
  const slash = end.lastIndexOf("/");
  return (slash <= 0 ? "/" : end.slice(0, slash)) as ByteString;
}

function unavailable(abi: number): SandboxResult {
  const disabled = abi === -Errno.EOPNOTSUPP;
  const missing = abi === -Errno.ENOSYS || abi > 0;
  const message = disabled
    ? "Landlock is built into this kernel but switched off."
    : missing
      ? "This kernel has no Landlock that copyd can use, or a seccomp filter hides it."
      : `Landlock is forbidden here (${errnoName(-abi)}).`;
  const remedy = disabled
    ? 'Boot with lsm=landlock,... (the list that is in /sys/kernel/security/lsm, with "landlock" put first).'
    : "Use Linux 5.19 or later with CONFIG_SECURITY_LANDLOCK=y, and allow its three system calls in the container's or unit's filter.";
  return { confined: false, abi: Math.max(abi, 0), unavailable: true, message, remedy };
}

function failed(abi: number, syscall: string, returned: number): SandboxResult {
  const message = `The sandbox could not be put on: ${syscall}: ${errnoName(-returned)}, ${errnoText(-returned)}.`;
  const remedy = returned === -Errno.E2BIG ? "Start copyd outside the 16 sandboxes it is in." : "See the kernel's log.";
  return { confined: false, abi, unavailable: false, message, remedy };
}
