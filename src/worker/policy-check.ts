// Asks the policy's guard about the entries of a job, and reports what it does not allow: one error for each, and the rest goes on.

import type { FailureSide } from "../errors.ts";
import { At, libc, Mode, Open } from "../ffi/libc.ts";
import type { Policy } from "../policy.ts";
import { baseName } from "./destination.ts";
import type { Directory } from "./directory.ts";
import type { Entry } from "./entry.ts";
import type { LaneContext } from "./lane-context.ts";
import { PolicyGuard } from "./policy-guard.ts";
import { type EntryPlace, joinPath } from "./reporter.ts";

const pathFlags = Open.O_PATH | Open.O_DIRECTORY | Open.O_CLOEXEC;

export class PolicyCheck {
  private readonly context: LaneContext;
  private readonly guard: PolicyGuard;

  /** null where there is no policy: who asks it looks at that first, and pays nothing. */
  static of(policy: Policy, context: LaneContext): PolicyCheck | null {
    return policy.length === 0 ? null : new PolicyCheck(policy, context);
  }

  constructor(policy: Policy, context: LaneContext) {
    this.guard = new PolicyGuard(policy);
    this.context = context;
  }

  /** A source directory that was opened, whose statx is context.sourceStat. False: refused, and reported. */
  mayEnter(entry: Entry, sourceFd: number, follow: boolean): boolean {
    const { sourceStat } = this.context;
    const isElsewhere = entry.isArgument || follow;
    const rule = isElsewhere ? this.guard.brokenByPlace(sourceFd, "source") : this.guard.brokenByInode(sourceStat, "source");
    return this.accept(entry.place, "source", rule ?? this.brokenByName(entry, "source"));
  }

  /** The directory that a source directory is to become, before it is made or joined. */
  mayMakeDirectory(entry: Entry): boolean {
    return this.accept(entry.place, "destination", this.brokenByName(entry, "destination"));
  }

  /** A destination directory that was opened, whose statx is context.destinationStat. */
  mayFill(entry: Entry, destinationFd: number, follows: boolean): boolean {
    const { destinationStat } = this.context;
    const rule = follows
      ? this.guard.brokenByPlace(destinationFd, "destination")
      : this.guard.brokenByInode(destinationStat, "destination");
    return this.accept(entry.place, "destination", rule);
  }

  /** Anything but a directory, whose statx is context.sourceStat, before it gets its place. `fd` is -1 for what is not read. */
  mayCopy(entry: Entry, fd: number, follow: boolean): boolean {
    const { sourceStat } = this.context;
    const { sourceFd } = entry.directory.fields;
    let rule = this.guard.brokenByInode(sourceStat, "source");
    if (rule === null && (entry.isArgument || follow)) {
      rule = fd >= 0 ? this.guard.brokenByPlace(fd, "source") : this.guard.brokenByLook(sourceFd, entry.sourceName, "source", follow);
    }
    rule ??= this.brokenByName(entry, "source");
    if (rule === null && sourceStat.type === Mode.S_IFREG && this.guard.hasFileRules) {
      rule = this.guard.brokenByFile(this.sourceName(entry), entry.text, sourceStat.size);
    }
    return this.accept(entry.place, "source", rule) && this.accept(entry.place, "destination", this.brokenByName(entry, "destination"));
  }

  /** An existing file that is about to be written into, wherever its name led. */
  mayWriteInto(entry: Entry, fd: number): boolean {
    return this.accept(entry.place, "destination", this.guard.brokenByPlace(fd, "destination"));
  }

  /** For a dry run: as mayWriteInto, before anything is opened to be written. */
  mayOverwrite(entry: Entry): boolean {
    const rule = this.guard.brokenByLook(entry.directory.fields.destinationFd, entry.name, "destination", true);
    return this.accept(entry.place, "destination", rule);
  }

  /**
   * For a dry run: has a directory know what is denied in it that is not there yet, and is to be made by this entry; returns the true
   * path that it would have. `parentPath`: that of its parent, which is not there either; null where it is.
   */
  foresee(directory: Directory, entry: Entry, parentPath: string | null): string | null {
    const parent = parentPath ?? this.guard.pathOf(entry.directory.fields.destinationFd);
    // A path beyond the kernel's is nobody's rule.
    if (parent === null) return null;
    const path = joinPath(parent, entry.text);
    directory.deniedDestinations = this.guard.deniedNamesAt(path, "destination");
    return path;
  }

  /** The place of an argument, before anything is made there. */
  mayPlace(place: EntryPlace, parentFd: number, name: string): boolean {
    return this.accept(place, "destination", this.guard.brokenByName(parentFd, name, "destination"));
  }

  /** A move of an argument, whose statx is context.sourceStat. "copy": not as a whole, for something below it may be denied. */
  mayRename(entry: Entry): "rename" | "copy" | "refused" {
    const { sourceStat, options } = this.context;
    const isDirectory = sourceStat.type === Mode.S_IFDIR;
    if (!isDirectory) {
      const isRefused = !this.mayCopy(entry, -1, false) || (options.gnu.exchange && !this.mayExchange(entry));
      return isRefused ? "refused" : "rename";
    }
    const fd = libc.openat(At.AT_FDCWD, entry.sourceName, pathFlags | Open.O_NOFOLLOW, 0);
    // It has gone, or is something else by now: the rename will say.
    if (fd < 0) return "copy";
    const isRefused = !this.mayEnter(entry, fd, false);
    const isMixed = this.guard.mayDenyBelow(fd);
    libc.close(fd);
    if (isRefused || (options.gnu.exchange && !this.mayExchange(entry, isMixed))) return "refused";
    return isMixed ? "copy" : "rename";
  }

  /** The directory that a manifest is to be written to. null, or the rule that it breaks. */
  brokenByManifest(path: string): string | null {
    const { arena } = this.context;
    const mark = arena.mark();
    const fd = libc.openat(At.AT_FDCWD, arena.cstring(path.slice(0, path.lastIndexOf("/") + 1)), pathFlags, 0);
    arena.reset(mark);
    if (fd < 0) return null;
    const rule = this.guard.brokenByName(fd, baseName(path), "destination");
    libc.close(fd);
    return rule;
  }

  // What is exchanged is read and written on both sides.
  private mayExchange(entry: Entry, isMixed = false): boolean {
    const { destinationFd } = entry.directory.fields;
    const rule =
      this.guard.brokenByLook(At.AT_FDCWD, entry.sourceName, "destination", false) ??
      this.guard.brokenByLook(destinationFd, entry.name, "source", false) ??
      (this.guard.hasFileRules || isMixed ? "it cannot be exchanged as a whole, for something in it may be denied" : null);
    return this.accept(entry.place, "destination", rule);
  }

  private brokenByName(entry: Entry, side: "source" | "destination"): string | null {
    const { directory } = entry;
    // An argument's own place was asked about as a whole.
    if (entry.isArgument) return null;
    if (side === "source") {
      directory.deniedSources ??= this.guard.deniedNames(directory.fields.sourceFd, "source");
      return directory.deniedSources.size === 0 ? null : (directory.deniedSources.get(entry.sourceText) ?? null);
    }
    directory.deniedDestinations ??= this.guard.deniedNames(directory.fields.destinationFd, "destination");
    return directory.deniedDestinations.size === 0 ? null : (directory.deniedDestinations.get(entry.text) ?? null);
  }

  private sourceName(entry: Entry): string {
    if (!entry.isArgument) return entry.sourceText;
    return baseName(this.context.request.sources[entry.directory.fields.argument] ?? "");
  }

  private accept(place: EntryPlace, side: FailureSide, rule: string | null): boolean {
    if (rule === null) return true;
    const what = `${side === "source" ? "%s" : "%d"} is not allowed by the policy of this machine: ${rule}`;
    this.context.reporter.fail({ place, side, errno: 0, syscall: "", what, code: "policy-denied" });
    return false;
  }
}
