// The arguments of a job: where each source goes, and what must be refused before anything is opened for writing (rule 15).

import { Errno } from "../errno.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Directory, type DirectoryFields } from "./directory.ts";
import { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { Mover } from "./move.ts";
import { joinPath } from "./reporter.ts";
import type { TreeCopier } from "./tree-copier.ts";

const pathFlags = Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC;

/** The leader's part: resolves the destination and hands each source to the tree copier. */
export class ArgumentCopier {
  private readonly context: LaneContext;
  private readonly tree: TreeCopier;
  private isDirectory = false;
  /** What was made for earlier arguments, by final path: cp never overwrites what it has just made. */
  private readonly madeBy = new Map<string, number>();

  /** Sources that a move copied because they could not be renamed. */
  readonly toRemove: { readonly argument: number; readonly destinationRoot: string }[] = [];
  private readonly mover: Mover | null;
  private isSecondName = false;

  constructor(context: LaneContext, tree: TreeCopier) {
    this.context = context;
    this.tree = tree;
    this.mover = context.request.operation === "move" ? new Mover(context) : null;
  }

  /** Copies (or renames) all sources in order; failures are reported. */
  copyAll(): void {
    if (!this.resolveDestination()) return;
    const { request, control } = this.context;
    for (let argument = 0; argument < request.sources.length; argument++) {
      if (!control.mayGoOn()) return;
      this.copyOne(argument);
    }
  }

  /** The final absolute path of an argument, or null for one that has no name of its own ("/", "."). */
  placeOf(argument: number): string | null {
    const { request, options } = this.context;
    if (!this.isDirectory) return stripSlashes(request.destination);
    const typed = options.gnu.names?.sources[argument] ?? "";
    if (options.gnu.parents) return joinPath(request.destination, stripSlashes(typed).replace(/^\/+/, ""));
    const name = baseName(request.sources[argument] ?? "");
    return name === "" ? null : joinPath(request.destination, name);
  }

  get intoDirectory(): boolean {
    return this.isDirectory;
  }

  private resolveDestination(): boolean {
    const { request, options, destinationStat, arena } = this.context;
    const mark = arena.mark();
    const status = destinationStat.ofTarget(At.AT_FDCWD, arena.cstring(request.destination));
    arena.reset(mark);
    const isDirectory = status === 0 && destinationStat.type === Mode.S_IFDIR;
    const mustBe = options.target === "directory" || request.sources.length > 1 || (request.destination.endsWith("/") && !isDirectory);
    if (options.target === "exact" && request.sources.length === 1) return true;
    this.isDirectory = isDirectory;
    if (isDirectory || !mustBe) return true;
    // A single directory may be copied to "new/": mkdir takes the slash.
    if (request.sources.length === 1 && options.target === "auto" && options.recursive && status === -Errno.ENOENT) return true;
    const errno = status < 0 ? -status : Errno.ENOTDIR;
    const place = { argument: 0, path: "", destinationRoot: request.destination };
    const what = options.gnu.names === null ? "the destination %d" : options.target === "directory" ? "target directory %d" : "target %d";
    const code = errno === Errno.ENOENT ? ("destination-not-found" as const) : ("destination-not-directory" as const);
    this.context.reporter.fail({ place, side: "destination", errno, syscall: "statx", what, code });
    return false;
  }

  private copyOne(argument: number): void {
    const { request, options, arena, sourceStat, reporter } = this.context;
    const mark = arena.mark();
    const source = request.sources[argument] ?? "";
    const root = this.placeOf(argument) ?? request.destination;
    const place = { argument, path: "", destinationRoot: root };
    const name = arena.cstring(source);
    const follow = options.symlinks !== "copy";
    const status = follow ? sourceStat.ofTarget(At.AT_FDCWD, name) : sourceStat.ofName(At.AT_FDCWD, name);
    if (status < 0) {
      reporter.fail({ place, side: "source", errno: -status, syscall: "statx", what: "cannot stat %s" });
    } else if (sourceStat.type === Mode.S_IFDIR && !options.recursive) {
      const what = "-r not specified; omitting directory %s";
      reporter.fail({ place, side: "source", errno: 0, syscall: "", what, code: "source-is-directory" });
    } else if (this.isAllowed(argument, root)) {
      this.hand(argument, name, root, follow);
    }
    arena.reset(mark);
  }

  private hand(argument: number, sourceName: number, root: string, follow: boolean): void {
    const { arena } = this.context;
    const cut = root.lastIndexOf("/");
    const parentPath = cut <= 0 ? "/" : root.slice(0, cut);
    const parentFd = this.openParent(argument, parentPath, root);
    if (parentFd < 0) return;
    const fields: DirectoryFields = { ...noDirectory, destinationFd: parentFd, argument, destinationRoot: root };
    const entry = new Entry(new Directory(fields, -1, this.context.afterStat));
    entry.sourceName = sourceName;
    entry.name = arena.cstring(root.slice(cut + 1) || ".");
    entry.bytes = arena.memory.bytes;
    entry.at = entry.name - arena.memory.address;
    this.copyOrMove(entry, follow);
    libc.close(parentFd);
  }

  private copyOrMove(entry: Entry, follow: boolean): void {
    const { argument, destinationRoot } = entry.directory.fields;
    if (this.mover === null) {
      this.tree.copyArgument(entry, follow);
      return;
    }
    if (this.isSecondName) {
      this.mover.dropSecondName(entry);
      return;
    }
    const outcome = this.mover.rename(entry);
    if (outcome !== "copy") return;
    this.toRemove.push({ argument, destinationRoot });
    this.tree.copyArgument(entry, false);
  }

  private openParent(argument: number, parentPath: string, root: string): number {
    const { arena, reporter } = this.context;
    const fd = libc.openat(At.AT_FDCWD, arena.cstring(parentPath), pathFlags, 0);
    if (fd >= 0) return fd;
    const place = { argument, path: "", destinationRoot: root };
    reporter.fail({ place, side: "destination", errno: -fd, syscall: "openat", what: "cannot create %d", code: "destination-not-found" });
    return fd;
  }

  // Into itself: the destination's directory or one above it is the source. By device and inode, up to the root (rule 15).
  private isAllowed(argument: number, root: string): boolean {
    const { sourceStat, destinationStat, arena, reporter, options } = this.context;
    const place = { argument, path: "", destinationRoot: root };
    const mark = arena.mark();
    const isSame = destinationStat.ofTarget(At.AT_FDCWD, arena.cstring(root)) === 0 && destinationStat.isSameFile(sourceStat);
    const isOneName = destinationStat.ofName(At.AT_FDCWD, arena.cstring(root)) === 0 && destinationStat.isSameFile(sourceStat);
    const isDirectory = sourceStat.type === Mode.S_IFDIR;
    const isMove = this.mover !== null;
    this.isSecondName = isMove && isOneName && !isDirectory && options.onConflict === "overwrite" && !this.isSameName(argument, root);
    arena.reset(mark);
    if (this.isSecondName) return true;
    if ((isMove ? isOneName : isSame || isOneName) && !isDirectory && options.gnu.backup === "none" && options.onConflict !== "rename") {
      reporter.fail({ place, side: "source", errno: 0, syscall: "", what: "%s and %d are the same file", code: "same-file" });
      return false;
    }
    if (isDirectory && (isSame || this.isInside(root))) {
      reporter.fail({
        place,
        side: "source",
        errno: 0,
        syscall: "",
        what: isMove ? "cannot move %s to a subdirectory of itself, %d" : "cannot copy a directory, %s, into itself, %d",
        code: "into-itself",
      });
      return false;
    }
    const earlier = this.madeBy.get(root);
    this.madeBy.set(root, argument);
    if (earlier === undefined || isDirectory) return true;
    if (options.onConflict !== "overwrite") return true;
    const what = "will not overwrite just-created %d with %s";
    reporter.fail({ place, side: "destination", errno: 0, syscall: "", what, code: "destination-exists" });
    return false;
  }

  /** True when source and destination are one directory entry: same name in the same directory, however it was spelt. */
  private isSameName(argument: number, root: string): boolean {
    const { request, arena, destinationStat, afterStat } = this.context;
    const source = stripSlashes(request.sources[argument] ?? "");
    if (source.slice(source.lastIndexOf("/") + 1) !== root.slice(root.lastIndexOf("/") + 1)) return false;
    const parentOf = (path: string): number => arena.cstring(path.slice(0, path.lastIndexOf("/")) || "/");
    const isKnown = destinationStat.ofTarget(At.AT_FDCWD, parentOf(source)) === 0 && afterStat.ofTarget(At.AT_FDCWD, parentOf(root)) === 0;
    return !isKnown || destinationStat.isSameFile(afterStat);
  }

  /** True when context.sourceStat is the directory that `root` lies in, or one above it. */
  private isInside(root: string): boolean {
    const { arena, sourceStat, destinationStat, empty, afterStat } = this.context;
    const mark = arena.mark();
    const cut = root.lastIndexOf("/");
    let fd = libc.openat(At.AT_FDCWD, arena.cstring(cut <= 0 ? "/" : root.slice(0, cut)), pathFlags, 0);
    const up = arena.cstring("..");
    let inside = false;
    while (fd >= 0 && !inside && destinationStat.ofDescriptor(fd, empty) === 0) {
      inside = destinationStat.isSameFile(sourceStat);
      const next = libc.openat(fd, up, pathFlags, 0);
      const isRoot = next >= 0 && afterStat.ofDescriptor(next, empty) === 0 && afterStat.isSameFile(destinationStat);
      libc.close(fd);
      if (isRoot && next >= 0) libc.close(next);
      fd = isRoot ? -1 : next;
    }
    if (fd >= 0) libc.close(fd);
    arena.reset(mark);
    return inside;
  }
}

const noDirectory: DirectoryFields = {
  sourceFd: At.AT_FDCWD,
  destinationFd: -1,
  flags: 0,
  argument: 0,
  path: "",
  destinationRoot: "",
  createdUid: 0,
  createdGid: 0,
  createdMode: 0,
  argumentDevice: 0,
};

function stripSlashes(path: string): string {
  const stripped = path.replace(/\/+$/, "");
  return stripped === "" ? "/" : stripped;
}

/** The last component; "" for "/", "." and "..", whose contents go straight into the destination. */
function baseName(path: string): string {
  const stripped = path.replace(/\/+$/, "");
  const name = stripped.slice(stripped.lastIndexOf("/") + 1);
  return name === "." || name === ".." ? "" : name;
}
