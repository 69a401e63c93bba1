// cp --parents: makes the directories of a source's own path below the destination, and gives them their attributes afterwards.

import { Errno } from "../errno.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import { Stat } from "../ffi/stat.ts";
import { parentOf, stripSlashes } from "./destination.ts";
import type { LaneContext } from "./lane-context.ts";
import { withholdsUntilOwned } from "./making.ts";

const directoryFlags = Open.O_RDONLY | Open.O_DIRECTORY | Open.O_CLOEXEC;

interface Parent {
  readonly source: string;
  readonly destination: string;
  readonly stat: Stat;
  /** The mode to give at the end, where the owner's bits were lent or others' withheld; -1: it has its own. */
  readonly ownMode: number;
}

export class ParentMaker {
  private readonly context: LaneContext;
  private readonly keepsMode: boolean;
  private readonly withholds: boolean;
  private readonly keepsAny: boolean;
  private made: Parent[] = [];
  /** What was gone through for an argument, in a resumed job: for the next one it stands there. */
  private readonly settled = new Set<string>();

  constructor(context: LaneContext) {
    this.context = context;
    const { preserve } = context;
    this.keepsMode = preserve.has("mode");
    this.withholds = withholdsUntilOwned(context);
    this.keepsAny = this.keepsMode || preserve.has("owner") || preserve.has("times");
  }

  /** Makes what is missing above `root`. False: it could not, and that was reported. */
  make(argument: number, root: string): boolean {
    this.made = [];
    const { request, options } = this.context;
    const above = parentOf(root);
    const status = this.lookAt(above);
    // As in coreutils: where all are there already, none of them is touched.
    if (status === 0 && !this.isOurs(above)) return this.isDirectory(argument, above);
    const typed = stripSlashes(options.gnu.names?.sources[argument] ?? "");
    const source = request.sources[argument] ?? "";
    const start = source.length - (options.gnu.names?.sources[argument] ?? "").length;
    for (const match of typed.matchAll(/[^/](?=\/)/g)) {
      const typedParent = typed.slice(0, match.index + 1);
      const destination = `${stripSlashes(request.destination)}/${typedParent.replace(/^\/+/, "")}`;
      if (!this.makeOne(argument, source.slice(0, start + typedParent.length), typedParent, destination)) return false;
    }
    return true;
  }

  /** After the argument was copied: deepest first, since each step changes the times of the directory above. */
  finish(argument: number): void {
    for (const parent of this.made.reverse()) this.finishOne(argument, parent);
    this.made = [];
  }

  private makeOne(argument: number, source: string, typed: string, destination: string): boolean {
    const { arena, afterStat, options } = this.context;
    const isMissing = this.lookAt(destination) < 0;
    if (!isMissing && !this.isDirectory(argument, destination)) return false;
    const isOurs = !isMissing && this.isOurs(destination);
    this.settled.add(destination);
    if (!isMissing && !isOurs && !this.keepsAny) return true;
    const found = arena.withString(source, (address) => afterStat.ofTarget(At.AT_FDCWD, address));
    const errno = found < 0 ? -found : afterStat.type === Mode.S_IFDIR ? 0 : Errno.ENOTDIR;
    if (errno !== 0) return this.fail(argument, destination, errno, "statx", "failed to get attributes of %e", typed);
    const stat = Stat.owned(afterStat.bytes);
    let ownMode = -1;
    if (isMissing) {
      const mode = this.keepsMode ? 0o700 : options.gnu.defaultMode ? 0o777 : stat.permissions & 0o1777;
      const mark = arena.mark();
      const name = arena.cstring(destination);
      const withheld = this.withholds ? mode & 0o077 : 0;
      const made = libc.mkdirat(At.AT_FDCWD, name, mode & ~withheld);
      if (made < 0) return this.fail(argument, destination, -made, "mkdirat", "cannot make directory %d");
      this.context.announcer?.madeParent(typed, this.context.reporter.shown(destination));
      ownMode = this.lend(name, withheld & ~options.umask);
      arena.reset(mark);
    } else if (isOurs) ownMode = this.lendAgain(destination, stat);
    this.made.push({ source, destination, stat, ownMode });
    return true;
  }

  private lend(name: number, withheld: number): number {
    const { destinationStat } = this.context;
    if (this.keepsMode || destinationStat.ofName(At.AT_FDCWD, name) < 0) return -1;
    const { permissions } = destinationStat;
    const isLent = (permissions & 0o700) !== 0o700;
    if (isLent) libc.fchmodat(At.AT_FDCWD, name, permissions | 0o700);
    return isLent || withheld !== 0 ? permissions | withheld : -1;
  }

  /** True for what a former worker of this job made, and need not have given its attributes. */
  private isOurs(destination: string): boolean {
    const { resumption, arena } = this.context;
    if (resumption === null || this.settled.has(destination)) return false;
    return !arena.withString(destination, (address) => resumption.isOlderThanJob(At.AT_FDCWD, address));
  }

  /** The mode that one of those is to have; -1: its own. The owner's bits may be lent still, or taken back already. */
  private lendAgain(destination: string, { permissions: wanted }: Stat): number {
    const { arena, options, destinationStat } = this.context;
    if (this.keepsMode || this.lookAt(destination) < 0) return -1;
    const { permissions } = destinationStat;
    const mode = (options.gnu.defaultMode ? 0o777 : wanted & 0o1777) & ~options.umask;
    const isLent = (permissions & 0o700) === 0o700;
    if (!isLent) arena.withString(destination, (address) => libc.fchmodat(At.AT_FDCWD, address, permissions | 0o700));
    return (permissions & ~0o700) | (isLent ? mode & 0o700 : permissions & 0o700) | (this.withholds ? mode & 0o077 : 0);
  }

  private finishOne(argument: number, { source, destination, stat, ownMode }: Parent): void {
    const { arena, destinationStat, empty, metadata } = this.context;
    if (!this.keepsAny && ownMode < 0) return;
    const mark = arena.mark();
    const fd = libc.openat(At.AT_FDCWD, arena.cstring(destination), directoryFlags, 0);
    const sourceFd = libc.openat(At.AT_FDCWD, arena.cstring(source), directoryFlags | Open.O_PATH, 0);
    arena.reset(mark);
    this.context.finishing = { argument, path: "", destinationRoot: destination };
    if (fd >= 0 && this.keepsAny && destinationStat.ofDescriptor(fd, empty) === 0) {
      const { uid, gid, permissions } = destinationStat;
      metadata.toDescriptor(sourceFd, stat, fd, { uid, gid, mode: permissions });
    }
    if (fd >= 0 && ownMode >= 0) libc.fchmod(fd, ownMode);
    this.context.finishing = null;
    this.context.close(sourceFd);
    this.context.close(fd);
  }

  private lookAt(path: string): number {
    const { arena, destinationStat } = this.context;
    return arena.withString(path, (address) => destinationStat.ofTarget(At.AT_FDCWD, address));
  }

  /** Of what was just looked at. */
  private isDirectory(argument: number, destination: string): boolean {
    if (this.context.destinationStat.type === Mode.S_IFDIR) return true;
    return this.fail(argument, destination, 0, "statx", "%d exists but is not a directory");
  }

  private fail(argument: number, destinationRoot: string, errno: number, syscall: string, what: string, other?: string): false {
    const place = { argument, path: "", destinationRoot };
    const isSource = other !== undefined;
    const code = isSource ? {} : errno === 0 ? { code: "destination-not-directory" as const } : {};
    const facts = { place, side: isSource ? ("source" as const) : ("destination" as const), errno, syscall, what, ...code };
    this.context.reporter.fail(other === undefined ? facts : { ...facts, other });
    return false;
  }
}
